//! Drills: the newest backup is restored and verified beside the others. A damaged one is noticed,
//! a killed drill leaves nothing for long, and no drill takes the space of the data.

use std::fs;
use std::path::{Path, PathBuf};
use std::process::Command;

use serde_json::{Value, json};

use crate::backups::{ask, backups, fill, restore, segments, small, text};
use crate::harness::{Client, Process, binary, command, until};

/// A server with backups that somebody asks for, and drills by this schedule.
struct Drilled {
    dir: tempfile::TempDir,
    more: String,
    server: Option<Process>,
}

impl Drilled {
    fn up(every: u64, more: &str) -> Self {
        let dir = tempfile::tempdir().unwrap();
        let directory = dir.path().join("backups").display().to_string();
        let more =
            format!("[backup]\ndirectory = {directory:?}\ndrill_every_seconds = {every}\n{more}");
        let mut drilled = Self { dir, more, server: None };
        drilled.start();
        drilled
    }

    fn data(&self) -> PathBuf {
        self.dir.path().join("data")
    }

    fn target(&self) -> PathBuf {
        self.dir.path().join("backups")
    }

    fn server(&self) -> &Process {
        self.server.as_ref().unwrap()
    }

    fn admin(&self) -> Client {
        self.server().admin()
    }

    fn start(&mut self) {
        self.server = Some(Process::start_on(&self.data(), &small(&self.data(), &self.more)));
    }

    fn backup(&self) {
        let (code, said) = ask(self.server(), &[text(&self.target())]);
        assert_eq!(code, Some(0), "{said}");
    }

    /// Asks for a drill.
    fn drill(&self) -> (Option<i32>, String) {
        command(&self.data(), &["drill", "--url", &self.server().url])
    }

    fn health(&self) -> Value {
        self.admin().get("/health").json["drill"].clone()
    }

    fn metric(&self, name: &str) -> f64 {
        self.admin().metric(name)
    }

    /// Everything in the directory of backups that no backup has made.
    fn beside(&self) -> Vec<String> {
        let names = fs::read_dir(self.target()).unwrap().map(|it| it.unwrap().file_name());
        let mut names: Vec<_> = names.map(|name| name.into_string().unwrap()).collect();
        names.retain(|name| name.contains("drill"));
        names
    }

    /// The directory of a drill that is under way.
    fn scratch(&self) -> Option<PathBuf> {
        let names = fs::read_dir(self.target()).ok()?.map(|it| it.unwrap().path());
        names.into_iter().find(|path| path.is_dir() && text(path).contains(".drill-"))
    }
}

/// Changes a byte of a file, in place of which another file comes.
fn flip(file: &Path, at: usize) {
    let mut bytes = fs::read(file).unwrap();
    bytes[at] ^= 1;
    fs::remove_file(file).unwrap();
    fs::write(file, bytes).unwrap();
}

#[test]
fn a_good_backup_passes_by_schedule_and_on_demand_and_leaves_only_its_result() {
    let mut drilled = Drilled::up(604_800, "");
    let org = drilled.server().org("Acme");
    org.push_to("http://127.0.0.1:9/");
    fill(&org, 60);
    let none = json!({"ended_at": null, "outcome": null, "passed_at": null,
        "skipped_because": null, "every_seconds": 604_800});
    assert_eq!((drilled.health(), drilled.metric("triggerd_drill_age_seconds")), (none, -1.0));
    drilled.backup();
    let manifest = fs::read_to_string(backups(&drilled.target())[0].join("manifest.json")).unwrap();
    let manifest: Value = serde_json::from_str(&manifest).unwrap();
    let counts = &manifest["manifest"]["counts"];
    assert_eq!((&counts["events"], &counts["organizations"]), (&json!(60), &json!(1)), "{counts}");
    // The first one is due as soon as there is a backup.
    until(|| (drilled.health()["outcome"] == "passed").then_some(()));
    until(|| (drilled.metric("triggerd_drill_age_seconds") >= 0.0).then_some(()));
    let first = drilled.health();
    let jobs = || drilled.admin().get("/api/admin/jobs").json["data"].as_array().unwrap().clone();
    let drills = jobs().iter().filter(|job| job["kind"] == "drill").count();
    assert_eq!(drills, 1, "{:?}", jobs());
    let (code, said) = drilled.drill();
    assert!(code == Some(0) && said.contains("restored, verified"), "{said}");
    let job = jobs()[0].clone();
    let backup = backups(&drilled.target()).remove(0);
    assert_eq!((&job["state"], &job["backup"]), (&json!("done"), &json!(backup)), "{job}");
    assert!(drilled.health()["passed_at"].as_str() >= first["passed_at"].as_str());
    assert_eq!(drilled.beside().len(), 1, "{:?}", drilled.beside());
    let last = drilled.health();
    assert_eq!(drilled.server.take().unwrap().stop().0, Some(0));
    // The result outlives the server, so that a start does not drill again.
    drilled.start();
    until(|| (drilled.health() == last).then_some(()));
    assert_eq!(drilled.admin().get("/api/admin/jobs").json, json!({"data": []}));
}

#[test]
fn a_damaged_backup_fails_and_is_named() {
    let drilled = Drilled::up(0, "");
    let org = drilled.server().org("Acme");
    fill(&org, 60);
    drilled.backup();
    let segment = segments(&backups(&drilled.target())[0]).remove(0);
    flip(&segment, 1_000);
    let (code, said) = drilled.drill();
    let name = segment.file_name().unwrap().to_str().unwrap();
    let says = format!("journal/{name}: the SHA-256 of the file differs");
    assert!(code == Some(1) && said.contains(&says), "{said}");
    assert_eq!(drilled.metric("triggerd_drill_failures_total"), 1.0);
    assert_eq!(drilled.health()["outcome"], "failed");
    assert_eq!(drilled.health()["passed_at"], Value::Null);
    assert_eq!(drilled.admin().get("/health").json["status"], "healthy", "the server is well");
    assert!(drilled.scratch().is_none());
    // The next backup is whole again.
    flip(&segment, 1_000);
    assert_eq!(drilled.drill().0, Some(0));
}

#[test]
fn a_newer_manifest_that_nobody_can_read_matters_only_if_the_backup_is_the_servers_own() {
    let drilled = Drilled::up(0, "");
    fill(&drilled.server().org("Acme"), 20);
    drilled.backup();
    let own = backups(&drilled.target()).remove(0);
    let newer = drilled.target().join("2999-01-01T00-00-00.000Z");
    fs::create_dir(&newer).unwrap();
    fs::write(newer.join("manifest.json"), "torn").unwrap();
    let (code, said) = drilled.drill();
    assert!(code == Some(0) && said.contains(text(&own)), "{said}");
    fs::copy(own.join("FORMAT"), newer.join("FORMAT")).unwrap();
    let (code, said) = drilled.drill();
    assert!(code == Some(1) && said.contains("2999-01-01"), "{said}");
    assert_eq!(drilled.health()["outcome"], "failed");
}

#[test]
fn a_foreign_file_in_the_place_of_the_scratch_directory_is_no_fault_of_the_backup() {
    let drilled = Drilled::up(0, "");
    fill(&drilled.server().org("Acme"), 20);
    drilled.backup();
    assert_eq!(drilled.drill().0, Some(0));
    let standing = drilled.beside().remove(0);
    let instance = standing.strip_prefix("drill-").and_then(|it| it.strip_suffix(".json")).unwrap();
    let foreign = drilled.target().join(format!(".drill-{instance}"));
    fs::write(&foreign, "somebody's").unwrap();
    let (code, said) = drilled.drill();
    assert!(code == Some(1) && said.contains("remove it"), "{said}");
    assert_eq!(drilled.health()["outcome"], "skipped");
    assert_eq!(drilled.metric("triggerd_drill_failures_total"), 0.0);
    assert_eq!(fs::read_to_string(&foreign).unwrap(), "somebody's");
    fs::remove_file(&foreign).unwrap();
    assert_eq!(drilled.drill().0, Some(0));
}

#[test]
fn a_verification_ends_if_the_server_ended_before_it_began() {
    let drilled = Drilled::up(0, "");
    let run = |server: u32| command(&drilled.data(), &["verify", "--gently", &server.to_string()]);
    // This process starts it, so the number of any other one stands for a server that has ended.
    let (code, said) = run(1);
    assert!(
        code == Some(1) && said.contains("the server 1 that asked for this has ended"),
        "{said}"
    );
    let (code, said) = run(std::process::id());
    assert!(!said.contains("has ended"), "{code:?} {said}");
}

/// A backup whose sums are right, although a record in it is damaged, because the data was damaged
/// before.
fn rotten() -> Drilled {
    let mut drilled = Drilled::up(0, "");
    fill(&drilled.server().org("Acme"), 60);
    assert_eq!(drilled.server.take().unwrap().stop().0, Some(0));
    // A start does not read what lies before the state.
    flip(&segments(&drilled.data()).remove(0), 1_000);
    drilled.start();
    drilled.backup();
    let to = drilled.dir.path().join("to");
    let (code, said) = restore(&drilled.data(), &drilled.target(), &to, &[]);
    assert_eq!(code, Some(0), "its sums are right: {said}");
    drilled
}

#[test]
fn damage_that_the_sums_do_not_show_is_found_by_the_verification() {
    let drilled = rotten();
    let (code, said) = drilled.drill();
    assert!(code == Some(1) && said.contains("what was backed up is damaged"), "{said}");
    assert!(said.contains("1.seg") && said.contains("checksum"), "the segment is named: {said}");
    assert_eq!(drilled.health()["outcome"], "failed");
}

#[test]
fn without_the_verification_the_same_damage_would_pass() {
    let mut drilled = rotten();
    let server = drilled.server.take().unwrap();
    assert_eq!(server.stop().0, Some(0));
    let wrapper = ["env", "TRIGGERD_FAILPOINTS=drill_unverified"];
    let config = small(&drilled.data(), &drilled.more);
    let broken = Process::spawn(&drilled.data(), &config, &wrapper).ready().ok().unwrap();
    drilled.server = Some(broken);
    assert_eq!(drilled.drill().0, Some(0));
    assert_eq!(drilled.health()["outcome"], "passed");
}

#[test]
fn a_drill_that_is_killed_leaves_nothing_behind_and_is_repeated() {
    let mut drilled = Drilled::up(0, "");
    let org = drilled.server().org("Acme");
    let ids = fill(&org, 200);
    drilled.backup();
    for wanted in ["data.restoring", "state"] {
        let begun = drilled.admin().request(reqwest::Method::POST, "/api/admin/drill", &[], "");
        assert_eq!(begun.status, 202, "{begun:?}");
        let scratch = until(|| drilled.scratch().filter(|path| path.join(wanted).exists()));
        drilled.server.take().unwrap().kill();
        assert!(scratch.exists(), "killed in the middle");
        drilled.start();
        until(|| (!scratch.exists()).then_some(()));
        assert_eq!(drilled.health()["outcome"], Value::Null, "it counts for nothing");
    }
    // A clean stop does not wait for a drill, and a drill that it cut counts for nothing.
    let begun = drilled.admin().request(reqwest::Method::POST, "/api/admin/drill", &[], "");
    assert_eq!(begun.status, 202, "{begun:?}");
    until(|| drilled.scratch());
    assert_eq!(drilled.server.take().unwrap().stop().0, Some(0));
    assert!(drilled.scratch().is_none());
    drilled.start();
    let (code, said) = drilled.drill();
    assert_eq!(code, Some(0), "{said}");
    let to = drilled.dir.path().join("to");
    assert_eq!(restore(&drilled.data(), &drilled.target(), &to, &[]).0, Some(0));
    let restored = Process::start_on(&to, &small(&to, ""));
    assert_eq!(Client::new(&restored.url, &org.key).inbox_ids(), ids);
}

#[test]
fn a_drill_leaves_the_space_that_the_data_needs() {
    // The whole disk is to be free.
    let drilled = Drilled::up(0, "[retention]\nkeep_free_share = 1.0\n");
    fill(&drilled.server().org("Acme"), 20);
    drilled.backup();
    until(|| (drilled.metric("triggerd_disk_keep_free_bytes") > 0.0).then_some(()));
    let (code, said) = drilled.drill();
    assert!(code == Some(1) && said.contains("have to stay free"), "{said}");
    assert_eq!(drilled.health()["outcome"], "skipped");
    let why = drilled.health()["skipped_because"].as_str().unwrap().to_owned();
    assert!(why.contains("have to stay free"), "{why}");
    assert_eq!(drilled.metric("triggerd_drill_failures_total"), 0.0);
    assert_eq!(drilled.metric("triggerd_drill_skips_total"), 1.0);
    assert!(drilled.scratch().is_none());
}

#[test]
fn the_operator_alone_asks_for_drills_and_only_with_a_directory() {
    let drilled = Drilled::up(0, "");
    let org = drilled.server().org("Acme");
    let refused = org.post("/api/admin/drill", &json!({}));
    assert_eq!((refused.status, refused.code()), (403, "forbidden"), "{refused:?}");
    let wrong = drilled.admin().post("/api/admin/drill", &json!({"directory": "/x"}));
    assert!(wrong.status == 422 && wrong.text.contains("/directory"), "{wrong:?}");
    let (code, said) = drilled.drill();
    assert!(code == Some(1) && said.contains("holds no backup of this server"), "{said}");
    assert_eq!(drilled.health()["outcome"], "skipped");
    let (other, _dir) = crate::harness::server();
    let none = other.admin().post("/api/admin/drill", &json!({}));
    assert!(none.status == 422 && none.text.contains("no [backup] directory"), "{none:?}");
    let help = Command::new(binary()).args(["verify", "--help"]).output().unwrap();
    assert!(!String::from_utf8(help.stdout).unwrap().contains("--gently"), "it is for drills only");
}
