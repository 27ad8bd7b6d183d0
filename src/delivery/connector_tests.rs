use std::net::TcpListener;

use super::*;

fn address(text: &str) -> SocketAddr {
    text.parse().unwrap()
}

/// An address without a listener.
fn closed() -> SocketAddr {
    TcpListener::bind("127.0.0.1:0").unwrap().local_addr().unwrap()
}

#[test]
fn both_families_have_their_turn_and_the_first_begins() {
    let turns = |addresses: &[&str]| -> Vec<String> {
        let addresses: Vec<_> = addresses.iter().map(|text| address(text)).collect();
        by_turns(&addresses).iter().map(ToString::to_string).collect()
    };
    let v4 = ["1.1.1.1:80", "1.1.1.2:80", "1.1.1.3:80"];
    let v6 = ["[2001:db8::1]:80", "[2001:db8::2]:80"];
    assert_eq!(turns(&[v6[0], v6[1], v4[0], v4[1], v4[2]]), [v6[0], v4[0], v6[1], v4[1], v4[2]]);
    assert_eq!(turns(&[v4[0], v4[1], v4[2], v6[0]]), [v4[0], v6[0], v4[1], v4[2]]);
    assert_eq!(turns(&v4), v4);
    assert_eq!(turns(&[]), Vec::<String>::new());
}

#[tokio::test]
async fn an_address_that_refuses_passes_the_turn_on() {
    let open = TcpListener::bind("127.0.0.1:0").unwrap();
    let open = open.local_addr().unwrap();
    let (connected, _) = first_to_answer(&[closed(), closed(), open]).await.unwrap();
    assert_eq!(connected, open);
    let refused = first_to_answer(&[closed(), closed()]).await.unwrap_err();
    assert_eq!(refused.kind(), io::ErrorKind::ConnectionRefused);
    assert!(first_to_answer(&[]).await.is_err());
}

#[tokio::test]
async fn an_address_that_does_not_answer_does_not_hold_up_the_next() {
    let (full, filling) = full_backlog();
    let open = TcpListener::bind("127.0.0.1:0").unwrap();
    let open = open.local_addr().unwrap();
    let (connected, _) = first_to_answer(&[full.local_addr().unwrap(), open]).await.unwrap();
    assert_eq!(connected, open);
    drop(filling);
}

/// A listener with a full queue, and the connections in the queue.
pub(in crate::delivery) fn full_backlog() -> (TcpListener, Vec<std::net::TcpStream>) {
    let full = TcpListener::bind("127.0.0.1:0").unwrap();
    // A second `listen` makes the queue shorter: one connection fits.
    rustix::net::listen(&full, 0).unwrap();
    let address = full.local_addr().unwrap();
    let wait = Duration::from_millis(200);
    let filling = std::iter::from_fn(|| std::net::TcpStream::connect_timeout(&address, wait).ok())
        .take(64)
        .collect();
    (full, filling)
}
