//! `cp -a` of the live directory, first in a quiet moment and then under load. Each copy starts,
//! and has all events, keys and endpoints acknowledged before the copying began.

use std::path::Path;
use std::process::Command;

use crate::checker::{check_accounts, check_pulls, check_pushes};
use crate::client::Load;
use crate::harness::{Client, Process};
use crate::ledger::{History, Ledger};
use crate::receiver::Receiver;
use crate::scenario::{Outcome, Plan, keep};
use crate::server::{confirm_all_but, wait_for_acknowledgements};

pub(crate) fn run(plan: &Plan) -> Outcome {
    let data = plan.dir.join("data");
    let (ledger, receiver) = (Ledger::new(&plan.dir.join("ledger")), Receiver::start());
    let (server, _) = Process::boot(&data);
    let orgs = server.orgs(&ledger, &receiver);
    let mut copied = 0;
    for number in 0..plan.rounds.max(1) {
        let copy = plan.dir.join(format!("copy-{number}"));
        let load = Load {
            seed: plan.seed.wrapping_add(number),
            ..Load::new(&server.url, &orgs, &ledger, number)
        };
        let copy_now = || {
            let before = ledger.read();
            assert!(Command::new("cp").arg("-a").args([&data, &copy]).status().unwrap().success());
            before
        };
        let under_load = load.during(|| {
            wait_for_acknowledgements(&ledger, 100);
            ledger.key(&server.org("another").key);
            (number > 0).then(copy_now)
        });
        let before = under_load.unwrap_or_else(|| {
            // The first copy is made in a quiet moment: no later group pushes the last acknowledged
            // group to the disk.
            Client::new(&server.url, &orgs[1].1).inbox_until(<[_]>::is_empty);
            ledger.key(&server.org("quiet").key);
            copy_now()
        });
        copied += before.stored.len();
        check_copy(&copy, before, &ledger, &orgs, &receiver);
        confirm_all_but(100, &Client::new(&server.url, &orgs[0].1), &ledger);
    }
    assert_eq!(server.stop().0, Some(0));
    keep("copies", &data);
    Outcome::Passed(format!(
        "{copied} acknowledged events asked of copies, 0 missing; {} acknowledgements",
        ledger.acknowledgements()
    ))
}

fn check_copy(
    copy: &Path,
    before: History,
    ledger: &Ledger,
    orgs: &[(&'static str, String)],
    receiver: &Receiver,
) {
    let (server, _) = Process::boot(copy);
    // The copy may have events from the time of the copying.
    let after = ledger.read();
    let history = History { sent: after.sent, confirming: after.confirming, ..before };
    let [pulls, pushes] = [0, 1].map(|place| Client::new(&server.url, &orgs[place].1));
    check_accounts(&server.url, &orgs[1].1, &history);
    check_pulls(&pulls, &history);
    check_pushes(&pushes, &history, receiver);
    assert_eq!(
        pulls.send_once("on-the-copy", &serde_json::json!(1)).status,
        202,
        "a copy takes events"
    );
    assert_eq!(server.stop().0, Some(0));
    std::fs::remove_dir_all(copy).unwrap();
}
