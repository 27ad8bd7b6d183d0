//! Tests of known dedup ids and of their expiry.

use super::*;

#[test]
fn the_same_dedup_id_is_the_first_event_within_the_window_and_a_new_one_after_it() {
    let mut state = Fixture::new();
    state.apply(&create_org(InboxMode::Auto, 100));
    let first = Applied::SubmitEvent(SubmitOutcome::Accepted {
        id: EventId(1),
        received_at: Timestamp(5_000),
    });
    assert_eq!(state.apply(&submit(1, 5_000, Some(("a", 1)))), first);
    let duplicate = Applied::SubmitEvent(SubmitOutcome::Duplicate {
        id: EventId(1),
        received_at: Timestamp(5_000),
    });
    assert_eq!(state.apply(&submit(2, 5_500, Some(("a", 1)))), duplicate);
    assert_eq!(
        state.apply(&submit(3, 6_000, Some(("a", 2)))),
        Applied::SubmitEvent(SubmitOutcome::Mismatch { id: EventId(1) })
    );
    let after = Applied::SubmitEvent(SubmitOutcome::Accepted {
        id: EventId(4),
        received_at: Timestamp(6_001),
    });
    assert_eq!(state.apply(&submit(4, 6_001, Some(("a", 2)))), after, "the window has passed");
    assert_eq!(state.inbox(ORG).len(), 2);
    let before = Timestamp(6_002);
    state.apply(&Command::ExpireDedup(ExpireDedup { before }));
    let forgotten = Applied::SubmitEvent(SubmitOutcome::Accepted {
        id: EventId(5),
        received_at: Timestamp(6_003),
    });
    assert_eq!(state.apply(&submit(5, 6_003, Some(("a", 9)))), forgotten);
}

const IDS: u128 = 400;

/// An event whose dedup id is its number, which is always in the window.
fn numbered(n: u128, at: u64) -> Box<SubmitEvent> {
    let Command::SubmitEvent(mut submit) = submit(n, at, Some((&format!("{n:03}"), 1))) else {
        unreachable!()
    };
    submit.event.dedup.as_mut().unwrap().window_start = Timestamp(0);
    submit
}

/// Returns true for each dedup id that is known; checks that it is known as its first event.
fn known(state: &Fixture) -> Vec<bool> {
    let submits: Vec<_> = (0..IDS).map(|n| numbered(n + 1, 9_000)).collect();
    let events = submits.iter().map(|submit| Some((submit.by, submit.event.dedup.as_ref()?)));
    let outcomes = state.store.known_duplicates(events, Timestamp(0)).unwrap();
    for (n, outcome) in outcomes.iter().enumerate() {
        let (id, received_at) = (EventId(n as u128 + 1), Timestamp(n as u64));
        let first = Earlier { id, received_at, is_same: true };
        assert!(outcome.as_ref().is_none_or(|outcome| *outcome == first), "{outcome:?}");
    }
    outcomes.iter().map(Option::is_some).collect()
}

#[test]
fn dedup_ids_are_known_over_many_blocks_and_a_reopening_until_their_block_is_old() {
    let mut state = Fixture::new();
    state.apply(&create_org(InboxMode::Auto, 1_000));
    for n in 0..IDS {
        state.apply(&Command::SubmitEvent(numbered(n + 1, u64::try_from(n).unwrap())));
    }
    assert_eq!(known(&state), vec![true; 400]);
    state.reopen();
    assert_eq!(known(&state), vec![true; 400], "the index is computed again");
    assert!(!state.store.has_expired_dedup(Timestamp(127)).unwrap());
    assert!(state.store.has_expired_dedup(Timestamp(128)).unwrap());
    // The third block has entries within the window, so it stays.
    state.apply(&Command::ExpireDedup(ExpireDedup { before: Timestamp(300) }));
    let remembered: Vec<bool> = (0..IDS).map(|n| n >= 256).collect();
    assert_eq!(known(&state), remembered);
    state.apply(&Command::ExpireDedup(ExpireDedup { before: Timestamp(400) }));
    assert_eq!(known(&state), vec![false; 400]);
    let again = Applied::SubmitEvent(SubmitOutcome::Accepted {
        id: EventId(401),
        received_at: Timestamp(500),
    });
    let mut submit = numbered(1, 500);
    submit.id = EventId(401);
    assert_eq!(state.apply(&Command::SubmitEvent(submit)), again);
}
