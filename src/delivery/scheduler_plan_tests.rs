//! Input and output of a simulation: the kinds of receivers, the plan, and the recorded requests.

use std::collections::{BTreeMap, HashMap};

use super::*;
use crate::rules::retry::RetryPolicy;
use crate::store::EndpointHealth;

pub(super) const SECOND: u64 = 1_000;
pub(super) const MINUTE: u64 = 60 * SECOND;
pub(super) const HOUR: u64 = 60 * MINUTE;
pub(super) const DAY: u64 = 24 * HOUR;
/// Wall time at which a simulation begins.
pub(super) const START: Timestamp = Timestamp(1_800_000_000_000);
/// Duration of an attempt to a receiver that hangs.
pub(super) const TIMEOUT: u64 = 15 * SECOND;

/// How the receiver of an endpoint answers.
#[derive(Clone, Copy, Debug, PartialEq, Eq, PartialOrd, Ord)]
pub(super) enum Kind {
    Accepts,
    /// Answers 500 for the first hours, then 200.
    Recovers,
    /// Answers 500 at all times.
    Fails,
    /// Answers 500 at all times, and gets many events at once.
    Hopeless,
    /// Answers 503 with this `Retry-After` in milliseconds for the first hours: longer than the
    /// first waits, or shorter than all waits.
    AsksFor(u64),
    Gone,
    Hangs,
    /// Answers 503 without `Retry-After` for the first hours.
    Busy,
}

impl Kind {
    /// The kind of the endpoint with this number: kinds alternate. One of a thousand endpoints is
    /// hopeless, with number 7 as the first.
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

    /// True if the endpoint never accepts a request.
    pub(super) fn is_hopeless(self) -> bool {
        matches!(self, Self::Fails | Self::Hopeless | Self::Hangs)
    }

    /// The status and `Retry-After` of the answer; `None` if the receiver hangs.
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

/// How reliably hints and reports arrive.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(super) enum Hearing {
    Good,
    /// Hints and reports are lost, repeated, late, or reordered.
    Bad,
    /// As `Bad`, with the scan switched off.
    BadWithoutScan,
}

/// The input of a simulation, with the things broken on purpose.
#[derive(Clone, Debug)]
pub(super) struct Plan {
    pub(super) endpoints: u32,
    pub(super) seed: u64,
    pub(super) policy: RetryPolicy,
    pub(super) limits: SchedulerLimits,
    pub(super) disable_after_ms: u64,
    /// When the simulation ends, in milliseconds, unless all work ends before.
    pub(super) ends_at: u64,
    /// When the process restarts from its directory, in milliseconds.
    pub(super) restarts_at: Vec<u64>,
    /// How far the scheduler's clock is fast, in milliseconds.
    pub(super) fast_by_ms: u64,
    /// Set if `Retry-After` is ignored.
    pub(super) deaf: bool,
    /// Set if a 410 does not disable the endpoint.
    pub(super) stubborn: bool,
    /// Set if a restart loses the part of the journal after the last write-back.
    pub(super) forgetful: bool,
    pub(super) hearing: Hearing,
}

/// A request to a receiver, as recorded.
#[derive(Clone, Copy, Debug)]
pub(super) struct Request {
    /// When the delivery was due.
    pub(super) due_at: Timestamp,
    pub(super) began_at: Timestamp,
    /// When the request ended; `None` while in flight.
    pub(super) ended_at: Option<Timestamp>,
    /// The `Retry-After` of the answer, in milliseconds.
    pub(super) asked_ms: u64,
}

/// An endpoint and its health at the end.
pub(super) struct Rest {
    pub(super) endpoint: Arc<crate::model::endpoint::Endpoint>,
    pub(super) health: EndpointHealth,
}

/// The output of a simulation.
#[derive(Default)]
pub(super) struct Seen {
    /// All requests, by endpoint and event.
    pub(super) requests: BTreeMap<(EndpointId, EventId), Vec<Request>>,
    /// Number of deliveries made, by endpoint.
    pub(super) deliveries: HashMap<EndpointId, u64>,
    pub(super) rest: BTreeMap<EndpointId, Rest>,
    /// Highest numbers seen: ids in memory, ids in one endpoint queue, requests at once in all, and
    /// requests at once of one organization.
    pub(super) queued_most: usize,
    pub(super) queued_for_endpoint_most: usize,
    pub(super) in_flight_most: usize,
    pub(super) in_flight_of_org_most: usize,
    /// For each restart: the number of requests cut off, and true if all due times were the same
    /// before and after.
    pub(super) restarts: Vec<(usize, bool)>,
    /// Endpoint and due time of each delivery without an attempt since its due time.
    pub(super) waiting: Vec<(EndpointId, Timestamp)>,
    /// Number of steps of the clock.
    pub(super) steps: u64,
    pub(super) ended_at: Timestamp,
}
