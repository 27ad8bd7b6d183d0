//! Connections and bodies as real receivers treat them, through the sender and raw sockets.

use std::io::{Read, Write};
use std::net::{TcpListener, TcpStream};
use std::os::fd::AsFd;
use std::sync::Arc;
use std::sync::atomic::{AtomicBool, Ordering};
use std::time::Duration;

use rustix::net::sockopt::set_socket_linger;
use rustix::net::{RecvFlags, recv};

use super::Link;
use crate::delivery::connector::ConnectionTrace;
use crate::delivery::sender::{Request, Sender, SenderConfig};
use crate::delivery::subject::Subject;
use crate::model::delivery::{AttemptOutcome, ErrorCode};
use crate::model::endpoint::Secret;
use crate::model::id::{EndpointId, EventId, OrgNo};
use crate::model::time::Timestamp;
use crate::rules::egress::EgressRules;

const BODY: &[u8] = b"{\"the\": \"end\"}";
const OK: &str = "HTTP/1.1 200 OK\r\nContent-Length: 0\r\n\r\n";
/// Longer than any wait of a correct sender.
const LONG: Duration = Duration::from_mins(2);

fn sender() -> Sender {
    let egress = EgressRules { allow: vec!["127.0.0.0/8".parse().unwrap()] };
    Sender::new(SenderConfig { timeout: LONG, ..SenderConfig::for_tests(Arc::new(egress)) })
        .unwrap()
}

async fn send_body(sender: &Sender, url: &str, body: &'static [u8]) -> AttemptOutcome {
    let secrets = [Secret::new([1; 32])];
    let request = Request {
        org: OrgNo(1),
        url,
        subject: Subject::of_test(None, EndpointId(1), EventId(1 << 80)),
        body: body.into(),
        content_type: "application/json",
        headers: &[],
        secrets: &secrets,
        timeout: None,
        now: Timestamp(1_769_853_600_000),
    };
    sender.send(request).await.unwrap()
}

async fn send(sender: &Sender, url: &str) -> AttemptOutcome {
    send_body(sender, url, BODY).await
}

/// The result of a receiver's thread. A failed test does not wait for it.
type Served<T> = tokio::sync::oneshot::Receiver<T>;

fn in_thread<T: Send + 'static>(work: impl FnOnce() -> T + Send + 'static) -> Served<T> {
    let (ended, served) = tokio::sync::oneshot::channel();
    let thread = std::thread::Builder::new().spawn(move || drop(ended.send(work())));
    drop(thread.unwrap());
    served
}

/// The reaction of a receiver to a request.
#[derive(Clone, Copy, Debug)]
enum Then {
    Say(&'static str),
    /// Closes the connection without an answer.
    Close,
    /// Resets the connection, so the sender gets an error.
    Reset,
    /// Sends this text and closes the connection.
    SayAndClose(&'static str),
}

/// A receiver with a script for each of its connections, one connection after the other. After its
/// script a connection stays open. Returns the number of requests on each connection.
fn receiver(connections: Vec<Vec<Then>>) -> (String, Served<Vec<usize>>) {
    let listener = TcpListener::bind("127.0.0.1:0").unwrap();
    let url = format!("http://{}/hook", listener.local_addr().unwrap());
    let served = in_thread(move || {
        let mut open = Vec::new();
        let mut counts = Vec::new();
        'next: for script in connections {
            let (mut stream, _) = listener.accept().unwrap();
            stream.set_read_timeout(Some(LONG)).unwrap();
            let mut count = 0;
            for then in script {
                if !read_request(&mut stream) {
                    break;
                }
                count += 1;
                match then {
                    Then::Say(text) => stream.write_all(text.as_bytes()).unwrap(),
                    Then::Close => stream.shutdown(std::net::Shutdown::Both).unwrap(),
                    Then::Reset => {
                        // Dropping the stream now resets the connection.
                        set_socket_linger(&stream, Some(Duration::ZERO)).unwrap();
                        counts.push(count);
                        continue 'next;
                    }
                    Then::SayAndClose(text) => {
                        stream.write_all(text.as_bytes()).unwrap();
                        stream.shutdown(std::net::Shutdown::Both).unwrap();
                    }
                }
            }
            counts.push(count);
            open.push(stream);
        }
        counts
    });
    (url, served)
}

/// Reads until a request is complete; false if the connection ends before.
fn read_request(stream: &mut TcpStream) -> bool {
    let (mut request, mut chunk) = (Vec::new(), [0; 4096]);
    while !request.ends_with(BODY) {
        match stream.read(&mut chunk) {
            Ok(0) | Err(_) => return false,
            Ok(count) => request.extend_from_slice(&chunk[..count]),
        }
    }
    true
}

#[tokio::test]
async fn a_kept_connection_that_ends_without_a_word_is_no_attempt() {
    for ends in [Then::Close, Then::Reset] {
        let (url, served) = receiver(vec![vec![Then::Say(OK), ends], vec![Then::Say(OK)]]);
        let sender = sender();
        assert_eq!(send(&sender, &url).await.error, None);
        let second = send(&sender, &url).await;
        assert_eq!((second.status, &second.error), (Some(200), &None), "{ends:?}");
        assert!(
            second.timing.connect_ms.is_some(),
            "it went over a new connection: {:?}",
            second.timing
        );
        assert_eq!(served.await.unwrap(), [2, 1], "{ends:?}: sent again, once");
    }
}

#[tokio::test]
async fn it_is_sent_again_once_and_only_if_not_a_byte_came() {
    let (url, served) = receiver(vec![vec![Then::Say(OK), Then::Close], vec![Then::Close]]);
    let client = sender();
    assert_eq!(send(&client, &url).await.error, None);
    let second = send(&client, &url).await;
    assert_eq!(
        second.error.unwrap().code,
        ErrorCode::Protocol,
        "a new connection that ends is an attempt"
    );
    assert_eq!(served.await.unwrap(), [2, 1]);

    for word in [
        "H",
        "no HTTP",
        "HTTP/1.1 200 OK",
        "HTTP/1.1 2 OK\r\n\r\n",
        "HTTP/1.1 200 OK\r\nno colon\r\n\r\n",
        "HTTP/1.1 200 OK\r\nX: a\0b\r\n\r\n",
        "HTTP/1.1 200 OK\r\nno colon\r\n",
        "HTTP/1.1 103 Early Hints\r\n\r\n",
    ] {
        let (url, served) = receiver(vec![vec![Then::Say(OK), Then::SayAndClose(word)]]);
        let client = sender();
        assert_eq!(send(&client, &url).await.error, None);
        let second = send(&client, &url).await;
        assert_eq!(second.error.unwrap().code, ErrorCode::Protocol, "{word:?}");
        assert_eq!(served.await.unwrap(), [2], "{word:?}: it has begun to answer");
    }
}

#[tokio::test]
async fn a_408_that_ends_a_kept_connection_is_no_attempt_and_any_other_408_is_a_failure() {
    let bare = "HTTP/1.1 408 Request Timeout\r\n";
    let ends = "HTTP/1.1 408 Request Timeout\r\nContent-Length: 0\r\nConnection: close\r\n\r\n";
    let stays = "HTTP/1.1 408 Request Timeout\r\nContent-Length: 0\r\n\r\n";
    let busy = "HTTP/1.1 503 Busy\r\nContent-Length: 0\r\nConnection: close\r\n\r\n";
    for (on_kept, on_new, status, requests) in [
        (Then::SayAndClose(ends), OK, 200, vec![2, 1]),
        (Then::Say(ends), OK, 200, vec![2, 1]),
        (Then::SayAndClose(bare), OK, 200, vec![2, 1]),
        // On the new connection the answer is final.
        (Then::SayAndClose(ends), ends, 408, vec![2, 1]),
        // A connection that stays open was not idle for too long, and other answers say nothing of
        // that.
        (Then::Say(stays), "", 408, vec![2]),
        (Then::SayAndClose(busy), "", 503, vec![2]),
    ] {
        let on_new = requests.get(1).map(|_| vec![Then::Say(on_new)]);
        let scripts = [vec![Then::Say(OK), on_kept]].into_iter().chain(on_new).collect();
        let (url, served) = receiver(scripts);
        let client = sender();
        assert_eq!(send(&client, &url).await.error, None);
        let second = send(&client, &url).await;
        assert_eq!(
            (second.status, second.error.is_none()),
            (Some(status), status == 200),
            "{on_kept:?}"
        );
        assert_eq!(second.timing.connect_ms.is_some(), requests.len() == 2, "{on_kept:?}");
        assert_eq!(served.await.unwrap(), requests, "{on_kept:?}");
    }
    let (url, served) = receiver(vec![vec![Then::SayAndClose(ends)]]);
    assert_eq!(send(&sender(), &url).await.status, Some(408));
    assert_eq!(served.await.unwrap(), [1], "a first connection");
}

/// The runtime gets no chance to notice the bytes: the test does not wait for it in between.
#[tokio::test]
async fn bytes_that_lie_unread_in_an_idle_connection_are_seen_before_it_is_used_again() {
    for says_more in [true, false] {
        let listener = TcpListener::bind("127.0.0.1:0").unwrap();
        let stream = tokio::net::TcpStream::connect(listener.local_addr().unwrap()).await.unwrap();
        let (mut peer, _) = listener.accept().unwrap();
        let socket = stream.as_fd().try_clone_to_owned().unwrap();
        let mut link = Link { stream: Box::new(stream), trace: ConnectionTrace::default() };
        assert!(link.is_quiet());
        if says_more {
            peer.write_all(b"HTTP/1.1 408 Request Timeout\r\n").unwrap();
        } else {
            peer.shutdown(std::net::Shutdown::Both).unwrap();
        }
        let arrived = || recv(&socket, &mut [0; 1], RecvFlags::PEEK | RecvFlags::DONTWAIT).is_ok();
        while !arrived() {
            std::thread::yield_now();
        }
        assert!(!link.is_quiet(), "{says_more}");
    }
}

#[tokio::test]
async fn a_connection_that_was_closed_or_said_more_meanwhile_is_not_used_again() {
    for first in [
        Then::SayAndClose(OK),
        Then::Say("HTTP/1.1 200 OK\r\nContent-Length: 0\r\n\r\nHTTP/1.1 500 X\r\n\r\n"),
        Then::Say("HTTP/1.1 200 OK\r\nContent-Length: 0\r\nConnection: Keep-Alive, Close\r\n\r\n"),
        Then::Say("HTTP/1.0 200 OK\r\nContent-Length: 0\r\n\r\n"),
        Then::Say("HTTP/1.1 200 OK\r\nContent-Length: 0\r\nPHP Warning: x\r\n\r\n"),
        Then::Say(
            "HTTP/1.1 200 OK\r\nContent-Length: 0\r\nTransfer-Encoding: chunked\r\n\r\n0\r\n\r\n",
        ),
        Then::Say("HTTP/1.1 200 OK\nContent-Length: 0\n\n"),
    ] {
        let (url, served) = receiver(vec![vec![first], vec![Then::Say(OK)]]);
        let sender = sender();
        assert_eq!(send(&sender, &url).await.error, None);
        assert_eq!(send(&sender, &url).await.error, None, "{first:?}");
        assert_eq!(served.await.unwrap(), [1, 1], "{first:?}");
    }
    for first in [
        OK,
        "HTTP/1.1 204 No Content\r\n\r\n",
        "HTTP/1.1 200 OK\r\nContent-Length: 4\r\n\r\nfine",
        "HTTP/1.1 200 OK\r\nTransfer-Encoding: chunked\r\n\r\n4;a=b\r\nfine\r\n0\r\nX: y\r\n\r\n",
    ] {
        let (url, served) = receiver(vec![vec![Then::Say(first), Then::Say(OK)]]);
        let sender = sender();
        assert_eq!(send(&sender, &url).await.error, None);
        assert_eq!(
            send(&sender, &url).await.timing.connect_ms,
            None,
            "{first:?}: the connection is used again"
        );
        assert_eq!(served.await.unwrap(), [2]);
    }
}

/// A receiver that sends these words and waits for the sender to close the connection; the flag is
/// set then.
fn waiting(words: &'static str) -> (String, Arc<AtomicBool>, Served<()>) {
    let listener = TcpListener::bind("127.0.0.1:0").unwrap();
    let url = format!("http://{}/hook", listener.local_addr().unwrap());
    let closed = Arc::new(AtomicBool::new(false));
    let is_closed = Arc::clone(&closed);
    let served = in_thread(move || {
        let (mut stream, _) = listener.accept().unwrap();
        stream.set_read_timeout(Some(LONG)).unwrap();
        assert!(read_request(&mut stream));
        stream.write_all(words.as_bytes()).unwrap();
        while stream.read(&mut [0; 64]).is_ok_and(|count| count > 0) {}
        is_closed.store(true, Ordering::SeqCst);
    });
    (url, closed, served)
}

#[tokio::test]
async fn an_acceptance_counts_at_its_head_whatever_becomes_of_its_body() {
    for words in [
        "HTTP/1.1 200 OK\r\nContent-Length: 10000\r\n\r\n",
        "HTTP/1.1 202 Accepted\r\nTransfer-Encoding: chunked\r\n\r\n4\r\nfi",
        "HTTP/1.0 200 OK\r\n\r\nfine",
        "HTTP/1.1 200 OK\r\nContent-Length: nonsense\r\n\r\n",
    ] {
        let (url, closed, served) = waiting(words);
        let outcome = send(&sender(), &url).await;
        assert_eq!((outcome.error, outcome.body), (None, Vec::new()), "{words:?}");
        assert!(
            u128::from(outcome.duration_ms) < LONG.as_millis(),
            "{words:?}: not held until the timeout"
        );
        assert!(!closed.load(Ordering::SeqCst), "{words:?}: its rest is still listened to");
        if words.starts_with("HTTP/1.0") {
            // The sender closes the connection in the end.
            served.await.unwrap();
        }
    }
}

#[tokio::test]
async fn of_a_refusal_what_it_says_is_kept_as_far_as_it_comes_soon() {
    let (url, _, served) = waiting("HTTP/1.1 500 X\r\nContent-Length: 10000\r\n\r\nso far");
    let outcome = send(&sender(), &url).await;
    assert_eq!((outcome.status, outcome.body.as_slice()), (Some(500), b"so far".as_slice()));
    assert!(u128::from(outcome.duration_ms) < LONG.as_millis());
    drop(served);
    for (words, kept) in [
        (
            "HTTP/1.1 404 X\r\nTransfer-Encoding: chunked\r\n\r\n3\r\nnot\r\n5\r\n \
             here\r\n0\r\n\r\n",
            "not here",
        ),
        ("HTTP/1.1 404 X\r\nTransfer-Encoding: chunked\r\n\r\n3\r\nnotZZ", "not"),
        ("HTTP/1.0 404 X\r\n\r\nnot here", "not here"),
        ("HTTP/1.1 404 X\r\nContent-Length: 3\r\n\r\nnot here", "not"),
        ("HTTP/1.1 404 X\r\nContent-Length: 300\r\n\r\nnot here", "not here"),
        ("HTTP/1.1 404 X\r\nContent-Length: 3\r\nContent-Length: 300\r\n\r\nnot here", "not here"),
    ] {
        let (url, served) = receiver(vec![vec![Then::SayAndClose(words)]]);
        let outcome = send(&sender(), &url).await;
        assert_eq!(String::from_utf8_lossy(&outcome.body), kept, "{words:?}");
        assert_eq!(outcome.status, Some(404));
        served.await.unwrap();
    }
}

#[tokio::test]
async fn a_refusal_before_the_request_was_read_is_heard() {
    static LARGE: [u8; 8 << 20] = [b'x'; 8 << 20];
    let listener = TcpListener::bind("127.0.0.1:0").unwrap();
    let url = format!("http://{}/hook", listener.local_addr().unwrap());
    let served = in_thread(move || {
        let (mut stream, _) = listener.accept().unwrap();
        assert!(stream.read(&mut [0; 64]).unwrap() > 0);
        stream.write_all(b"HTTP/1.1 413 Too Large\r\nContent-Length: 8\r\n\r\ntoo much").unwrap();
        stream
    });
    let outcome = send_body(&sender(), &url, &LARGE).await;
    assert_eq!((outcome.status, outcome.body.as_slice()), (Some(413), b"too much".as_slice()));
    drop(served.await.unwrap());
}

#[tokio::test]
async fn what_scripts_and_old_servers_put_into_a_head_makes_an_acceptance_no_less_one() {
    for odd in [
        "X-Folded: a\r\n  b\r\n",
        "PHP Warning:  Undefined variable $x in /srv/hook.php on line 3\r\n",
        "X-Foo : bar\r\n",
        "Set-Cookie: a=\u{1}b\r\n",
        "X-Bare: line feed\n",
        "Content-Length: 2\r\nContent-Length: 3\r\n",
    ] {
        let (url, served) =
            odd_receiver(format!("HTTP/1.1 200 OK\r\n{odd}Content-Length: 2\r\n\r\nok"));
        let outcome = send(&sender(), &url).await;
        assert_eq!((outcome.status, &outcome.error), (Some(200), &None), "{odd:?}");
        served.await.unwrap();
    }
    for first in ["HTTP/1.1 200OK", "HTTP/1.1  200 OK", "HTTP/1.1 200 O\u{1}K", "http/1.0 200 OK"] {
        let (url, served) = odd_receiver(format!("{first}\r\n\r\n"));
        assert_eq!(send(&sender(), &url).await.status, Some(200), "{first:?}");
        served.await.unwrap();
    }
}

/// A receiver of a single request that sends these words and closes the connection.
fn odd_receiver(words: String) -> (String, Served<()>) {
    let listener = TcpListener::bind("127.0.0.1:0").unwrap();
    let url = format!("http://{}/hook", listener.local_addr().unwrap());
    let served = in_thread(move || {
        let (mut stream, _) = listener.accept().unwrap();
        stream.set_read_timeout(Some(LONG)).unwrap();
        assert!(read_request(&mut stream));
        stream.write_all(words.as_bytes()).unwrap();
    });
    (url, served)
}

/// Sends over this many connections at a time to a receiver with keep-alive; returns the number of
/// connections still open afterwards.
async fn left_open(at_a_time: usize, idle_connections_per_host: usize) -> usize {
    let egress = EgressRules { allow: vec!["127.0.0.0/8".parse().unwrap()] };
    let config = SenderConfig {
        timeout: LONG,
        idle_connections_per_host,
        ..SenderConfig::for_tests(Arc::new(egress))
    };
    let sender = Sender::new(config).unwrap();
    let listener = TcpListener::bind("127.0.0.1:0").unwrap();
    let url = format!("http://{}/hook", listener.local_addr().unwrap());
    let served = in_thread(move || {
        let mut streams: Vec<_> = (0..at_a_time).map(|_| listener.accept().unwrap().0).collect();
        for stream in &mut streams {
            stream.set_read_timeout(Some(LONG)).unwrap();
            assert!(read_request(stream));
        }
        for stream in &mut streams {
            stream.write_all(OK.as_bytes()).unwrap();
        }
        streams
    });
    let sent = futures_util::future::join_all((0..at_a_time).map(|_| send(&sender, &url))).await;
    assert!(sent.iter().all(|outcome| outcome.error.is_none()), "{sent:?}");
    let streams = served.await.unwrap();
    let is_open = |mut stream: &TcpStream| {
        stream.set_nonblocking(true).unwrap();
        stream.read(&mut [0; 1]).is_err_and(|error| error.kind() == std::io::ErrorKind::WouldBlock)
    };
    streams.iter().filter(|stream| is_open(stream)).count()
}

#[tokio::test]
async fn as_many_connections_are_kept_to_a_place_as_may_be() {
    for (at_a_time, most, left) in [(3, 16, 3), (5, 2, 2), (4, 0, 0)] {
        assert_eq!(left_open(at_a_time, most).await, left, "{at_a_time} at a time, {most} kept");
    }
}
