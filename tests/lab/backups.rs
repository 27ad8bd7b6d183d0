//! The server is killed while it makes a backup under load. What is left is no backup: each that
//! counts as complete is whole. The next backup succeeds, clears what was left, and gives back
//! everything that was acknowledged.

use std::collections::BTreeSet;
use std::path::{Path, PathBuf};
use std::time::{Duration, Instant};

use serde_json::json;

use crate::client::Load;
use crate::copies::check_copy;
use crate::harness::{Client, PATIENCE, Process, command};
use crate::ledger::Ledger;
use crate::random::Random;
use crate::receiver::Receiver;
use crate::scenario::{Outcome, Plan, keep};
use crate::server::{confirm_all_but, wait_for_acknowledgements};

/// Events left in the inbox from round to round.
const LEFT: usize = 50;
/// Longest time from the appearance of a backup's directory to the kill, in microseconds.
const SOON_US: u64 = 4_000;

pub(crate) fn run(plan: &Plan) -> Outcome {
    let (data, target) = (plan.dir.join("data"), plan.dir.join("backups"));
    let (ledger, receiver) = (Ledger::new(&plan.dir.join("ledger")), Receiver::start());
    let (mut server, _) = Process::boot(&data);
    let orgs = server.orgs(&ledger, &receiver);
    let (mut random, mut whole, mut cut) = (Random::new(plan.seed), BTreeSet::new(), 0);
    for round in 0..plan.rounds {
        let url = server.url.clone();
        let load = Load::repeating(&url, &orgs, &ledger, (round, &mut random));
        load.during(|| {
            wait_for_acknowledgements(&ledger, 60 + random.below(60));
            let known = directories(&target).len();
            let asked = server.admin().post("/api/admin/backup", &json!({ "directory": target }));
            assert_eq!(asked.status, 202, "{asked:?}");
            wait_for_another(&target, known);
            std::thread::park_timeout(Duration::from_micros(random.below(SOON_US)));
            server.kill();
        });
        cut += usize::from(!unfinished(&target).is_empty());
        check_whole(&data, &target, &mut whole);
        server = Process::boot(&data).0;
        let before = ledger.read();
        let words = ["backup", target.to_str().unwrap(), "--url", &server.url];
        let (code, text) = command(&data, &words);
        assert_eq!(code, Some(0), "the backup after a kill: {text}");
        let left = unfinished(&target);
        assert!(left.is_empty(), "what a killed backup left is still there: {left:?}");
        check_whole(&data, &target, &mut whole);
        let restored = plan.dir.join(format!("restored-{round}"));
        let words = ["restore", target.to_str().unwrap(), restored.to_str().unwrap()];
        let (code, text) = command(&data, &words);
        assert_eq!(code, Some(0), "{text}");
        check_copy(&restored, before, &ledger, &orgs, &receiver);
        confirm_all_but(LEFT, &Client::new(&server.url, &orgs[0].1), &ledger);
    }
    assert_eq!(server.stop().0, Some(0));
    keep("backups", &data);
    Outcome::Passed(format!(
        "{cut} backups cut by a kill, {} whole; {} acknowledgements, 0 missing in a restore",
        whole.len(),
        ledger.acknowledgements()
    ))
}

/// The directories of backups, whole or not.
fn directories(target: &Path) -> Vec<PathBuf> {
    let names = std::fs::read_dir(target).into_iter().flatten();
    names.map(|name| name.unwrap().path()).filter(|path| path.is_dir()).collect()
}

fn unfinished(target: &Path) -> Vec<PathBuf> {
    let mut found = directories(target);
    found.retain(|path| !path.join("manifest.json").exists());
    found
}

fn wait_for_another(target: &Path, known: usize) {
    let began = Instant::now();
    while directories(target).len() <= known {
        assert!(began.elapsed() < PATIENCE, "the backup does not begin");
        std::hint::spin_loop();
    }
}

/// Verifies each backup that counts as complete and was not verified yet.
fn check_whole(data: &Path, target: &Path, whole: &mut BTreeSet<PathBuf>) {
    for path in directories(target) {
        if !path.join("manifest.json").exists() || whole.contains(&path) {
            continue;
        }
        let (code, text) = command(data, &["verify", path.to_str().unwrap()]);
        assert_eq!(code, Some(0), "verify of a backup that counts as complete: {text}");
        whole.insert(path);
    }
}
