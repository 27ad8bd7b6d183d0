//! Crowds that hold all connections or announce much: others get in, and have their share of the
//! memory. Over raw sockets with the real binary; no test judges a time.

use std::collections::BTreeMap;
use std::io::{ErrorKind, Read as _, Write as _};
use std::net::{SocketAddr, TcpStream};
use std::sync::atomic::{AtomicBool, AtomicUsize, Ordering};
use std::sync::{Arc, Mutex};
use std::thread::{JoinHandle, park_timeout};
use std::time::{Duration, Instant};

use rustix::net::sockopt::set_socket_recv_buffer_size;
use rustix::net::{AddressFamily, SocketType, bind, connect, socket};
use serde_json::json;

use crate::harness::{Client, PATIENCE, Process, silence, until};
use crate::raw::{Raw, find, get, post};
use crate::takeover::{broken_server, server};

/// Connections of a server under test; a crowd has five times as many sockets.
const CONNECTIONS: usize = 20;
/// No connection is closed for its slowness alone during a test.
const PATIENT: &str = "client_timeout_seconds = 300\nbody_timeout_seconds = 300\n\
    write_timeout_seconds = 300\nkeep_alive_seconds = 300";

fn crowded_server(workers: usize) -> (Process, tempfile::TempDir) {
    server(&format!("workers = {workers}\nmax_connections = {CONNECTIONS}\n{PATIENT}"))
}

/// The behavior of one member of a crowd.
#[derive(Clone)]
struct Habit {
    /// Text sent at once.
    says: String,
    /// A byte that follows again and again.
    dribbles: Option<u8>,
}

/// All habits by name: each holds a connection and never finishes.
fn habits(key: &str) -> Vec<(&'static str, Habit)> {
    let habit = |says: &str, dribbles| Habit { says: says.to_owned(), dribbles };
    let body = |key: &str, bytes: usize| {
        format!(
            "POST /api/events HTTP/1.1\r\nHost: x\r\n{key}Content-Type: application/json\r\n\
             Content-Length: {bytes}\r\n\r\n{{"
        )
    };
    let key = format!("X-API-Key: {key}\r\n");
    let chunked = format!(
        "POST /api/events HTTP/1.1\r\nHost: x\r\n{key}Content-Type: application/json\r\n\
         Transfer-Encoding: chunked\r\n\r\nfffff\r\n{{"
    );
    let live = "GET /health/live HTTP/1.1\r\nHost: x\r\n\r\n";
    vec![
        ("silent", habit("", None)),
        ("idle after an answer", habit(live, None)),
        ("half a second head", habit(&format!("{live}G"), Some(b'x'))),
        ("no body", habit(&body(&key, 200_000), None)),
        ("a body that dribbles", habit(&body(&key, 200_000), Some(b' '))),
        ("a chunked body that dribbles", habit(&chunked, Some(b' '))),
        ("a small body without a key", habit(&body("", 60_000), Some(b' '))),
        ("a large body without a key", habit(&body("", 1_000_000), Some(b' '))),
        ("answers unread", habit(&get("/metrics", "").repeat(200), Some(b'\n'))),
    ]
}

/// A crowd that connects again whenever one of its connections ends.
struct Crowd {
    stop: Arc<AtomicBool>,
    /// Number of connections that ended so far.
    ended: Arc<AtomicUsize>,
    thread: Option<JoinHandle<()>>,
}

impl Crowd {
    /// Returns when every member has connected once.
    fn of(server: &Process, habits: &[Habit], members: usize) -> Self {
        let address: SocketAddr = server.url.trim_start_matches("http://").parse().unwrap();
        let join = move |habit: &Habit| {
            let stream = TcpStream::connect(address).ok()?;
            set_socket_recv_buffer_size(&stream, 4 << 10).ok()?;
            stream.set_nonblocking(true).ok()?;
            (&stream).write_all(habit.says.as_bytes()).ok()?;
            Some(stream)
        };
        let habits: Vec<Habit> = habits.iter().cycle().take(members).cloned().collect();
        let mut streams: Vec<_> = habits.iter().map(join).collect();
        let (stop, ended) = (Arc::new(AtomicBool::new(false)), Arc::new(AtomicUsize::new(0)));
        let (stopped, count) = (Arc::clone(&stop), Arc::clone(&ended));
        let hold = move || {
            while !stopped.load(Ordering::SeqCst) {
                for (habit, place) in habits.iter().zip(&mut streams) {
                    if place.as_ref().is_none_or(|stream| has_ended(stream, habit)) {
                        count.fetch_add(1, Ordering::SeqCst);
                        // The old connection ends before the new one begins.
                        drop(place.take());
                        *place = join(habit);
                    }
                }
                park_timeout(Duration::from_millis(5));
            }
        };
        Self { stop, ended, thread: Some(std::thread::spawn(hold)) }
    }

    fn ended(&self) -> usize {
        self.ended.load(Ordering::SeqCst)
    }
}

impl Drop for Crowd {
    fn drop(&mut self) {
        self.stop.store(true, Ordering::SeqCst);
        drop(self.thread.take().map(JoinHandle::join));
    }
}

/// Dribbles, and looks for the end of the connection without reading more than a little.
fn has_ended(stream: &TcpStream, habit: &Habit) -> bool {
    let is_over = |error: std::io::Error| error.kind() != ErrorKind::WouldBlock;
    if habit.dribbles.is_some_and(|byte| (&*stream).write(&[byte]).is_err_and(is_over)) {
        return true;
    }
    match (&*stream).read(&mut [0; 16]) {
        Ok(read) => read == 0,
        Err(error) => is_over(error),
    }
}

/// Lets newcomers send an event each, over a new connection.
fn newcomers_get_in(server: &Process, key: &str, habit: &str) {
    for number in 1..=2 {
        let newcomer = Client::new(&server.url, key);
        let answer =
            newcomer.request_on_its_own("/api/events", &json!({"type": "a.b", "payload": 1}));
        assert_eq!(answer, Some(202), "newcomer {number} beside a crowd: {habit}");
    }
}

#[test]
fn newcomers_get_in_whatever_a_crowd_does_that_holds_all_connections() {
    let (server, _dir) = crowded_server(2);
    let org = server.org("Acme");
    let mut all = habits(&org.key);
    let each: Vec<_> = all.iter().map(|(_, habit)| habit.clone()).collect();
    for (name, habit) in all.drain(..) {
        let crowd = Crowd::of(&server, &[habit], 5 * CONNECTIONS);
        newcomers_get_in(&server, &org.key, name);
        assert!(crowd.ended() > 0, "the connections ran out beside: {name}");
    }
    let _crowd = Crowd::of(&server, &each, 5 * CONNECTIONS);
    newcomers_get_in(&server, &org.key, "all of these");
}

#[test]
fn without_watching_no_newcomer_gets_in_beside_a_crowd() {
    let more = format!("workers = 1\nmax_connections = {CONNECTIONS}\n{PATIENT}");
    let (server, _dir) = broken_server(&more, "connections_unwatched");
    let org = server.org("Acme");
    let each: Vec<_> = habits(&org.key).into_iter().map(|(_, habit)| habit).collect();
    let crowd = Crowd::of(&server, &each, 5 * CONNECTIONS);
    let mut newcomer = Raw::connect(&server);
    newcomer.stream.set_read_timeout(Some(Duration::from_secs(1))).unwrap();
    newcomer.get("/api/inbox", &org.key);
    assert!(newcomer.stream.read(&mut [0; 64]).is_err(), "nobody gets in");
    drop(crowd);
}

#[test]
fn a_request_under_work_and_a_body_that_comes_survive_a_crowd() {
    let (server, _dir) = crowded_server(1);
    let (silent, url) = silence();
    let org = server.org("Acme");
    let made = org.post("/api/endpoints", &json!({"url": url, "timeout_ms": 300_000}));
    let mut in_hand = Raw::connect(&server);
    in_hand.say(&post(&format!("/api/endpoints/{}/test", made.id()), &org.key, ""));
    let (held, _) = silent.accept().unwrap();
    // The body comes in pieces, each within the time of a peer that makes progress.
    let payload = "x".repeat(200 << 10);
    let text =
        post("/api/events", &org.key, &json!({"type": "a.b", "payload": payload}).to_string());
    let mut upload = Raw::connect(&server);
    let mut writer = upload.stream.try_clone().unwrap();
    let writing = std::thread::spawn(move || {
        for piece in text.as_bytes().chunks(4 << 10) {
            writer.write_all(piece).unwrap();
            park_timeout(Duration::from_millis(20));
        }
    });
    let each: Vec<_> = habits(&org.key).into_iter().map(|(_, habit)| habit).collect();
    let crowd = Crowd::of(&server, &each, 5 * CONNECTIONS);
    writing.join().unwrap();
    assert_eq!(upload.answer().0, 202);
    until(|| (crowd.ended() > CONNECTIONS).then_some(()));
    drop(held);
    assert_eq!(in_hand.answer().0, 200);
}

/// Connects from another address of this machine.
fn connect_from(source: [u8; 4], server: &Process) -> Raw {
    connect_to(&server.url.trim_start_matches("http://").parse().unwrap(), source)
}

fn connect_to(address: &SocketAddr, source: [u8; 4]) -> Raw {
    let own = socket(AddressFamily::INET, SocketType::STREAM, None).unwrap();
    bind(&own, &SocketAddr::from((source, 0))).unwrap();
    connect(&own, address).unwrap();
    let stream = TcpStream::from(own);
    stream.set_read_timeout(Some(PATIENCE)).unwrap();
    Raw { stream, read: Vec::new() }
}

#[test]
fn the_address_that_holds_most_connections_loses_its_own() {
    let (server, _dir) = crowded_server(1);
    let org = server.org("Acme");
    let live = get("/health/live", "");
    let mut others: Vec<_> = (0..3).map(|_| connect_from([127, 0, 0, 2], &server)).collect();
    for other in &mut others {
        other.say(&live);
        assert_eq!(other.answer().0, 200);
    }
    let each: Vec<_> = habits(&org.key).into_iter().map(|(_, habit)| habit).collect();
    let crowd = Crowd::of(&server, &each, 5 * CONNECTIONS);
    until(|| (crowd.ended() > 2 * CONNECTIONS).then_some(()));
    for other in &mut others {
        other.say(&live);
        assert_eq!(other.try_answer().map(|(status, _)| status), Some(200), "it was idle longest");
    }
    for _ in 0..3 {
        let mut newcomer = connect_from([127, 0, 0, 3], &server);
        newcomer.say(&live);
        assert_eq!(newcomer.try_answer().map(|(status, _)| status), Some(200));
    }
}

/// An answer to a member of a busy crowd: its status, the detail of its problem, and whether it
/// announces the end of the connection.
type Seen = (u16, String, bool);

/// A crowd that never pauses: each member sends its request again as soon as it has the answer, and
/// connects again when its connection ends.
struct BusyCrowd {
    stop: Arc<AtomicBool>,
    /// Number of answers of each kind.
    seen: Arc<Mutex<BTreeMap<Seen, usize>>>,
    thread: Option<JoinHandle<()>>,
}

impl BusyCrowd {
    /// Returns when every member has connected once.
    fn of(server: &Process, sources: Vec<[u8; 4]>, request: &str) -> Self {
        let address: SocketAddr = server.url.trim_start_matches("http://").parse().unwrap();
        let request = request.to_owned();
        let says = request.clone();
        let join = move |source: &[u8; 4]| {
            let raw = connect_to(&address, *source);
            raw.stream.set_nonblocking(true).unwrap();
            drop((&raw.stream).write_all(says.as_bytes()));
            raw
        };
        let mut members: Vec<_> = sources.iter().map(&join).collect();
        let (stop, seen) =
            (Arc::new(AtomicBool::new(false)), Arc::<Mutex<BTreeMap<_, _>>>::default());
        let (stopped, noted) = (Arc::clone(&stop), Arc::clone(&seen));
        let go_on = move || {
            while !stopped.load(Ordering::SeqCst) {
                for (source, member) in sources.iter().zip(&mut members) {
                    let has_ended = is_read_to_end(member);
                    while let Some(answer) = take_answer(&mut member.read) {
                        *noted.lock().unwrap().entry(answer).or_insert(0) += 1;
                        drop((&member.stream).write_all(request.as_bytes()));
                    }
                    if has_ended {
                        *member = join(source);
                    }
                }
                park_timeout(Duration::from_millis(1));
            }
        };
        Self { stop, seen, thread: Some(std::thread::spawn(go_on)) }
    }

    /// Number of answers of this kind.
    fn count(&self, is_meant: impl Fn(&Seen) -> bool) -> usize {
        let seen = self.seen.lock().unwrap();
        seen.iter().filter(|(answer, _)| is_meant(answer)).map(|(_, count)| count).sum()
    }

    /// Number of connections that the server closed after an answer.
    fn closed(&self) -> usize {
        self.count(|(_, _, closes)| *closes)
    }
}

impl Drop for BusyCrowd {
    fn drop(&mut self) {
        self.stop.store(true, Ordering::SeqCst);
        drop(self.thread.take().map(JoinHandle::join));
    }
}

/// Reads everything that has come. Returns true if the connection has ended.
fn is_read_to_end(raw: &mut Raw) -> bool {
    let mut piece = [0; 4 << 10];
    loop {
        match raw.stream.read(&mut piece) {
            Ok(0) => return true,
            Ok(read) => raw.read.extend_from_slice(&piece[..read]),
            Err(error) => return error.kind() != ErrorKind::WouldBlock,
        }
    }
}

/// Takes the first answer out of these bytes if all of it is there.
fn take_answer(read: &mut Vec<u8>) -> Option<Seen> {
    let body = find(read, b"\r\n\r\n")? + 4;
    let head = String::from_utf8(read[..body].to_vec()).unwrap().to_lowercase();
    let length = head.lines().find_map(|line| line.strip_prefix("content-length: "));
    let end = body + length.map_or(0, |length| length.parse::<usize>().unwrap());
    if read.len() < end {
        return None;
    }
    let problem: serde_json::Value = serde_json::from_slice(&read[body..end]).unwrap_or_default();
    let detail = problem["detail"].as_str().unwrap_or_default().to_owned();
    read.drain(..end);
    let closes = head.contains("\r\nconnection: close\r\n");
    Some((head[9..12].parse().unwrap(), detail, closes))
}

/// Lets newcomers from an address of their own ask something each, over a new connection.
fn others_get_in(server: &Process, request: &str, beside: &str) {
    for number in 1..=3 {
        let mut newcomer = connect_from([127, 0, 0, 77], server);
        newcomer.say(request);
        let status = newcomer.try_answer().map(|(status, _)| status);
        assert_eq!(status, Some(200), "newcomer {number} beside a crowd from {beside}");
    }
}

#[test]
fn newcomers_get_in_beside_a_crowd_that_never_pauses() {
    let (server, _dir) = crowded_server(1);
    let live = get("/health/live", "");
    let one = vec![[127, 0, 0, 1]; 3 * CONNECTIONS];
    let many = (1..).take(3 * CONNECTIONS).map(|host| [127, 3, 0, host]).collect();
    for (from, sources) in [("one address", one), ("many addresses", many)] {
        let crowd = BusyCrowd::of(&server, sources, &live);
        others_get_in(&server, &live, from);
        assert!(crowd.closed() > 0, "the answer says that the connection ends: {from}");
    }
}

#[test]
fn a_busy_crowd_from_one_address_closes_only_its_own_connections() {
    let (server, _dir) = crowded_server(1);
    let live = get("/health/live", "");
    let mut other = connect_from([127, 0, 0, 2], &server);
    let crowd = BusyCrowd::of(&server, vec![[127, 0, 0, 1]; 3 * CONNECTIONS], &live);
    let began = Instant::now();
    while crowd.closed() < 5 * CONNECTIONS {
        assert!(began.elapsed() < PATIENCE, "the crowd keeps its connections");
        other.say(&live);
        assert_eq!(other.try_answer().map(|(status, _)| status), Some(200));
    }
}

#[test]
fn requests_that_wait_for_the_turn_of_their_organization_keep_nobody_out() {
    let more = format!("workers = 1\nmax_connections = {CONNECTIONS}\n{PATIENT}");
    let (server, _dir) = broken_server(&more, "syncs_slowly");
    let (org, other) = (server.org("Acme"), server.org("Other"));
    let made = org.post("/api/endpoints", &json!({"url": "http://127.0.0.1:9/"}));
    // A change of the settings waits until the one before is stored.
    let change = post(&format!("/api/endpoints/{}/secret/rotate", made.id()), &org.key, "");
    let crowd = BusyCrowd::of(&server, vec![[127, 0, 0, 1]; 3 * CONNECTIONS], &change);
    others_get_in(&server, &get("/api/inbox", &other.key), "one organization");
    for (status, why) in [(429, "requests of this organization wait"), (503, "waited for its turn")]
    {
        let is_meant = |seen: &Seen| seen.0 == status && seen.1.contains(why);
        until(|| (crowd.count(is_meant) > 0).then_some(()));
    }
}

/// The head of a batch that announces so many bytes.
fn batch_head(key: &str, bytes: usize) -> String {
    format!(
        "POST /api/events/batch HTTP/1.1\r\nHost: x\r\nX-API-Key: {key}\r\nContent-Type: \
         application/json\r\nContent-Length: {bytes}\r\n\r\n"
    )
}

fn batch(events: usize, bytes: usize) -> String {
    let events: Vec<_> =
        (0..events).map(|_| json!({"type": "a.b", "payload": "x".repeat(bytes)})).collect();
    json!({ "events": events }).to_string()
}

#[test]
fn what_is_only_announced_takes_nothing_from_others() {
    let (server, _dir) = server("body_timeout_seconds = 300");
    let other = server.org("Other");
    let mut kept = Vec::new();
    for number in 0..3 {
        let org = server.org(&format!("Crowd {number}"));
        let tokens = || {
            let answer = org.send("a.b", &json!(1));
            answer.header("x-ratelimit-remaining").parse::<u64>().unwrap()
        };
        let before = tokens();
        for _ in 0..20 {
            let mut raw = Raw::connect(&server);
            raw.say(&batch_head(&org.key, (8 << 20) - 1));
            kept.push(raw);
        }
        // Each has begun when it has paid.
        until(|| (before - tokens() > 20 * 15).then_some(()));
    }
    let answer = other.post_text("/api/events/batch", &batch(20, 200_000));
    assert_eq!(answer.status, 200, "{answer:?}");
    assert!(!kept.iter().any(Raw::is_answered), "none of them is refused yet");
}

/// Holds unfinished bodies, more than an organization may have, until one is refused. Returns the
/// others, oldest first, and the text of the refusal.
fn fill_memory(server: &Process, org: &Client) -> (Vec<Raw>, String) {
    const BYTES: usize = 31 * (64 << 10);
    let begin = || {
        let mut raw = Raw::connect(server);
        raw.say(&batch_head(&org.key, BYTES + 1));
        // A refused body may not be read to its end.
        drop(raw.stream.write_all(&vec![b' '; BYTES]));
        raw
    };
    let mut kept = Vec::new();
    for _ in 0..4 {
        let raw = begin();
        // The server has read all of it before the next one begins, so the last is the newest.
        until(|| (unread_bytes(&raw, server) == 0).then_some(()));
        kept.push(raw);
    }
    kept.push(begin());
    let mut refused = kept.swap_remove(until(|| kept.iter().position(Raw::is_answered)));
    let (status, problem) = refused.answer();
    assert_eq!(status, 429, "{problem}");
    (kept, problem["detail"].as_str().unwrap().to_owned())
}

/// Bytes between this socket and the server's reader, by the kernel's table.
fn unread_bytes(raw: &Raw, server: &Process) -> usize {
    let port = |address: &SocketAddr| format!(":{:04X}", address.port());
    let theirs = port(&server.url.trim_start_matches("http://").parse().unwrap());
    let own = port(&raw.stream.local_addr().unwrap());
    let table = std::fs::read_to_string("/proc/net/tcp").unwrap();
    let queue = |line: &str| {
        let fields: Vec<_> = line.split_whitespace().collect();
        let (local, remote) = (fields.get(1)?, fields.get(2)?);
        let (sending, receiving) = fields.get(4)?.split_once(':')?;
        let bytes = |text| usize::from_str_radix(text, 16).ok();
        if local.ends_with(&own) && remote.ends_with(&theirs) {
            return bytes(sending);
        }
        let is_reader = local.ends_with(&theirs) && remote.ends_with(&own);
        if is_reader { bytes(receiving) } else { None }
    };
    table.lines().filter_map(queue).sum()
}

#[test]
fn bodies_that_fill_the_memory_give_way_to_an_organization_with_less_and_say_so() {
    let more = "body_timeout_seconds = 300\n[intake]\nbatch_bytes_max = 2097152\nqueue_bytes = \
                16777216\n";
    let (server, _dir) = server(more);
    let (first, second) = (server.org("First"), server.org("Second"));
    let other = server.org("Other");
    let (mut kept, why) = fill_memory(&server, &first);
    assert!(why.contains("this organization take its whole share"), "{why}");
    let (more, why) = fill_memory(&server, &second);
    assert!(why.contains("this organization take its whole share"), "{why}");
    assert_eq!((kept.len(), more.len()), (4, 4));
    kept.extend(more);
    let answer = other.post_text("/api/events/batch", &batch(8, 200_000));
    assert_eq!(answer.status, 200, "{answer:?}");
    // The newest body of the organization with most is refused, with the cause.
    let place = until(|| kept.iter().position(Raw::is_answered));
    assert_eq!(place % 4, 3, "the bodies of each organization stand in the order of their age");
    let (status, problem) = kept[place].answer();
    let why = problem["detail"].as_str().unwrap();
    assert_eq!(status, 429);
    assert!(why.contains("take the largest part of the memory"), "{why}");
    // The others can still be finished.
    let mut oldest = kept.swap_remove(0);
    oldest.say("x");
    assert_eq!(oldest.answer().0, 400, "all of it has come, and it is no JSON");
}
