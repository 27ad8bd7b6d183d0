//! What a simulation is given and what it shows: receivers and how they answer, the plan, what was seen.

use std::collections::{BTreeMap, HashMap};

use super::*;
use crate::rules::retry::RetryPolicy;
use crate::store::EndpointHealth;

pub(super) const SECOND: u64 = 1_000;
pub(super) const MINUTE: u64 = 60 * SECOND;
pub(super) const HOUR: u64 = 60 * MINUTE;
pub(super) const DAY: u64 = 24 * HOUR;
/// When it begins.
pub(super) const START: Timestamp = Timestamp(1_800_000_000_000);
/// An attempt that hangs ends after this.
pub(super) const TIMEOUT: u64 = 15 * SECOND;

/// How an endpoint answers.
#[derive(Clone, Copy, Debug, PartialEq, Eq, PartialOrd, Ord)]
pub(super) enum Kind {
    Accepts,
    /// 500 for the first hours.
    Recovers,
    /// 500 for ever.
    Fails,
    /// The same, with many events that wait for it.
    Hopeless,
    /// 503 with `Retry-After` for the first hours: longer than the first waits, or shorter than all.
    AsksFor(u64),
    Gone,
    Hangs,
    /// 503 without a word for the first hours.
    Busy,
}

impl Kind {
    /// Of the endpoint with this number: the kinds take turns. One in a thousand is beyond hope, and there is always one.
    pub(super) fn of(number: u32) -> Self {
        match number % 20 {
            _ if number % 1_000 == 7 => Self::Hopeless,
            0..8 => Self::Accepts,
            8..11 => Self::Recovers,
            11 | 12 => Self::Fails,
            13 => Self::AsksFor(20 * MINUTE),
            14 => Self::AsksFor(SECOND),
            15 | 16 => Self::Gone,
            17 | 18 => Self::Hangs,
            _ => Self::Busy,
        }
    }

    /// Never accepts anything.
    pub(super) fn is_hopeless(self) -> bool {
        matches!(self, Self::Fails | Self::Hopeless | Self::Hangs)
    }

    /// The status and `Retry-After` of its answer, if it answers.
    pub(super) fn answer(self, since_start: u64) -> Option<(u16, Option<u64>)> {
        let early = since_start < 6 * HOUR;
        match self {
            Self::Recovers | Self::AsksFor(_) | Self::Busy if !early => Some((200, None)),
            Self::Accepts => Some((200, None)),
            Self::Recovers | Self::Fails | Self::Hopeless => Some((500, None)),
            Self::AsksFor(ms) => Some((503, Some(ms))),
            Self::Gone => Some((410, None)),
            Self::Hangs => None,
            Self::Busy => Some((503, None)),
        }
    }
}

/// What becomes of hints and reports.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(super) enum Hearing {
    Good,
    /// They get lost, come twice, late, or in another order.
    Bad,
    /// And nothing else tells the scheduler what there is to do.
    BadWithoutScan,
}

/// What is simulated, and what is broken in it on purpose.
#[derive(Clone, Debug)]
pub(super) struct Plan {
    pub(super) endpoints: u32,
    pub(super) seed: u64,
    pub(super) policy: RetryPolicy,
    pub(super) limits: SchedulerLimits,
    pub(super) disable_after_ms: u64,
    /// When it ends, if it does not come to rest before.
    pub(super) ends_at: u64,
    /// When everything is dropped and opened again from the directory.
    pub(super) restarts_at: Vec<u64>,
    /// The scheduler's clock is fast by so much.
    pub(super) fast_by_ms: u64,
    /// Nobody hears what `Retry-After` asks for.
    pub(super) deaf: bool,
    /// A 410 disables nothing.
    pub(super) stubborn: bool,
    /// The state is opened as it was last brought to sled, without what the journal holds behind that.
    pub(super) forgetful: bool,
    pub(super) hearing: Hearing,
}

/// A request to a receiver.
#[derive(Clone, Copy, Debug)]
pub(super) struct Request {
    /// When it was due.
    pub(super) due_at: Timestamp,
    pub(super) began_at: Timestamp,
    /// None: nobody knows, because a restart came.
    pub(super) ended_at: Option<Timestamp>,
    /// What its answer asked for.
    pub(super) asked_ms: u64,
}

/// What is left of an endpoint at the end.
pub(super) struct Rest {
    pub(super) endpoint: Arc<crate::model::endpoint::Endpoint>,
    pub(super) health: EndpointHealth,
}

/// What was seen.
#[derive(Default)]
pub(super) struct Seen {
    /// Requests by endpoint and event.
    pub(super) requests: BTreeMap<(EndpointId, EventId), Vec<Request>>,
    /// Deliveries made, by endpoint.
    pub(super) deliveries: HashMap<EndpointId, u64>,
    pub(super) rest: BTreeMap<EndpointId, Rest>,
    /// Most ids in memory, most of them in one lane, most lanes, most requests at once: of all, of an organization.
    pub(super) queued_most: usize,
    pub(super) queued_in_lane_most: usize,
    pub(super) in_flight_most: usize,
    pub(super) in_flight_of_org_most: usize,
    /// For each restart: requests that were cut off; and whether all due times were the same before and after.
    pub(super) restarts: Vec<(usize, bool)>,
    /// Deliveries that no attempt was begun of since they were due: where to, and when that was.
    pub(super) waiting: Vec<(EndpointId, Timestamp)>,
    /// Steps of the clock, and how far it went.
    pub(super) steps: u64,
    pub(super) ended_at: Timestamp,
}
