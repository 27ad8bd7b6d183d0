//! The state is lost at each kill -9 under load, while snapshots are taken all the time. Every
//! second time the newest snapshot is torn as well, if an older one is kept: compaction may have
//! removed the beginning of the journal. Everything acknowledged comes back from the newest whole
//! snapshot and the journal behind it.

use std::path::{Path, PathBuf};

use crate::checker::{check_accounts, check_pulls, check_pushes, check_received};
use crate::client::Load;
use crate::harness::{Client, Process, command};
use crate::ledger::Ledger;
use crate::random::Random;
use crate::receiver::Receiver;
use crate::scenario::{Outcome, Plan, keep};
use crate::server::{confirm_all_but, wait_for_acknowledgements};

/// Events left in the inbox from round to round.
const LEFT: usize = 50;

pub(crate) fn run(plan: &Plan) -> Outcome {
    let data = plan.dir.join("data");
    let (ledger, receiver) = (Ledger::new(&plan.dir.join("ledger")), Receiver::start());
    let (mut server, _) = Process::boot(&data);
    let orgs = server.orgs(&ledger, &receiver);
    let mut random = Random::new(plan.seed);
    let mut torn = 0;
    for round in 0..plan.rounds {
        let url = server.url.clone();
        let load = Load::repeating(&url, &orgs, &ledger, (round, &mut random));
        load.during(|| {
            wait_for_acknowledgements(&ledger, 60 + random.below(120));
            server.kill();
        });
        std::fs::remove_dir_all(data.join("sled")).unwrap();
        if round % 2 == 1
            && let [.., _, newest] = snapshots(&data).as_slice()
        {
            tear(newest, &mut random);
            torn += 1;
        }
        server = Process::boot(&data).0;
        let history = ledger.read();
        let [pulls, pushes] = [0, 1].map(|place| Client::new(&server.url, &orgs[place].1));
        check_accounts(&server.url, &orgs[1].1, &history);
        check_pulls(&pulls, &history);
        check_pushes(&pushes, &history, &receiver);
        check_received(&history, &receiver);
        confirm_all_but(LEFT, &pulls, &ledger);
    }
    assert_eq!(server.stop().0, Some(0));
    let kept = snapshots(&data).len();
    assert!(kept > 0, "no snapshot was taken");
    verify(&data);
    keep("snapshots", &data);
    Outcome::Passed(format!(
        "{} acknowledgements, 0 lost; {torn} snapshots torn, {kept} kept at the end",
        ledger.acknowledgements()
    ))
}

/// The snapshots on disk, the oldest first.
fn snapshots(data: &Path) -> Vec<PathBuf> {
    let names = std::fs::read_dir(data.join("journal")).unwrap();
    let is_snapshot = |path: &PathBuf| path.extension() == Some("snap".as_ref());
    let mut found: Vec<_> = names.map(|name| name.unwrap().path()).filter(is_snapshot).collect();
    found.sort();
    found
}

/// Cuts the file off anywhere.
fn tear(snapshot: &Path, random: &mut Random) {
    let file = std::fs::File::options().write(true).open(snapshot).unwrap();
    let length = file.metadata().unwrap().len();
    file.set_len(random.below(length)).unwrap();
}

/// Checks that every whole snapshot matches the journal, after torn ones are deleted.
fn verify(data: &Path) {
    let (code, text) = command(data, &["rebuild"]);
    assert_eq!(code, Some(0), "{text}");
    let (code, text) = command(data, &["verify"]);
    assert_eq!(code, Some(0), "{text}");
}
