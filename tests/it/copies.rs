//! Copies of the data directory: one that broke off is refused by every command, and one that any
//! tool made of a running server starts and has every acknowledged event.

use std::fs;
use std::path::{Path, PathBuf};
use std::process::Command;

use serde_json::{Value, json};
use triggerd::journal::{JournalScan, RawRecord};

use crate::harness::{Client, Process, command, first_segment, settings};

/// Copies a data directory to a new place, with a configuration beside it.
fn copied(data: &Path, name: &str) -> PathBuf {
    let copy = data.with_file_name(name);
    assert!(Command::new("cp").arg("-a").arg(data).arg(&copy).status().unwrap().success());
    fs::write(copy.with_extension("toml"), settings(&copy, "")).unwrap();
    copy
}

/// Asserts that every command that reads the directory refuses it as damaged and leaves its journal
/// as it is. Returns the texts.
fn refused(data: &Path) -> String {
    let before = fs::read(first_segment(data)).ok();
    let (code, verified) = command(data, &["verify"]);
    assert_eq!(code, Some(3), "{data:?}: {verified}");
    let (status, started) = Process::try_start(data, "", &[]).err().unwrap();
    assert_eq!(status.code(), Some(3), "{data:?}: {started}");
    let (code, rebuilt) = command(data, &["rebuild"]);
    assert_eq!(code, Some(3), "{data:?}: {rebuilt}");
    assert_eq!(fs::read(first_segment(data)).ok(), before, "{data:?} is changed");
    [verified, started, rebuilt].concat()
}

/// Damages a copy.
type Harm<'a> = &'a dyn Fn(&Path);

/// The offset of each record in the first segment.
fn record_starts(data: &Path) -> Vec<u64> {
    let mut starts = Vec::new();
    let scan = JournalScan::open(&data.join("journal")).unwrap();
    let mut note = |record: &RawRecord<'_>| {
        starts.push(64 + record.position.0 - 1);
        Ok(())
    };
    scan.look(0, &mut note).unwrap();
    starts
}

/// Sets the length of the first segment.
fn cut(copy: &Path, len: u64) {
    fs::File::options().write(true).open(first_segment(copy)).unwrap().set_len(len).unwrap();
}

/// Leaves a cut segment alone in its directory.
fn cut_alone(copy: &Path) {
    cut(copy, 100_001);
    for name in ["FORMAT", "admin.token", "secrets.key"] {
        fs::remove_file(copy.join(name)).unwrap();
    }
    fs::remove_dir_all(copy.join("sled")).unwrap();
}

#[test]
fn a_copy_with_a_cut_segment_is_refused_and_can_be_salvaged() {
    let dir = tempfile::tempdir().unwrap();
    let data = dir.path().join("data");
    let server = Process::start(&data);
    let org = server.org("Acme");
    let ids: Vec<_> = (0..40).map(|_| org.send("a", &json!("x".repeat(5_000))).id()).collect();
    assert_eq!(server.stop().0, Some(0));
    let starts = record_starts(&data);
    let cases: [(&str, &str, Harm<'_>); 6] = [
        ("cut", "100001 bytes long, but was made 1048640", &|copy| cut(copy, 100_001)),
        ("at-a-record", "bytes long, but was made 1048640", &|copy| cut(copy, starts[20])),
        ("in-the-zeros", "1000000 bytes long, but was made 1048640", &|copy| cut(copy, 1_000_000)),
        ("alone", "it was cut, or copied only in part", &cut_alone),
        ("header", "has no segment header", &|copy| cut(copy, 40)),
        ("empty", "has no segment header", &|copy| cut(copy, 0)),
    ];
    for (name, what, harm) in cases {
        let copy = copied(&data, name);
        harm(&copy);
        let text = refused(&copy);
        // Without FORMAT, the start is refused before it reads the journal.
        let told = if name == "alone" { 2 } else { 3 };
        assert!(text.matches(what).count() >= told, "{name}: {what} is missing in {text}");
        assert_eq!(text.contains("FORMAT is missing"), name == "alone", "{name}: {text}");
        let (code, text) = command(&copy, &["rebuild", "--skip-damaged"]);
        assert!(code == Some(0) && text.contains("LOST"), "{name}: {text}");
        assert_eq!(text.contains("nobody knows how many"), ["header", "empty"].contains(&name));
        let (code, text) = command(&copy, &["verify"]);
        assert_eq!(code, Some(0), "{name}: {text}");
        let server = Process::start(&copy);
        if ["header", "empty"].contains(&name) {
            continue;
        }
        let kept = Client::new(&server.url, &org.key).inbox_ids();
        assert!(kept.len() > 15 && ids.starts_with(&kept), "{name}: {} events", kept.len());
        assert_eq!(kept.len() == ids.len(), name == "in-the-zeros", "{name}");
    }
}

#[test]
fn verify_says_what_a_copy_cannot_show() {
    let dir = tempfile::tempdir().unwrap();
    let data = dir.path().join("data");
    let server = Process::start(&data);
    let org = server.org("Acme");
    let id = org.send("a", &json!(1)).id();
    assert_eq!(server.stop().0, Some(0));
    let (code, text) = command(&data, &["verify"]);
    assert!(code == Some(0) && text.contains("1 segment,") && !text.contains("copy"), "{text}");
    let copy = copied(&data, "copy");
    let (code, text) = command(&copy, &["verify"]);
    let parts = ["this is a copy, which ends at position", "may not be in it", "cannot show"];
    assert!(code == Some(0) && parts.iter().all(|part| text.contains(part)), "{text}");
    let (_, text) = command(&copy, &["verify", "--json"]);
    let report: Value = serde_json::from_str(&text).unwrap();
    assert_eq!(report["journal"]["is_copy"], true, "{text}");
    // The same end in the words of `rebuild`.
    let (code, text) = command(&copy, &["rebuild", "--json"]);
    let rebuilt: Value = serde_json::from_str(&text).unwrap();
    assert!(code == Some(0) && rebuilt["end"] == report["journal"]["end"], "{text}");
    let server = Process::start(&copy);
    assert_eq!(Client::new(&server.url, &org.key).inbox_ids(), [id]);
    assert_eq!(server.stop().0, Some(0));
}

/// A small file, the damage, a part of the error, advice in it, and the exit code of the start.
type SmallFile = (&'static str, fn(&Path), &'static str, &'static str, i32);

/// Damages of the small files of a copy.
const SMALL_FILES: [SmallFile; 8] = {
    const COPY_FORMAT: &str = "Copy FORMAT from the original";
    [
        ("FORMAT", remove, "FORMAT is missing", COPY_FORMAT, 3),
        ("FORMAT", become_directory, "FORMAT is a directory", COPY_FORMAT, 3),
        ("FORMAT", empty, "FORMAT is empty", COPY_FORMAT, 3),
        ("FORMAT", cut_end, "FORMAT is cut short", COPY_FORMAT, 3),
        ("secrets.key", remove, "secrets.key is not in the data dir", "from a backup", 3),
        ("secrets.key", cut_end, "secrets.key: the file holds no key", "from a backup", 3),
        ("admin.token", empty, "admin.token: the file holds no admin token", "from a backup", 2),
        ("admin.token", |path| set_len(path, 9), "holds no admin token", "or remove it", 2),
    ]
};

fn remove(path: &Path) {
    fs::remove_file(path).unwrap();
}

fn become_directory(path: &Path) {
    remove(path);
    fs::create_dir(path).unwrap();
    fs::write(path.join("foreign"), "1").unwrap();
}

fn set_len(path: &Path, len: u64) {
    fs::File::options().write(true).open(path).unwrap().set_len(len).unwrap();
}

fn empty(path: &Path) {
    set_len(path, 0);
}

/// Cuts off the last byte, which is the end of the line, and some before it.
fn cut_end(path: &Path) {
    set_len(path, fs::metadata(path).unwrap().len() - 4);
}

#[test]
fn a_small_file_that_a_copy_lacks_or_has_in_part_is_damage_with_a_remedy() {
    let dir = tempfile::tempdir().unwrap();
    let data = dir.path().join("data");
    let server = Process::start(&data);
    let org = server.org("Acme");
    org.push_to("http://127.0.0.1:9/");
    let id = org.send("a", &json!(1)).id();
    assert_eq!(server.stop().0, Some(0));
    for (number, (file, harm, says, advice, code)) in SMALL_FILES.into_iter().enumerate() {
        let copy = copied(&data, &format!("copy-{number}"));
        let before = fs::read(first_segment(&copy)).unwrap();
        harm(&copy.join(file));
        let (verified, text) = command(&copy, &["verify"]);
        assert_eq!(verified, Some(3), "{file}: {text}");
        let line = text.lines().find(|line| line.contains(says)).unwrap_or_default();
        assert!(line.starts_with("DAMAGED") && line.contains(advice), "{file}: {text}");
        assert!(text.contains("DAMAGE WAS FOUND") && text.contains("says how"), "{text}");
        let (_, text) = command(&copy, &["verify", "--json"]);
        let report: Value = serde_json::from_str(&text).unwrap();
        assert_eq!(report["files"].as_array().unwrap().len(), 1, "{file}: {text}");
        let (status, log) = Process::try_start(&copy, "", &[]).err().unwrap();
        assert!(status.code() == Some(code) && log.contains(says), "{file}: {status} {log}");
        if file == "FORMAT" {
            assert!(before == fs::read(first_segment(&copy)).unwrap(), "the start changed it");
            if copy.join(file).is_dir() {
                let (rebuilt, text) = command(&copy, &["rebuild"]);
                assert!(rebuilt == Some(3) && text.contains("move it away first"), "{text}");
                fs::remove_dir_all(copy.join(file)).unwrap();
            }
            let (rebuilt, text) = command(&copy, &["rebuild"]);
            assert_eq!(rebuilt, Some(0), "{text}");
        } else {
            fs::copy(data.join(file), copy.join(file)).unwrap();
        }
        let (verified, text) = command(&copy, &["verify"]);
        assert!(verified == Some(0) && text.contains("no damage was found"), "{file}: {text}");
        let server = Process::start(&copy);
        assert_eq!(Client::new(&server.url, &org.key).inbox_ids(), [id.as_str()]);
        assert_eq!(server.stop().0, Some(0));
    }
}

#[test]
fn a_first_start_that_was_interrupted_before_its_format_is_no_damage() {
    let dir = tempfile::tempdir().unwrap();
    let data = dir.path().join("data");
    assert_eq!(Process::start(&data).stop().0, Some(0));
    fs::remove_file(data.join("FORMAT")).unwrap();
    let (code, text) = command(&data, &["verify"]);
    assert_eq!(code, Some(0), "{text}");
    assert_eq!(Process::start(&data).stop().0, Some(0));
    assert!(data.join("FORMAT").exists());
}

#[test]
fn a_data_directory_that_lost_its_journal_is_not_a_new_one() {
    let dir = tempfile::tempdir().unwrap();
    let data = dir.path().join("data");
    assert_eq!(Process::start(&data).stop().0, Some(0));
    let all = ["sled", "secrets.key", "FORMAT", "admin.token"];
    for kept in &all[..3] {
        let copy = copied(&data, kept);
        fs::remove_dir_all(copy.join("journal")).unwrap();
        fs::create_dir(copy.join("journal")).unwrap();
        fs::write(copy.join("journal/lost+found"), "").unwrap();
        for other in all.iter().filter(|name| *name != kept) {
            let path = copy.join(other);
            if path.is_dir() { fs::remove_dir_all(path) } else { fs::remove_file(path) }.unwrap();
        }
        let text = refused(&copy);
        assert!(
            text.contains("has no segments") && text.contains(&format!("{kept} is in")),
            "{text}"
        );
        assert!(!copy.join("admin.token").exists(), "a refused start creates no secret");
    }
    // The first start creates the admin token before everything else.
    let copy = copied(&data, "token");
    for name in ["journal", "sled"] {
        fs::remove_dir_all(copy.join(name)).unwrap();
    }
    for name in ["FORMAT", "secrets.key"] {
        fs::remove_file(copy.join(name)).unwrap();
    }
    assert_eq!(Process::start(&copy).stop().0, Some(0));
}

#[test]
fn a_copy_that_any_tool_makes_of_a_running_server_is_a_backup() {
    let dir = tempfile::tempdir().unwrap();
    let data = dir.path().join("data");
    let server = Process::start(&data);
    let org = server.org("Acme");
    let scripts = [
        "cp -a \"$0\" \"$1\"",
        "cp -a --sparse=always \"$0\" \"$1\"",
        "mkdir \"$1\" && { tar -C \"$0\" -cSf - . || [ $? = 1 ]; } | tar -C \"$1\" -xf -",
        "if command -v rsync; then rsync -aS \"$0/\" \"$1\"; else cp -a \"$0\" \"$1\"; fi",
    ];
    let mut ids = Vec::new();
    for (number, script) in scripts.iter().enumerate() {
        ids.extend((0..20).map(|_| org.send("a", &json!("x".repeat(30_000))).id()));
        let copy = dir.path().join(format!("copy-{number}"));
        let made = Command::new("sh").args(["-c", script]).arg(&data).arg(&copy).output().unwrap();
        assert!(made.status.success(), "{script}: {made:?}");
        fs::write(copy.with_extension("toml"), settings(&copy, "")).unwrap();
        let (code, text) = command(&copy, &["verify"]);
        assert_eq!(code, Some(0), "{script}: {text}");
        // A copy of the copy, before and after it has run, is one too.
        let again = copied(&copy, &format!("again-{number}"));
        for copy in [&copy, &again] {
            let server = Process::start(copy);
            assert_eq!(Client::new(&server.url, &org.key).inbox_ids(), ids, "{script}");
            assert_eq!(server.stop().0, Some(0));
        }
        let last = copied(&copy, &format!("last-{number}"));
        let server = Process::start(&last);
        assert_eq!(Client::new(&server.url, &org.key).inbox_ids(), ids, "{script}");
    }
}
