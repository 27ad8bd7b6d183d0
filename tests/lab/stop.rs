//! SIGSTOP for a while under load, then SIGCONT: nothing is lost, and the watchdog does not take
//! the suspended process for a hanging process.

use std::time::{Duration, Instant};

use rustix::process::Signal;

use crate::checker::{check_delivered, check_pulls};
use crate::client::Load;
use crate::harness::{Client, PATIENCE, Process};
use crate::ledger::Ledger;
use crate::receiver::Receiver;
use crate::scenario::{Outcome, Plan, keep};
use crate::server::{IN_FLIGHT, wait_for_acknowledgements};

pub(crate) fn run(plan: &Plan) -> Outcome {
    let data = plan.dir.join("data");
    let (ledger, receiver) = (Ledger::new(&plan.dir.join("ledger")), Receiver::start());
    let (mut server, _) = Process::boot(&data);
    let orgs = server.orgs(&ledger, &receiver);
    let url = server.url.clone();
    let load = Load { seed: plan.seed, ..Load::new(&url, &orgs, &ledger, 0) };
    load.during(|| {
        suspend(&mut server, &ledger, load.clients, Duration::from_secs(plan.rounds));
    });
    let [unanswered, refused] = [&load.unanswered, &load.refused]
        .map(|count| count.load(std::sync::atomic::Ordering::SeqCst));
    assert_eq!(unanswered, 0, "requests without an answer");
    // Requests from before the pause have waited too long: events are refused until those are
    // stored.
    assert!(!plan.judges_time || refused <= 10 * load.clients, "{refused} refused");
    let history = ledger.read();
    let [pulls, pushes] = [0, 1].map(|place| Client::new(&url, &orgs[place].1));
    check_pulls(&pulls, &history);
    // An attempt may be repeated if its answer came during the suspension.
    let (delivered, duplicates) = check_delivered(&pushes, &history, &receiver, IN_FLIGHT);
    assert_eq!(server.stop().0, Some(0));
    keep("stop", &data);
    Outcome::Passed(format!(
        "{} acknowledgements, 0 lost; {delivered} delivered, {duplicates} of them twice",
        ledger.acknowledgements()
    ))
}

/// Suspends a server under load for this time; checks that it acknowledges nothing meanwhile, and
/// that it goes on afterwards.
fn suspend(server: &mut Process, ledger: &Ledger, clients: u64, time: Duration) {
    wait_for_acknowledgements(ledger, 50);
    server.signal(Signal::STOP);
    let before = ledger.acknowledgements();
    std::thread::park_timeout(time);
    let meanwhile = ledger.acknowledgements() - before;
    // One answer to each client may have been on its way.
    assert!(meanwhile <= 2 * clients, "{meanwhile} acknowledgements of a suspended server");
    server.signal(Signal::CONT);
    // The watchdog looks again in this time.
    std::thread::park_timeout(Duration::from_secs(3));
    let wanted = ledger.acknowledgements() + 50;
    let began = Instant::now();
    while ledger.acknowledgements() < wanted {
        if let Some(status) = server.ended() {
            panic!("the server ended ({status}) because it had been suspended");
        }
        assert!(began.elapsed() < PATIENCE, "no acknowledgements come");
        std::thread::park_timeout(Duration::from_millis(1));
    }
}
