//! A token bucket: a rate per second on average, and a burst. Called by the HTTP front for each
//! organization before anything is stored, and by the scheduler for endpoints with a rate; time is
//! an argument.

/// Parts of a token. A rate of 1 per second gains one part in a microsecond, so no rate loses a
/// fraction.
const PARTS: u64 = 1_000_000;

/// A rate and its burst. A zero counts as 1.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub struct Rate {
    /// Tokens gained per second.
    pub per_second: u64,
    /// Maximum number of tokens in the bucket.
    pub burst: u64,
}

/// The tokens taken from a bucket. A new bucket is full.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq)]
pub struct Bucket {
    /// Missing tokens, in millionths; more than the burst is debt.
    missing: u64,
    /// The latest time seen, in microseconds on the caller's monotonic clock.
    seen_us: u64,
}

/// The answer to a request for tokens.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Decision {
    /// The request is admitted, and its cost was charged.
    Admitted,
    /// The request is refused, and nothing was charged.
    Refused {
        /// Whole seconds until a token is available; at least 1.
        retry_after_s: u64,
    },
}

/// The decision, and the values of the rate limit headers.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub struct Admission {
    /// Says if the request is admitted or refused.
    pub decision: Decision,
    /// Maximum number of tokens: the burst.
    pub limit: u64,
    /// Whole tokens left after this request; 0 in debt.
    pub remaining: u64,
    /// Whole seconds until the bucket is full again, rounded up.
    pub reset_s: u64,
}

impl Admission {
    /// True if the request is admitted.
    pub fn is_admitted(&self) -> bool {
        self.decision == Decision::Admitted
    }
}

impl Bucket {
    /// Asks for `cost` tokens at `now_us`, microseconds on a monotonic clock. One whole token is
    /// enough to be admitted; then the whole cost is charged, if necessary into debt. So a batch
    /// larger than the burst is admitted, later requests wait for the debt, and the average holds.
    /// A clock that goes backwards gives no tokens.
    pub fn admit(&mut self, rate: Rate, cost: u64, now_us: u64) -> Admission {
        let per_second = rate.per_second.max(1);
        let limit = rate.burst.max(1);
        let gained = now_us.saturating_sub(self.seen_us).saturating_mul(per_second);
        self.missing = self.missing.saturating_sub(gained);
        self.seen_us = self.seen_us.max(now_us);

        let full = limit.saturating_mul(PARTS);
        // Missing parts before a whole token is available.
        let short = self.missing.saturating_add(PARTS).saturating_sub(full);
        let per_second_parts = per_second.saturating_mul(PARTS);
        let decision = if short == 0 {
            self.missing = self.missing.saturating_add(cost.saturating_mul(PARTS));
            Decision::Admitted
        } else {
            Decision::Refused { retry_after_s: short.div_ceil(per_second_parts) }
        };
        self.standing(rate, decision)
    }

    /// Charges `cost` more tokens, if necessary into debt, for a request that was admitted before
    /// its whole cost was known. A bucket that is in debt already refuses, and charges nothing:
    /// otherwise requests that begin together could all overdraw it.
    pub fn owe(&mut self, rate: Rate, cost: u64, now_us: u64) -> Admission {
        let Admission { decision, .. } = self.admit(rate, 0, now_us);
        let full = rate.burst.max(1).saturating_mul(PARTS);
        if cost > 0 && self.missing > full {
            return self.standing(rate, decision);
        }
        self.missing = self.missing.saturating_add(cost.saturating_mul(PARTS));
        self.standing(rate, Decision::Admitted)
    }

    fn standing(&self, rate: Rate, decision: Decision) -> Admission {
        let (limit, per_second) = (rate.burst.max(1), rate.per_second.max(1));
        Admission {
            decision,
            limit,
            remaining: limit.saturating_mul(PARTS).saturating_sub(self.missing) / PARTS,
            reset_s: self.missing.div_ceil(per_second.saturating_mul(PARTS)),
        }
    }

    /// Returns when the next whole token is available if none is taken, in microseconds on the same
    /// clock.
    pub fn next_token_us(&self, rate: Rate) -> u64 {
        let short = self
            .missing
            .saturating_add(PARTS)
            .saturating_sub(rate.burst.max(1).saturating_mul(PARTS));
        self.seen_us.saturating_add(short.div_ceil(rate.per_second.max(1)))
    }

    /// Returns when the bucket is full again, and so equal to a new bucket.
    pub fn full_us(&self, rate: Rate) -> u64 {
        self.seen_us.saturating_add(self.missing.div_ceil(rate.per_second.max(1)))
    }
}

#[cfg(test)]
mod tests {
    use proptest::prelude::*;

    use super::*;

    const SECOND: u64 = 1_000_000;

    #[test]
    fn what_is_owed_is_charged_although_no_token_is_left() {
        let rate = Rate { per_second: 10, burst: 3 };
        let mut bucket = Bucket::default();
        assert!(bucket.admit(rate, 3, SECOND).is_admitted());
        let owed = bucket.owe(rate, 10, SECOND);
        assert!(owed.is_admitted());
        assert_eq!((owed.remaining, owed.reset_s), (0, 2));
        assert!(!bucket.admit(rate, 1, 2 * SECOND).is_admitted(), "the debt is paid first");
        assert!(bucket.admit(rate, 1, 3 * SECOND).is_admitted());
    }

    #[test]
    fn of_requests_that_begin_together_only_the_first_overdraws() {
        let rate = Rate { per_second: 50, burst: 100 };
        let mut bucket = Bucket::default();
        for _ in 0..100 {
            assert!(bucket.admit(rate, 1, SECOND).is_admitted());
        }
        assert!(bucket.owe(rate, 999, SECOND).is_admitted());
        let refused = bucket.owe(rate, 999, SECOND);
        assert_eq!(refused.decision, Decision::Refused { retry_after_s: 20 });
        assert_eq!(bucket.owe(rate, 999, SECOND).reset_s, refused.reset_s, "nothing was charged");
        assert!(bucket.owe(rate, 0, SECOND).is_admitted(), "nothing is owed");
    }

    #[test]
    fn a_burst_is_admitted_and_then_the_rate() {
        let rate = Rate { per_second: 10, burst: 3 };
        let mut bucket = Bucket::default();
        for left in [2, 1, 0] {
            let admission = bucket.admit(rate, 1, SECOND);
            assert!(admission.is_admitted());
            assert_eq!((admission.limit, admission.remaining), (3, left));
        }
        let refused = bucket.admit(rate, 1, SECOND);
        assert_eq!(refused.decision, Decision::Refused { retry_after_s: 1 });
        assert_eq!((refused.remaining, refused.reset_s), (0, 1));
        assert!(!bucket.admit(rate, 1, SECOND + 99_999).is_admitted(), "a microsecond too early");
        assert!(bucket.admit(rate, 1, SECOND + 100_000).is_admitted());
        assert!(!bucket.admit(rate, 1, SECOND + 100_000).is_admitted());
    }

    #[test]
    fn a_batch_larger_than_the_burst_gets_through_and_is_paid_for() {
        let rate = Rate { per_second: 50, burst: 100 };
        let mut bucket = Bucket::default();
        let batch = bucket.admit(rate, 1_000, 0);
        assert!(batch.is_admitted());
        assert_eq!((batch.remaining, batch.reset_s), (0, 20));
        // With a debt of 900 a token takes 901 / 50 = 18.02 s.
        assert_eq!(bucket.admit(rate, 1, 0).decision, Decision::Refused { retry_after_s: 19 });
        assert!(!bucket.admit(rate, 1, 18 * SECOND + 19_999).is_admitted());
        assert!(bucket.admit(rate, 1, 18 * SECOND + 20_000).is_admitted());
    }

    #[test]
    fn no_rate_loses_a_fraction() {
        for per_second in [1, 3, 7, 333, 999_983, 10_000_000] {
            let rate = Rate { per_second, burst: 1 };
            let mut exact = Bucket::default();
            assert!(exact.admit(rate, per_second, 0).is_admitted());
            // Frequent requests at odd times must not slow down the gain.
            for now_us in (0..SECOND).step_by(61) {
                assert!(!exact.admit(rate, 0, now_us).is_admitted(), "{per_second} at {now_us}");
            }
            assert!(exact.admit(rate, 1, SECOND).is_admitted(), "{per_second}");
        }
    }

    #[test]
    fn the_next_token_is_there_when_it_says_and_not_a_microsecond_earlier() {
        for (per_second, burst) in [(1, 1), (3, 1), (7, 2), (10_000, 500)] {
            let rate = Rate { per_second, burst };
            let mut bucket = Bucket::default();
            assert_eq!((bucket.next_token_us(rate), bucket.full_us(rate)), (0, 0));
            for _ in 0..burst {
                assert!(bucket.admit(rate, 1, SECOND).is_admitted());
            }
            let due = bucket.next_token_us(rate);
            assert_eq!(due, SECOND + SECOND.div_ceil(per_second));
            assert_eq!(bucket.full_us(rate), SECOND + (burst * SECOND).div_ceil(per_second));
            assert!(!bucket.admit(rate, 0, due - 1).is_admitted());
            assert!(bucket.admit(rate, 1, due).is_admitted());
        }
    }

    #[test]
    fn odd_figures_neither_panic_nor_open_the_gate() {
        let mut bucket = Bucket::default();
        let widest = Rate { per_second: u64::MAX, burst: u64::MAX };
        assert!(bucket.admit(widest, u64::MAX, u64::MAX).is_admitted());
        let none = Rate { per_second: 0, burst: 0 };
        let mut bucket = Bucket::default();
        assert!(bucket.admit(none, 1, 0).is_admitted());
        assert_eq!(bucket.admit(none, 1, 0).decision, Decision::Refused { retry_after_s: 1 });
        let mut bucket = Bucket::default();
        assert!(bucket.admit(none, 5, 9 * SECOND).is_admitted());
        assert!(!bucket.admit(none, 1, 0).is_admitted(), "a clock that goes back gives nothing");
        assert!(
            !bucket.admit(none, 1, 10 * SECOND).is_admitted(),
            "nor twice when it comes forward again"
        );
    }

    proptest! {
        #[test]
        fn no_window_admits_more_than_burst_and_rate_and_one_cost(
            per_second in prop_oneof![1u64..20, 1u64..10_000_000],
            burst in 1u64..2_000,
            steps in proptest::collection::vec((0u64..400_000, 0u64..1_000), 1..120),
        ) {
            let rate = Rate { per_second, burst };
            let (mut bucket, mut now_us, mut admitted) = (Bucket::default(), 77, Vec::new());
            for (step_us, cost) in steps {
                now_us += step_us;
                let admission = bucket.admit(rate, cost, now_us);
                prop_assert!(admission.remaining <= admission.limit);
                match admission.decision {
                    Decision::Admitted => admitted.push((now_us, cost)),
                    Decision::Refused { retry_after_s } => {
                        prop_assert!(retry_after_s >= 1);
                        let mut later = bucket;
                        prop_assert!(later.admit(rate, 1,
                        now_us + retry_after_s * SECOND).is_admitted());
                    }
                }
            }
            for (start, (from_us, _)) in admitted.iter().enumerate() {
                let (mut sum, mut largest) = (0u64, 0u64);
                for (at_us, cost) in &admitted[start..] {
                    sum += cost;
                    largest = largest.max(*cost);
                    let allowed = u128::from(burst + largest) * 1_000_000 + u128::from(at_us - from_us) * u128::from(per_second);
                    prop_assert!(u128::from(sum) * 1_000_000 <= allowed);
                }
            }
        }
    }
}
