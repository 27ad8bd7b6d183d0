//! Thousands of wrong keys a second, from one address and from many, keep no owner of a key out,
//! and cost no noticeable time.
//!
//! Only the secrets of the keys are wrong: the keys have the id of the owner's key, which is
//! public, and the right checksum. Quiet and noisy turns alternate on one server, so that other
//! load on the machine hits both.

use std::io::{Read as _, Write as _};
use std::net::{Ipv4Addr, SocketAddr, SocketAddrV4, TcpStream};
use std::sync::atomic::{AtomicBool, AtomicU64, Ordering};
use std::time::{Duration, Instant};

use rustix::net::{AddressFamily, SocketType};
use triggerd::model::key::KeyText;

use crate::harness::{Client, PATIENCE, Process, settings};
use crate::load::{Ends, p99_of, raise_descriptors};
use crate::scenario::{Outcome, Plan, keep};

/// Wrong keys a second, from all threads together.
const RATE: u64 = 5_000;
/// Number of threads that send wrong keys.
const THREADS: u64 = 4;
/// Number of loopback addresses that wrong keys come from.
const ADDRESSES: u64 = 1_600;
/// Requests of the owner in a turn.
const REQUESTS_OF_A_TURN: u64 = 50;
/// Largest ratio of the noisy to the quiet 99th percentile.
const TIMES_QUIET_MAX: f64 = 1.5;
/// Time added by a shared machine to latencies of less than a millisecond.
const NOISE_OF_MACHINE: Duration = Duration::from_millis(1);
/// Least share of the rate: with fewer wrong keys, the run shows nothing.
const RATE_PERCENT_LEAST: u128 = 80;

pub(crate) fn run(plan: &Plan) -> Outcome {
    // Each address has a connection.
    raise_descriptors(4 * ADDRESSES);
    let data = plan.dir.join("data");
    let server = Process::start_on(&data, &settings(&data, ""));
    let (org, other) = (server.org("Acme"), server.org("Other"));
    // After the restart the server has not yet verified any key.
    assert_eq!(server.stop().0, Some(0));
    let server = Process::start_on(&data, &settings(&data, ""));
    let owner = Client::new(&server.url, &org.key);
    let hashes = || owner.metric("triggerd_key_hashes_total");
    ask(&owner);

    let mut outcome = Vec::new();
    for (name, addresses) in [("one address", 1), ("1,600 addresses", ADDRESSES)] {
        let waits = Waits::beside_wrong_keys(&owner, addresses, plan.rounds);
        // A key not verified before is let in as well.
        if addresses > 1 {
            beside_wrong_keys(&server.url, &org.key, (addresses, plan.rounds), || {
                ask(&Client::new(&server.url, &other.key));
            });
        }
        if plan.judges_time {
            waits.judge(name);
        }
        let Waits { alone, beside, rate } = waits;
        outcome.push(format!(
            "p99 {beside:?} beside {rate} wrong keys a second from {name}, {alone:?} without"
        ));
    }
    assert!(
        (hashes() - 2.0).abs() < f64::EPSILON,
        "the slow hash ran {} times, for two right keys",
        hashes()
    );
    assert_eq!(server.stop().0, Some(0));
    keep("wrong_keys", &data);
    Outcome::Passed(outcome.join("; "))
}

/// 99th percentiles of the owner's waits.
struct Waits {
    alone: Duration,
    /// Beside wrong keys.
    beside: Duration,
    /// Wrong keys sent each second.
    rate: u128,
}

impl Waits {
    fn beside_wrong_keys(owner: &Client, addresses: u64, turns: u64) -> Self {
        let (mut quiet, mut noisy) = (Vec::new(), Vec::new());
        let (mut sent, mut attack) = (0, Duration::ZERO);
        for turn in 0..turns {
            quiet.extend((0..REQUESTS_OF_A_TURN).map(|_| ask(owner)));
            let (count, took) =
                beside_wrong_keys(&owner.url, &owner.key, (addresses, turn), || {
                    noisy.extend((0..REQUESTS_OF_A_TURN).map(|_| ask(owner)));
                });
            (sent, attack) = (sent + count, attack + took);
        }
        let rate = u128::from(sent) * 1_000 / attack.as_millis().max(1);
        let [alone, beside] = [quiet, noisy].map(p99_of);
        Self { alone, beside, rate }
    }

    fn judge(&self, name: &str) {
        let Self { alone, beside, rate } = *self;
        assert!(
            rate * 100 >= RATE_PERCENT_LEAST * u128::from(RATE),
            "only {rate} wrong keys a second from {name}"
        );
        let allowed = alone.mul_f64(TIMES_QUIET_MAX).max(alone + NOISE_OF_MACHINE);
        assert!(
            beside <= allowed,
            "the owner waits {beside:?} beside wrong keys from {name}, {alone:?} without them"
        );
    }
}

/// Makes one request with the right key. Returns the time of the answer.
fn ask(owner: &Client) -> Duration {
    let began = Instant::now();
    let answer = owner.get("/api/inbox");
    assert_eq!(answer.status, 200, "{answer:?}");
    began.elapsed()
}

/// Runs `work` beside wrong keys. Returns how many were sent meanwhile, and the time.
fn beside_wrong_keys(
    url: &str,
    key: &str,
    (addresses, turn): (u64, u64),
    work: impl FnOnce(),
) -> (u64, Duration) {
    let server: SocketAddr = url.strip_prefix("http://").unwrap().parse().unwrap();
    let (stop, sent, began) = (AtomicBool::new(false), AtomicU64::new(0), Instant::now());
    std::thread::scope(|scope| {
        for number in 0..THREADS {
            let (stop, sent) = (&stop, &sent);
            scope.spawn(move || {
                let places =
                    (0..addresses).filter(|place| addresses < THREADS || place % THREADS == number);
                let mut callers: Vec<TcpStream> =
                    places.map(|place| connect(server, place)).collect();
                let (first, mut count) = (Instant::now(), 0u64);
                while !stop.load(Ordering::SeqCst) {
                    let place = usize::try_from(count).unwrap() % callers.len();
                    guess(&mut callers[place], key, turn << 40 | number << 32 | count);
                    count += 1;
                    sent.fetch_add(1, Ordering::SeqCst);
                    // The loop is open: a late thread catches up.
                    let due = first + Duration::from_micros(count * 1_000_000 * THREADS / RATE);
                    std::thread::sleep(due.saturating_duration_since(Instant::now()));
                }
            });
        }
        let _ends = Ends(&stop);
        // Wait until all threads have begun.
        while sent.load(Ordering::SeqCst) < THREADS * 4 && began.elapsed() < PATIENCE {
            std::thread::yield_now();
        }
        let (before, since) = (sent.load(Ordering::SeqCst), Instant::now());
        work();
        (sent.load(Ordering::SeqCst) - before, since.elapsed())
    })
}

/// Connects from a loopback address, `place` addresses after the first.
fn connect(server: SocketAddr, place: u64) -> TcpStream {
    let [_, _, high, low] = u32::try_from(place + 1).unwrap().to_be_bytes();
    let from = SocketAddr::V4(SocketAddrV4::new(Ipv4Addr::new(127, 0, high, low), 0));
    let socket = rustix::net::socket(AddressFamily::INET, SocketType::STREAM, None).unwrap();
    rustix::net::bind(&socket, &from).unwrap();
    rustix::net::connect(&socket, &server).unwrap();
    let stream = TcpStream::from(socket);
    stream.set_nodelay(true).unwrap();
    stream.set_read_timeout(Some(PATIENCE)).unwrap();
    stream
}

/// Sends a wrong key, which must be refused.
fn guess(caller: &mut TcpStream, key: &str, seed: u64) {
    let known: KeyText = key.parse().unwrap();
    let mut state = seed;
    let wrong = KeyText::generate(known.id(), || {
        state =
            state.wrapping_mul(6_364_136_223_846_793_005).wrapping_add(1_442_695_040_888_963_407);
        state.to_be_bytes()[0]
    });
    let request =
        format!("GET /api/inbox HTTP/1.1\r\nHost: x\r\nX-API-Key: {}\r\n\r\n", wrong.reveal());
    caller.write_all(request.as_bytes()).unwrap();
    let mut answer = Vec::new();
    let mut piece = [0; 2_048];
    // The body is a JSON object without braces inside.
    while answer.last() != Some(&b'}') {
        let read = caller.read(&mut piece).unwrap();
        assert!(read > 0, "the server closed the connection");
        answer.extend_from_slice(&piece[..read]);
    }
    assert!(answer.starts_with(b"HTTP/1.1 401 "), "{}", String::from_utf8_lossy(&answer));
}
