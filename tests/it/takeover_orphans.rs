//! Bytes in connections that the server has closed: the kernel would keep them for minutes, and no
//! limit would count them.

use std::fs;
use std::net::TcpListener;
use std::time::Duration;

use rustix::net::sockopt::set_socket_recv_buffer_size;
use serde_json::json;

use super::{fill, server, unread};
use crate::harness::{Process, until};
use crate::raw::{Raw, get};

/// The state ESTABLISHED in the kernel's table.
const OPEN: &str = "01";
/// The state FIN-WAIT-1: closed, with bytes to send.
const CLOSED_WITH_BYTES: &str = "04";

/// The end of a connection with the port that is asked for, as its column of the kernel's table.
const LOCAL: usize = 1;
const REMOTE: usize = 2;

/// The number of sockets of the server's port in this state, and the bytes that they have to send.
fn waiting(server: &Process, state: &str) -> (usize, usize) {
    let port: u16 = server.url.rsplit_once(':').unwrap().1.parse().unwrap();
    sockets_of((LOCAL, port), state)
}

/// The same for the sockets with this port at this end.
fn sockets_of((end, port): (usize, u16), state: &str) -> (usize, usize) {
    let table = fs::read_to_string("/proc/net/tcp").unwrap();
    let waiting = table.lines().skip(1).filter_map(|line| {
        let fields: Vec<&str> = line.split_whitespace().collect();
        let is_ours = fields[end].ends_with(&format!(":{port:04X}")) && fields[3] == state;
        let (unsent, _) = fields[4].split_once(':').unwrap();
        is_ours.then(|| usize::from_str_radix(unsent, 16).unwrap())
    });
    waiting.fold((0, 0), |(count, bytes), unsent| (count + 1, bytes + unsent))
}

#[test]
fn a_connection_that_is_given_up_leaves_no_bytes_behind() {
    let more = "workers = 1\nmax_connections = 40\nwrite_timeout_seconds = 1\n\
                keep_alive_seconds = 1";
    let (server, _dir) = server(more);
    let last = "Connection: close\r\n";
    for (path, header) in [
        ("/docs/api", ""),
        ("/docs/api", last),
        ("/docs/performance", ""),
        ("/docs/performance", last),
    ] {
        // Some make room for others, and the last ones are given up after their time.
        let request = format!("GET {path} HTTP/1.1\r\nHost: x\r\n{header}\r\n");
        let kept = unread(&server, 120, &request);
        until(|| kept.iter().all(Raw::is_answered).then_some(()));
        until(|| (waiting(&server, OPEN).0 == 0).then_some(()));
        let left = waiting(&server, CLOSED_WITH_BYTES);
        assert_eq!(left, (0, 0), "{path} {header}");
        drop(kept);
    }
}

#[test]
fn the_kernel_buffers_little_of_an_answer_that_is_not_read() {
    let (server, _dir) = server("workers = 1");
    let org = server.org("Acme");
    fill(&org, 4, 250_000);
    let kept = unread(&server, 20, &get("/api/inbox?limit=500", &org.key));
    until(|| kept.iter().all(Raw::is_answered).then_some(()));
    let bytes = until(|| {
        let before = waiting(&server, OPEN);
        std::thread::park_timeout(Duration::from_millis(100));
        let after = waiting(&server, OPEN);
        (before == after && after.0 >= kept.len()).then_some(after.1)
    });
    assert!(bytes > 0 && bytes < kept.len() * (96 << 10), "{bytes} bytes");
    // Who reads it gets it whole.
    assert!(org.get("/api/inbox?limit=500").text.len() > 1_000_000);
}

#[test]
fn a_request_that_its_receiver_does_not_read_leaves_no_bytes_behind() {
    let listener = TcpListener::bind("127.0.0.1:0").unwrap();
    // The accepted connections inherit it.
    set_socket_recv_buffer_size(&listener, 4 << 10).unwrap();
    let address = listener.local_addr().unwrap();
    let (server, _dir) = server("");
    let org = server.org("Acme");
    let url = format!("http://{address}/");
    org.endpoint(&json!({"url": url, "timeout_ms": 1_000, "retry_schedule": []}));
    fill(&org, 1, 250_000);
    let (kept, _) = listener.accept().unwrap();
    until(|| {
        let dead = org.get("/api/dead-letters").json["data"].as_array().unwrap().len();
        (dead == 1).then_some(())
    });
    let end = (REMOTE, address.port());
    until(|| (sockets_of(end, OPEN).0 == 0).then_some(()));
    assert_eq!(sockets_of(end, CLOSED_WITH_BYTES), (0, 0));
    drop(kept);
}
