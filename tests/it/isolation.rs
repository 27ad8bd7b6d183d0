//! Endpoints that must not delay others: endpoints that never answer, and endpoints with strict
//! ordering.

use std::io::Read as _;
use std::net::{TcpListener, TcpStream};
use std::sync::{Arc, Mutex};
use std::time::Duration;

use serde_json::json;
use triggerd::cli::demo::receiver::Receiver;

use crate::harness::{PATIENCE, Process, until};

/// A receiver that accepts connections, reads requests, and never answers.
struct Silence {
    url: String,
    connections: Arc<Mutex<Vec<TcpStream>>>,
}

impl Silence {
    fn start() -> Self {
        let listener = TcpListener::bind("127.0.0.1:0").unwrap();
        let url = format!("http://{}/", listener.local_addr().unwrap());
        let connections: Arc<Mutex<Vec<TcpStream>>> = Arc::default();
        let kept = Arc::clone(&connections);
        std::thread::spawn(move || {
            for mut connection in listener.incoming().map_while(Result::ok) {
                connection.read_exact(&mut [0]).unwrap();
                kept.lock().unwrap().push(connection);
            }
        });
        Self { url, connections }
    }

    fn waits_for(&self, attempts: usize) {
        until(|| (self.connections.lock().unwrap().len() >= attempts).then_some(()));
    }
}

/// Fifty endpoints that never answer take as many attempts as they can; then another organization's
/// event is sent. Returns true if this event arrived within `patience`.
fn arrives_beside_fifty_silent_endpoints(
    limits: &str,
    in_flight: usize,
    patience: Duration,
) -> bool {
    let dir = tempfile::tempdir().unwrap();
    let config = format!("[delivery]\ntimeout_ms = 300000\n{limits}");
    let server = Process::start_with(&dir.path().join("data"), &config);
    let (slow, other, silence) = (server.org("Slow"), server.org("Other"), Silence::start());
    for _ in 0..50 {
        assert_eq!(slow.post("/api/endpoints", &json!({ "url": silence.url })).status, 201);
    }
    let receiver = Receiver::start().unwrap();
    other.push_to(&receiver.url());
    for number in 0..40 {
        assert_eq!(slow.send("a.b", &json!(number)).status, 202);
    }
    silence.waits_for(in_flight);
    other.send("a.b", &json!("quick"));
    let arrived = receiver.wait_for(1, patience).len() == 1;
    assert_eq!(
        silence.connections.lock().unwrap().len(),
        in_flight,
        "and not one more of the silent ones"
    );
    receiver.stop();
    server.kill();
    arrived
}

#[test]
fn fifty_endpoints_that_never_answer_cost_another_organization_nothing() {
    assert!(arrives_beside_fifty_silent_endpoints("", 64, PATIENCE));
}

#[test]
fn without_a_share_for_each_organization_they_would_hold_up_everybody() {
    // Seven attempts have no eighth to keep.
    let limits = "max_in_flight = 7\nmax_in_flight_per_org = 7\nmax_in_flight_per_endpoint = 7\n";
    assert!(!arrives_beside_fifty_silent_endpoints(limits, 7, Duration::from_millis(300)));
}

#[test]
fn an_organization_that_may_have_all_attempts_leaves_the_last_eighth() {
    let limits = "max_in_flight = 64\nmax_in_flight_per_org = 64\n";
    assert!(arrives_beside_fifty_silent_endpoints(limits, 56, PATIENCE));
}

#[test]
fn events_arrive_in_order_where_that_is_asked_for_also_after_failures_and_a_kill() {
    let dir = tempfile::tempdir().unwrap();
    let data = dir.path().join("data");
    let server = Process::start(&data);
    let (org, receiver) = (server.org("Acme"), Receiver::start().unwrap());
    let settings =
        json!({"url": receiver.url(), "ordering": "strict", "retry_schedule": [1, 1, 1, 1, 1, 1]});
    assert_eq!(org.post("/api/endpoints", &settings).status, 201);
    receiver.answer_next([500, 200, 200, 500]);
    let ids: Vec<String> = (0..20).map(|number| org.send("a.b", &json!(number)).id()).collect();
    receiver.wait_for(4, PATIENCE);
    server.kill();
    let server = Process::start(&data);
    let mut arrived = until(|| {
        let arrived: Vec<String> =
            receiver.received().into_iter().map(|request| request.id).collect();
        (arrived.last() == ids.last()).then_some(arrived)
    });
    // Failed attempts were repeated, and so were attempts not settled before the kill.
    arrived.dedup();
    assert_eq!(arrived, ids);
    receiver.stop();
    assert_eq!(server.stop().0, Some(0));
}
