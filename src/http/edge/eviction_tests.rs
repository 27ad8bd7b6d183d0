//! Tests of the order in which connections make room.

use std::rc::Rc;

use super::*;

const LONG_IDLE: Duration = Duration::from_secs(5);
const ONE: &str = "192.0.2.1";
const OTHER: &str = "192.0.2.2";

fn connection(holder: Option<&str>) -> Shared {
    Shared::new(Instant::now(), Rc::default(), holder.map(|holder| holder.parse().unwrap()))
}

fn after(milliseconds: u64) -> Moment {
    let now = Instant::now() + Duration::from_millis(milliseconds);
    Moment { now, lag: Duration::ZERO, long_idle: LONG_IDLE }
}

/// A connection whose peer sends nothing: no request, a part of a head, or no body.
fn silent(phase: Phase) -> Shared {
    let shared = connection(None);
    if phase != Phase::Head {
        shared.begin(phase);
    }
    shared.waits_for_peer();
    shared
}

/// A connection whose peer does not take its answer.
fn unread() -> Shared {
    let shared = connection(None);
    shared.begin(Phase::Answer);
    shared.measure_stall_from(Instant::now());
    shared.is_stalled.set(true);
    shared.waits_for_peer();
    shared
}

fn waiting() -> Shared {
    let shared = connection(None);
    shared.begin(Phase::Answer);
    shared.waits.set(true);
    shared
}

/// Returns the rank after so many milliseconds.
fn rank_after(shared: &Shared, milliseconds: u64) -> Option<Rank> {
    Holders::new(10).sort_key(shared, None, &after(milliseconds)).map(|(_, rank, _)| rank)
}

#[test]
fn whoever_keeps_the_server_waiting_can_make_room_soon_and_nobody_else() {
    let rest = silent(Phase::Body(10));
    rest.end();
    let idle = silent(Phase::Answer);
    idle.end();
    let cases = [
        (silent(Phase::Head), Some(Rank::WithoutRequest)),
        (idle, Some(Rank::WithoutRequest)),
        (rest, Some(Rank::Answered)),
        (silent(Phase::Body(100)), Some(Rank::SlowBody)),
        (silent(Phase::Chunked), Some(Rank::SlowBody)),
        (unread(), Some(Rank::UntakenAnswer)),
        // A request under work, and a connection that the server has not looked at yet.
        (silent(Phase::Answer), None),
        (connection(None), None),
    ];
    for (shared, rank) in &cases {
        assert_eq!(rank_after(shared, 0), None, "{rank:?} is spared at first");
        assert_eq!(rank_after(shared, 600), *rank);
        shared.leaving.set(true);
        assert_eq!(rank_after(shared, 600), None, "{rank:?} is leaving already");
    }
    assert_eq!(rank_after(&waiting(), 0), Some(Rank::Waits));
    let moment = Moment { lag: Duration::from_secs(1), ..after(600) };
    let late = Holders::new(10).sort_key(&cases[3].0, None, &moment);
    assert_eq!(late, None, "a worker that runs late waits for longer");
}

#[test]
fn progress_saves_a_body_and_a_reader_and_a_few_bytes_do_not() {
    for shared in [silent(Phase::Body(1 << 20)), silent(Phase::Chunked), unread()] {
        shared.moved(1_000);
        assert!(rank_after(&shared, 600).is_some(), "{:?}", shared.phase.get());
        shared.moved(4_000);
        assert_eq!(rank_after(&shared, 600), None, "{:?}", shared.phase.get());
        // The next wait counts from its own beginning.
        shared.waits_for_peer();
        assert_eq!(rank_after(&shared, 100), None, "{:?}", shared.phase.get());
        assert!(rank_after(&shared, 600).is_some(), "{:?}", shared.phase.get());
    }
    // While the server itself does not want any bytes, nothing counts against the peer.
    let shared = connection(None);
    shared.begin(Phase::Body(1 << 20));
    assert_eq!(rank_after(&shared, 60_000), None);
}

#[test]
fn a_body_that_has_arrived_is_not_slow_while_the_server_works() {
    let shared = silent(Phase::Body(100));
    assert_eq!(shared.portion(&[b'x'; 100]).bytes, 100);
    assert_eq!((shared.phase.get(), rank_after(&shared, 60_000)), (Phase::Answer, None));
}

#[test]
fn a_head_that_is_complete_is_not_vacant_before_its_request_begins() {
    let shared = silent(Phase::Head);
    shared.portion(b"GET / HTTP/1.1\r\n");
    assert_eq!(rank_after(&shared, 300), Some(Rank::WithoutRequest));
    shared.portion(b"\r\n");
    assert_eq!(rank_after(&shared, 60_000), None);
}

#[test]
fn who_holds_most_connections_loses_them_first_and_sooner() {
    let mut holders = Holders::new(100);
    let (crowd, other) = (connection(Some(ONE)), connection(Some(OTHER)));
    for shared in [&crowd, &other] {
        shared.waits_for_peer();
    }
    for _ in 0..60 {
        holders.came(crowd.holder);
    }
    holders.came(other.holder);
    let place = |shared: &Shared, milliseconds| {
        holders.sort_key(shared, other.holder, &after(milliseconds))
    };
    assert!(place(&crowd, 150).is_some() && place(&other, 150).is_none());
    assert!(place(&crowd, 300) < place(&other, 300), "although the other one is idle too");
    let by_crowd = |milliseconds| holders.sort_key(&other, crowd.holder, &after(milliseconds));
    assert_eq!(by_crowd(300), None, "the crowd pushes out nobody else");
    assert!(by_crowd(6_000).is_some(), "unless nothing came for long");
    let waits = connection(Some(ONE));
    waits.begin(Phase::Answer);
    waits.waits.set(true);
    assert!(place(&waits, 300) < place(&other, 300), "whatever the crowd does");
    // A trusted proxy has no holder.
    let proxied = connection(None);
    proxied.waits_for_peer();
    assert!(place(&proxied, 150).is_none() && place(&crowd, 300) < place(&proxied, 300));
    for _ in 0..60 {
        holders.gone(crowd.holder);
    }
    let weight = holders.sort_key(&crowd, None, &after(300)).map(|(weight, ..)| weight);
    assert_eq!((weight, holders.connections.len()), (Some(Reverse(0)), 1));
}

#[test]
fn one_network_of_ipv6_is_one_holder() {
    let holder = |text: &str| holder_of(text.parse().unwrap()).to_string();
    assert_eq!(holder("2001:db8:1:2:3:4:5:6"), "2001:db8:1:2::");
    assert_eq!(holder("::ffff:192.0.2.1"), "192.0.2.1");
    assert_eq!(holder("192.0.2.1"), "192.0.2.1");
}
