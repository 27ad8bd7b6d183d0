//! Activity: what watchers of an organization see. Each item follows from an applied command.

use super::delivery::{AttemptError, Verdict};
use super::endpoint::DisabledReason;
use super::event::EventType;
use super::id::{EndpointId, EventId};
use super::time::Timestamp;

/// An item of the activity stream.
#[derive(Clone, Debug, PartialEq, Eq)]
pub enum Activity {
    /// An event was accepted. Duplicates are not reported.
    Accepted {
        /// The id of the event.
        event: EventId,
        /// The type of the event.
        event_type: EventType,
        /// The time at which the event was received.
        received_at: Timestamp,
    },
    /// An attempt was settled.
    Attempted(Attempted),
}

/// The result of an attempt, without the receiver's own words.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct Attempted {
    /// The event of the delivery.
    pub event: EventId,
    /// The endpoint of the delivery.
    pub endpoint: EndpointId,
    /// Attempt number; the first attempt is 1.
    pub number: u32,
    /// The time at which the request began.
    pub started_at: Timestamp,
    /// Duration of the request in milliseconds.
    pub duration_ms: u32,
    /// HTTP status, if there was an answer.
    pub status: Option<u16>,
    /// The error; absent if the receiver accepted the event.
    pub error: Option<AttemptError>,
    /// The consequence for the delivery; absent if the delivery was canceled meanwhile.
    pub verdict: Option<Verdict>,
    /// The reason for disabling the endpoint, if this attempt disables it.
    pub disables: Option<DisabledReason>,
}
