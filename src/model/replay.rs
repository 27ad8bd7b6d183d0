//! A replay: past events delivered to endpoints again, as a job in the background.

use serde::{Deserialize, Serialize};

use super::endpoint::TypePattern;
use super::id::{EndpointId, EventId};
use super::time::Timestamp;
use crate::base::names::{UnknownName, named};

/// Maximum number of replays of an organization that run at the same time.
pub const REPLAYS_RUNNING_MAX: usize = 10;
/// Number of replays of an organization that are remembered, including the running replays.
pub const REPLAYS_REMEMBERED: usize = 100;

/// The deliveries that a replay repeats. The API uses the name, so the name never changes.
#[derive(
    Clone,
    Copy,
    Debug,
    PartialEq,
    Eq,
    Serialize,
    Deserialize,
    strum::EnumString,
    strum::IntoStaticStr,
    strum::VariantArray,
    strum::VariantNames,
)]
#[strum(
    serialize_all = "snake_case",
    parse_err_ty = UnknownName,
    parse_err_fn = UnknownName::of::<ReplayOnly>
)]
pub enum ReplayOnly {
    /// Deliveries that are dead letters.
    Failed,
    /// Events without a delivery to the endpoint that match its types now.
    Missing,
    /// Every event that matches the endpoint's types now, even if its delivery was accepted or
    /// canceled. Waiting deliveries are not repeated.
    All,
}

named!(ReplayOnly);

/// The request for a replay.
#[derive(Clone, Debug, PartialEq, Eq, Serialize, Deserialize)]
pub struct ReplayRequest {
    /// The endpoint. Absent: every endpoint that the organization has when the replay begins.
    pub endpoint: Option<EndpointId>,
    /// Only events received at or after this time are replayed.
    pub since: Option<Timestamp>,
    /// Only events received before this time are replayed.
    pub until: Option<Timestamp>,
    /// Only events of these types are replayed. Empty: events of all types.
    pub event_types: Vec<TypePattern>,
    /// The deliveries that are repeated.
    pub only: ReplayOnly,
}

/// The progress of a replay for one endpoint. Endpoints progress independently, so no endpoint
/// waits for another.
#[derive(Clone, Copy, Debug, PartialEq, Eq, Serialize, Deserialize)]
pub struct ReplayCursor {
    /// The endpoint's number in its organization.
    pub number: u32,
    /// The first event that the replay has not looked at.
    pub from: EventId,
}

/// The reason why a replay ended.
#[derive(Clone, Copy, Debug, PartialEq, Eq, Serialize, Deserialize)]
pub enum ReplayEnd {
    /// The replay has looked at every event.
    Finished,
    /// A user canceled the replay.
    Requested,
    /// The replay's only endpoint was deleted.
    EndpointDeleted,
}

impl ReplayEnd {
    /// The name of the reason in the log.
    pub fn name(self) -> &'static str {
        self.cancel_reason().unwrap_or("finished")
    }

    /// Returns the API's name for the reason of a cancellation. `None` if the replay finished.
    pub fn cancel_reason(self) -> Option<&'static str> {
        match self {
            Self::Finished => None,
            Self::Requested => Some("requested"),
            Self::EndpointDeleted => Some("endpoint_deleted"),
        }
    }
}

/// The reason why a replay makes no progress at the moment. The API shows its name, so the name
/// never changes.
#[derive(Clone, Copy, Debug, PartialEq, Eq, strum::IntoStaticStr, strum::VariantNames)]
#[strum(serialize_all = "snake_case")]
pub enum ReplayWait {
    /// The endpoint is disabled.
    EndpointDisabled,
    /// Enough deliveries wait for the endpoint already.
    EndpointBusy,
    /// The next event is not routed yet.
    Routing,
    /// The disk reserve is reached. The remaining space is for requests that free space.
    DiskFull,
}

impl ReplayWait {
    /// The name of the reason in the API.
    pub fn name(self) -> &'static str {
        self.into()
    }
}
