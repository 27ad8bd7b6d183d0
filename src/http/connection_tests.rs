//! What is passed on of what arrives, in which state.

use super::*;

/// What is passed on of these bytes, again and again, until nothing more is.
fn passed(shared: &Shared, text: &str) -> Vec<String> {
    let (mut rest, mut portions) = (text, Vec::new());
    while !rest.is_empty() && shared.passes_on() {
        let (portion, behind) = rest.split_at(shared.portion(rest.as_bytes()));
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
    let shared = Shared::new(Instant::now());
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
    let shared = Shared::new(Instant::now());
    assert_eq!(passed(&shared, "GET / HTTP/1.1\r\n\r\nGET / HTTP/1.1\r\n\r\n"), ["GET / HTTP/1.1\r\n\r\n"]);
    shared.begin(Phase::Answer);
    assert!(!shared.passes_on());
    shared.end();
    assert!(shared.passes_on() && shared.head_began.get().is_none());
    // A part of it that came along is a head that began.
    assert_eq!(passed(&shared, "GET / HTTP/1.1\n\nGET"), ["GET / HTTP/1.1\n\nGET"]);
    shared.begin(Phase::Answer);
    shared.end();
    assert!(shared.head_began.get().is_some());
}

#[test]
fn ends_of_heads_are_found_in_any_pieces() {
    for text in ["GET / HTTP/1.1\r\nA: b\r\n\r\n", "GET / HTTP/1.1\nA: b\n\n", "GET / HTTP/1.1\r\nA: b\r\n\n"] {
        for cut in 0..text.len() {
            let mut lines = Lines::default();
            let (first, second) = text.as_bytes().split_at(cut);
            assert_eq!(lines.blank_line(first), None, "{text:?} at {cut}");
            assert_eq!(lines.blank_line(second), Some(second.len()), "{text:?} at {cut}");
        }
    }
}

#[test]
fn a_request_that_is_asked_to_leave_is_the_last_one_of_its_connection() {
    let shared = Rc::new(Shared::new(Instant::now()));
    let handle = Handle(Rc::clone(&shared));
    let in_hand = handle.begin(&HeaderMap::new());
    shared.ask_to_leave();
    assert!(handle.is_leaving() && shared.fate.get() == Fate::Open);
    drop(in_hand);
    assert_eq!(shared.fate.get(), Fate::Closing);
}
