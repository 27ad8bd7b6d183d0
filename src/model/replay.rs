//! A replay: events of the past on their way to endpoints once more, as a job that goes on in the background.

use std::str::FromStr;

use serde::{Deserialize, Serialize};

use super::endpoint::TypePattern;
use super::id::{EndpointId, EventId};
use super::time::Timestamp;

/// Most replays of an organization that run at a time.
pub const REPLAYS_RUNNING_MAX: usize = 10;
/// Replays of an organization that are remembered, those that run among them.
pub const REPLAYS_REMEMBERED: usize = 100;

/// Which deliveries are made again; the word is part of the contract.
#[derive(Clone, Copy, Debug, PartialEq, Eq, Serialize, Deserialize)]
pub enum ReplayOnly {
    /// Dead letters.
    Failed,
    /// Events that the endpoint never had a delivery of, although it wants them now.
    Missing,
    /// Everything that it wants now, also what it accepted or what was canceled; not what waits already.
    All,
}

impl ReplayOnly {
    /// All of them.
    pub const ALL: [Self; 3] = [Self::Failed, Self::Missing, Self::All];

    /// The word for it in the API.
    pub fn name(self) -> &'static str {
        match self {
            Self::Failed => "failed",
            Self::Missing => "missing",
            Self::All => "all",
        }
    }
}

impl FromStr for ReplayOnly {
    type Err = &'static str;

    fn from_str(text: &str) -> Result<Self, Self::Err> {
        let known = Self::ALL.into_iter().find(|only| only.name() == text);
        known.ok_or("must be `failed`, `missing` or `all`")
    }
}

/// What is asked for.
#[derive(Clone, Debug, PartialEq, Eq, Serialize, Deserialize)]
pub struct ReplayRequest {
    /// Where to; none: every endpoint that the organization has when the replay begins.
    pub endpoint: Option<EndpointId>,
    /// Only events received at this time or later,
    pub since: Option<Timestamp>,
    /// and before this one.
    pub until: Option<Timestamp>,
    /// Only events of these types; empty: of all.
    pub event_types: Vec<TypePattern>,
    /// Which deliveries.
    pub only: ReplayOnly,
}

/// How far a replay is with one endpoint. Endpoints go on beside each other, so that none waits behind another.
#[derive(Clone, Copy, Debug, PartialEq, Eq, Serialize, Deserialize)]
pub struct ReplayLane {
    /// The endpoint's number in its organization.
    pub number: u32,
    /// The first event that was not looked at.
    pub from: EventId,
}

/// Why a replay is over.
#[derive(Clone, Copy, Debug, PartialEq, Eq, Serialize, Deserialize)]
pub enum ReplayEnd {
    /// Everything was looked at.
    Finished,
    /// Its owner wanted no more of it.
    Requested,
    /// The endpoint that it was for was deleted.
    EndpointDeleted,
}

impl ReplayEnd {
    /// The word for it, in the log.
    pub fn name(self) -> &'static str {
        self.cancel_reason().unwrap_or("finished")
    }

    /// The word for why it was canceled; none if it was not.
    pub fn cancel_reason(self) -> Option<&'static str> {
        match self {
            Self::Finished => None,
            Self::Requested => Some("requested"),
            Self::EndpointDeleted => Some("endpoint_deleted"),
        }
    }
}

/// Why nothing goes on for the time being; the word is part of the contract.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum ReplayWait {
    /// The endpoint is disabled.
    EndpointDisabled,
    /// Enough waits for the endpoint already.
    EndpointBusy,
    /// The next event was not routed yet.
    Routing,
    /// The disk reserve is reached: what is left is for those who make room.
    DiskFull,
}

impl ReplayWait {
    /// The word for it in the API.
    pub fn name(self) -> &'static str {
        match self {
            Self::EndpointDisabled => "endpoint_disabled",
            Self::EndpointBusy => "endpoint_busy",
            Self::Routing => "routing",
            Self::DiskFull => "disk_full",
        }
    }
}
