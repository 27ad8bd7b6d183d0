//! Hostile receivers: all they can do is hold an attempt until its time limit. Hundreds of attempts
//! of every kind run at once; each ends with its expected error, and the server takes at most 32
//! MiB for all of them together.

use std::collections::BTreeMap;
use std::io::{ErrorKind, Read as _, Write as _};
use std::net::{TcpListener, TcpStream};
use std::sync::atomic::{AtomicUsize, Ordering};
use std::time::Duration;

use rustix::net::sockopt::set_socket_linger;
use serde_json::{Value, json};

use crate::harness::{Client, Process, settings, until};
use crate::raw::memory_kib;

/// Maximum memory of the server for all attempts together, in KiB.
const GROWTH_KIB_MAX: u64 = 32 << 10;
/// Less than a server with the failpoint keeps of a head, so that the server waits for more.
const LONG_HEAD_BYTES: usize = 390 << 10;
/// Maximum number of bytes on their way when the server closes a connection, in the kernel's
/// buffers on both sides.
const IN_BUFFERS_MAX: usize = 32 << 20;

/// Maximum number of bytes that a connection took of an endless answer.
static MOST_TAKEN: AtomicUsize = AtomicUsize::new(0);

/// The kinds of hostile receivers.
#[derive(Clone, Copy, Debug, PartialEq, Eq, PartialOrd, Ord)]
enum Evil {
    /// A refusal with an endless body.
    EndlessBody,
    /// A refusal whose body comes in single bytes with pauses.
    DrippingBody,
    /// A head whose bytes come singly, with pauses.
    DrippingHead,
    /// A head of maximum length, followed by single bytes with pauses.
    LongestHead,
    /// A head far above the maximum length, without an end.
    LongHead,
    /// A head with endless headers.
    ManyHeaders,
    /// Endless informational heads before the final head.
    EarlyHints,
    Garbage,
    Reset,
    /// A connection on which TLS gets no answer.
    SilentTls,
    /// A long TLS answer without an end.
    LongTls,
    /// A connection that is never accepted.
    NeverAccepts,
}

impl Evil {
    /// Each kind with its number of endpoints, the time limit of their attempts in milliseconds,
    /// and the expected error code. The time limit is generous for attempts that end by themselves.
    const ALL: [(Self, usize, u64, &'static str); 12] = [
        (Self::EndlessBody, 40, 60_000, "http_status"),
        (Self::DrippingBody, 40, 20_000, "http_status"),
        (Self::DrippingHead, 40, 2_000, "timeout"),
        (Self::LongestHead, 60, 3_000, "timeout"),
        (Self::LongHead, 160, 10_000, "http_status"),
        (Self::ManyHeaders, 40, 60_000, "http_status"),
        (Self::EarlyHints, 10, 60_000, "protocol"),
        (Self::Garbage, 20, 60_000, "protocol"),
        (Self::Reset, 20, 60_000, "protocol"),
        (Self::SilentTls, 20, 60_000, "tls"),
        (Self::LongTls, 40, 60_000, "tls"),
        (Self::NeverAccepts, 20, 60_000, "connect"),
    ];

    fn speaks_tls(self) -> bool {
        matches!(self, Self::SilentTls | Self::LongTls)
    }

    /// Serves one connection until the other side closes it.
    fn serve(self, mut stream: TcpStream) {
        let stream = &mut stream;
        if !self.speaks_tls() {
            read_head(stream);
        }
        match self {
            Self::EndlessBody => {
                say(stream, "HTTP/1.1 500 X\r\nTransfer-Encoding: chunked\r\n\r\n");
                say_on(stream, &format!("1000\r\n{}\r\n", "x".repeat(0x1000)));
            }
            Self::DrippingBody => {
                drip_behind(stream, "HTTP/1.1 500 X\r\nContent-Length: 10000\r\n\r\n");
            }
            Self::DrippingHead => drip_behind(stream, "HTTP/1.1 200 OK\r\nX-Slow: "),
            Self::LongestHead => {
                drip_behind(stream, &format!("HTTP/1.1 200 OK\r\nX-Long: {}", "x".repeat(16_000)));
            }
            Self::LongHead => {
                let long = "x".repeat(LONG_HEAD_BYTES);
                say(stream, format!("HTTP/1.1 500 X\r\nX-Long: {long}"));
                until_closed(stream, |_| {});
            }
            Self::ManyHeaders => {
                say(stream, "HTTP/1.1 500 X\r\n");
                say_on(stream, &"X-Many: 1\r\n".repeat(1_000));
            }
            Self::EarlyHints => {
                say_on(stream, &"HTTP/1.1 103 Early Hints\r\nLink: </a>\r\n\r\n".repeat(200));
            }
            Self::Garbage => say(stream, b"\x16\x03SSH-2.0-\0\xff\r\n\r\n"),
            Self::Reset => set_socket_linger(stream, Some(Duration::ZERO)).unwrap(),
            Self::SilentTls => until_closed(stream, |_| {}),
            Self::LongTls => say_unfinished_tls(stream),
            Self::NeverAccepts => unreachable!("it has no connection"),
        }
    }
}

fn read_head(stream: &mut TcpStream) {
    let mut head = Vec::new();
    let mut chunk = [0; 4096];
    while !head.windows(4).any(|end| end == b"\r\n\r\n") {
        match stream.read(&mut chunk) {
            Ok(count) if count > 0 => head.extend_from_slice(&chunk[..count]),
            _ => break,
        }
    }
}

/// Writes the bytes; the other side may have closed the connection.
fn say(stream: &mut TcpStream, bytes: impl AsRef<[u8]>) {
    drop(stream.write_all(bytes.as_ref()));
}

/// Writes the beginning of an answer, followed by single bytes with pauses.
fn drip_behind(stream: &mut TcpStream, beginning: &str) {
    say(stream, beginning);
    until_closed(stream, |stream| say(stream, "x"));
}

/// Writes records of a server's first TLS message, which announces a length of 64 KiB.
fn say_unfinished_tls(stream: &mut TcpStream) {
    let mut record = [0x16, 0x03, 0x03, 0x10, 0x00].to_vec();
    record.extend(b"\x02\x00\xff\xff\x03\x03".iter().chain([0; 0x1000 - 6].iter()));
    drop(stream.read(&mut [0; 4096]));
    say(stream, record.repeat(15));
    until_closed(stream, |_| {});
}

/// Writes the text repeatedly until the other side closes the connection.
fn say_on(stream: &mut TcpStream, text: &str) {
    let taken = std::iter::from_fn(|| stream.write(text.as_bytes()).ok()).sum();
    MOST_TAKEN.fetch_max(taken, Ordering::Relaxed);
}

/// Calls `again` ten times a second until the other side closes the connection.
fn until_closed(stream: &mut TcpStream, again: impl Fn(&mut TcpStream)) {
    stream.set_read_timeout(Some(Duration::from_millis(100))).unwrap();
    loop {
        match stream.read(&mut [0; 4096]) {
            Ok(0) => return,
            Ok(_) => {}
            Err(error) if matches!(error.kind(), ErrorKind::WouldBlock | ErrorKind::TimedOut) => {
                again(stream);
            }
            Err(_) => return,
        }
    }
}

/// Receivers of one kind, for any number of connections.
struct Receivers {
    url: String,
    /// A listener that does not accept, and the connections that fill its queue.
    full: Option<(TcpListener, Vec<TcpStream>)>,
}

impl Receivers {
    fn start(evil: Evil) -> Self {
        let listener = TcpListener::bind("127.0.0.1:0").unwrap();
        let place = listener.local_addr().unwrap();
        let scheme = if evil.speaks_tls() { "https" } else { "http" };
        let url = format!("{scheme}://{place}/");
        if evil == Evil::NeverAccepts {
            rustix::net::listen(&listener, 0).unwrap();
            let wait = Duration::from_millis(200);
            let filling = std::iter::from_fn(|| TcpStream::connect_timeout(&place, wait).ok())
                .take(64)
                .collect();
            return Self { url, full: Some((listener, filling)) };
        }
        rustix::net::listen(&listener, 1_024).unwrap();
        std::thread::spawn(move || {
            for stream in listener.incoming() {
                let stream = stream.unwrap();
                std::thread::spawn(move || evil.serve(stream));
            }
        });
        Self { url, full: None }
    }
}

/// Sends an event of this type and waits until `count` deliveries are given up; returns these
/// deliveries.
fn push(org: &Client, event_type: &str, count: usize) -> Vec<Value> {
    let dead = || org.metric("triggerd_deliveries_total{outcome=\"dead\"}");
    let (before, count_f) = (dead(), f64::from(u32::try_from(count).unwrap()));
    let event = org.send(event_type, &json!(1)).id();
    until(|| (dead() - before >= count_f).then_some(()));
    let (mut found, mut cursor) = (Vec::new(), String::new());
    loop {
        let page = org.get(&format!("/api/deliveries?event_id={event}&limit=500{cursor}")).json;
        let ids = page["data"]
            .as_array()
            .unwrap()
            .iter()
            .map(|delivery| delivery["id"].as_str().unwrap().to_owned());
        found.extend(ids.map(|id| org.get(&format!("/api/deliveries/{id}")).json));
        match page["next_cursor"].as_str().filter(|_| page["has_more"] == json!(true)) {
            Some(next) => cursor = format!("&cursor={next}"),
            None => break,
        }
    }
    assert_eq!(found.len(), count);
    found
}

/// Pushes an event to all endpoints; returns the growth of the server's peak memory in KiB, and the
/// deliveries.
fn flood(server: &Process, org: &Client, count: usize) -> (u64, Vec<Value>) {
    // The first attempts of all take memory that is not counted.
    push(org, "test.warm", Evil::ALL.len());
    std::fs::write(format!("/proc/{}/clear_refs", server.child.id()), "5").unwrap();
    let before = memory_kib(server, "VmRSS");
    let found = push(org, "test.flood", count);
    (memory_kib(server, "VmHWM").saturating_sub(before), found)
}

/// A kind of receiver, the time limit of its attempts in milliseconds, and the expected error code.
type Expected = (Evil, u64, &'static str);

/// Creates the endpoints of all kinds; returns them by their ids, and the connections to keep.
fn hostile_endpoints(org: &Client) -> (BTreeMap<String, Expected>, Vec<impl Sized>) {
    let (mut endpoints, mut kept) = (BTreeMap::new(), Vec::new());
    for (evil, count, timeout_ms, code) in Evil::ALL {
        let receivers = Receivers::start(evil);
        for number in 0..count {
            let types =
                if number == 0 { vec!["test.flood", "test.warm"] } else { vec!["test.flood"] };
            let body = json!({"url": receivers.url, "event_types": types, "retry_schedule": [],
                "timeout_ms": timeout_ms});
            endpoints.insert(org.post("/api/endpoints", &body).id(), (evil, timeout_ms, code));
        }
        kept.extend(receivers.full);
    }
    (endpoints, kept)
}

fn assert_ended_as_expected((evil, timeout_ms, code): Expected, attempt: &Value) {
    assert_eq!(attempt["error"]["code"], code, "{evil:?}: {attempt}");
    let is_in_time = attempt["duration_ms"].as_u64().unwrap() < timeout_ms;
    assert_eq!(is_in_time, code != "timeout", "{evil:?}: {attempt}");
    let body_bytes = attempt["response_body"].as_str().unwrap_or_default().len();
    assert_eq!(body_bytes == 4096, evil == Evil::EndlessBody, "{evil:?}: {attempt}");
    let address = attempt["address"].as_str().unwrap();
    assert!(address.starts_with("127.0.0.1:"), "{evil:?}: {attempt}");
}

#[test]
fn hundreds_of_hostile_receivers_cost_their_attempts_and_little_memory() {
    let dir = tempfile::tempdir().unwrap();
    let data = dir.path().join("data");
    let more = "[delivery]\nmax_in_flight = 1000\nmax_in_flight_per_org = \
        1000\nconnect_timeout_ms = 5000\n";
    let server = Process::start_with(&data, more);
    let org = server.org("Acme");
    let (endpoints, _full) = hostile_endpoints(&org);
    let (grown_kib, found) = flood(&server, &org, endpoints.len());
    for delivery in found {
        assert_ended_as_expected(
            endpoints[delivery["endpoint_id"].as_str().unwrap()],
            &delivery["attempts"][0],
        );
    }
    let taken = MOST_TAKEN.load(Ordering::Relaxed);
    assert!(taken > 0 && taken < IN_BUFFERS_MAX, "a connection took {taken} bytes");
    assert!(grown_kib <= GROWTH_KIB_MAX, "{grown_kib} KiB for {} attempts", endpoints.len());
    assert_eq!(server.stop().0, Some(0));

    // The test must notice a server with unbounded heads. Only a build with debug assertions has
    // this failpoint.
    if cfg!(debug_assertions) && std::env::var_os("TRIGGERD_TEST_BINARY").is_none() {
        let failpoint = ["env", "TRIGGERD_FAILPOINTS=head_unbounded"];
        let server = Process::spawn(&data, &settings(&data, more), &failpoint)
            .ready()
            .unwrap_or_else(|it| panic!("{it:?}"));
        let (control_kib, _) = flood(&server, &Client::new(&server.url, &org.key), endpoints.len());
        assert!(
            control_kib > GROWTH_KIB_MAX,
            "only {control_kib} KiB, although heads are not bounded"
        );
        println!(
            "{grown_kib} KiB for {} attempts; {control_kib} KiB when heads are not bounded",
            endpoints.len()
        );
    }
}

/// A receiver that accepts each event and sends an endless body; returns the number of accepted
/// events.
fn talkative() -> (String, &'static AtomicUsize) {
    static ACCEPTED: AtomicUsize = AtomicUsize::new(0);
    let listener = TcpListener::bind("127.0.0.1:0").unwrap();
    let url = format!("http://{}/", listener.local_addr().unwrap());
    std::thread::spawn(move || {
        for stream in listener.incoming() {
            let mut stream = stream.unwrap();
            std::thread::spawn(move || {
                read_head(&mut stream);
                say(&mut stream, b"HTTP/1.1 200 OK\r\nTransfer-Encoding: chunked\r\n\r\n");
                ACCEPTED.fetch_add(1, Ordering::SeqCst);
                until_closed(&mut stream, |stream| drop(stream.write_all(b"1\r\nx\r\n")));
            });
        }
    });
    (url, &ACCEPTED)
}

#[test]
fn an_acceptance_whose_body_does_not_end_holds_up_no_event_behind_it() {
    // More events than connections that may stay open beside the attempts; each connection could
    // outlast the test.
    const EVENTS: usize = 40;
    let dir = tempfile::tempdir().unwrap();
    let server = Process::start(&dir.path().join("data"));
    let org = server.org("Acme");
    let (url, accepted) = talkative();
    let endpoint = json!({"url": url, "ordering": "strict", "timeout_ms": 300_000});
    assert_eq!(org.post("/api/endpoints", &endpoint).status, 201);
    for number in 0..EVENTS {
        org.send("order.created", &json!(number));
    }
    let delivered = || org.metric("triggerd_deliveries_total{outcome=\"delivered\"}");
    until(|| (delivered() == f64::from(u32::try_from(EVENTS).unwrap())).then_some(()));
    assert_eq!(accepted.load(Ordering::SeqCst), EVENTS, "each of them once");
    assert_eq!(server.stop().0, Some(0));
}

#[test]
fn a_server_that_could_trust_no_receiver_does_not_start() {
    let dir = tempfile::tempdir().unwrap();
    let no_store = ["env", "SSL_CERT_FILE=/dev/null", "SSL_CERT_DIR=/nonexistent"];
    let Err((status, log)) = Process::try_start(&dir.path().join("data"), "", &no_store) else {
        panic!("it started")
    };
    assert_eq!(status.code(), Some(70), "{log}");
    assert!(
        log.contains("webhooks cannot be sent: No CA certificates were loaded from the system"),
        "{log}"
    );
}
