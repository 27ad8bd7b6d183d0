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

#[test]
fn dedup_ids_are_known_over_many_blocks_and_a_reopening_until_their_block_is_old() {
    const IDS: u128 = 400;
    let mut state = Fixture::new();
    state.apply(&create_org(InboxMode::Auto, 1_000));
    let of = |n: u128, at: u64| {
        let Command::SubmitEvent(mut submit) = submit(n, at, Some((&format!("{n:03}"), 1))) else {
            unreachable!()
        };
        submit.event.dedup.as_mut().unwrap().window_start = Timestamp(0);
        Command::SubmitEvent(submit)
    };
    for n in 0..IDS {
        state.apply(&of(n + 1, u64::try_from(n).unwrap()));
    }
    let known = |state: &mut Fixture| -> Vec<bool> {
        let submits: Vec<_> = (0..IDS).map(|n| of(n + 1, 9_000)).collect();
        let events = submits.iter().map(|command| match command {
            Command::SubmitEvent(submit) => Some((submit.by, submit.event.dedup.as_ref()?)),
            _ => None,
        });
        let outcomes = state.store.known_duplicates(events, Timestamp(0)).unwrap();
        for (n, outcome) in
            outcomes.iter().enumerate().filter_map(|(n, outcome)| Some((n, outcome.as_ref()?)))
        {
            let received_at = Timestamp(n as u64);
            assert_eq!(
                *outcome,
                Earlier { id: EventId(n as u128 + 1), received_at, is_same: true }
            );
        }
        outcomes.iter().map(Option::is_some).collect()
    };
    assert_eq!(known(&mut state), vec![true; 400]);
    state.reopen();
    assert_eq!(known(&mut state), vec![true; 400], "the index is computed again");
    assert!(!state.store.has_expired_dedup(Timestamp(127)).unwrap());
    assert!(state.store.has_expired_dedup(Timestamp(128)).unwrap());
    // The third block has entries within the window, so it stays.
    state.apply(&Command::ExpireDedup(ExpireDedup { before: Timestamp(300) }));
    let remembered: Vec<bool> = (0..IDS).map(|n| n >= 256).collect();
    assert_eq!(known(&mut state), remembered);
    state.apply(&Command::ExpireDedup(ExpireDedup { before: Timestamp(400) }));
    assert_eq!(known(&mut state), vec![false; 400]);
    let again = Applied::SubmitEvent(SubmitOutcome::Accepted {
        id: EventId(401),
        received_at: Timestamp(500),
    });
    let Command::SubmitEvent(mut submit) = of(1, 500) else { unreachable!() };
    submit.id = EventId(401);
    assert_eq!(state.apply(&Command::SubmitEvent(submit)), again);
}
