//! Fifty endpoints of one organization never answer, and thousands of deliveries wait for them.
//! Other organizations do not notice, not even after a restart with all deliveries due.
//!
//! The gates judge latencies. The arrival of events, the number of hanging requests and the memory
//! of a restart are always judged.
//!
//! There are two servers: the quiet server has only the events of the other organization, and the
//! noisy server has both. The servers take turns, and each is suspended while the other is
//! measured, so that other load on the machine hits both. The measure is the time from posting an
//! event to its arrival, event by event.

use std::io::{ErrorKind, Read as _};
use std::net::{TcpListener, TcpStream};
use std::path::Path;
use std::sync::Arc;
use std::sync::atomic::{AtomicUsize, Ordering};
use std::time::{Duration, Instant};

use rustix::process::Signal;
use serde_json::json;

use crate::harness::{Client, PATIENCE, Process, settings, until};
use crate::load::percentile_of;
use crate::receiver::Receiver;
use crate::scenario::{Outcome, Plan, keep};

const ENDPOINTS: u64 = 50;
/// Limit for one organization: the default of the configuration.
const IN_FLIGHT_MAX: usize = 64;
/// Least number of hanging requests during a measurement: the limit for endpoints not known to be
/// healthy, less requests that have just ended.
const IN_FLIGHT_LEAST: usize = 40;
/// Without a share for each organization, hanging requests would fill `max_in_flight`. The circuit
/// breaker never opens, and the noise goes on. Attempts time out soon, and there are many.
const DELIVERY: &str = "[delivery]\nmax_in_flight = 128\ntimeout_ms = 5000\nbreaker_window = 0\n\
                        breaker_failures_in_a_row = 1000\n";
/// Age at which a request is counted: a timed-out attempt ends a moment before its connection.
const COUNTED_AFTER: Duration = Duration::from_millis(200);
const EVENTS_AT_ONCE: u64 = 1_000;
/// Events posted to one server before the other has its turn.
const EVENTS_OF_A_TURN: u64 = 20;
/// With fewer samples, a 99th percentile is decided by an outlier or two, so the 90th is used.
const SAMPLES_FOR_P99: usize = 1_000;
/// Largest ratio of the noisy to the quiet percentile.
const TIMES_QUIET_MAX: f64 = 1.5;
/// Time added by a shared machine to latencies of a few milliseconds.
const NOISE_OF_MACHINE: Duration = Duration::from_millis(5);
const LATENCY_MAX: Duration = Duration::from_secs(1);
const MEMORY_MORE_MAX: u64 = 64 << 20;

pub(crate) fn run(plan: &Plan) -> Outcome {
    let (silence, receiver) = (Silence::start(), Receiver::start());
    let quiet = Side::start(&plan.dir.join("quiet"), &receiver);
    let empty = (quiet.latency(&receiver), high_water(&quiet.server)).1;
    let noisy = Side::start(&plan.dir.join("noisy"), &receiver);
    make_noise(&noisy.server.org("Slow"), &silence, plan.rounds);
    silence.holds(IN_FLIGHT_LEAST);

    let turns = Turns::take(plan, [&quiet, &noisy], &receiver);
    let mut faults = if plan.judges_time { turns.faults() } else { Vec::new() };
    let most = silence.most();
    if most > IN_FLIGHT_MAX {
        faults.push(format!("{most} requests at once to endpoints that hang"));
    }

    assert_eq!(quiet.server.stop().0, Some(0));
    let after = restart(noisy, &silence, &receiver);
    let grown = after.memory.saturating_sub(empty);
    faults.extend(after.faults(grown, plan.judges_time));
    assert!(faults.is_empty(), "{}", faults.join("; "));
    keep("neighbours", &plan.dir.join("noisy"));
    Outcome::Passed(format!(
        "p{} of {} events {:?} beside {most} hanging requests, {:?} without them; after kill -9 \
         {} requests at once, {} KiB more memory than an empty start, the slowest event {:?}",
        turns.percent,
        turns.events,
        turns.beside,
        turns.alone,
        after.most,
        grown >> 10,
        after.latency
    ))
}

/// Latencies of the other organization, measured while the servers take turns.
struct Turns {
    /// Number of events on each side.
    events: u64,
    percent: usize,
    /// Percentile on the quiet server.
    alone: Duration,
    /// Percentile on the noisy server.
    beside: Duration,
    /// The slowest first event of a turn.
    slowest: Duration,
}

impl Turns {
    fn take(plan: &Plan, [quiet, noisy]: [&Side; 2], receiver: &Receiver) -> Self {
        let turns = match plan.rounds {
            _ if !plan.judges_time => 2,
            ..50_000 => 10,
            50_000.. => 60,
        };
        let (mut quiet_times, mut noisy_times) = (Vec::new(), Vec::new());
        let mut slowest = Duration::ZERO;
        for _ in 0..turns {
            for (side, other, times) in
                [(quiet, noisy, &mut quiet_times), (noisy, quiet, &mut noisy_times)]
            {
                other.server.signal(Signal::STOP);
                slowest = slowest.max(side.wake_up(receiver));
                times.extend((0..EVENTS_OF_A_TURN).map(|_| side.latency(receiver)));
                other.server.signal(Signal::CONT);
            }
        }
        let percent = if noisy_times.len() < SAMPLES_FOR_P99 { 90 } else { 99 };
        let [alone, beside] = [quiet_times, noisy_times].map(|times| percentile_of(times, percent));
        Self { events: turns * EVENTS_OF_A_TURN, percent, alone, beside, slowest }
    }

    fn faults(&self) -> Vec<String> {
        let Self { alone, beside, slowest, .. } = *self;
        let mut faults = Vec::new();
        if slowest > LATENCY_MAX {
            faults.push(format!(
                "another organization waits {slowest:?} for its first event of a turn"
            ));
        }
        let allowed = alone.mul_f64(TIMES_QUIET_MAX).max(alone + NOISE_OF_MACHINE).min(LATENCY_MAX);
        if beside > allowed {
            faults.push(format!(
                "another organization waits {beside:?} beside the noise and {alone:?} without it"
            ));
        }
        faults
    }
}

/// A server, and an organization whose latencies are measured.
struct Side {
    server: Process,
    org: Client,
}

impl Side {
    fn start(data: &Path, receiver: &Receiver) -> Self {
        let server = Process::start_on(data, &settings(data, DELIVERY));
        let org = server.org("Other");
        org.push_to(&receiver.url());
        Self { server, org }
    }

    /// Posts until an event is accepted: after a suspension, requests have waited too long, and the
    /// server refuses events at first. Returns the latency of the accepted event.
    fn wake_up(&self, receiver: &Receiver) -> Duration {
        let sent =
            until(|| Some(self.org.send("a.b", &json!("hello"))).filter(|sent| sent.status == 202));
        let taken = Instant::now();
        receiver.arrival_of(&sent.id()).saturating_duration_since(taken)
    }

    /// Returns the time from posting an event to its arrival.
    fn latency(&self, receiver: &Receiver) -> Duration {
        let began = Instant::now();
        let sent = self.org.send("a.b", &json!("quick"));
        assert_eq!(sent.status, 202, "{sent:?}");
        receiver.arrival_of(&sent.id()).saturating_duration_since(began)
    }
}

/// Measurements of a killed server after its restart with all deliveries due.
struct Restarted {
    most: usize,
    memory: u64,
    latency: Duration,
}

impl Restarted {
    /// The faults of a restart that took `grown` bytes of memory more than an empty start.
    fn faults(&self, grown: u64, judges_time: bool) -> Vec<String> {
        let Self { most, latency, .. } = *self;
        let mut faults = Vec::new();
        if grown > MEMORY_MORE_MAX {
            faults
                .push(format!("the restart took {grown} bytes of memory more than an empty start"));
        }
        if most > IN_FLIGHT_MAX {
            faults.push(format!("the restart made {most} requests at once to endpoints that hang"));
        }
        if judges_time && latency > LATENCY_MAX {
            faults.push(format!("after the restart another organization waits {latency:?}"));
        }
        faults
    }
}

fn restart(noisy: Side, silence: &Silence, receiver: &Receiver) -> Restarted {
    let Side { server, org } = noisy;
    let data = server.data_dir.clone();
    server.kill();
    until(|| (silence.held.load(Ordering::SeqCst) == 0).then_some(()));
    silence.most.store(0, Ordering::SeqCst);
    let server = Process::start_on(&data, &settings(&data, DELIVERY));
    let org = Client::new(&server.url, &org.key);
    let side = Side { server, org };
    silence.holds(IN_FLIGHT_LEAST);
    let latency = (0..EVENTS_OF_A_TURN).map(|_| side.latency(receiver)).max().unwrap_or_default();
    // Hanging requests time out in this time, and the next begin.
    let over = Instant::now() + Duration::from_secs(6);
    while Instant::now() < over {
        std::thread::park_timeout(Duration::from_millis(50));
    }
    let (most, memory) = (silence.most(), high_water(&side.server));
    assert_eq!(side.server.stop().0, Some(0));
    Restarted { most, memory, latency }
}

/// Makes fifty endpoints that never answer, and `deliveries` deliveries to them.
fn make_noise(slow: &Client, silence: &Silence, deliveries: u64) {
    let endpoints: Vec<String> = (0..ENDPOINTS)
        .map(|_| slow.post("/api/endpoints", &json!({ "url": silence.url })).id())
        .collect();
    let events: Vec<u64> = (0..deliveries.div_ceil(ENDPOINTS)).collect();
    let size = usize::try_from(EVENTS_AT_ONCE).unwrap();
    for some in events.chunks(size) {
        let items: Vec<_> =
            some.iter().map(|number| json!({"type": "a.b", "payload": number})).collect();
        let sent = slow.post("/api/events/batch", &json!({ "events": items }));
        assert_eq!(sent.status, 200, "{sent:?}");
    }
    let waiting = |id: &String| {
        slow.get(&format!("/api/endpoints/{id}/stats")).json["waiting"].as_u64().unwrap()
    };
    until(|| (endpoints.iter().map(waiting).sum::<u64>() >= deliveries).then_some(()));
}

/// A receiver that accepts connections, reads requests, and never answers.
struct Silence {
    url: String,
    /// Number of requests hanging now.
    held: Arc<AtomicUsize>,
    /// Highest number of requests hanging at once.
    most: Arc<AtomicUsize>,
}

impl Silence {
    fn start() -> Self {
        let listener = TcpListener::bind("127.0.0.1:0").unwrap();
        let url = format!("http://{}/", listener.local_addr().unwrap());
        let silence = Self { url, held: Arc::default(), most: Arc::default() };
        let (held, most) = (Arc::clone(&silence.held), Arc::clone(&silence.most));
        std::thread::spawn(move || {
            for connection in listener.incoming().map_while(Result::ok) {
                let (held, most) = (Arc::clone(&held), Arc::clone(&most));
                std::thread::spawn(move || hold(connection, &held, &most));
            }
        });
        silence
    }

    fn holds(&self, requests: usize) {
        until(|| (self.held.load(Ordering::SeqCst) >= requests).then_some(()));
    }

    fn most(&self) -> usize {
        self.most.load(Ordering::SeqCst)
    }
}

/// Reads until the other side closes the connection.
fn hold(mut connection: TcpStream, held: &AtomicUsize, most: &AtomicUsize) {
    let (accepted, mut buffer) = (Instant::now(), [0; 4_096]);
    connection.set_read_timeout(Some(COUNTED_AFTER)).unwrap();
    let is_waiting = |error: &std::io::Error| {
        matches!(error.kind(), ErrorKind::WouldBlock | ErrorKind::TimedOut)
    };
    let mut counted = false;
    loop {
        match connection.read(&mut buffer) {
            Ok(0) => break,
            Ok(_) => {}
            Err(error) if is_waiting(&error) => {}
            Err(_reset) => break,
        }
        if !counted && accepted.elapsed() >= COUNTED_AFTER {
            counted = true;
            most.fetch_max(held.fetch_add(1, Ordering::SeqCst) + 1, Ordering::SeqCst);
            connection.set_read_timeout(Some(PATIENCE)).unwrap();
        }
    }
    if counted {
        held.fetch_sub(1, Ordering::SeqCst);
    }
}

/// Returns the peak memory of the process in bytes: proc_pid_status(5).
fn high_water(server: &Process) -> u64 {
    let status = std::fs::read_to_string(format!("/proc/{}/status", server.child.id())).unwrap();
    let line = status.lines().find_map(|line| line.strip_prefix("VmHWM:")).unwrap();
    line.split_whitespace().next().unwrap().parse::<u64>().unwrap() << 10
}
