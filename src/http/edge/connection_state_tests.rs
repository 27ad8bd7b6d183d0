//! Tests of the bytes that each phase passes on.

use super::*;

/// Passes bytes on, again and again, until nothing more is wanted. Returns the parts.
fn passed(shared: &Shared, text: &str) -> Vec<String> {
    let (mut rest, mut portions) = (text, Vec::new());
    while !rest.is_empty() && shared.passes_on() {
        let portion = shared.portion(rest.as_bytes()).bytes;
        if portion == 0 {
            break;
        }
        let (portion, behind) = rest.split_at(portion);
        portions.push(portion.to_owned());
        rest = behind;
        if shared.gate.take() && shared.phase.get() == Phase::Head {
            break;
        }
    }
    portions
}

const HEAD: &str = "POST / HTTP/1.1\r\nContent-Length: 4\r\n\r\n";

#[test]
fn a_body_comes_with_its_head_and_what_is_behind_it_waits() {
    let shared = Shared::new(Instant::now(), Rc::default(), None);
    assert_eq!(passed(&shared, &format!("{HEAD}ab")), [format!("{HEAD}ab")]);
    shared.begin(Phase::Body(4));
    assert_eq!(shared.phase.get(), Phase::Body(2));
    assert_eq!(passed(&shared, "cdGET"), ["cd"]);
    assert_eq!(shared.phase.get(), Phase::Answer);
    assert!(!shared.passes_on());
    shared.end();
    assert_eq!(passed(&shared, "GET"), ["GET"]);
    assert!(shared.head_began.get().is_some());
}

#[test]
fn a_second_head_waits_for_the_answer_to_the_first_one() {
    let shared = Shared::new(Instant::now(), Rc::default(), None);
    assert_eq!(
        passed(&shared, "GET / HTTP/1.1\r\n\r\nGET / HTTP/1.1\r\n\r\n"),
        ["GET / HTTP/1.1\r\n\r\n"]
    );
    shared.begin(Phase::Answer);
    assert!(!shared.passes_on());
    shared.end();
    assert!(shared.passes_on() && shared.head_began.get().is_none());
    // A part of the next head came along: the part waits too, and its head has begun.
    assert_eq!(passed(&shared, "GET / HTTP/1.1\n\nGET"), ["GET / HTTP/1.1\n\n"]);
    shared.begin(Phase::Answer);
    shared.held.borrow_mut().extend_from_slice(b"GET");
    shared.end();
    assert!(shared.head_began.get().is_some());
}

#[test]
fn nothing_is_passed_on_behind_a_body_in_chunks_or_behind_what_is_none() {
    let chunked = || {
        let shared = Shared::new(Instant::now(), Rc::default(), None);
        passed(&shared, "POST / HTTP/1.1\r\n\r\n");
        shared.begin(Phase::Chunked);
        shared
    };
    let shared = chunked();
    assert_eq!(passed(&shared, "2\r\n\n\n\r\n0\r\n\r\n{}"), ["2\r\n\n\n\r\n0\r\n\r\n"]);
    assert_eq!(shared.phase.get(), Phase::Answer);
    // Empty lines in the body are ordinary data and do not split the body.
    let body = format!("400000\r\n{}\r\n0\r\n\r\n", "\n".repeat(4 << 20));
    assert!(passed(&chunked(), &body) == [body]);
    let shared = chunked();
    assert_eq!(shared.portion(b"2\r\nabc"), Portion::of(5));
    assert!(shared.is_malformed.get() && shared.outlook.get() == Outlook::Closing);
}

#[test]
fn an_old_post_without_a_length_is_given_one_before_its_blank_line_also_in_pieces() {
    let head = "POST / HTTP/1.0\r\nA: b\r\n\r\n";
    for cut in 1..head.len() {
        let shared = Shared::new(Instant::now(), Rc::default(), None);
        let first = shared.portion(&head.as_bytes()[..cut]);
        assert_eq!(
            (first.bytes, first.amend_at),
            (cut - usize::from(cut == head.len() - 1), None),
            "{cut}"
        );
        let rest = &head.as_bytes()[first.bytes..];
        let blank_line = head.len() - 2 - first.bytes;
        assert_eq!(
            shared.portion(rest),
            Portion { bytes: rest.len(), amend_at: Some(blank_line) },
            "{cut}"
        );
    }
}

#[test]
fn a_request_that_is_asked_to_leave_is_the_last_one_of_its_connection() {
    let shared = Shared::new(Instant::now(), Rc::default(), None);
    shared.begin(Phase::Answer);
    shared.ask_to_leave(Instant::now());
    assert!(shared.leaving.get() && shared.outlook.get() == Outlook::Open);
    shared.end();
    assert_eq!(shared.outlook.get(), Outlook::Closing);
}

#[test]
fn what_is_left_of_a_body_that_nobody_wanted_is_no_head() {
    let shared = Shared::new(Instant::now(), Rc::default(), None);
    passed(&shared, HEAD);
    shared.begin(Phase::Body(1 << 20));
    shared.end();
    assert!(shared.is_cut_short());
    let rest = "x\r\n\r\n".repeat(100 << 10);
    assert_eq!(passed(&shared, &rest), [rest]);
    assert_eq!((shared.phase.get(), shared.outlook.get()), (Phase::Rest, Outlook::Open));
}

#[test]
fn heads_are_bounded_each_and_together() {
    let pressure: Rc<Pressure> = Rc::default();
    let arriving = || Shared::new(Instant::now(), Rc::clone(&pressure), None);
    let piece = "x".repeat(16 << 10);
    let one = arriving();
    for _ in 0..4 {
        assert_eq!(one.outlook.get(), Outlook::Open);
        passed(&one, &piece);
    }
    assert_eq!(one.outlook.get(), Outlook::Open);
    passed(&one, "x");
    assert_eq!(one.outlook.get(), Outlook::Refused(Code::HeadTooLarge));
    drop(one);
    assert_eq!(pressure.heads_bytes.get(), 0);
    let many: Vec<_> = std::iter::repeat_with(arriving).take(3_000).collect();
    for one in &many {
        passed(one, &piece);
    }
    assert!(pressure.heads_bytes.get() < HEADS_BYTES_MAX + many.len() * piece.len());
    let refused =
        many.iter().filter(|one| one.outlook.get() == Outlook::Refused(Code::Overloaded)).count();
    assert!((900..1_000).contains(&refused), "{refused}");
    // A small head goes on, and a finished head gives its bytes back.
    let small = arriving();
    passed(&small, "GET / HTTP/1.1\r\n\r\n");
    assert_eq!(small.outlook.get(), Outlook::Open);
    for one in &many {
        one.begin(Phase::Answer);
    }
    assert_eq!(pressure.heads_bytes.get(), 0);
}

#[test]
fn a_peer_that_sends_ahead_gets_its_last_answer_when_connections_run_out() {
    let pressure: Rc<Pressure> = Rc::default();
    let whole = "GET / HTTP/1.1\r\n\r\n";
    for (is_crowded, ahead, leaves) in
        [(false, whole, false), (true, "", false), (true, "GET", false), (true, whole, true)]
    {
        pressure.is_crowded.set(is_crowded);
        let shared = Shared::new(Instant::now(), Rc::clone(&pressure), None);
        passed(&shared, whole);
        shared.begin(Phase::Answer);
        shared.held.borrow_mut().extend_from_slice(ahead.as_bytes());
        shared.leave_if_crowded();
        shared.end();
        assert_eq!(shared.outlook.get() == Outlook::Closing, leaves, "{is_crowded}, {ahead:?}");
    }
}
