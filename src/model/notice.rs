//! Operational events: what the server itself tells an organization of its endpoints and deliveries. They are events like
//! any other, of types that only the server can give.

use serde::{Deserialize, Serialize};

use super::event::EventType;
use super::id::EventId;
use super::time::Timestamp;

/// What an operational event says; the type of each is part of the contract.
#[derive(Clone, Copy, Debug, PartialEq, Eq, Hash, Serialize, Deserialize)]
pub enum NoticeKind {
    /// An endpoint has done nothing but fail for a while.
    EndpointFailing,
    /// An endpoint gets nothing more until it is enabled again.
    EndpointDisabled,
    /// An endpoint that was told to be failing has accepted something again.
    EndpointRecovered,
    /// A delivery was given up.
    DeliveryDead,
    /// Little disk space is free.
    DiskLow,
}

impl NoticeKind {
    /// All of them.
    pub const ALL: [Self; 5] =
        [Self::EndpointFailing, Self::EndpointDisabled, Self::EndpointRecovered, Self::DeliveryDead, Self::DiskLow];

    /// The type of its events.
    pub fn event_type(self) -> EventType {
        EventType::own(match self {
            Self::EndpointFailing => "triggerd.endpoint.failing",
            Self::EndpointDisabled => "triggerd.endpoint.disabled",
            Self::EndpointRecovered => "triggerd.endpoint.recovered",
            Self::DeliveryDead => "triggerd.delivery.dead",
            Self::DiskLow => "triggerd.disk.low",
        })
    }
}

/// An operational event that an attempt causes, if it is true when that is settled.
#[derive(Clone, Debug, PartialEq, Eq, Serialize, Deserialize)]
pub struct Notice {
    /// What it says.
    pub kind: NoticeKind,
    /// Since when the endpoint has done nothing but fail, as it was known when the attempt was judged.
    pub failing_since: Option<Timestamp>,
    /// Its id. Given by the committer, in journal order; 0 until then.
    pub id: EventId,
    /// When it was taken in. Given by the committer.
    pub received_at: Timestamp,
    /// Its payload: JSON.
    pub payload: Box<[u8]>,
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn each_kind_has_a_type_that_only_the_server_gives() {
        for kind in NoticeKind::ALL {
            let event_type = kind.event_type();
            assert_eq!(event_type.as_str().parse(), Ok(event_type.clone()), "{kind:?}");
            assert!(event_type.is_own(), "{kind:?}");
            let same = NoticeKind::ALL.iter().filter(|other| other.event_type() == event_type).count();
            assert_eq!(same, 1, "{kind:?}");
        }
        for of_producers in ["triggerd", "triggerdx.y", "Triggerd.disk.low", "my.triggerd.disk.low"] {
            assert!(!of_producers.parse::<EventType>().unwrap().is_own(), "{of_producers}");
        }
    }
}
