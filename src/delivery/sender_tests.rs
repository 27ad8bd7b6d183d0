use std::io::{Read, Write};
use std::net::{SocketAddr, TcpListener, TcpStream};
use std::thread::JoinHandle;

use super::super::connector::{ConnectionTrace, Step};
use super::*;
use crate::base::random;
use crate::model::delivery::Timing;
use crate::model::id::{EndpointId, EventId};

#[path = "sender_bounds_tests.rs"]
mod bounds;
#[path = "sender_tls_tests.rs"]
mod tls;

const NOW: Timestamp = Timestamp(1_769_853_600_999);
const EVENT: EventId = EventId(0x0188_bac7_4afa_78aa_bc3b_bd1e_ef28_d881);
const BODY: &[u8] = br#"{"id":"evt_01h2xcejqtf2nbrexx3vqjhp41"}"#;

impl SenderConfig {
    /// Limits that only a receiver that misbehaves reaches.
    pub(in crate::delivery) fn for_tests(egress: Arc<EgressRules>) -> Self {
        Self::new(Duration::from_secs(5), Duration::from_secs(15), 16, egress, Lookups::for_tests())
    }
}

/// A sender that may reach this machine, with a timeout longer than any test.
fn sender() -> Sender {
    sender_with(&["127.0.0.0/8"], Duration::from_mins(2))
}

fn sender_with(allow: &[&str], timeout: Duration) -> Sender {
    let egress =
        EgressRules { allow: allow.iter().map(|network| network.parse().unwrap()).collect() };
    Sender::new(SenderConfig { timeout, ..SenderConfig::for_tests(Arc::new(egress)) }).unwrap()
}

async fn send(sender: &Sender, url: &str) -> AttemptOutcome {
    let secrets = [Secret::new([1; 32]), Secret::new([2; 32])];
    let body = Bytes::from_static(BODY);
    let headers = [("x-own".to_owned(), "a b".to_owned())];
    let request = Request {
        org: OrgNo(1),
        url,
        subject: Subject { attempt: 3, ..Subject::of_test(None, EndpointId(1), EVENT) },
        body,
        content_type: "application/json",
        headers: &headers,
        secrets: &secrets,
        timeout: None,
        now: NOW,
    };
    sender.send(request).await.unwrap()
}

fn error(outcome: &AttemptOutcome) -> (ErrorCode, &str) {
    let error = outcome.error.as_ref().expect("the attempt fails");
    (error.code, &error.detail)
}

/// A receiver for one connection: reads the request, then calls `then`. Returns the request and the
/// result of `then`.
struct Receiver<T> {
    url: String,
    place: String,
    thread: JoinHandle<(String, T)>,
}

impl<T: Send + 'static> Receiver<T> {
    fn start(then: impl FnOnce(&mut TcpStream) -> T + Send + 'static) -> Self {
        let listener = TcpListener::bind("127.0.0.1:0").unwrap();
        let place = listener.local_addr().unwrap().to_string();
        let thread = std::thread::Builder::new()
            .spawn(move || {
                let (mut stream, _) = listener.accept().unwrap();
                stream.set_read_timeout(Some(Duration::from_mins(2))).unwrap();
                stream.set_write_timeout(Some(Duration::from_mins(2))).unwrap();
                let request = read_request(&mut stream);
                let result = then(&mut stream);
                (request, result)
            })
            .unwrap();
        Self { url: format!("http://{place}/hook?a=b"), place, thread }
    }

    /// Waits for the thread without blocking the runtime, which must close the connection.
    async fn answer(self) -> (String, T) {
        tokio::task::spawn_blocking(|| self.thread.join()).await.unwrap().unwrap()
    }
}

fn answering(answer: impl Into<String>) -> Receiver<()> {
    let answer = answer.into();
    Receiver::start(move |stream| stream.write_all(answer.as_bytes()).unwrap())
}

fn read_request(stream: &mut TcpStream) -> String {
    let mut request = Vec::new();
    let mut chunk = [0; 4096];
    while !request.ends_with(BODY) {
        match stream.read(&mut chunk) {
            Ok(0) | Err(_) => break,
            Ok(count) => request.extend_from_slice(&chunk[..count]),
        }
    }
    String::from_utf8_lossy(&request).into_owned()
}

/// Waits until the sender has closed or reset the connection.
fn until_closed(stream: &mut TcpStream) {
    let mut rest = [0; 1024];
    while stream.read(&mut rest).is_ok_and(|count| count > 0) {}
}

#[tokio::test]
async fn the_request_is_the_one_of_the_contract_and_its_signature_verifies() {
    let receiver = answering("HTTP/1.1 204 No Content\r\n\r\n");
    let outcome = send(&sender(), &receiver.url).await;
    assert_eq!((outcome.status, &outcome.error, outcome.started_at), (Some(204), &None, NOW));
    let place = receiver.place.clone();
    let (request, ()) = receiver.answer().await;
    let (head, body) = request.split_once("\r\n\r\n").unwrap();
    assert_eq!(body.as_bytes(), BODY);
    let mut lines = head.split("\r\n");
    assert_eq!(lines.next(), Some("POST /hook?a=b HTTP/1.1"));
    let mut headers: Vec<(String, String)> = lines
        .map(|line| line.split_once(": ").unwrap())
        .map(|(name, value)| (name.to_ascii_lowercase(), value.to_owned()))
        .collect();
    headers.sort();
    let signature = headers.iter().find(|(name, _)| name == "webhook-signature").unwrap().1.clone();
    let expected = [
        ("accept", "*/*"),
        ("content-length", "39"),
        ("content-type", "application/json"),
        ("host", place.as_str()),
        ("triggerd-attempt", "3"),
        ("user-agent", concat!("triggerd/", env!("CARGO_PKG_VERSION"))),
        ("webhook-id", "evt_01h2xcejqtf2nbrexx3vqjhp41"),
        ("webhook-signature", signature.as_str()),
        ("webhook-timestamp", "1769853600"),
        ("x-own", "a b"),
    ];
    let expected: Vec<_> =
        expected.iter().map(|(name, value)| ((*name).to_owned(), (*value).to_owned())).collect();
    assert_eq!(headers, expected);
    let id = "evt_01h2xcejqtf2nbrexx3vqjhp41";
    let signed =
        signature::Signed { id, timestamp: "1769853600", signature: &signature, body: BODY };
    for key in [[1; 32], [2; 32]] {
        assert_eq!(signature::verify(&key, &signed, 1_769_853_600, 0), Ok(()));
    }
}

#[tokio::test]
async fn a_redirect_is_a_failure_and_is_not_followed() {
    let elsewhere = TcpListener::bind("127.0.0.1:0").unwrap();
    elsewhere.set_nonblocking(true).unwrap();
    let location = format!("http://{}/", elsewhere.local_addr().unwrap());
    for status in
        ["301 Moved Permanently", "302 Found", "307 Temporary Redirect", "308 Permanent Redirect"]
    {
        let receiver = answering(format!(
            "HTTP/1.1 {status}\r\nLocation: {location}\r\nContent-Length: 0\r\n\r\n"
        ));
        let outcome = send(&sender(), &receiver.url).await;
        let sentence = format!(
            "the receiver answered {status}, a redirect to {location}; redirects are not followed"
        );
        assert_eq!(error(&outcome), (ErrorCode::Redirect, sentence.as_str()));
        assert_eq!(outcome.status, status[..3].parse().ok());
        receiver.answer().await;
    }
    let receiver = answering("HTTP/1.1 304 Not Modified\r\n\r\n".to_owned());
    let outcome = send(&sender(), &receiver.url).await;
    let sentence = "the receiver answered 304 Not Modified";
    assert_eq!(error(&outcome), (ErrorCode::HttpStatus, sentence), "no redirect");
    receiver.answer().await;
    assert_eq!(
        elsewhere.accept().unwrap_err().kind(),
        std::io::ErrorKind::WouldBlock,
        "nobody came"
    );
}

#[tokio::test]
async fn an_answer_that_is_not_2xx_is_kept_with_its_status_and_4_kib_of_its_body() {
    let receiver = answering("HTTP/1.1 410 Gone\r\nContent-Length: 4\r\n\r\nbye!");
    let outcome = send(&sender(), &receiver.url).await;
    assert_eq!(error(&outcome), (ErrorCode::HttpStatus, "the receiver answered 410 Gone"));
    assert_eq!((outcome.status, outcome.body.as_slice()), (Some(410), b"bye!".as_slice()));

    let long = "x".repeat(10_000);
    let receiver = answering(format!("HTTP/1.1 500 Oops\r\nContent-Length: 10000\r\n\r\n{long}"));
    let outcome = send(&sender(), &receiver.url).await;
    assert_eq!(
        error(&outcome),
        (ErrorCode::HttpStatus, "the receiver answered 500 Internal Server Error")
    );
    assert_eq!(outcome.body, vec![b'x'; KEPT_BODY_BYTES_MAX]);

    let receiver = answering("HTTP/1.1 200 OK\r\nContent-Length: 4\r\n\r\nfine");
    assert_eq!(
        send(&sender(), &receiver.url).await.body,
        b"",
        "the body of an acceptance is of no interest"
    );
}

#[tokio::test]
async fn retry_after_is_read_as_seconds_and_as_a_date() {
    let retry_after = async |status: &str, value: &str| {
        let receiver = answering(format!(
            "HTTP/1.1 {status} X\r\nRetry-After: {value}\r\nContent-Length: 0\r\n\r\n"
        ));
        send(&sender(), &receiver.url).await.retry_after_ms
    };
    assert_eq!(retry_after("429", "120").await, Some(120_000));
    // 10:02:00 is 119,001 ms after 10:00:00.999; the answer takes a moment.
    let asked = retry_after("503", "Sat, 31 Jan 2026 10:02:00 GMT").await.unwrap();
    assert!((100_000..=119_001).contains(&asked), "{asked}");
    assert_eq!(retry_after("410", "soon").await, None);
}

#[test]
fn every_form_of_retry_after_is_understood_or_ignored() {
    assert_eq!(retry_after_ms("0", NOW), Some(0));
    assert_eq!(retry_after_ms(" 7 ", NOW), Some(7_000));
    assert_eq!(retry_after_ms(&"9".repeat(40), NOW), Some(u64::MAX));
    assert_eq!(retry_after_ms("Sat, 31 Jan 2026 10:00:01 GMT", NOW), Some(1));
    assert_eq!(
        retry_after_ms("Saturday, 31-Jan-26 10:00:01 GMT", NOW),
        Some(1),
        "the form of RFC 850"
    );
    assert_eq!(retry_after_ms("Sat Jan 31 10:00:01 2026", NOW), Some(1), "the form of asctime");
    assert_eq!(retry_after_ms("Thu, 01 Jan 1970 00:00:00 GMT", NOW), Some(0), "has passed");
    for odd in [
        "",
        "-1",
        "1.5",
        "1,5",
        "5.0",
        "5 s",
        "1e3",
        "0x5",
        "\u{ff15}",
        "+3",
        "tomorrow",
        "31 Jan",
        "Sat, 31 Jan 2026 10:00:01",
        "Sat, 31 Jan 2026 10:00:01 +0000",
        "Sat, 31 Jan 2026 10:00:01.5 GMT",
        "2026-01-31T10:00:01Z",
    ] {
        assert_eq!(retry_after_ms(odd, NOW), None, "{odd}");
    }
}

#[tokio::test]
async fn a_refused_connection_is_said_so_with_the_address() {
    let free = TcpListener::bind("127.0.0.1:0").unwrap().local_addr().unwrap();
    let outcome = send(&sender(), &format!("http://{free}/")).await;
    assert_eq!(
        error(&outcome),
        (ErrorCode::Connect, format!("connection refused by {free}").as_str())
    );
    assert_eq!(outcome.status, None);
    let outcome = send(&sender(), &format!("http://hooks.localhost:{}/", free.port())).await;
    let sentence = format!("connection refused by hooks.localhost:{} (127.0.0.1)", free.port());
    assert_eq!(
        error(&outcome),
        (ErrorCode::Connect, sentence.as_str()),
        "a name is shown with what it resolved to"
    );
}

#[tokio::test]
async fn an_answer_that_is_not_http_is_a_protocol_failure() {
    let random: [u8; 256] = random::bytes();
    for garbage in
        [b"SSH-2.0-OpenSSH_9.2\r\n".as_slice(), b"HTTP/9.9 200 OK\r\n\r\n", b"\0\0\0", b"", &random]
    {
        let garbage = garbage.to_vec();
        let receiver = Receiver::start(move |stream| stream.write_all(&garbage).unwrap());
        let outcome = send(&sender(), &receiver.url).await;
        let (code, detail) = error(&outcome);
        assert_eq!(code, ErrorCode::Protocol, "{detail}");
        assert!(
            detail.starts_with(&format!("no valid HTTP answer from {}: ", receiver.place)),
            "{detail}"
        );
        receiver.answer().await;
    }
    let receiver = Receiver::start(move |stream| {
        // The sender closes the connection before the end.
        drop(write!(stream, "HTTP/1.1 200 {}\r\n\r\n", "x".repeat(100_000)));
    });
    let outcome = send(&sender(), &receiver.url).await;
    let sentence =
        format!("the first line of the answer from {} is longer than 16 KiB", receiver.place);
    assert_eq!(error(&outcome), (ErrorCode::Protocol, sentence.as_str()));
    receiver.answer().await;
}

#[tokio::test]
async fn an_answer_with_a_long_head_is_one() {
    let cookie = format!("Set-Cookie: {}\r\n", "x".repeat(4_000));
    for (status, header, times) in [
        (200, "X-Many: 1\r\n", 10_000),
        (204, cookie.as_str(), 5),
        (200, cookie.as_str(), 300),
        (503, cookie.as_str(), 5),
    ] {
        let head = format!(
            "HTTP/1.1 {status} X\r\nRetry-After: 9\r\nContent-Length: 2\r\n{}\r\nok",
            header.repeat(times)
        );
        // The sender closes the connection before the end.
        let receiver = Receiver::start(move |stream| drop(stream.write_all(head.as_bytes())));
        let outcome = send(&sender(), &receiver.url).await;
        assert_eq!(
            (outcome.status, outcome.error.is_none()),
            (Some(status), status < 300),
            "{:?}",
            outcome.error
        );
        assert_eq!(outcome.retry_after_ms, Some(9_000), "what was whole of the head counts");
        receiver.answer().await;
    }
}

#[tokio::test]
async fn a_name_that_does_not_exist_is_a_dns_failure() {
    // Names below .invalid never exist (RFC 6761, 6.4).
    let outcome = send(&sender(), "https://hooks.invalid/").await;
    let (code, detail) = error(&outcome);
    assert_eq!(code, ErrorCode::Dns, "{detail}");
    assert!(detail.starts_with("hooks.invalid has no address: "), "{detail}");
}

#[tokio::test]
async fn nothing_is_sent_to_an_address_that_is_not_allowed() {
    let listener = TcpListener::bind("127.0.0.1:0").unwrap();
    listener.set_nonblocking(true).unwrap();
    let port = listener.local_addr().unwrap().port();
    let sender = sender_with(&["10.0.0.0/8"], Duration::from_mins(2));
    for host in
        ["127.0.0.1", "localhost", "a.localhost", "2130706433", "[::ffff:127.0.0.1]", "[::1]"]
    {
        let outcome = send(&sender, &format!("http://{host}:{port}/")).await;
        let (code, detail) = error(&outcome);
        assert_eq!(code, ErrorCode::EgressBlocked, "{detail}");
        assert!(detail.contains("(loopback); allow it with [egress] allow_networks"), "{detail}");
    }
    assert_eq!(
        listener.accept().unwrap_err().kind(),
        std::io::ErrorKind::WouldBlock,
        "nobody came"
    );
    for odd in ["ftp://example.com/", "not a url", "", "http://a:b@example.com/"] {
        assert_eq!(error(&send(&sender, odd).await).0, ErrorCode::EgressBlocked, "{odd}");
    }
}

#[tokio::test]
async fn a_name_refused_by_the_resolver_is_an_egress_failure() {
    // The refusal comes from the resolver inside the error, not from the check of the URL.
    let connector = sender_with(&[], Duration::from_secs(20)).connector;
    for host in ["hooks.localhost", "127.0.0.1", "::1"] {
        let target = Target { host: host.to_owned(), port: 9, address: host.parse().ok() };
        let mut trace = ConnectionTrace::default();
        let refused = connector.connect((&target, None), false, &mut trace).await.err().unwrap();
        let explained = failure::explain(&*refused, Step::Resolve, host);
        assert_eq!(explained.code, ErrorCode::EgressBlocked);
        assert!(explained.detail.contains(" has a forbidden address: "), "{}", explained.detail);
        assert!(explained.detail.contains("(loopback)"), "{}", explained.detail);
    }
}

#[test]
fn a_user_agent_that_is_no_header_is_an_error_and_no_panic() {
    let config = SenderConfig::for_tests(Arc::default());
    assert!(Sender::new(SenderConfig { user_agent: "a\nb".to_owned(), ..config }).is_err());
}

#[tokio::test]
async fn a_few_headers_of_a_refusal_are_kept_cut_short() {
    let head = |status: &str| {
        let long = "x".repeat(1_000);
        answering(format!(
            "HTTP/1.1 {status}\r\nServer: nginx\r\nX-Request-Id: {long}\r\nSet-Cookie: \
             a=b\r\nVia: \u{e9}\r\n\
             Content-Length: 0\r\n\r\n"
        ))
    };
    let receiver = head("503 Busy");
    let outcome = send(&sender(), &receiver.url).await;
    let kept: Vec<_> =
        outcome.headers.iter().map(|(name, value)| (name.as_str(), value.as_str())).collect();
    let id = "x".repeat(KEPT_HEADER_CHARS_MAX);
    let expected = [
        ("content-length", "0"),
        ("server", "nginx"),
        ("via", "\u{e9}"),
        ("x-request-id", id.as_str()),
    ];
    assert_eq!(kept, expected);
    assert_eq!(send(&sender(), &head("200 OK").url).await.headers, []);
}

#[tokio::test]
async fn an_attempt_tells_whom_it_reached_and_where_its_time_went() {
    let listener = TcpListener::bind("127.0.0.1:0").unwrap();
    let place = listener.local_addr().unwrap();
    let thread = std::thread::Builder::new().spawn(move || {
        let (mut stream, _) = listener.accept().unwrap();
        for _ in 0..2 {
            read_request(&mut stream);
            stream.write_all(b"HTTP/1.1 200 OK\r\nContent-Length: 0\r\n\r\n").unwrap();
        }
    });
    let (sender, url) = (sender(), format!("http://a.localhost:{}/", place.port()));
    let first = send(&sender, &url).await;
    assert_eq!((first.error, first.address), (None, Some(place)));
    let Timing { dns_ms, connect_ms, tls_ms, first_byte_ms } = first.timing;
    assert!(
        dns_ms.is_some() && connect_ms.is_some() && first_byte_ms.is_some(),
        "{:?}",
        first.timing
    );
    assert_eq!(tls_ms, None, "there is none");
    let second = send(&sender, &url).await;
    assert_eq!((second.error, second.address), (None, Some(place)));
    let Timing { dns_ms, connect_ms, tls_ms, first_byte_ms } = second.timing;
    assert_eq!((dns_ms, connect_ms, tls_ms), (None, None, None), "the connection was there");
    assert!(first_byte_ms.is_some());
    thread.unwrap().join().unwrap();

    let refused = send(&sender, &format!("http://{place}/")).await;
    assert_eq!((error(&refused).0, refused.address), (ErrorCode::Connect, Some(place)));
    assert_eq!(
        refused.timing,
        Timing::default(),
        "an address is not looked up, and nothing ended well"
    );
    let blocked = send(&sender, "http://10.0.0.7/").await;
    assert_eq!((error(&blocked).0, blocked.address), (ErrorCode::EgressBlocked, None));
}

#[tokio::test]
async fn how_far_an_attempt_came_is_said_when_its_time_is_over() {
    let stall = |connect_timeout: Duration, timeout: Duration| {
        let egress = Arc::new(EgressRules { allow: vec!["127.0.0.0/8".parse().unwrap()] });
        Sender::new(SenderConfig { connect_timeout, timeout, ..SenderConfig::for_tests(egress) })
            .unwrap()
    };
    let (short, long) = (Duration::from_secs(1), Duration::from_mins(2));
    // The kernel accepts the connection, and no answer follows.
    let silent = TcpListener::bind("127.0.0.1:0").unwrap();
    let place = silent.local_addr().unwrap();
    let url = format!("https://{place}/");
    let outcome = send(&stall(short, long), &url).await;
    let sentence = format!("the TLS handshake with {place} did not finish within 1 s");
    assert_eq!(error(&outcome), (ErrorCode::Tls, sentence.as_str()));
    assert_eq!(outcome.address, Some(place));
    assert!(
        outcome.timing.connect_ms.is_some() && outcome.timing.tls_ms.is_none(),
        "{:?}",
        outcome.timing
    );
    let outcome = send(&stall(long, short), &url).await;
    let sentence = format!("no answer from {place} within 1 s; the TLS handshake was not finished");
    assert_eq!(error(&outcome), (ErrorCode::Timeout, sentence.as_str()));

    let (full, filling) = super::super::connector::tests::full_backlog();
    let place = full.local_addr().unwrap();
    let url = format!("http://{place}/");
    let outcome = send(&stall(short, long), &url).await;
    let sentence = format!("no connection to {place} within 1 s");
    assert_eq!(error(&outcome), (ErrorCode::Connect, sentence.as_str()));
    let outcome = send(&stall(long, short), &url).await;
    let sentence =
        format!("no answer from {place} within 1 s; the connection was not yet established");
    assert_eq!(error(&outcome), (ErrorCode::Timeout, sentence.as_str()));
    assert_eq!((outcome.address, outcome.timing), (Some(place), Timing::default()));
    drop(filling);
}
