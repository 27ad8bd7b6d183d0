//! Events expire a second after their end, snapshots are taken all the time, and compaction removes
//! what nobody needs. Meanwhile the server is copied and killed, and loses its state every second
//! time. Everything acknowledged that has not expired is there, and nothing expired comes back.

use std::collections::BTreeSet;
use std::path::Path;
use std::time::Duration;

use crate::checker::{check_accounts, check_pulls, check_pushes, check_received};
use crate::client::Load;
use crate::copies::copied;
use crate::harness::{Client, PATIENCE, Process, command, patience, until_within};
use crate::ledger::{History, Ledger};
use crate::random::Random;
use crate::receiver::Receiver;
use crate::scenario::{Outcome, Plan, keep};
use crate::server::{
    compacting, confirm_all_but, loses_first_segment, store_and_confirm, wait_for_acknowledgements,
};

/// Events left in the inbox from round to round.
const LEFT: usize = 50;
/// Number of the oldest confirmed events of which it is known whether they have expired.
const WATCHED: usize = 100;

/// A copy takes less.
const GRACE: Duration = Duration::from_secs(2);

/// The lab's configuration, with short lives and a short grace.
fn config(data: &Path) -> String {
    let grace = GRACE.as_secs();
    let short = format!("[retention]\nfinished_seconds = 1\ngrace_seconds = {grace}");
    crate::server::config(data).replace("[retention]\ngrace_seconds = 5", &short)
}

pub(crate) fn run(plan: &Plan) -> Outcome {
    lose_state_after_compaction(&plan.dir.join("lost"));
    let data = plan.dir.join("data");
    let (ledger, receiver) = (Ledger::new(&plan.dir.join("ledger")), Receiver::start());
    let mut server = Process::start_on(&data, &config(&data));
    let orgs = server.orgs(&ledger, &receiver);
    let filling = server.org("filling").key;
    let (mut random, mut expired) = (Random::new(plan.seed), BTreeSet::new());
    for round in 0..plan.rounds {
        let (url, copy) = (server.url.clone(), plan.dir.join(format!("copy-{round}")));
        let load = Load::repeating(&url, &orgs, &ledger, (round, &mut random));
        let before = load.during(|| {
            wait_for_acknowledgements(&ledger, 60 + random.below(120));
            let before = copied(&data, &copy, GRACE, &ledger);
            server.kill();
            before
        });
        check_copy(&copy, before, (&ledger, &receiver), &orgs);
        if round % 2 == 1 {
            std::fs::remove_dir_all(data.join("sled")).unwrap();
        }
        server = Process::start_on(&data, &config(&data));
        // The load may have left no more than what stays.
        store_and_confirm(&Client::new(&server.url, &filling), || {});
        check(&server, &orgs, (&ledger, &receiver), &mut expired);
    }
    assert_eq!(server.stop().0, Some(0));
    assert!(!expired.is_empty(), "no event was seen to expire");
    let (code, text) = command(&data, &["verify"]);
    assert_eq!(code, Some(0), "verify finds: {text}");
    keep("retention", &data);
    Outcome::Passed(format!(
        "{} acknowledgements, 0 lost; {} events seen to expire, 0 came back; {} copies",
        ledger.acknowledgements(),
        expired.len(),
        plan.rounds
    ))
}

/// Loses the state when compaction has removed the beginning of the journal, for which only
/// compaction asked for a snapshot.
fn lose_state_after_compaction(data: &Path) {
    let server = Process::start_on(data, &compacting(data, 0));
    let org = server.org("lost");
    let last = store_and_confirm(&org, || {});
    assert!(loses_first_segment(data, PATIENCE), "nothing is compacted");
    server.kill();
    std::fs::remove_dir_all(data.join("sled")).unwrap();
    let server = Process::start_on(data, &compacting(data, 0));
    assert_eq!(Client::new(&server.url, &org.key).inbox_ids(), [last]);
    assert_eq!(server.stop().0, Some(0));
}

/// Checks the server after a kill, empties the inbox except for some events, and waits for
/// compaction.
fn check(
    server: &Process,
    orgs: &[(&'static str, String)],
    (ledger, receiver): (&Ledger, &Receiver),
    expired: &mut BTreeSet<String>,
) {
    let history = ledger.read();
    let [pulls, pushes] = [0, 1].map(|place| Client::new(&server.url, &orgs[place].1));
    check_accounts(&server.url, &orgs[1].1, &history);
    check_pulls(&pulls, &history);
    check_pushes(&pushes, &history, receiver);
    check_received(&history, receiver);
    confirm_all_but(LEFT, &pulls, ledger);
    let compacts = || (compactions(&pulls) > 0.0).then_some(());
    assert!(
        until_within(patience(Duration::from_mins(1)), compacts).is_some(),
        "nothing is compacted"
    );
    check_expired(&pulls, &history, expired);
}

/// Checks that the copy starts, and has what was acknowledged before and has not expired.
fn check_copy(
    copy: &Path,
    before: History,
    (ledger, receiver): (&Ledger, &Receiver),
    orgs: &[(&'static str, String)],
) {
    let server = Process::start_on(copy, &config(copy));
    // The copy may have events from the time of the copying.
    let after = ledger.read();
    let history = History { sent: after.sent, confirming: after.confirming, ..before };
    let [pulls, pushes] = [0, 1].map(|place| Client::new(&server.url, &orgs[place].1));
    check_accounts(&server.url, &orgs[1].1, &history);
    check_pulls(&pulls, &history);
    check_pushes(&pushes, &history, receiver);
    assert_eq!(server.stop().0, Some(0));
    std::fs::remove_dir_all(copy).unwrap();
}

/// The number of segments that compaction has written again or removed since the start.
fn compactions(org: &Client) -> f64 {
    let of = |what| org.metric(&format!("triggerd_compaction_segments_{what}_total"));
    of("punched") + of("removed")
}

/// Checks that no event that was seen to be gone comes back, and notes which are gone now.
fn check_expired(pulls: &Client, history: &History, expired: &mut BTreeSet<String>) {
    for id in history.confirmed.iter().take(WATCHED) {
        match pulls.get(&format!("/api/events/{id}")).status {
            404 => _ = expired.insert(id.clone()),
            200 => assert!(!expired.contains(id), "the expired event {id} comes back"),
            other => panic!("the event {id} cannot be read: {other}"),
        }
    }
}
