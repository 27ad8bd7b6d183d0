//! Decides when organizations are told about a disk that gets full, and builds the operational
//! event. Called by the sweeper; pure.

use serde::Serialize;
use sha2::{Digest as _, Sha256};
use utoipa::ToSchema;

use crate::commands::EventDraft;
use crate::model::event::{Dedup, NewEvent};
use crate::model::id::OrgNo;
use crate::model::operational_event::OperationalEventKind;
use crate::model::time::Now;

/// Organizations are told when free space is below this multiple of the reserve, which is before
/// events are refused.
const LOW_RESERVES: u64 = 2;
/// Free space must reach this multiple of the reserve before organizations are told again.
const PLENTY_RESERVES: u64 = 3;
/// The window of the event's `dedup_id`, 6 h: an organization gets at most one event within it,
/// across restarts too.
const ONCE_IN_MS: u64 = 6 * 3_600_000;
/// Separates the digest from those of producers: their `dedup_id` is text, and text has no such
/// byte.
const DEDUP_DOMAIN: &[u8] = &[0xff];

/// Remembers the events and log lines of the current shortage, so that each is written once.
#[derive(Debug, Default)]
pub(super) struct DiskWatch {
    is_reported: bool,
    is_logged: bool,
}

impl DiskWatch {
    /// Returns true if organizations should be told now. Free space above the plenty mark ends the
    /// shortage.
    pub(super) fn is_due(&mut self, free: u64, reserve: u64) -> bool {
        if free >= reserve.saturating_mul(PLENTY_RESERVES) {
            (self.is_reported, self.is_logged) = (false, false);
        }
        !self.is_reported && free < reserve.saturating_mul(LOW_RESERVES)
    }

    /// Records the event as sent for this shortage.
    pub(super) fn reported(&mut self) {
        self.is_reported = true;
    }

    /// Returns true at the first call in this shortage; the caller then writes the log line.
    pub(super) fn is_new(&mut self) -> bool {
        !std::mem::replace(&mut self.is_logged, true)
    }
}

/// The payload of `triggerd.disk.low`.
#[derive(Serialize, ToSchema)]
pub struct DiskReport {
    free_bytes: u64,
    /// Events are refused while less than this is free.
    reserve_bytes: u64,
}

/// Makes the event for one organization.
pub(super) fn disk_low(
    org: OrgNo,
    (free_bytes, reserve_bytes): (u64, u64),
    now: Now,
) -> EventDraft {
    let event_type = OperationalEventKind::DiskLow.event_type();
    let id = event_type.as_str().to_owned();
    let digest = Sha256::new()
        .chain_update(org.0.to_be_bytes())
        .chain_update(DEDUP_DOMAIN)
        .chain_update(&id);
    let digest = digest.finalize().first_chunk().copied().unwrap_or_default();
    let window_start = now.steady.minus_ms(ONCE_IN_MS);
    let dedup = Dedup { id, digest, fingerprint: [0; 8], window_start };
    // Numbers always serialize.
    let payload = serde_json::to_vec(&DiskReport { free_bytes, reserve_bytes })
        .unwrap_or_else(|_| b"null".to_vec());
    let event = NewEvent {
        event_type,
        dedup: Some(dedup),
        labels: Vec::new(),
        occurred_at: Some(now.wall),
        deliver_after: None,
        payload: payload.into(),
        cloudevent: None,
    };
    EventDraft::new(org, event)
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::model::time::Timestamp;

    #[test]
    fn it_is_told_below_twice_the_reserve_and_again_only_after_there_was_plenty() {
        const RESERVE: u64 = 100;
        let mut watch = DiskWatch::default();
        let mut reported = Vec::new();
        for free in [1_000, 200, 199, 50, 250, 199, 299, 10, 300, 250, 150, 0, 400, 200, 3] {
            if watch.is_due(free, RESERVE) {
                watch.reported();
                reported.push(free);
            }
        }
        assert_eq!(reported, [199, 150, 3]);
        assert!(!DiskWatch::default().is_due(0, 0), "without a reserve nothing is low");
        let mut unreported = DiskWatch::default();
        assert!(
            unreported.is_due(1, RESERVE) && unreported.is_due(1, RESERVE),
            "what could not be stored is due again"
        );
    }

    #[test]
    fn each_organization_has_a_dedup_id_that_producers_cannot_send() {
        let of =
            |org| disk_low(OrgNo(org), (7, 9), Timestamp(ONCE_IN_MS + 5).into()).event().clone();
        let (one, other) = (of(1), of(2));
        let dedup = one.dedup.unwrap();
        assert_eq!(&*one.payload, br#"{"free_bytes":7,"reserve_bytes":9}"#);
        assert_eq!(dedup.window_start, Timestamp(5));
        assert_ne!(dedup.digest, other.dedup.unwrap().digest);
        let of_producer =
            Sha256::new().chain_update(1u32.to_be_bytes()).chain_update(&dedup.id).finalize();
        assert_ne!(dedup.digest[..], of_producer[..14]);
        let again = dedup.digest == of(1).dedup.unwrap().digest;
        assert!(again, "the same at every start");
    }
}
