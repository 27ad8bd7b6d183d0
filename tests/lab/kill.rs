//! kill -9 at any instant: under load, while a segment is sealed, while the server starts, while
//! the server computes the state from the journal, and twice in a row. Each acknowledged event is
//! stored once and gets delivered.

use std::path::Path;
use std::time::Duration;

use crate::checker::{check_accounts, check_delivered, check_pulls, check_pushes, check_received};
use crate::client::Load;
use crate::harness::{Client, Process};
use crate::ledger::Ledger;
use crate::random::Random;
use crate::receiver::Receiver;
use crate::scenario::{Outcome, Plan, keep};
use crate::server::{IN_FLIGHT, confirm_all_but, wait_for_acknowledgements};

/// Kills on one data directory. Then a new directory is used, or checking would take ever longer.
const ERA: u64 = 20;
/// Events left in the inbox from round to round.
const LEFT: usize = 50;

/// Longest start of a server, where times are judged.
const READY_WITHIN: Duration = Duration::from_secs(2);

/// The moment at which the server is killed.
#[derive(Clone, Copy, Debug)]
enum Hit {
    Load,
    Sealing,
    Start,
    Rebuild,
    Twice,
}

const HITS: [Hit; 5] = [Hit::Load, Hit::Sealing, Hit::Start, Hit::Rebuild, Hit::Twice];

#[derive(Default)]
struct Totals {
    kills: u64,
    acknowledgements: u64,
    delivered: usize,
    duplicates: u64,
    slowest_start: Duration,
}

pub(crate) fn run(plan: &Plan) -> Outcome {
    let (mut random, mut totals) = (Random::new(plan.seed), Totals::default());
    let mut round = 0;
    while round < plan.rounds {
        let until = plan.rounds.min(round + ERA);
        era(&plan.dir.join(format!("from-{round}")), round..until, &mut random, &mut totals);
        round = until;
    }
    let Totals { kills, acknowledgements, delivered, duplicates, slowest_start } = totals;
    assert!(!plan.judges_time || slowest_start < READY_WITHIN, "a start took {slowest_start:?}");
    Outcome::Passed(format!(
        "{kills} kills in all; {acknowledgements} acknowledgements, 0 lost, 0 stored twice; \
         {delivered} delivered, {duplicates} of them twice; slowest start {} ms",
        slowest_start.as_millis()
    ))
}

fn era(dir: &Path, rounds: std::ops::Range<u64>, random: &mut Random, totals: &mut Totals) {
    std::fs::create_dir(dir).unwrap();
    let data = dir.join("data");
    let (ledger, receiver) = (Ledger::new(&dir.join("ledger")), Receiver::start());
    let (mut server, _) = Process::boot(&data);
    let orgs = server.orgs(&ledger, &receiver);
    let mut kills = 0;
    for round in rounds {
        let hit = HITS[random.index(HITS.len())];
        let url = server.url.clone();
        let load = Load::repeating(&url, &orgs, &ledger, (round, &mut *random));
        load.during(|| {
            wait_for_acknowledgements(&ledger, 1 + random.below(120));
            wait_for_the_moment(hit, &data, random);
            server.kill();
        });
        kills += 1 + hit_again(hit, &data, random);
        let (started, took) = Process::boot(&data);
        server = started;
        totals.slowest_start = totals.slowest_start.max(took);
        check(&server, &orgs, &ledger, &receiver);
    }
    let history = ledger.read();
    let pushes = Client::new(&server.url, &orgs[1].1);
    let (delivered, duplicates) = check_delivered(&pushes, &history, &receiver, kills * IN_FLIGHT);
    check_accounts(&server.url, &orgs[1].1, &history);
    assert_eq!(server.stop().0, Some(0));
    keep("kill", &data);
    totals.kills += kills;
    totals.acknowledgements += ledger.acknowledgements();
    totals.delivered += delivered;
    totals.duplicates += duplicates;
}

/// Checks that nothing acknowledged is lost, and empties the inbox except for some events.
fn check(server: &Process, orgs: &[(&str, String); 2], ledger: &Ledger, receiver: &Receiver) {
    let history = ledger.read();
    let [pulls, pushes] = [0, 1].map(|place| Client::new(&server.url, &orgs[place].1));
    check_pulls(&pulls, &history);
    check_pushes(&pushes, &history, receiver);
    check_received(&history, receiver);
    confirm_all_but(LEFT, &pulls, ledger);
}

fn wait_for_the_moment(hit: Hit, data: &Path, random: &mut Random) {
    if matches!(hit, Hit::Sealing) {
        wait_for_a_new_segment(data);
    } else {
        std::thread::park_timeout(Duration::from_micros(random.below(20_000)));
    }
}

/// Kills the server again before the start under test. Returns the number of kills.
fn hit_again(hit: Hit, data: &Path, random: &mut Random) -> u64 {
    let mut soon = |milliseconds: u64| Duration::from_micros(random.below(milliseconds * 1_000));
    match hit {
        Hit::Load | Hit::Sealing => 0,
        Hit::Start => {
            Process::boot_and_kill(data, soon(400));
            1
        }
        Hit::Rebuild => {
            std::fs::remove_dir_all(data.join("sled")).unwrap();
            Process::boot_and_kill(data, soon(600));
            Process::boot_and_kill(data, soon(600));
            2
        }
        Hit::Twice => {
            let (server, _) = Process::boot(data);
            server.kill();
            1
        }
    }
}

/// Waits until a segment is made, which happens when the segment before it is sealed.
fn wait_for_a_new_segment(data: &Path) {
    let is_segment = |entry: &std::io::Result<std::fs::DirEntry>| {
        entry.as_ref().is_ok_and(|entry| entry.path().extension() == Some("seg".as_ref()))
    };
    let count = || std::fs::read_dir(data.join("journal")).unwrap().filter(is_segment).count();
    let (before, began) = (count(), std::time::Instant::now());
    while count() == before && began.elapsed() < Duration::from_secs(2) {
        std::hint::spin_loop();
    }
}
