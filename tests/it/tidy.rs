//! The rules of the source tree as tests over its text: which module may use which, the single
//! importer of a library, the maximum length of files, the codemap in `src/lib.rs`, and files that
//! use one another in a circle (`circles`). The tables at the top are the rules. Each check is a
//! function of a path and a text, and a test gives it a bad text to find.

use std::collections::BTreeSet;
use std::fs;
use std::path::Path;

use self::source_text::{
    blanked, code_of, crate_paths, has_word, is_identifier, layer_of, names, test_items,
    top_module, without_tests,
};

#[path = "tidy_circles.rs"]
mod circles;
#[path = "tidy_source_text.rs"]
mod source_text;

/// Modules and their layers. A module may use modules of lower layers.
const LAYERS: &[(&str, u8)] = &[
    ("base", 0),
    ("model", 1),
    ("rules", 2),
    ("config", 2),
    ("logging", 2),
    ("data_dir", 2),
    ("journal", 3),
    ("store", 3),
    ("commands", 4),
    ("commit", 5),
    ("backup", 6),
    ("archive", 6),
    // Above `archive`, because events are archived before they expire.
    ("pipeline", 7),
    ("delivery", 7),
    ("http", 8),
    ("app", 9),
    // Above `app`, because `serve` and `demo` start it.
    ("cli", 10),
    ("main", 11),
];

/// Modules and their permitted uses within their own layer.
const SAME_LAYER: &[(&str, &str)] = &[
    // The state records its position in the journal.
    ("store", "journal::Position"),
    // Level and directory of the logs are a part of the configuration.
    ("logging", "config"),
];

/// Paths that only some files may name.
struct Sole {
    /// Beginnings of paths in code.
    needles: &'static [&'static str],
    /// Files, or directories ending in `/`, below `src/`.
    homes: &'static [&'static str],
}

const SOLE_IMPORTERS: &[Sole] = &[
    Sole { needles: &["sled"], homes: &["store/"] },
    Sole {
        needles: &["store::change", "store::rows::schema", "store::rows::table"],
        homes: &["store/", "commands/"],
    },
    Sole {
        needles: &["actix_web", "actix_rt", "actix_http", "actix_server", "actix_service"],
        homes: &["http/", "app.rs", "app/", "cli/demo/"],
    },
    Sole { needles: &["reqwest"], homes: &["cli/client.rs", "cli/client/", "backup/s3.rs"] },
    Sole {
        needles: &["tokio_rustls", "rustls_platform_verifier"],
        homes: &["delivery/connector.rs"],
    },
    Sole { needles: &["bincode"], homes: &["base/codec.rs"] },
    Sole { needles: &["tar"], homes: &["backup/archive.rs"] },
    Sole {
        needles: &["zstd"],
        homes: &["base/compression.rs", "backup/archive.rs", "archive/file.rs"],
    },
    Sole { needles: &["object_store"], homes: &["backup/s3.rs"] },
    Sole { needles: &["age"], homes: &["cli/backup/encryption.rs"] },
    Sole {
        needles: &["prometheus"],
        homes: &["base/metrics.rs", "base/metrics/maker.rs", "base/metrics/series.rs"],
    },
    Sole {
        needles: &["SystemTime::now", "Timestamp::now", "Zoned::now"],
        homes: &["base/clock.rs"],
    },
    Sole {
        needles: &["thread::spawn", "thread::Builder", "thread::scope"],
        homes: &["base/threads.rs"],
    },
    Sole {
        needles: &["env::var", "env::set_var", "env::remove_var"],
        homes: &["config.rs", "config/"],
    },
];

/// Words forbidden in code, comments and documentation outside of tests.
const UNFINISHED: &[&str] = &["TODO", "FIXME", "XXX"];
/// Calls forbidden in code outside of tests.
const PANICS: &[&str] = &[".unwrap()"];

const FILE_LINES_MAX: usize = 500;
const MAIN_LINES_MAX: usize = 60;
/// The beginning of a line of the codemap.
const CODEMAP_LINE: &str = "//! - `";

#[test]
fn modules_use_only_lower_layers() {
    assert_none(&check_all(upward_uses));
}

#[test]
fn what_has_one_importer_is_named_nowhere_else() {
    assert_none(&check_all(foreign_imports));
}

#[test]
fn no_module_but_the_journal_knows_frames() {
    assert_none(&check_all(frames_abroad));
}

#[test]
fn nothing_is_left_unfinished_or_unwrapped() {
    assert_none(&check_all(unfinished));
}

#[test]
fn files_are_short() {
    assert_none(&check_all(too_long));
    let tests = rust_files("tests");
    assert_none(&tests.iter().flat_map(|(path, text)| too_long(path, text)).collect::<Vec<_>>());
}

#[test]
fn the_codemap_names_every_file_and_no_other() {
    let files = sources();
    let lib = files.iter().find(|(path, _)| path == "lib.rs").map(|(_, text)| text.as_str());
    let paths: Vec<_> = files.iter().map(|(path, _)| path.as_str()).collect();
    assert_none(&codemap_faults(lib.expect("src/lib.rs is there"), &paths));
}

#[test]
fn lines_of_the_log_hold_words_and_no_debug_texts() {
    assert_none(&check_all(debug_in_logs));
}

fn check_all(check: fn(&str, &str) -> Vec<String>) -> Vec<String> {
    sources()
        .iter()
        .filter(|(path, _)| !is_test_file(path))
        .flat_map(|(path, text)| check(path, text))
        .collect()
}

fn assert_none(faults: &[String]) {
    assert!(faults.is_empty(), "\n{}", faults.join("\n"));
}

/// Every Rust file below `src/`: its path from there, and its text.
fn sources() -> Vec<(String, String)> {
    rust_files("src")
}

/// Every Rust file below a directory of the crate: its path from there, and its text.
fn rust_files(directory: &str) -> Vec<(String, String)> {
    let root = Path::new(env!("CARGO_MANIFEST_DIR")).join(directory);
    let mut found = Vec::new();
    let mut directories = vec![root.clone()];
    while let Some(directory) = directories.pop() {
        for entry in fs::read_dir(&directory).expect("it can be read") {
            let path = entry.expect("it can be read").path();
            if path.is_dir() {
                directories.push(path);
            } else if path.extension().is_some_and(|extension| extension == "rs") {
                let name = path
                    .strip_prefix(&root)
                    .expect("it is below the directory")
                    .to_string_lossy()
                    .into_owned();
                found.push((name, fs::read_to_string(&path).expect("a source file is UTF-8")));
            }
        }
    }
    found.sort();
    assert!(found.len() > 5, "the sources were not found in {}", root.display());
    found
}

fn is_test_file(path: &str) -> bool {
    path.ends_with("_tests.rs") || path == "tests.rs" || path.ends_with("/tests.rs")
}

// ---- checks -----------------------------------------------------------------------------------

fn upward_uses(path: &str, text: &str) -> Vec<String> {
    let Some(module) = top_module(path) else { return vec![] };
    let Some(layer) = layer_of(module) else {
        return vec![format!("{path}: module {module} has no layer in this test")];
    };
    let used = crate_paths(path, &code_of(text));
    let forbidden = used.into_iter().filter(|used| {
        let Some(used_module) = used.split("::").next() else { return false };
        let same_layer = SAME_LAYER.iter().any(|(from, to)| {
            *from == module
                && used
                    .strip_prefix(to)
                    .is_some_and(|rest| rest.is_empty() || rest.starts_with("::"))
        });
        // Any other name is a macro or an item of the crate's root.
        layer_of(used_module)
            .is_some_and(|below| used_module != module && below >= layer && !same_layer)
    });
    forbidden.map(|used| format!("{path}: {module} must not use crate::{used}")).collect()
}

fn foreign_imports(path: &str, text: &str) -> Vec<String> {
    let code = code_of(text);
    let mut faults = Vec::new();
    for Sole { needles, homes } in SOLE_IMPORTERS {
        let at_home =
            homes.iter().any(|home| path == *home || home.ends_with('/') && path.starts_with(home));
        for needle in needles.iter().filter(|needle| !at_home && names(&code, needle)) {
            faults.push(format!("{path}: only {} may name {needle}", homes.join(", ")));
        }
    }
    faults
}

/// Names with a frame that is none of the journal: zstd's function for one of its own frames.
const OTHER_FRAMES: &[&str] = &["single_frame"];

/// Finds frames, the bytes around a record in a file of the journal, outside of `journal/`. Other
/// modules read and write records.
fn frames_abroad(path: &str, text: &str) -> Vec<String> {
    if path.starts_with("journal/") {
        return vec![];
    }
    let code = code_of(text);
    let names = code.split(|c: char| !is_identifier(c));
    let is_frame = |word: &str| matches!(word.to_lowercase().as_str(), "frame" | "frames");
    let names = names.filter(|name| !OTHER_FRAMES.contains(name));
    let found = names.filter(|name| words_of(name).any(is_frame));
    found.map(|name| format!("{path}: {name}: only the journal knows frames")).collect()
}

/// The words of an identifier, which begin at capital letters and behind `_`.
fn words_of(name: &str) -> impl Iterator<Item = &str> {
    let is_constant = !name.contains(char::is_lowercase);
    name.split('_').flat_map(move |part| {
        let mut starts: Vec<usize> = part
            .char_indices()
            .filter(|(at, c)| *at == 0 || c.is_uppercase() && !is_constant)
            .map(|(at, _)| at)
            .collect();
        starts.push(part.len());
        starts.windows(2).map(|ends| &part[ends[0]..ends[1]]).collect::<Vec<_>>()
    })
}

fn unfinished(path: &str, text: &str) -> Vec<String> {
    let prose = without_tests(text, text);
    let code = code_of(text);
    let words = UNFINISHED.iter().filter(|word| has_word(&prose, word));
    let panics = PANICS.iter().filter(|panic| code.contains(**panic));
    words.chain(panics).map(|found| format!("{path}: {found}")).collect()
}

/// Finds `?value` in log lines, because its output has the quotes and names of Rust's `Debug`.
fn debug_in_logs(path: &str, text: &str) -> Vec<String> {
    let code = code_of(text);
    let calls = code.match_indices("tracing::").filter_map(|(at, _)| {
        let (level, arguments) = code[at..].strip_prefix("tracing::")?.split_once("!(")?;
        level.chars().all(is_identifier).then(|| arguments.split(';').next().unwrap_or_default())
    });
    let is_debug = |(at, _): (usize, &str), call: &str| {
        let (before, behind) = (call[..at].trim_end_matches(' '), call[at + 1..].chars().next());
        (before.is_empty() || before.ends_with([',', '=', '(', '\n']))
            && behind.is_some_and(is_identifier)
    };
    let found = calls.filter(|call| call.match_indices('?').any(|hit| is_debug(hit, call)));
    found
        .map(|call| format!("{path}: a line of the log shows a debug text: {}", call.trim()))
        .collect()
}

fn too_long(path: &str, text: &str) -> Vec<String> {
    let most = if path == "main.rs" { MAIN_LINES_MAX } else { FILE_LINES_MAX };
    let blank = blanked(text);
    let of_tests: usize =
        test_items(&blank).iter().map(|(from, to)| text[*from..*to].lines().count()).sum();
    // The codemap grows with the files.
    let of_codemap = text.lines().filter(|line| line.starts_with(CODEMAP_LINE)).count();
    let lines = text.lines().count() - of_tests - of_codemap;
    if lines > most {
        vec![format!("{path}: {lines} lines without its tests, at most {most}")]
    } else {
        vec![]
    }
}

/// Compares the codemap with the files. Its lines have the form ``//! - `module/file.rs`: its
/// role``; `module/*.rs` stands for the other files of a module, which are all of one kind.
fn codemap_faults(lib: &str, paths: &[&str]) -> Vec<String> {
    let mapped = lib.lines().filter_map(|line| line.strip_prefix(CODEMAP_LINE)?.split_once("`: "));
    let listed: Vec<_> =
        mapped.filter(|(path, what)| !path.is_empty() && !what.is_empty()).map(|it| it.0).collect();
    let mapped: BTreeSet<_> = listed.iter().copied().collect();
    let folders: Vec<_> = mapped.iter().filter_map(|path| path.strip_suffix("*.rs")).collect();
    let in_folder = |path: &str| {
        let file = |folder: &str| path.strip_prefix(folder).is_some_and(|file| !file.contains('/'));
        !mapped.contains(path) && folders.iter().any(|folder| file(folder))
    };
    let there = paths.iter().copied().filter(|path| !is_test_file(path) && *path != "lib.rs");
    let there: BTreeSet<_> = there.filter(|path| !in_folder(path)).collect();
    let missing =
        there.difference(&mapped).map(|path| format!("the codemap in src/lib.rs lacks {path}"));
    let stale = mapped
        .difference(&there)
        .filter(|path| !path.ends_with("*.rs"))
        .map(|path| format!("the codemap in src/lib.rs names {path}, which is not there"));
    let is_repeated = |path: &&&str| listed.iter().filter(|other| other == path).count() > 1;
    let repeated = mapped
        .iter()
        .filter(is_repeated)
        .map(|path| format!("the codemap in src/lib.rs names {path} more than once"));
    missing.chain(stale).chain(repeated).collect()
}

// ---- every check finds its faults -------------------------------------------------------------

#[test]
fn a_use_of_a_higher_layer_is_found_however_it_is_written() {
    for (path, text) in [
        ("base/clock.rs", "use crate::model::id::OrgId;"),
        ("rules/retry.rs", "fn f() { crate::store::open(); }"),
        ("rules/retry.rs", "use crate::config::Delivery;"),
        ("store/change/events.rs", "use crate::{base::codec, journal::{Position, Writer as W}};"),
        ("store/query.rs", "use crate::journal::Positions;"),
        ("pipeline/worker.rs", "use crate::delivery::Scheduler;"),
        ("delivery/sender.rs", "use super::super::http::wire;"),
        ("delivery/mod.rs", "use super::http::wire;"),
        ("http/wire.rs", "use crate::cli;"),
        ("app.rs", "use crate::cli::serve;"),
        ("attic/new.rs", ""),
    ] {
        assert_eq!(upward_uses(path, text).len(), 1, "{path}: {text}");
    }
}

#[test]
fn a_use_of_a_lower_layer_is_fine() {
    for (path, text) in [
        (
            "store/change/events.rs",
            "use crate::{base::codec, journal::Position, model::id::{OrgId, EventId}};",
        ),
        ("store/change/events.rs", "use super::super::schema; use crate::store::rows::schema;"),
        ("logging.rs", "use crate::config::{Log, LogFormat};"),
        (
            "rules/retry.rs",
            "// see crate::store\nlet text = \"crate::http\"; #[cfg(test)] mod tests { use \
             crate::app; }",
        ),
        ("main.rs", "use triggerd::app; use triggerd::cli::{Command, run};"),
        ("lib.rs", "pub mod base;"),
    ] {
        assert_eq!(upward_uses(path, text), Vec::<String>::new(), "{path}: {text}");
    }
}

#[test]
fn a_debug_text_in_a_line_of_the_log_is_found_and_a_question_is_not() {
    for (text, faults) in [
        ("tracing::info!(?name, \"made\");", 1),
        ("tracing::warn!(target: X, %org, why = ?end, \"over\");", 1),
        ("tracing::warn!(\n    %org,\n    ?end,\n    \"over\"\n);", 1),
        ("tracing::warn!(why = end.name(), \"over?\"); let x = f()?;", 0),
        ("tracing::info!(count = read()?, \"x\"); g(h?);", 0),
    ] {
        assert_eq!(debug_in_logs("http/audit.rs", text).len(), faults, "{text}");
    }
}

#[test]
fn a_foreign_import_is_found_and_a_rightful_one_is_not() {
    for (path, text, faults) in [
        ("http/inbox.rs", "use sled::Tree;", 1),
        ("commit/notifier.rs", "use crate::store::rows::schema::EventBlock;", 1),
        ("commands/ack_event.rs", "use crate::store::rows::schema::EventBlock;", 0),
        ("http/inbox.rs", "use sled;", 1),
        ("http/inbox.rs", "fn f(db: &sled::Db) {}", 1),
        ("store/table.rs", "use sled::Tree;", 0),
        ("http/inbox.rs", "// sled::Tree\nlet unsettled::X = \"sled::Tree\";", 0),
        ("store/query.rs", "use actix_web::web;", 1),
        ("app.rs", "actix_web::rt::System::new();", 0),
        ("delivery/scheduler.rs", "use reqwest::Client;", 1),
        ("delivery/sender.rs", "use reqwest::Client;", 1),
        ("cli/client.rs", "use reqwest::Client;", 0),
        ("http/ops.rs", "tokio_rustls::TlsConnector::from(tls);", 1),
        ("model/id.rs", "bincode::serde::encode();", 1),
        ("http/ops.rs", "use ::prometheus::Registry;", 1),
        ("http/auth.rs", "let t = std::time::SystemTime::now();", 1),
        ("http/auth.rs", "let t = jiff::Timestamp::now();", 1),
        ("commit/mod.rs", "std::thread::Builder::new();", 1),
        ("commit/mod.rs", "std::thread::park();", 0),
        ("cli/serve.rs", "std::env::vars_os();", 1),
        ("config/environment.rs", "std::env::vars_os();", 0),
        ("cli/serve.rs", "env!(\"CARGO_PKG_VERSION\");", 0),
        ("http/inbox.rs", "fn f() {} #[cfg(test)] mod tests { use sled::Tree; }", 0),
    ] {
        assert_eq!(foreign_imports(path, text).len(), faults, "{path}: {text}");
    }
}

#[test]
fn a_frame_outside_of_the_journal_is_found() {
    for (path, text, faults) in [
        ("http/api/events.rs", "let frame = read();", 1),
        ("commit/committer.rs", "use crate::journal::{FrameRefused, Group};", 1),
        ("cli/audit.rs", "const ORG_FRAME_BYTES_MIN: u64 = found.frames_max();", 2),
        ("http/api/docs.rs", "let csp = \"frame-ancestors 'none'\"; // no frame", 0),
        ("journal/reader.rs", "struct OwnedFrame;", 0),
        ("http/edge/framing.rs", "struct Framing; fn framed() {}", 0),
        ("cli/audit.rs", "#[cfg(test)] mod tests { struct Frame; }", 0),
    ] {
        assert_eq!(frames_abroad(path, text).len(), faults, "{path}: {text}");
    }
}

#[test]
fn unfinished_work_is_found_outside_of_tests() {
    for (text, faults) in [
        ("// TODO: later", 1),
        ("/// FIXME", 1),
        ("let x = y.unwrap();", 1),
        (
            "// never .unwrap() here\nlet x = \".unwrap()\"; let y = r#\"a \".unwrap()\"#; let z \
             = '\"'; fn f<'a>() {}",
            0,
        ),
        ("let TODOS = 1; let x = y.unwrap_or(1);", 0),
        ("#[cfg(test)]\nmod tests { fn f() { x.unwrap(); { } } // TODO\n }\nfn g() {}", 0),
        ("#[cfg(test)]\nmod tests;\nfn g() { x.unwrap() }", 1),
    ] {
        assert_eq!(unfinished("base/x.rs", text).len(), faults, "{text}");
    }
}

#[test]
fn a_long_file_is_found_and_its_tests_do_not_count() {
    let long = "fn f() {}\n".repeat(FILE_LINES_MAX);
    assert!(too_long("base/x.rs", &long).is_empty());
    assert_eq!(too_long("base/x.rs", &format!("{long}fn g() {{}}\n")).len(), 1);
    assert!(too_long("lib.rs", &format!("//! - `base/x.rs`: a\n{long}")).is_empty());
    let tests = format!("#[cfg(test)]\nmod tests {{\n{long}}}\n");
    assert!(too_long("base/x.rs", &format!("{long}{tests}")).is_empty());
    assert_eq!(too_long("main.rs", &"fn f() {}\n".repeat(MAIN_LINES_MAX + 1)).len(), 1);
}

#[test]
fn a_codemap_that_lacks_a_file_or_names_one_too_many_or_twice_is_found() {
    let lib =
        "//! - `base/clock.rs`: the time\n//! - `base/gone.rs`: nothing\n//! - `base/bare.rs`\n";
    let faults = codemap_faults(
        lib,
        &["base/clock.rs", "base/new.rs", "base/new_tests.rs", "base/tests.rs", "lib.rs"],
    );
    assert_eq!(faults.len(), 2, "{faults:?}");
    assert!(faults[0].contains("base/new.rs") && faults[1].contains("base/gone.rs"), "{faults:?}");
    assert!(codemap_faults("//! - `a.rs`: a", &["a.rs"]).is_empty());
    let twice =
        codemap_faults("//! - `a.rs`: a\n//! - `b.rs`: b\n//! - `a.rs`: a", &["a.rs", "b.rs"]);
    assert!(twice.len() == 1 && twice[0].contains("a.rs more than once"), "{twice:?}");
    let of_a_kind = "//! - `a/mod.rs`: a\n//! - `a/*.rs`: an a each";
    assert!(codemap_faults(of_a_kind, &["a/mod.rs", "a/one.rs", "a/two.rs"]).is_empty());
    assert_eq!(codemap_faults(of_a_kind, &["a/mod.rs", "a/deep/one.rs", "b/two.rs"]).len(), 2);
}
