//! Requests that wait in vain, and connections that are only held, cost other organizations no
//! noticeable time.
//!
//! Thousands of requests of one organization wait for an event type that never comes. Meanwhile
//! other events arrive, and the inbox is full of them. Quiet and noisy turns alternate on one
//! server, so that other load on the machine hits both. Then more sockets than the server may have
//! connections hold theirs, each in one of several ways, and newcomers still get in.

use std::io::{ErrorKind, Read as _, Write as _};
use std::net::TcpStream;
use std::path::Path;
use std::sync::atomic::{AtomicBool, Ordering};
use std::time::{Duration, Instant};

use serde_json::json;

use crate::harness::{Client, PATIENCE, Process, patience, settings};
use crate::load::{Ends, p99_of, raise_descriptors};
use crate::scenario::{Outcome, Plan, keep};

/// Events a second for the waiting organization.
const EVENTS_PER_SECOND: u64 = 50;
/// Number of pairs of a quiet and a noisy turn.
const TURNS: usize = 4;
/// Requests in each quiet or noisy turn.
const REQUESTS_OF_A_TURN: usize = 300;
/// Number of newcomers beside sockets that hold all connections.
const NEWCOMERS: usize = 20;
/// Largest ratio of the noisy to the quiet 99th percentile.
const TIMES_QUIET_MAX: f64 = 1.5;
/// Time added by a shared machine to latencies of less than a millisecond.
const NOISE_OF_MACHINE: Duration = Duration::from_millis(1);

pub(crate) fn run(plan: &Plan) -> Outcome {
    let waiters = usize::try_from(plan.rounds).unwrap() * 100;
    raise_descriptors(2 * waiters as u64 + 1_000);
    let data = plan.dir.join("data");
    // There is room for all who wait, and not for all who hold connections later. These are not
    // closed for their slowness alone.
    let connections_max = waiters + waiters / 2;
    let server = start(&data, connections_max);
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
    let (held, ended) = newcomers_beside_holders(&server, &other, 2 * waiters);
    assert!(ended > 0 && held > connections_max, "the connections never ran out");
    assert_eq!(server.stop().0, Some(0));
    keep("crowd", &data);
    Outcome::Passed(format!(
        "p99 {beside:?} beside {waiters} who wait while {EVENTS_PER_SECOND} events a second come, \
         {alone:?} without; {NEWCOMERS} newcomers got in beside {held} sockets that hold \
         connections, of which {ended} lost theirs"
    ))
}

fn start(data: &Path, connections_max: usize) -> Process {
    let connections = format!(
        "max_connections = {connections_max}\nclient_timeout_seconds = 300\n\
         body_timeout_seconds = 300\nwrite_timeout_seconds = 300\n[storage]"
    );
    Process::start_on(data, &settings(data, "").replacen("[storage]", &connections, 1))
}

/// Lets sockets hold connections, each in one of several ways, and newcomers get in. Returns the
/// number of these sockets, and of those that lost their connections.
fn newcomers_beside_holders(server: &Process, org: &Client, sockets: usize) -> (usize, usize) {
    let body = |key: &str| {
        format!(
            "POST /api/events HTTP/1.1\r\nHost: x\r\n{key}Content-Type: application/json\r\n\
             Content-Length: 60000\r\n\r\n{{"
        )
    };
    let ways = [
        "GET /health/live HTTP/1.1\r\nHost: x\r\n\r\nG".to_owned(),
        body(""),
        body(&format!("X-API-Key: {}\r\n", org.key)),
        "GET /metrics HTTP/1.1\r\nHost: x\r\n\r\n".repeat(100),
    ];
    let holders: Vec<_> =
        (0..sockets).zip(ways.iter().cycle()).map(|(_, way)| say(server, way)).collect();
    for number in 1..=NEWCOMERS {
        let mut newcomer = say(server, "GET /health/live HTTP/1.1\r\nHost: x\r\n\r\n");
        newcomer.set_read_timeout(Some(patience(Duration::from_secs(5)))).unwrap();
        let read = newcomer.read(&mut [0; 64]);
        assert!(read.is_ok_and(|read| read > 0), "newcomer {number} did not get in");
    }
    let ended = holders.iter().filter(|holder| has_ended(holder)).count();
    (holders.len(), ended)
}

/// Reads what there is, and tells whether the server has ended the connection.
fn has_ended(mut stream: &TcpStream) -> bool {
    stream.set_nonblocking(true).unwrap();
    loop {
        match stream.read(&mut [0; 16 << 10]) {
            Ok(0) => return true,
            Ok(_) => {}
            Err(error) => return error.kind() != ErrorKind::WouldBlock,
        }
    }
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

fn say(server: &Process, text: &str) -> TcpStream {
    let mut stream = TcpStream::connect(server.url.trim_start_matches("http://")).unwrap();
    stream.write_all(text.as_bytes()).unwrap();
    stream
}
