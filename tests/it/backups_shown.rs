//! The commands about backups that the manual shows, run as they are there, with other paths.

use std::fs;
use std::os::unix::fs::MetadataExt as _;
use std::path::{Path, PathBuf};
use std::process::Command;

use crate::backups::{fill, segments, small, text};
use crate::harness::{Client, Process, binary, command};

/// The lines of the first block of commands below a heading of the manual for operators.
fn shown(heading: &str) -> Vec<String> {
    let manual = Path::new(env!("CARGO_MANIFEST_DIR")).join("docs/operations.md");
    let manual = fs::read_to_string(manual).unwrap();
    let section = manual.split_once(&format!("\n{heading}\n")).expect(heading).1;
    let block = section.split_once("```sh\n").unwrap().1.split_once("```").unwrap().0;
    block.lines().map(str::to_owned).collect()
}

/// A machine like that of the manual, below a directory.
struct Machine {
    dir: tempfile::TempDir,
    server: Process,
    org: Client,
    ids: Vec<String>,
}

impl Machine {
    fn up() -> Self {
        let dir = tempfile::tempdir().unwrap();
        for name in ["var/lib", "backup", "srv"] {
            fs::create_dir_all(dir.path().join(name)).unwrap();
        }
        let data = dir.path().join("var/lib/triggerd");
        let server = Process::start_on(&data, &small(&data, ""));
        let org = server.org("Acme");
        let ids = fill(&org, 40);
        Self { dir, server, org, ids }
    }

    fn path(&self, name: &str) -> PathBuf {
        self.dir.path().join(name)
    }

    /// Runs lines in a shell that finds `triggerd`, and another machine behind `ssh`.
    fn run(&self, lines: &str) -> (Option<i32>, String) {
        let mut lines = lines.to_owned();
        for name in ["/var/lib", "/backup", "/srv"] {
            lines =
                lines.replace(&format!(" {name}"), &format!(" {}{name}", text(self.dir.path())));
            for mark in ["=", "\""] {
                let place = format!("{mark}{}{name}", text(self.dir.path()));
                lines = lines.replace(&format!("{mark}{name}"), &place);
            }
        }
        let shell = format!(
            "set -euo pipefail\nssh() {{ shift; (mkdir -p other; cd other; eval \"$@\"); }}\n\
            triggerd() {{ {:?} \"$@\"; }}\n{lines}\n",
            text(&binary())
        );
        let shell = Command::new("bash")
            .args(["-c", &shell])
            .current_dir(self.dir.path())
            .env("TRIGGERD_URL", &self.server.url)
            .env("TRIGGERD_ADMIN_TOKEN_FILE", self.server.data_dir.join("admin.token"))
            .output()
            .unwrap();
        (shell.status.code(), String::from_utf8([shell.stdout, shell.stderr].concat()).unwrap())
    }

    fn assert_whole(&self, copy: &Path) {
        let server = Process::start_on(copy, &small(copy, ""));
        assert_eq!(Client::new(&server.url, &self.org.key).inbox_ids(), self.ids, "{copy:?}");
        assert_eq!(server.stop().0, Some(0));
        let (code, said) = command(copy, &["verify"]);
        assert_eq!(code, Some(0), "{copy:?}: {said}");
    }
}

#[test]
fn every_shown_copy_of_a_running_server_is_a_backup() {
    let mut machine = Machine::up();
    let has_rsync = Command::new("rsync").arg("--version").output().is_ok();
    for line in shown("### Copies by other programs") {
        if line.starts_with("rsync") && !has_rsync {
            eprintln!("skipped, because rsync is not installed: {line}");
            continue;
        }
        if line.contains("--link-dest") {
            machine.ids.extend(fill(&machine.org, 3));
        }
        let (code, said) = machine.run(&line);
        // The journal of a running server may change while it is read.
        let harmless: &[i32] = if line.starts_with("rsync") { &[0, 24] } else { &[0, 1] };
        assert!(code.is_some_and(|code| harmless.contains(&code)), "{line}: {code:?} {said}");
    }
    let unpacked = machine.path("srv");
    let (code, said) = machine.run("tar -C /srv -xf /backup/copy.tar");
    assert_eq!(code, Some(0), "{said}");
    let earlier = machine.ids.split_off(40.min(machine.ids.len()));
    machine.assert_whole(&unpacked.join("triggerd"));
    machine.assert_whole(&machine.path("backup/copy"));
    if !has_rsync {
        return;
    }
    let (monday, tuesday) = (machine.path("backup/monday"), machine.path("backup/tuesday"));
    let inode = |path: &Path| fs::metadata(path).unwrap().ino();
    let (first, again) = (segments(&monday).remove(0), segments(&tuesday).remove(0));
    assert_eq!(inode(&first), inode(&again), "a segment that did not change is a link");
    machine.assert_whole(&monday);
    machine.ids.extend(earlier);
    machine.assert_whole(&tuesday);
}

#[test]
fn every_shown_backup_can_be_made_checked_and_restored() {
    let machine = Machine::up();
    let recipient = age::x25519::Identity::generate().to_public().to_string();
    let lines = shown("### triggerd backup").join("\n").replace("age1…", &recipient);
    let (code, said) = machine.run(&lines);
    assert_eq!(code, Some(0), "{said}");
    assert!(said.contains("no damage was found"), "{said}");
    let (code, said) = machine.run("triggerd verify other/events.tar.zst");
    assert_eq!(code, Some(0), "{said}");
    assert!(machine.path("events.tar.zst.age").exists());
    machine.assert_whole(&machine.path("srv/restored"));
}

#[test]
fn the_shown_drill_verifies_the_copy() {
    let machine = Machine::up();
    let lines = shown("### A drill by hand");
    let drill: Vec<_> = lines.into_iter().filter(|line| !line.contains("triggerd serve")).collect();
    assert!(drill.iter().any(|line| line.contains("triggerd verify --config drill.toml")));
    let drill = drill
        .join("\n")
        .replace("-cf backup.tar triggerd", "-cf backup.tar triggerd || [ $? = 1 ]");
    let (code, said) = machine.run(&drill);
    assert_eq!(code, Some(0), "{said}");
}
