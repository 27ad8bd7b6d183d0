//! One endpoint's lane: what is ready to be sent there, what is on its way, and whether more may be sent now. Used by the
//! scheduler.

use std::collections::{HashMap, VecDeque};
use std::sync::Arc;

use super::turns::Standing;
use crate::model::endpoint::{Endpoint, Ordering};
use crate::model::id::{EventId, OrgNo};
use crate::model::time::Timestamp;
use crate::rules::breaker::{Answer, Breaker, BreakerPolicy, BreakerView, Moment, Permit, Terms};
use crate::rules::token_bucket::{Bucket, Rate};

/// How long it is remembered how an endpoint answered, after the last answer or pause, if nothing is to be sent there.
const REMEMBERED_MS: u64 = 600_000;
/// An endpoint with a rate may be sent a twentieth of a second's worth at once, because threads do not wake more precisely.
const BURSTS_PER_SECOND: u64 = 20;

/// Whether an attempt may begin.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(super) enum Gate {
    /// It may.
    Open,
    /// Not before this time.
    NotUntil(Timestamp),
    /// Not before something is heard of the lane.
    Shut,
}

/// The endpoint of a lane, as it was when somebody last looked.
#[derive(Clone, Debug)]
pub(super) struct Target {
    pub(super) org: OrgNo,
    pub(super) endpoint: Arc<Endpoint>,
}

/// How an event is held.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
enum Claim {
    /// It is in the queue.
    Queued,
    /// It is on its way, or not settled. `again`: it was heard of meanwhile, so that it may wait again when it is settled.
    UnderWay { again: bool },
}

/// A lane. A new one knows nothing and sends nothing.
#[derive(Debug, Default)]
pub(super) struct Lane {
    target: Option<Target>,
    queue: VecDeque<EventId>,
    /// In the queue, on their way, or not settled.
    claimed: HashMap<EventId, Claim>,
    in_flight: usize,
    /// The attempt that probes.
    probe: Option<EventId>,
    breaker: Breaker,
    bucket: Bucket,
    answered_at: Timestamp,
    /// Answered that nobody will ever be there again, and not settled.
    gone: Vec<EventId>,
    /// Such an answer came since somebody last looked: nothing is sent before the endpoint is known as its settling left it.
    stale: bool,
    /// Whether it accepted what it answered last.
    accepted: Option<bool>,
    /// The turn it waits for.
    pub(super) turn: Option<u64>,
    /// The state may have more that is due than the queue holds.
    pub(super) more: bool,
    /// Before this event nothing waits that must keep its place; none: that is not known.
    pub(super) mark: Option<EventId>,
}

impl Lane {
    /// Whose it is.
    pub(super) fn target(&self) -> Option<&Target> {
        self.target.as_ref()
    }

    /// Whether this is the endpoint that the lane knows.
    pub(super) fn knows(&self, endpoint: &Arc<Endpoint>) -> bool {
        let known = self.target.as_ref().map(|target| &target.endpoint);
        known.is_some_and(|known| Arc::ptr_eq(known, endpoint) || known == endpoint)
    }

    /// The endpoint as it is now. One that was changed is judged anew.
    pub(super) fn aim(&mut self, target: Target) {
        if self.target.is_some() && !self.knows(&target.endpoint) {
            self.breaker = Breaker::default();
            (self.bucket, self.probe, self.accepted) = (Bucket::default(), None, None);
            self.mark = None;
        }
        self.stale = !self.gone.is_empty();
        self.target = Some(target);
    }

    /// Whether anything is to be sent there.
    pub(super) fn is_enabled(&self) -> bool {
        self.target.as_ref().is_some_and(|target| target.endpoint.is_enabled())
    }

    /// Whether nothing is sent until the endpoint was looked at again.
    pub(super) fn is_stale(&self) -> bool {
        self.stale
    }

    /// Whether it keeps the order of events.
    pub(super) fn is_strict(&self) -> bool {
        self.target.as_ref().is_some_and(|target| target.endpoint.settings.ordering == Ordering::Strict)
    }

    /// Attempts on their way at a time as its owner wants it, `most` at most.
    fn in_flight_max(&self, most: usize) -> usize {
        let wanted = self.target.as_ref().and_then(|target| target.endpoint.settings.max_in_flight);
        wanted.map_or(most, |wanted| usize::from(wanted).min(most))
    }

    fn rate(&self) -> Option<Rate> {
        let per_second = u64::from(self.target.as_ref()?.endpoint.settings.rate_per_second?);
        Some(Rate { per_second, burst: per_second.div_ceil(BURSTS_PER_SECOND) })
    }

    /// Ids in the queue.
    pub(super) fn waiting(&self) -> usize {
        self.queue.len()
    }

    /// Ids in the queue, on their way, or not settled.
    pub(super) fn claimed(&self) -> usize {
        self.claimed.len()
    }

    /// Begun and not settled.
    pub(super) fn unsettled(&self) -> usize {
        self.claimed.len().saturating_sub(self.queue.len())
    }

    /// The last event in the queue.
    pub(super) fn back(&self) -> Option<EventId> {
        self.queue.back().copied()
    }

    /// Takes an event in; says whether it is new here.
    pub(super) fn push(&mut self, event: EventId) -> bool {
        if self.claimed.contains_key(&event) {
            return false;
        }
        self.claimed.insert(event, Claim::Queued);
        self.queue.push_back(event);
        true
    }

    /// Whether it is on its way, or not settled.
    pub(super) fn is_under_way(&self, event: EventId) -> bool {
        matches!(self.claimed.get(&event), Some(Claim::UnderWay { .. }))
    }

    /// Somebody says that this event is due. One that is under way is remembered until it is settled: it may have been
    /// retried in the state already, and nothing but this tells of it. Says whether it is one of those.
    pub(super) fn heard_of(&mut self, event: EventId) -> bool {
        let Some(Claim::UnderWay { again }) = self.claimed.get_mut(&event) else { return false };
        *again = true;
        true
    }

    /// Nobody knows what was said meanwhile: what is under way is looked for again when it is settled.
    pub(super) fn heard_of_all(&mut self) {
        for claim in self.claimed.values_mut() {
            if let Claim::UnderWay { again } = claim {
                *again = true;
            }
        }
    }

    /// The next event out of the queue.
    pub(super) fn pop(&mut self) -> Option<EventId> {
        let event = self.queue.pop_front()?;
        self.claimed.remove(&event);
        Some(event)
    }

    /// Leaves what is in the queue to the state; says how many that were.
    pub(super) fn drop_queue(&mut self) -> usize {
        let dropped = self.queue.len();
        for event in self.queue.drain(..) {
            self.claimed.remove(&event);
        }
        self.more |= dropped > 0;
        dropped
    }

    /// Whether an attempt may begin now.
    pub(super) fn gate(&mut self, now: Timestamp, in_flight_most: usize) -> Gate {
        if self.queue.is_empty() { Gate::Shut } else { self.gate_of_endpoint(now, in_flight_most) }
    }

    /// The same, if there is something to send.
    pub(super) fn gate_of_endpoint(&mut self, now: Timestamp, in_flight_most: usize) -> Gate {
        let most = self.breaker.limit(self.in_flight_max(in_flight_most));
        if !self.is_enabled() || self.stale || self.in_flight >= most || (self.is_strict() && self.unsettled() > 0) {
            return Gate::Shut;
        }
        match self.breaker.permit(now) {
            Permit::Free | Permit::Probe => self.token(now),
            Permit::NotUntil(at) => Gate::NotUntil(at),
            Permit::No => Gate::Shut,
        }
    }

    fn token(&mut self, now: Timestamp) -> Gate {
        let Some(rate) = self.rate() else { return Gate::Open };
        let now_us = now.0.saturating_mul(1_000);
        if self.bucket.admit(rate, 0, now_us).is_admitted() {
            return Gate::Open;
        }
        Gate::NotUntil(Timestamp(self.bucket.next_token_us(rate).div_ceil(1_000)))
    }

    /// Whether the queue may be filled now, as far as the breaker is concerned.
    pub(super) fn permit(&self, now: Timestamp) -> Permit {
        self.breaker.permit(now)
    }

    /// How the breaker is.
    pub(super) fn view(&self) -> BreakerView {
        self.breaker.view()
    }

    /// An attempt of this event begins.
    pub(super) fn begin(&mut self, event: EventId, now: Timestamp) {
        self.claimed.insert(event, Claim::UnderWay { again: false });
        self.in_flight += 1;
        if self.breaker.begin(now) {
            self.probe = Some(event);
        }
        if let Some(rate) = self.rate() {
            self.bucket.admit(rate, 1, now.0.saturating_mul(1_000));
        }
    }

    /// The request of this event is over. `most` and `policy` are the configuration's.
    pub(super) fn over(
        &mut self,
        event: EventId,
        answer: Answer,
        (policy, most): (BreakerPolicy, usize),
        moment: Moment,
    ) {
        self.in_flight = self.in_flight.saturating_sub(1);
        let probes = self.probe == Some(event);
        if probes {
            self.probe = None;
        }
        let terms = Terms { policy, in_flight_max: self.in_flight_max(most) };
        self.breaker.learn(answer, probes, terms, moment);
        if answer == Answer::Gone {
            self.gone.push(event);
            self.stale = true;
        }
        self.answered_at = moment.now;
        if answer != Answer::Nothing {
            self.accepted = Some(answer == Answer::Accepted);
        }
    }

    /// What is known of the endpoint.
    pub(super) fn standing(&self) -> Standing {
        if self.accepted.unwrap_or(self.in_flight == 0) { Standing::Works } else { Standing::InDoubt }
    }

    /// It is settled; says whether it was heard of meanwhile.
    pub(super) fn settled(&mut self, event: EventId) -> bool {
        self.gone.retain(|gone| *gone != event);
        self.claimed.remove(&event) == Some(Claim::UnderWay { again: true })
    }

    /// Until when it matters what the lane knows of its endpoint, if nothing is to be sent there.
    pub(super) fn matters_until(&self) -> Timestamp {
        let answered = match self.breaker.view() {
            _ if self.breaker.is_at_rest() => Timestamp(0),
            BreakerView::Open(until) => until.max(self.answered_at).plus_ms(REMEMBERED_MS),
            BreakerView::Closed | BreakerView::HalfOpen => self.answered_at.plus_ms(REMEMBERED_MS),
        };
        let full_us = self.rate().map_or(0, |rate| self.bucket.full_us(rate));
        answered.max(Timestamp(full_us.div_ceil(1_000)))
    }
}
