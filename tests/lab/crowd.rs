//! Requests that wait in vain, and connections that are only held, cost other organizations no
//! noticeable time.
//!
//! Thousands of requests of one organization wait for an event type that never comes. Meanwhile
//! other events arrive, and the inbox is full of them. Quiet and noisy turns alternate on one
//! server, so that other load on the machine hits both.

use std::io::{Read as _, Write as _};
use std::net::TcpStream;
use std::sync::atomic::{AtomicBool, Ordering};
use std::time::{Duration, Instant};

use rustix::process::{Resource, Rlimit, getrlimit, setrlimit};
use serde_json::json;

use crate::harness::{Client, PATIENCE, Process, settings};
use crate::scenario::{Outcome, Plan, keep};

/// Events a second for the waiting organization.
const EVENTS_PER_SECOND: u64 = 50;
/// Number of pairs of a quiet and a noisy turn.
const TURNS: usize = 4;
/// Requests in each quiet or noisy turn.
const REQUESTS_OF_A_TURN: usize = 300;
/// Largest ratio of the noisy to the quiet 99th percentile.
const TIMES_QUIET_MAX: f64 = 1.5;
/// Time added by a shared machine to latencies of less than a millisecond.
const NOISE_OF_MACHINE: Duration = Duration::from_millis(1);

pub(crate) fn run(plan: &Plan) -> Outcome {
    let waiters = usize::try_from(plan.rounds).unwrap() * 100;
    raise_descriptors(2 * waiters as u64 + 1_000);
    let data = plan.dir.join("data");
    let connections = format!("\nmax_connections = {}\n[storage]", waiters + 500);
    let server =
        Process::start_on(&data, &settings(&data, "").replacen("[storage]", &connections[1..], 1));
    let (crowd, other) = (server.org("Crowd"), server.org("Other"));
    for _ in 0..waiters / 100 {
        let events: Vec<_> =
            (0..1_000).map(|number| json!({"type": "a.b", "payload": number})).collect();
        assert_eq!(crowd.post("/api/events/batch", &json!({ "events": events })).status, 200);
    }
    let (mut quiet, mut noisy) = (Vec::new(), Vec::new());
    for _ in 0..TURNS {
        quiet.extend((0..REQUESTS_OF_A_TURN).map(|_| ask(&other)));
        beside_a_crowd(&server, &crowd, waiters, || {
            noisy.extend((0..REQUESTS_OF_A_TURN).map(|_| ask(&other)));
        });
    }
    let [alone, beside] = [quiet, noisy].map(p99_of);
    let allowed = alone.mul_f64(TIMES_QUIET_MAX).max(alone + NOISE_OF_MACHINE);
    if plan.judges_time {
        assert!(beside <= allowed, "{beside:?} beside {waiters} who wait, {alone:?} without them");
    }
    // Twice as many connections as waiters, and none ends its second request: new clients still get
    // in.
    let holders: Vec<_> = (0..2 * waiters)
        .map(|_| say(&server, "GET /health/live HTTP/1.1\r\nHost: x\r\n\r\nG"))
        .collect();
    for _ in 0..20 {
        ask(&Client::new(&server.url, &other.key));
    }
    let held = holders.len();
    drop(holders);
    assert_eq!(server.stop().0, Some(0));
    keep("crowd", &data);
    Outcome::Passed(format!(
        "p99 {beside:?} beside {waiters} who wait while {EVENTS_PER_SECOND} events a second come, \
         {alone:?} without; \
         20 newcomers got in beside {held} connections that dribble"
    ))
}

/// Posts one event of another organization. Returns the time of the answer.
fn ask(org: &Client) -> Duration {
    let began = Instant::now();
    let answer = org.send("a.b", &json!(1));
    assert_eq!(answer.status, 202, "{answer:?}");
    began.elapsed()
}

/// Runs `work` while the crowd waits and its events come.
fn beside_a_crowd(server: &Process, crowd: &Client, waiters: usize, work: impl FnOnce()) {
    let request =
        |path: &str| format!("GET {path} HTTP/1.1\r\nHost: x\r\nX-API-Key: {}\r\n\r\n", crowd.key);
    let waiting = request("/api/inbox?type=never.comes&wait=30");
    let kept: Vec<_> = (0..waiters).map(|_| say(server, &waiting)).collect();
    // When the last request has its answer, all others are behind their first look.
    let mut last = say(server, &request("/api/inbox?limit=1&type=never.comes&wait=1"));
    last.set_read_timeout(Some(PATIENCE)).unwrap();
    assert!(last.read(&mut [0; 64]).unwrap() > 0);
    let stop = AtomicBool::new(false);
    std::thread::scope(|scope| {
        let (stop, producer) = (&stop, Client::new(&crowd.url, &crowd.key));
        scope.spawn(move || {
            while !stop.load(Ordering::SeqCst) {
                assert_eq!(producer.send("a.b", &json!(1)).status, 202);
                std::thread::sleep(Duration::from_millis(1_000 / EVENTS_PER_SECOND));
            }
        });
        let _ends = Ends(stop);
        work();
    });
    drop(kept);
}

/// Ends the events also when the work fails: else the scope would wait for ever.
struct Ends<'a>(&'a AtomicBool);

impl Drop for Ends<'_> {
    fn drop(&mut self) {
        self.0.store(true, Ordering::SeqCst);
    }
}

fn say(server: &Process, text: &str) -> TcpStream {
    let mut stream = TcpStream::connect(server.url.trim_start_matches("http://")).unwrap();
    stream.write_all(text.as_bytes()).unwrap();
    stream
}

fn p99_of(mut times: Vec<Duration>) -> Duration {
    times.sort_unstable();
    times[(times.len() * 99).div_ceil(100) - 1]
}

/// Raises the limit of this process. The server raises its own, up to the inherited maximum.
fn raise_descriptors(wanted: u64) {
    let Rlimit { current, maximum } = getrlimit(Resource::Nofile);
    if current.is_some_and(|current| current < wanted) {
        let wanted = maximum.map_or(wanted, |maximum| maximum.min(wanted));
        setrlimit(Resource::Nofile, Rlimit { current: Some(wanted), maximum }).unwrap();
    }
}
