//! The documentation matches the program: every code, route and metric is documented, every link
//! has a target, and the README stays short. The page about the configuration is made by the
//! program, which a test in `src/config/reference.rs` checks.

use std::collections::BTreeMap;
use std::fmt::Write as _;
use std::fs;
use std::path::{Path, PathBuf};
use std::process::Command;

use crate::harness::server;

/// Longer texts belong in `docs/`.
const README_LINES_MAX: usize = 130;

#[test]
fn every_code_has_a_row_and_a_section_in_the_problems() {
    let problems = read("docs/problems.md");
    let mut missing = String::new();
    for code in triggerd::http::Code::ALL {
        let (word, status, title) = (code.word(), code.status(), code.title());
        for wanted in
            [format!("| [`{word}`](#{word}) | {status} | {title} |"), format!("\n## {word}\n")]
        {
            if !problems.contains(&wanted) {
                writeln!(missing, "{}", wanted.trim()).unwrap();
            }
        }
    }
    assert!(missing.is_empty(), "docs/problems.md lacks\n{missing}");
}

#[test]
fn every_route_is_in_the_api() {
    let api = read("docs/api.md");
    for route in triggerd::http::routes() {
        assert!(api.contains(route.path), "docs/api.md does not name {}", route.path);
    }
}

#[test]
fn every_reason_of_a_routing_is_in_the_api() {
    let api = read("docs/api.md");
    for reason in triggerd::model::routing::RouteReason::ALL {
        let row =
            format!("| `{}` | {} | ", reason.name(), if reason.is_match() { "yes" } else { "no" });
        assert!(api.contains(&row), "docs/api.md lacks {row}");
    }
}

#[test]
fn every_metric_is_in_the_operations() {
    let (server, _dir) = server();
    let metrics = server.admin().get("/metrics").text;
    let text = read("docs/operations.md");
    let names = metrics.lines().filter_map(|line| line.strip_prefix("# TYPE ")?.split(' ').next());
    let own: Vec<_> = names.filter(|name| name.starts_with("triggerd_")).collect();
    assert!(own.len() > 20, "{metrics}");
    for name in own {
        let is_there =
            text.contains(&format!("| `{name}`")) || text.contains(&format!("| `{name}{{"));
        assert!(is_there, "docs/operations.md lacks {name}");
    }
}

#[test]
fn every_link_leads_somewhere() {
    let mut dead = String::new();
    for page in pages() {
        let text = prose(&fs::read_to_string(&page).unwrap());
        for target in text.split("](").skip(1).filter_map(|rest| rest.split(')').next()) {
            if target.contains("://") {
                continue;
            }
            let (file, anchor) = target
                .split_once('#')
                .map_or((target, None), |(file, anchor)| (file, Some(anchor)));
            let file =
                if file.is_empty() { page.clone() } else { page.parent().unwrap().join(file) };
            let is_there = match anchor {
                None => file.exists(),
                Some(anchor) => fs::read_to_string(&file)
                    .is_ok_and(|text| anchors(&text).contains(&anchor.to_owned())),
            };
            if !is_there {
                writeln!(dead, "{}: {target}", page.display()).unwrap();
            }
        }
    }
    assert!(dead.is_empty(), "dead links\n{dead}");
}

#[test]
fn the_server_shows_every_page_and_each_problem_type_and_each_link_opens() {
    let (server, _dir) = server();
    let client = server.admin();
    let mut opened = BTreeMap::new();
    let mut wanted = vec!["/docs".to_owned()];
    let types =
        triggerd::http::Code::ALL.iter().map(|code| format!("/docs/problems#{}", code.word()));
    wanted.extend(types);
    let files = pages().into_iter().filter(|page| page.parent().unwrap().ends_with("docs"));
    let names = files.map(|page| page.file_stem().unwrap().to_string_lossy().into_owned());
    wanted.extend(names.map(|name| format!("/docs/{name}")));
    while let Some(target) = wanted.pop() {
        let (path, anchor) = target.split_once('#').unwrap_or((&target, ""));
        if !opened.contains_key(path) {
            let page = client.get(path);
            assert_eq!(page.status, 200, "{path}");
            assert_eq!(page.header("x-content-type-options"), "nosniff", "{path}");
            if !["/docs/style.css", "/docs/icon.svg", "/docs/year.svg", "/openapi.json"]
                .contains(&path)
            {
                let policy = page.header("content-security-policy");
                assert!(policy.starts_with("default-src 'none'; style-src 'self';"), "{policy}");
            }
            let links =
                page.text.split("href=\"").skip(1).filter_map(|rest| rest.split('"').next());
            let drawings = page.text.split("<img src=\"").skip(1);
            let drawings = drawings.filter_map(|rest| rest.split('"').next());
            wanted.extend(drawings.map(|drawing| format!("/docs/{drawing}")));
            let own = links.filter(|link| !link.starts_with("https://"));
            wanted.extend(own.map(|link| match link.strip_prefix('#') {
                Some(anchor) => format!("{path}#{anchor}"),
                None => link.to_owned(),
            }));
            opened.insert(path.to_owned(), page.text);
        }
        let has_anchor = anchor.is_empty() || opened[path].contains(&format!("id=\"{anchor}\""));
        assert!(has_anchor, "{target} has no such section");
    }
    assert_eq!(client.get("/docs/nothing").status, 404);
    assert_eq!(client.get("/docs/..%2F..%2Fetc").status, 404);
}

/// The explorer works without other hosts: its page has no script of its own, and loads one file.
#[test]
fn the_explorer_loads_its_script_from_the_server_and_makes_no_markup() {
    let (server, _dir) = server();
    let client = server.admin();
    let page = client.get("/docs/api");
    let policy = page.header("content-security-policy");
    for wanted in ["script-src 'self'", "connect-src 'self'", "form-action 'none'"] {
        assert!(policy.contains(wanted), "{policy}");
    }
    assert!(!policy.contains("unsafe"), "{policy}");
    assert_eq!(page.text.matches("<script src=\"/docs/explorer.js\" defer></script>").count(), 1);
    assert_eq!(page.text.matches("<script").count(), 1, "no script is in the page itself");
    assert!(!page.text.contains(" style=") && !page.text.contains(" onclick="), "{}", page.text);
    let contents = page.text.split("<h2").next().unwrap();
    assert!(contents.contains("<li><a href=\"#explorer\">"), "{contents}");
    let icon = client.get("/docs/icon.svg");
    assert_eq!((icon.status, icon.header("content-type")), (200, "image/svg+xml"));
    let script = client.get("/docs/explorer.js");
    assert_eq!(script.header("content-type"), "text/javascript; charset=utf-8");
    for word in ["innerHTML", "outerHTML", "insertAdjacent", "document.write", "eval(", "://"] {
        assert!(!script.text.contains(word), "{word}");
    }
}

/// What the explorer does in a page, with a small document in the place of a browser's.
#[test]
fn the_explorer_keeps_numbers_streams_asks_and_opens_what_is_named() {
    let mut node = Command::new("node");
    node.arg("--test").current_dir(root().join("tests/explorer"));
    match node.env("TRIGGERD_SOURCE", root()).output() {
        Ok(done) => {
            let said = crate::npm::text(&done);
            assert!(done.status.success() && said.contains("pass 5"), "{said}");
        }
        Err(_absent) => {
            assert!(std::env::var_os("CI").is_none(), "there is no node");
            eprintln!("skipped: there is no node");
        }
    }
}

#[test]
fn the_readme_is_short() {
    let lines = read("README.md").lines().count();
    assert!(lines <= README_LINES_MAX, "README.md has {lines} lines, at most {README_LINES_MAX}");
}

fn root() -> &'static Path {
    Path::new(env!("CARGO_MANIFEST_DIR"))
}

fn read(path: &str) -> String {
    fs::read_to_string(root().join(path)).unwrap()
}

/// The README and every page in `docs/`.
fn pages() -> Vec<PathBuf> {
    let docs = fs::read_dir(root().join("docs")).unwrap().map(|entry| entry.unwrap().path());
    docs.filter(|path| path.extension().is_some_and(|it| it == "md"))
        .chain([root().join("README.md")])
        .collect()
}

/// The text of a page without its code blocks.
fn prose(text: &str) -> String {
    text.split("```").step_by(2).collect()
}

/// The anchors of a page's headings, as GitHub makes them.
fn anchors(text: &str) -> Vec<String> {
    let text = prose(text);
    let titles = text
        .lines()
        .filter(|line| line.starts_with('#'))
        .map(|line| line.trim_start_matches('#').trim());
    let keeps = |c: &char| c.is_alphanumeric() || matches!(c, ' ' | '-' | '_');
    titles
        .map(|title| {
            title.to_lowercase().chars().filter(keeps).collect::<String>().replace(' ', "-")
        })
        .collect()
}
