//! Names of the data directory that belong to no file: pipes, and files in the place of
//! directories. No command waits for the other end of a pipe.

use std::fs;
use std::path::Path;
use std::process::Command;

use serde_json::json;

use crate::harness::{PATIENCE, binary};
use crate::operator::Start;

/// Damages a data directory.
type Harm = fn(&Path);

/// The exit code of `timeout` for a command that did not end.
const ENDLESS: Option<i32> = Some(124);

pub(crate) fn put_pipe(path: &Path) {
    if path.exists() {
        fs::remove_file(path).unwrap();
    }
    assert!(Command::new("mkfifo").args(["-m", "600"]).arg(path).status().unwrap().success());
}

/// Runs a command that must end; returns its exit code and its output.
fn ended(data: &Path, word: &str) -> (Option<i32>, String) {
    let output = Command::new("timeout")
        .args(["-s", "KILL", &PATIENCE.as_secs().to_string()])
        .arg(binary())
        .arg(word)
        .arg("--config")
        .arg(data.with_extension("toml"))
        .output()
        .unwrap();
    let text = String::from_utf8([output.stdout, output.stderr].concat()).unwrap();
    let code = output.status.code();
    assert!(code.is_some() && code != ENDLESS, "{word} does not end: {text}");
    (code, text)
}

/// A data directory with an event, whose server has stopped.
fn stopped(data: &Path) {
    let server = Start::on(data).ready();
    assert_eq!(server.admin().new_org("Acme").send("a.b", &json!(1)).status, 202);
    assert_eq!(server.stop().0, Some(0));
}

/// The directory of the last generation of the state.
fn generation(data: &Path) -> std::path::PathBuf {
    let names = fs::read_dir(data.join("sled")).unwrap().map(|entry| entry.unwrap().path());
    names.max().unwrap()
}

#[test]
fn a_pipe_in_the_place_of_a_file_is_refused_at_once() {
    let dir = tempfile::tempdir().unwrap();
    let data = dir.path().join("data");
    stopped(&data);
    for name in ["FORMAT", "LOCK", "secrets.key", "admin.token", "journal/00000000000000000001.seg"]
    {
        let (path, aside) = (data.join(name), dir.path().join("aside"));
        fs::rename(&path, &aside).unwrap();
        put_pipe(&path);
        for word in ["verify", "serve"] {
            // `verify` reads no secrets.
            if word == "verify" && ["secrets.key", "admin.token"].contains(&name) {
                continue;
            }
            let (code, text) = ended(&data, word);
            assert_ne!(code, Some(0), "{word} with a pipe as {name}: {text}");
            assert!(text.contains(path.to_str().unwrap()), "{word} names {name}: {text}");
            assert!(text.contains("a pipe"), "{word} says what {name} is: {text}");
        }
        fs::remove_file(&path).unwrap();
        fs::rename(&aside, &path).unwrap();
    }
    assert_eq!(ended(&data, "verify").0, Some(0));
    put_pipe(&data.join("FORMAT"));
    let (code, text) = ended(&data, "rebuild");
    assert_eq!(code, Some(0), "{text}");
    assert_eq!(Start::on(&data).ready().stop().0, Some(0));
}

#[test]
fn a_state_that_is_no_directory_of_files_is_computed_again() {
    let dir = tempfile::tempdir().unwrap();
    let harms: [(&str, Harm); 5] = [
        ("database", |data| put_pipe(&generation(data).join("db"))),
        ("mark", |data| put_pipe(&generation(data).join("CLEAN"))),
        ("file", |data| {
            fs::remove_dir_all(data.join("sled")).unwrap();
            fs::write(data.join("sled"), "text").unwrap();
        }),
        ("pipe", |data| {
            fs::remove_dir_all(data.join("sled")).unwrap();
            put_pipe(&data.join("sled"));
        }),
        ("generation", |data| {
            let last = generation(data);
            fs::remove_dir_all(&last).unwrap();
            fs::write(&last, "text").unwrap();
        }),
    ];
    for (name, harm) in harms {
        let data = dir.path().join(name);
        stopped(&data);
        for word in ["verify", "rebuild", "serve"] {
            harm(&data);
            if word != "serve" {
                let (code, text) = ended(&data, word);
                assert_eq!(code, Some(0), "{word} of {name}: {text}");
            }
            assert_eq!(Start::on(&data).ready().stop().0, Some(0), "after {word} of {name}");
        }
        assert_eq!(ended(&data, "verify").0, Some(0), "{name}");
    }
}
