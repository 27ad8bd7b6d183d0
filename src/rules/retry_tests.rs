use proptest::prelude::*;

use super::*;
use crate::model::delivery::{AttemptError, ErrorCode};

const NOW: Timestamp = Timestamp(1_769_853_600_000);

fn failed(status: Option<u16>, retry_after_ms: Option<u64>) -> AttemptOutcome {
    let code = if status.is_some() { ErrorCode::HttpStatus } else { ErrorCode::Timeout };
    AttemptOutcome {
        status,
        error: Some(AttemptError { code, detail: "failed".to_owned() }),
        retry_after_ms,
        ..AttemptOutcome::new(NOW, 1)
    }
}

fn wait_ms(verdict: Verdict) -> u64 {
    match verdict {
        Verdict::RetryAt(at) => at.0 - NOW.0,
        Verdict::Delivered | Verdict::Dead(_) => panic!("not a retry: {verdict:?}"),
    }
}

fn policy() -> RetryPolicy {
    RetryPolicy { schedule_ms: vec![5_000, 300_000, 1_800_000], jitter_share: 0.2 }
}

#[test]
fn each_failure_waits_by_the_schedule_and_the_attempt_after_the_last_wait_is_the_last() {
    let policy = policy();
    let after = |attempt| verdict(&policy, attempt, &failed(None, None), NOW, 0.5);
    assert_eq!([1, 2, 3].map(|attempt| wait_ms(after(attempt))), [5_000, 300_000, 1_800_000]);
    assert_eq!(policy.attempts(), 4);
    assert_eq!(after(4), Verdict::Dead(DeadReason::AttemptsExhausted));
}

#[test]
fn jitter_reaches_from_twenty_percent_less_to_twenty_percent_more() {
    let policy = policy();
    let first = |jitter| wait_ms(verdict(&policy, 1, &failed(Some(500), None), NOW, jitter));
    assert_eq!((first(0.0), first(0.25), first(0.5), first(1.0)), (4_000, 4_500, 5_000, 6_000));
    assert_eq!(
        (first(-3.0), first(7.0), first(f64::NAN)),
        (4_000, 6_000, 5_000),
        "nonsense stays within"
    );
}

#[test]
fn accepted_is_delivered_and_410_is_given_up_at_once() {
    let accepted = AttemptOutcome { error: None, ..failed(Some(204), None) };
    assert_eq!(verdict(&policy(), 1, &accepted, NOW, 0.5), Verdict::Delivered);
    assert_eq!(verdict(&policy(), 99, &accepted, NOW, 0.5), Verdict::Delivered);
    let gone = failed(Some(410), Some(5_000));
    assert_eq!(verdict(&policy(), 1, &gone, NOW, 0.5), Verdict::Dead(DeadReason::Gone));
}

#[test]
fn retry_after_lengthens_the_wait_for_429_and_503_up_to_a_day() {
    let policy = policy();
    let wait =
        |status, asked| wait_ms(verdict(&policy, 1, &failed(Some(status), Some(asked)), NOW, 0.5));
    for status in [429, 503] {
        assert_eq!(wait(status, 60_000), 60_000);
        assert_eq!(wait(status, 1_000), 5_000, "it never shortens the wait");
        assert_eq!(wait(status, u64::MAX), 24 * 3_600_000);
    }
    for status in [302, 400, 404, 500, 502, 504] {
        assert_eq!(wait(status, 60_000), 5_000, "{status} is not heard");
    }
}

proptest! {
    #[test]
    fn every_wait_is_within_its_jitter_unless_lengthened(
        schedule_ms in proptest::collection::vec(0u64..1_000_000_000, 1..12),
        number in 1u32..12,
        jitter in 0.0f64..1.0,
        status in prop_oneof![Just(None), (100u16..600).prop_map(Some)],
        asked in prop_oneof![Just(None), any::<u64>().prop_map(Some),
        (0u64..100_000_000).prop_map(Some)],
    ) {
        let policy = RetryPolicy { schedule_ms: schedule_ms.clone(), jitter_share: 0.2 };
        let outcome = failed(status, asked);
        let given = verdict(&policy, number, &outcome, NOW, jitter);
        prop_assert_eq!(given, verdict(&policy, number, &outcome, NOW, jitter), "the same \
            question, the same answer");
        match given {
            Verdict::RetryAt(at) => {
                let wait = at.0 - NOW.0;
                let planned = schedule_ms[number as usize - 1];
                let heard = matches!(status, Some(429 | 503));
                prop_assert!(wait + 1 >= planned * 4 / 5);
                if wait > planned * 6 / 5 + 1 {
                    prop_assert!(heard && wait == asked.unwrap().min(RETRY_AFTER_MS_MAX));
                }
            }
            Verdict::Dead(DeadReason::Gone) => prop_assert_eq!(status, Some(410)),
            Verdict::Dead(_) => prop_assert!(number as usize > schedule_ms.len()),
            Verdict::Delivered => prop_assert!(false, "it failed"),
        }
    }

    #[test]
    fn retries_always_end(
        schedule_ms in proptest::collection::vec(any::<u64>(), 0..20),
        jitter in any::<f64>(),
        share in any::<f64>(),
    ) {
        let policy = RetryPolicy { schedule_ms, jitter_share: share };
        let (mut now, mut number) = (NOW, 1);
        while let Verdict::RetryAt(at) = verdict(&policy, number, &failed(Some(503),
        Some(u64::MAX)), now, jitter) {
            prop_assert!(at >= now);
            now = at;
            number += 1;
            prop_assert!(number as usize <= policy.attempts());
        }
        prop_assert_eq!(number as usize, policy.attempts());
    }
}
