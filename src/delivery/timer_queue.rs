//! The timer queue: when to look at which endpoint again, with one time for each. Used by the
//! scheduler.

use std::collections::{BTreeSet, HashMap};

use crate::model::id::EndpointId;
use crate::model::time::{Look, Timestamp};

/// One timer for each endpoint, in order of time.
#[derive(Debug, Default)]
pub(super) struct TimerQueue {
    by_time: BTreeSet<(Look, EndpointId)>,
    by_endpoint: HashMap<EndpointId, Look>,
}

impl TimerQueue {
    /// Sets the timer of the endpoint, unless it is already set for an earlier time.
    pub(super) fn set(&mut self, endpoint: EndpointId, at: Look) {
        if self.by_endpoint.get(&endpoint).is_some_and(|planned| *planned <= at) {
            return;
        }
        if let Some(planned) = self.by_endpoint.insert(endpoint, at) {
            self.by_time.remove(&(planned, endpoint));
        }
        self.by_time.insert((at, endpoint));
    }

    /// True if the endpoint has a timer.
    pub(super) fn has(&self, endpoint: EndpointId) -> bool {
        self.by_endpoint.contains_key(&endpoint)
    }

    /// The time of the endpoint's timer, if set.
    pub(super) fn at(&self, endpoint: EndpointId) -> Option<Look> {
        self.by_endpoint.get(&endpoint).copied()
    }

    /// The earliest time of all timers.
    pub(super) fn first(&self) -> Option<Look> {
        self.by_time.first().map(|(at, _)| *at)
    }

    /// Removes a due timer and returns its endpoint.
    pub(super) fn take(&mut self, now: Timestamp) -> Option<EndpointId> {
        self.first().filter(|at| at.is_due(now))?;
        let (_, endpoint) = self.by_time.pop_first()?;
        self.by_endpoint.remove(&endpoint);
        Some(endpoint)
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn an_endpoint_has_one_timer_and_the_earlier_time_stands() {
        let mut timers = TimerQueue::default();
        let (a, b) = (EndpointId(1), EndpointId(2));
        let at = |ms| Look::At(Timestamp(ms));
        timers.set(a, at(10));
        timers.set(b, at(5));
        timers.set(a, at(7));
        timers.set(a, at(20));
        assert_eq!(timers.first(), Some(at(5)));
        assert_eq!(timers.take(Timestamp(4)), None);
        assert_eq!(timers.take(Timestamp(30)), Some(b));
        assert_eq!(timers.take(Timestamp(6)), None);
        assert_eq!((timers.take(Timestamp(7)), timers.has(a)), (Some(a), false));
        assert_eq!(timers.take(Timestamp(u64::MAX)), None);
    }

    #[test]
    fn now_is_before_every_time() {
        let mut timers = TimerQueue::default();
        let (a, b) = (EndpointId(1), EndpointId(2));
        timers.set(a, Look::At(Timestamp(0)));
        timers.set(b, Look::Now);
        timers.set(b, Look::At(Timestamp(0)));
        assert_eq!((timers.first(), timers.at(b)), (Some(Look::Now), Some(Look::Now)));
        assert_eq!(timers.take(Timestamp(0)), Some(b));
        assert_eq!(timers.take(Timestamp(0)), Some(a));
    }
}
