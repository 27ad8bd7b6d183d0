//! When organizations are told that the disk gets full, and what. Called by the sweeper; pure.

use serde::Serialize;
use sha2::{Digest as _, Sha256};

use crate::commands::SubmitEvent;
use crate::model::event::{Dedup, NewEvent};
use crate::model::id::{EventId, OrgNo};
use crate::model::notice::NoticeKind;
use crate::model::time::Timestamp;

/// Told when less than so many times the reserve is free: before events are refused,
const LOW_RESERVES: u64 = 2;
/// and again only after there was so much of it.
const PLENTY_RESERVES: u64 = 3;
/// However often that happens, and however often the server starts: once in so long, 6 h.
const ONCE_IN_MS: u64 = 6 * 3_600_000;
/// Of no other event: what producers send has no such byte in it, as it is text.
const DEDUP_DOMAIN: &[u8] = &[0xff];

/// Whether it was told.
#[derive(Debug, Default)]
pub(super) struct DiskWatch {
    is_told: bool,
    is_logged: bool,
}

impl DiskWatch {
    /// Whether it is to be told now that so much is free.
    pub(super) fn is_due(&mut self, free: u64, reserve: u64) -> bool {
        if free >= reserve.saturating_mul(PLENTY_RESERVES) {
            (self.is_told, self.is_logged) = (false, false);
        }
        !self.is_told && free < reserve.saturating_mul(LOW_RESERVES)
    }

    /// It was.
    pub(super) fn told(&mut self) {
        self.is_told = true;
    }

    /// Whether the log does not say so yet.
    pub(super) fn is_new(&mut self) -> bool {
        !std::mem::replace(&mut self.is_logged, true)
    }
}

#[derive(Serialize)]
struct Payload {
    free_bytes: u64,
    /// Below this no events are taken in.
    reserve_bytes: u64,
}

/// The event for one organization.
pub(super) fn disk_low(org: OrgNo, (free_bytes, reserve_bytes): (u64, u64), now: Timestamp) -> SubmitEvent {
    let event_type = NoticeKind::DiskLow.event_type();
    let id = event_type.as_str().to_owned();
    let digest = Sha256::new().chain_update(org.0.to_be_bytes()).chain_update(DEDUP_DOMAIN).chain_update(&id);
    let digest = digest.finalize().first_chunk().copied().unwrap_or_default();
    let dedup = Dedup { id, digest, fingerprint: [0; 8], window_start: now.minus_ms(ONCE_IN_MS) };
    // Numbers only: it cannot fail.
    let payload = serde_json::to_vec(&Payload { free_bytes, reserve_bytes }).unwrap_or_else(|_| b"null".to_vec());
    let event = NewEvent {
        event_type,
        dedup: Some(dedup),
        labels: Vec::new(),
        occurred_at: Some(now),
        deliver_after: None,
        payload: payload.into(),
        cloudevent: None,
    };
    SubmitEvent { org, by: None, id: EventId(0), received_at: Timestamp(0), event }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn it_is_told_below_twice_the_reserve_and_again_only_after_there_was_plenty() {
        const RESERVE: u64 = 100;
        let mut watch = DiskWatch::default();
        let mut told = Vec::new();
        for free in [1_000, 200, 199, 50, 250, 199, 299, 10, 300, 250, 150, 0, 400, 200, 3] {
            if watch.is_due(free, RESERVE) {
                watch.told();
                told.push(free);
            }
        }
        assert_eq!(told, [199, 150, 3]);
        assert!(!DiskWatch::default().is_due(0, 0), "without a reserve nothing is low");
        let mut untold = DiskWatch::default();
        assert!(untold.is_due(1, RESERVE) && untold.is_due(1, RESERVE), "what could not be stored is due again");
    }

    #[test]
    fn each_organization_has_a_dedup_id_that_producers_cannot_send() {
        let of = |org| disk_low(OrgNo(org), (7, 9), Timestamp(ONCE_IN_MS + 5)).event;
        let (one, other) = (of(1), of(2));
        let dedup = one.dedup.unwrap();
        assert_eq!(&*one.payload, br#"{"free_bytes":7,"reserve_bytes":9}"#);
        assert_eq!(dedup.window_start, Timestamp(5));
        assert_ne!(dedup.digest, other.dedup.unwrap().digest);
        let of_producer = Sha256::new().chain_update(1u32.to_be_bytes()).chain_update(&dedup.id).finalize();
        assert_ne!(dedup.digest[..], of_producer[..14]);
        let again = dedup.digest == of(1).dedup.unwrap().digest;
        assert!(again, "the same at every start");
    }
}
