use proptest::prelude::*;

use super::*;
use crate::model::delivery::{AttemptError, ErrorCode};

const MOST: usize = 16;
/// Five failures in a row, or half of the last forty; pauses of 5 s to 5 minutes.
const POLICY: BreakerPolicy = BreakerPolicy {
    failures_in_a_row: 5,
    window: 40,
    failure_share: 0.5,
    pause_ms: 5_000,
    pause_ms_max: 300_000,
};
/// The jitter that leaves a pause unchanged.
const MIDDLE: f64 = 0.5;

fn at(ms: u64) -> Timestamp {
    Timestamp(1_000_000 + ms)
}

fn terms() -> Terms {
    Terms { policy: POLICY, in_flight_max: MOST }
}

/// Terms by which only the failure rate opens the breaker.
fn by_share(window: u32, failure_share: f64) -> Terms {
    let policy = BreakerPolicy { failures_in_a_row: u32::MAX, window, failure_share, ..POLICY };
    Terms { policy, in_flight_max: MOST }
}

fn moment(now: Timestamp, jitter: f64) -> Moment {
    Moment { now, jitter }
}

fn open(breaker: &mut Breaker) {
    for _ in 0..5 {
        breaker.learn(Answer::Failed, false, terms(), moment(at(0), MIDDLE));
    }
}

#[test]
fn five_failures_in_a_row_open_it_and_one_success_between_them_does_not() {
    let mut breaker = Breaker::default();
    for answer in
        [[Answer::Failed; 4].as_slice(), &[Answer::Accepted], &[Answer::Failed; 4]].concat()
    {
        breaker.learn(answer, false, terms(), moment(at(0), MIDDLE));
        assert_eq!(breaker.permit(at(0)), Permit::Free);
    }
    breaker.learn(Answer::Failed, false, terms(), moment(at(0), MIDDLE));
    assert_eq!(breaker.view(), BreakerView::Open(at(5_000)));
    assert_eq!(breaker.permit(at(4_999)), Permit::NotUntil(at(5_000)));
    assert_eq!(breaker.permit(at(5_000)), Permit::Probe);
}

#[test]
fn one_attempt_probes_and_a_failure_doubles_the_pause_up_to_five_minutes() {
    let mut breaker = Breaker::default();
    open(&mut breaker);
    let mut now = at(0);
    for pause_s in [5, 10, 20, 40, 80, 160, 300, 300] {
        now = now.plus_ms(pause_s * 1_000);
        assert!(matches!(breaker.permit(Timestamp(now.0 - 1)), Permit::NotUntil(_)), "{pause_s}");
        assert!(breaker.begin(now));
        assert_eq!((breaker.view(), breaker.permit(now)), (BreakerView::HalfOpen, Permit::No));
        breaker.learn(Answer::Failed, true, terms(), moment(now, MIDDLE));
    }
    now = now.plus_ms(300_000);
    assert!(breaker.begin(now));
    breaker.learn(Answer::Accepted, true, terms(), moment(now, MIDDLE));
    assert!(breaker.is_at_rest());
    assert!(!breaker.begin(now), "an ordinary attempt");
}

#[test]
fn pauses_are_jittered_by_a_fifth() {
    for (jitter, pause_ms) in [(0.0, 4_000), (0.25, 4_500), (1.0, 6_000)] {
        let mut breaker = Breaker::default();
        for _ in 0..5 {
            breaker.learn(Answer::Failed, false, terms(), moment(at(0), jitter));
        }
        assert_eq!(breaker.view(), BreakerView::Open(at(pause_ms)));
    }
}

#[test]
fn while_it_is_open_those_that_began_before_decide_nothing() {
    let mut breaker = Breaker::default();
    open(&mut breaker);
    for answer in [
        Answer::Failed,
        Answer::Accepted,
        Answer::Busy(None),
        Answer::Nothing,
        Answer::Busy(Some(1_000)),
    ] {
        breaker.learn(answer, false, terms(), moment(at(1), MIDDLE));
        assert_eq!(breaker.view(), BreakerView::Open(at(5_000)), "{answer:?}");
    }
    breaker.learn(Answer::Busy(Some(60_000)), false, terms(), moment(at(1), MIDDLE));
    assert_eq!(
        breaker.view(),
        BreakerView::Open(at(60_001)),
        "but for one that asks for more time"
    );
    assert!(breaker.begin(at(60_001)));
    breaker.learn(Answer::Failed, false, terms(), moment(at(60_002), MIDDLE));
    assert_eq!(breaker.view(), BreakerView::HalfOpen);
    breaker.learn(Answer::Nothing, true, terms(), moment(at(60_003), MIDDLE));
    assert_eq!(
        breaker.permit(at(60_003)),
        Permit::Probe,
        "nothing was found out, so the next one probes"
    );
}

#[test]
fn a_busy_endpoint_gets_half_as_many_at_a_time_and_one_more_for_each_success() {
    let mut breaker = Breaker::default();
    for limit in [8, 4, 2, 1] {
        breaker.learn(Answer::Busy(None), false, terms(), moment(at(0), MIDDLE));
        assert_eq!(breaker.limit(MOST), limit);
    }
    assert_eq!((breaker.view(), breaker.limit(1)), (BreakerView::Closed, 1));
    for limit in 2..MOST {
        breaker.learn(Answer::Accepted, false, terms(), moment(at(0), MIDDLE));
        assert_eq!((breaker.limit(MOST), breaker.limit(3)), (limit, limit.min(3)));
        assert!(!breaker.is_at_rest());
    }
    breaker.learn(Answer::Accepted, false, terms(), moment(at(0), MIDDLE));
    assert_eq!((breaker.limit(MOST), breaker.limit(100)), (MOST, 100));
}

#[test]
fn retry_after_pauses_at_once_for_a_day_at_most_and_never_shortens() {
    let mut breaker = Breaker::default();
    breaker.learn(Answer::Busy(Some(7_000)), false, terms(), moment(at(0), MIDDLE));
    assert_eq!((breaker.view(), breaker.limit(MOST)), (BreakerView::Open(at(7_000)), MOST));
    let mut breaker = Breaker::default();
    breaker.learn(Answer::Busy(Some(u64::MAX)), false, terms(), moment(at(0), MIDDLE));
    assert_eq!(breaker.view(), BreakerView::Open(at(RETRY_AFTER_MS_MAX)));
    let mut breaker = Breaker::default();
    open(&mut breaker);
    assert!(breaker.begin(at(5_000)));
    breaker.learn(Answer::Busy(Some(1)), true, terms(), moment(at(5_000), MIDDLE));
    assert_eq!(breaker.view(), BreakerView::Open(at(15_000)));
}

#[test]
fn what_an_outcome_says() {
    let outcome = |status: Option<u16>, retry_after_ms| AttemptOutcome {
        status,
        error: (status != Some(204))
            .then(|| AttemptError { code: ErrorCode::HttpStatus, detail: String::new() }),
        retry_after_ms,
        ..AttemptOutcome::new(at(0), 1)
    };
    for (status, retry_after_ms, answer) in [
        (Some(204), Some(9), Answer::Accepted),
        (Some(500), Some(9), Answer::Failed),
        (Some(404), None, Answer::Failed),
        (Some(410), Some(9), Answer::Gone),
        (None, None, Answer::Failed),
        (Some(429), Some(9), Answer::Busy(Some(9))),
        (Some(502), None, Answer::Busy(None)),
        (Some(503), Some(0), Answer::Busy(None)),
        (Some(504), Some(1), Answer::Busy(Some(1))),
    ] {
        assert_eq!(Answer::of(&outcome(status, retry_after_ms)), answer, "{status:?}");
    }
}

/// Feeds answers, accepted or not, until the breaker opens; returns their number, or `None` if the
/// breaker stays closed.
fn answers_until_open(
    breaker: &mut Breaker,
    terms: Terms,
    accepts: impl IntoIterator<Item = bool>,
) -> Option<usize> {
    for (number, accepts) in accepts.into_iter().enumerate() {
        let answer = if accepts { Answer::Accepted } else { Answer::Failed };
        breaker.learn(answer, false, terms, moment(at(0), MIDDLE));
        if breaker.view() != BreakerView::Closed {
            return Some(number + 1);
        }
    }
    None
}

#[test]
fn one_that_fails_every_second_time_is_left_alone_when_the_window_is_full() {
    let every_second = || (0..200).map(|number| number % 2 == 0);
    let mut breaker = Breaker::default();
    assert_eq!(answers_until_open(&mut breaker, terms(), every_second()), Some(40));
    assert_eq!(breaker.view(), BreakerView::Open(at(5_000)));
    let in_a_row_only = Terms { policy: BreakerPolicy { window: 0, ..POLICY }, ..terms() };
    assert_eq!(
        answers_until_open(&mut Breaker::default(), in_a_row_only, every_second()),
        None,
        "not in a row"
    );
    let every_third = (0..200).map(|number| number % 3 > 0);
    assert_eq!(
        answers_until_open(&mut Breaker::default(), terms(), every_third),
        None,
        "a third is less than half"
    );
}

#[test]
fn a_full_window_slides_and_closing_begins_a_new_one() {
    let terms = by_share(10, 0.5);
    let mut breaker = Breaker::default();
    assert_eq!(
        answers_until_open(&mut breaker, terms, [false; 4].into_iter().chain([true; 60])),
        None
    );
    assert!(breaker.is_at_rest(), "those that failed are out of it");
    assert_eq!(answers_until_open(&mut breaker, terms, [false; 9]), Some(5));
    let probe_at = at(5_000);
    assert!(breaker.begin(probe_at));
    breaker.learn(Answer::Accepted, true, terms, moment(probe_at, MIDDLE));
    assert_eq!(breaker, Breaker::default());
    assert_eq!(
        answers_until_open(&mut breaker, terms, [false; 9]),
        None,
        "of fewer than ten nothing is concluded"
    );
    assert!(!breaker.is_at_rest());
    assert_eq!(
        answers_until_open(&mut breaker, terms, [true]),
        Some(1),
        "the tenth answer shows it"
    );
}

#[test]
fn what_is_remembered_of_an_endpoint_is_small() {
    assert!(size_of::<Breaker>() <= 64, "{}", size_of::<Breaker>());
}

proptest! {
    #[test]
    fn it_opens_with_the_first_answer_that_a_naive_window_opens_with(
        window in 0_u32..=WINDOW_MAX,
        in_a_row in 1_u32..=20,
        failure_share in 0.01_f64..=1.0,
        accepts in prop::collection::vec(prop::bool::weighted(0.6), 0..300),
    ) {
        let policy =
            BreakerPolicy { failures_in_a_row: in_a_row, window, failure_share, ..POLICY };
        let terms = Terms { policy, in_flight_max: MOST };
        let [window, in_a_row] = [window, in_a_row].map(|number| usize::try_from(number).unwrap());
        let naive = (1..=accepts.len()).find(|heard| {
            let heard = &accepts[..*heard];
            let last = |count: usize| &heard[heard.len() - count..];
            let all_of_a_row = heard.len() >= in_a_row && last(in_a_row).iter().all(|accepts|
            !accepts);
            let failed = || last(window).iter().filter(|accepts| !**accepts).count();
            let percent = |part: usize| f64::from(u32::try_from(part).unwrap());
            all_of_a_row || window > 0 && heard.len() >= window && percent(failed()) / percent(window) >= failure_share
        });
        prop_assert_eq!(answers_until_open(&mut Breaker::default(), terms, accepts), naive);
    }

    #[test]
    fn whatever_it_hears_it_can_be_asked_again_within_a_day_and_a_bit_and_has_room_for_one(
        answers in prop::collection::vec(
            prop_oneof![
                Just(Answer::Accepted), Just(Answer::Failed), Just(Answer::Gone),
                Just(Answer::Nothing),
                Just(Answer::Busy(None)), any::<u64>().prop_map(|ms| Answer::Busy(Some(ms))),
            ],
            0..200,
        ),
        jitter in 0.0_f64..1.0,
    ) {
        let (mut breaker, mut now) = (Breaker::default(), at(0));
        for answer in answers {
            let probes = breaker.begin(now);
            breaker.learn(answer, probes, terms(), moment(now, jitter));
            prop_assert!((1..=MOST).contains(&breaker.limit(MOST)));
            match breaker.view() {
                BreakerView::Open(until) => {
                    prop_assert!(until.0 - now.0 <= RETRY_AFTER_MS_MAX);
                    now = until;
                }
                BreakerView::Closed => {}
                BreakerView::HalfOpen => prop_assert!(false, "nobody would ever find out"),
            }
        }
    }
}
