//! Operational events: the server's own events about an organization's endpoints and deliveries.
//! They are ordinary events whose types only the server can give.

use serde::{Deserialize, Serialize};

use super::event::{EventType, NewEvent, StoredEvent};
use super::id::EventId;
use super::time::Timestamp;

/// The kind of an operational event. Each kind has a type in the API, which never changes.
#[derive(Clone, Copy, Debug, PartialEq, Eq, Hash, Serialize, Deserialize, strum::VariantArray)]
pub enum OperationalEventKind {
    /// Every attempt to an endpoint has failed for a while.
    EndpointFailing,
    /// An endpoint gets no events until it is enabled again.
    EndpointDisabled,
    /// An endpoint that was reported as failing has accepted a delivery again.
    EndpointRecovered,
    /// A delivery became a dead letter.
    DeliveryDead,
    /// The free disk space is low.
    DiskLow,
    /// Unfinished events have expired.
    InboxExpired,
    /// A key ends soon.
    KeyExpiring,
}

impl OperationalEventKind {
    /// Every kind, in the order of the enum.
    pub const ALL: &'static [Self] = <Self as strum::VariantArray>::VARIANTS;

    /// Returns the event type of this kind.
    pub fn event_type(self) -> EventType {
        EventType::own(match self {
            Self::EndpointFailing => "triggerd.endpoint.failing",
            Self::EndpointDisabled => "triggerd.endpoint.disabled",
            Self::EndpointRecovered => "triggerd.endpoint.recovered",
            Self::DeliveryDead => "triggerd.delivery.dead",
            Self::DiskLow => "triggerd.disk.low",
            Self::InboxExpired => "triggerd.inbox.expired",
            Self::KeyExpiring => "triggerd.key.expiring",
        })
    }
}

/// An operational event that a command stores beside its own change: the settling of an attempt,
/// the expiry of events, or the warning about the end of a key. It is stored only if the statement is still true when the command is
/// applied.
#[derive(Clone, Debug, PartialEq, Eq, Serialize, Deserialize)]
pub struct OperationalEvent {
    /// The kind of the event.
    pub kind: OperationalEventKind,
    /// The time since which every attempt to the endpoint has failed, as known when the attempt was
    /// judged.
    pub failing_since: Option<Timestamp>,
    /// The id of the event. The committer sets the id, in journal order; before, the field is 0.
    pub id: EventId,
    /// The time of acceptance, set by the committer.
    pub received_at: Timestamp,
    /// The payload of the event, in JSON.
    pub payload: Box<[u8]>,
}

impl OperationalEvent {
    /// Makes an event that the committer completes. It is not about failures of an endpoint.
    pub fn new(kind: OperationalEventKind, payload: &impl Serialize) -> Self {
        // Texts, times and numbers always serialize.
        let payload = serde_json::to_vec(payload).unwrap_or_else(|_| b"null".to_vec());
        let (id, received_at) = (EventId(0), Timestamp(0));
        Self { kind, failing_since: None, id, received_at, payload: payload.into() }
    }

    /// Returns the event as it is stored.
    pub fn stored_event(&self) -> StoredEvent {
        let event = NewEvent {
            event_type: self.kind.event_type(),
            dedup: None,
            labels: Vec::new(),
            occurred_at: Some(self.received_at),
            deliver_after: None,
            payload: self.payload.clone(),
            cloudevent: None,
        };
        StoredEvent { id: self.id, received_at: self.received_at, event }
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn each_kind_has_a_type_that_only_the_server_gives() {
        for kind in OperationalEventKind::ALL {
            let event_type = kind.event_type();
            assert_eq!(event_type.as_str().parse(), Ok(event_type.clone()), "{kind:?}");
            assert!(event_type.is_own(), "{kind:?}");
            let same = OperationalEventKind::ALL
                .iter()
                .filter(|other| other.event_type() == event_type)
                .count();
            assert_eq!(same, 1, "{kind:?}");
        }
        for of_producers in ["triggerd", "triggerdx.y", "Triggerd.disk.low", "my.triggerd.disk.low"]
        {
            assert!(!of_producers.parse::<EventType>().unwrap().is_own(), "{of_producers}");
        }
    }
}
