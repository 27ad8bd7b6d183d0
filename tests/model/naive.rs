//! The model: the contract in plain maps. Shares the types of `model` with the product, but no
//! code.

use std::collections::{BTreeMap, BTreeSet};

use triggerd::commands::Command;
use triggerd::model::delivery::Trigger;
use triggerd::model::endpoint::{Endpoint, TypePattern};
use triggerd::model::event::{EventStatus, NewEvent};
use triggerd::model::id::{EndpointId, EventId, KeyId, OrgNo, ReplayId};
use triggerd::model::key::{Key, Scope, Scopes};
use triggerd::model::org::Org;
use triggerd::model::time::{Now, Timestamp};

use crate::replays::NaiveReplay;

mod audit;
mod deletion;
mod effects;
mod expected;
mod expiry;
mod families;

/// All organizations and their events.
#[derive(Clone, Default)]
pub(crate) struct Naive {
    pub(crate) orgs: Vec<NaiveOrg>,
    pub(crate) last_event: Option<EventId>,
    /// The steady time of the last command.
    pub(crate) steady: Timestamp,
    /// The entries of the audit log, the oldest first.
    audit: Vec<audit::NaiveEntry>,
}

#[derive(Clone)]
pub(crate) struct NaiveOrg {
    pub(crate) org: Org,
    pub(crate) is_suspended: bool,
    pub(crate) deletion: Deletion,
    pub(crate) keys: Vec<Key>,
    pub(crate) used: BTreeMap<KeyId, Timestamp>,
    /// For each key that a rotation made: the first key of its family.
    families: BTreeMap<KeyId, KeyId>,
    pub(crate) endpoints: Vec<Endpoint>,
    /// All endpoints that ever existed, in the order of their creation.
    pub(crate) made: Vec<EndpointId>,
    pub(crate) events: BTreeMap<EventId, NaiveEvent>,
    /// The events that have expired; their dedup ids are known still.
    pub(crate) expired: BTreeMap<EventId, NaiveEvent>,
    pub(crate) replays: BTreeMap<ReplayId, NaiveReplay>,
    /// The beginning of the current streak of failures, by endpoint.
    pub(crate) failing: BTreeMap<EndpointId, Timestamp>,
    /// The streak at the last `triggerd.endpoint.failing`, unless a recovery was reported since.
    pub(crate) failing_told: BTreeMap<EndpointId, Timestamp>,
}

/// The deletion of an organization.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(crate) enum Deletion {
    NotAsked,
    UnderWay,
    /// The organization does not exist any more.
    Over,
}

#[derive(Clone)]
pub(crate) struct NaiveEvent {
    pub(crate) event: NewEvent,
    pub(crate) received_at: Timestamp,
    pub(crate) acknowledged_at: Option<Timestamp>,
    /// Set when the payload is hidden and no delivery is made any more.
    pub(crate) erased_at: Option<Timestamp>,
    /// True while the event waits for a worker.
    pub(crate) unrouted: bool,
    pub(crate) crashes: u8,
    /// True once the event has left the inbox for good.
    pub(crate) left: bool,
    pub(crate) deliveries: BTreeMap<EndpointId, NaiveDelivery>,
}

#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(crate) struct NaiveDelivery {
    pub(crate) stands: Stands,
    pub(crate) attempts: u32,
    /// Attempts before the current start of the retry schedule.
    pub(crate) base: u32,
    /// True if the first attempt is due with the event, and no later command changed the time.
    pub(crate) at_once: bool,
    /// The reason of the next attempt.
    pub(crate) trigger: Trigger,
}

#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(crate) enum Stands {
    Waiting(Timestamp),
    Accepted,
    /// Given up at this time.
    Dead(Timestamp),
    Canceled,
}

impl NaiveEvent {
    pub(crate) fn status(&self) -> EventStatus {
        let any = |wanted: fn(Stands) -> bool| {
            self.deliveries.values().any(|delivery| wanted(delivery.stands))
        };
        if self.acknowledged_at.is_some() {
            EventStatus::Acknowledged
        } else if any(|stands| matches!(stands, Stands::Waiting(_))) {
            EventStatus::Accepted
        } else if any(|stands| matches!(stands, Stands::Dead(_))) || self.crashes >= 3 {
            EventStatus::Dead
        } else if any(|stands| stands == Stands::Accepted) {
            EventStatus::Delivered
        } else {
            EventStatus::Accepted
        }
    }
}

impl NaiveOrg {
    /// Returns the inbox, oldest event first.
    pub(crate) fn inbox(&self) -> Vec<(EventId, EventStatus)> {
        self.events
            .iter()
            .filter(|(_, event)| !event.left)
            .map(|(id, event)| (*id, event.status()))
            .collect()
    }

    /// Returns the deliveries waiting for the endpoint, in the order of their due times. The flag
    /// is true if a first attempt at once is among them, which is due now at the latest.
    pub(crate) fn waiting(
        &self,
        endpoint: EndpointId,
        now: Timestamp,
    ) -> (Vec<(Timestamp, EventId)>, bool) {
        let (mut waits, mut any_at_once) = (Vec::new(), false);
        for (id, event) in &self.events {
            let Some(delivery) = event.deliveries.get(&endpoint) else { continue };
            let Stands::Waiting(at) = delivery.stands else { continue };
            let at_once = delivery.attempts == 0 && delivery.at_once;
            any_at_once |= at_once;
            waits.push((if at_once { Timestamp(id.unix_ms()).min(now) } else { at }, *id));
        }
        waits.sort_unstable();
        (waits, any_at_once)
    }

    pub(crate) fn endpoint(&self, id: EndpointId) -> Option<&Endpoint> {
        self.endpoints.iter().find(|endpoint| endpoint.id == id)
    }

    /// Returns all endpoints that exist or ever had a delivery.
    pub(crate) fn all_endpoints(&self) -> BTreeSet<EndpointId> {
        let past = self.events.values().flat_map(|event| event.deliveries.keys().copied());
        self.endpoints.iter().map(|endpoint| endpoint.id).chain(past).collect()
    }

    /// Returns the enabled endpoints for this type: by name, below `x.*`, or without any pattern.
    pub(crate) fn wanting(&self, event_type: &str) -> Vec<EndpointId> {
        let wants = |endpoint: &Endpoint| is_wanted(&endpoint.settings.event_types, event_type);
        let wanting =
            self.endpoints.iter().filter(|endpoint| endpoint.is_enabled() && wants(endpoint));
        let ids: BTreeSet<_> = wanting.map(|endpoint| endpoint.id).collect();
        ids.into_iter().collect()
    }
}

/// Returns true if an endpoint with these patterns wants this type. Operational events need a
/// pattern.
pub(crate) fn endpoint_wants(patterns: &[TypePattern], event_type: &str) -> bool {
    is_wanted(patterns, event_type) && !(patterns.is_empty() && event_type.starts_with("triggerd."))
}

/// Returns true if a pattern is this type or an `x.*` above it, or if there are no patterns.
pub(crate) fn is_wanted(patterns: &[TypePattern], event_type: &str) -> bool {
    let matches = |pattern: &str| match pattern.strip_suffix("*") {
        // After the words comes any of the three separators, whichever the pattern has.
        Some(prefix) => ['.', '/', ':']
            .iter()
            .any(|mark| event_type.starts_with(&format!("{}{mark}", &prefix[..prefix.len() - 1]))),
        None => pattern == event_type,
    };
    patterns.is_empty() || patterns.iter().any(|pattern| matches(pattern.as_str()))
}

fn valid(key: &Key, Now { wall, steady }: Now) -> bool {
    key.expires_at.is_none_or(|end| wall < end) && key.ended_at.is_none_or(|end| steady < end)
}

/// Returns the time at which a key was made, also by the time in its id.
fn made(key: &Key) -> Now {
    let in_id = u64::try_from(key.id.0 >> 80).unwrap();
    Now { wall: key.created_at, steady: key.created_at.max(Timestamp(in_id)) }
}

impl Naive {
    pub(crate) fn org(&self, org: OrgNo) -> Option<&NaiveOrg> {
        self.orgs.get(usize::try_from(org.0).unwrap())
    }

    pub(crate) fn org_mut(&mut self, org: OrgNo) -> Option<&mut NaiveOrg> {
        self.orgs.get_mut(usize::try_from(org.0).unwrap())
    }

    fn event_mut(&mut self, org: OrgNo, event: EventId) -> Option<&mut NaiveEvent> {
        self.org_mut(org)?.events.get_mut(&event)
    }

    /// Returns the key behind a command, the time of its check, and the scopes needed.
    fn authority(&self, command: &Command) -> Option<(KeyId, Now, Scopes)> {
        match command {
            Command::Requested(requested) => {
                let authority = requested.authority;
                Some((authority.key?, authority.at, authority.needs))
            }
            Command::SubmitEvent(submit) => {
                let at = Now { wall: submit.received_at, steady: self.steady };
                Some((submit.by?, at, Scope::EventsWrite.into()))
            }
            _ => None,
        }
    }
}
