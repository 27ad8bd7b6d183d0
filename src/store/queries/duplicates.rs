//! Events with a known dedup id.

use crate::base::failpoint::{self, Switch};
use crate::model::event::Dedup;
use crate::model::id::{EventId, KeyId};
use crate::model::time::{Now, Timestamp};
use crate::store::rows::schema::DedupEntry;
use crate::store::rows::state::State;
use crate::store::{StateError, Store};

/// The earlier event that makes an event with the same dedup id a duplicate.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub struct Earlier {
    /// The id of the earlier event.
    pub id: EventId,
    /// The time at which the earlier event was accepted.
    pub received_at: Timestamp,
    /// Set if both events have the same type and payload.
    pub is_same: bool,
}

/// Returns the earlier event with this dedup id, the latest if there are several: a longer window
/// can have been configured since.
pub(in crate::store) fn earlier(
    state: &State,
    dedup: &Dedup,
) -> Result<Option<Earlier>, StateError> {
    if failpoint::is_on(Switch::DedupOff) {
        return Ok(None);
    }
    let first = state.meta.get(())?.map_or(0, |meta| meta.dedup_first);
    let mut latest: Option<DedupEntry> = None;
    for number in state.dedup_index.candidates(dedup.digest, first) {
        let block = state.dedup.promised(number)?;
        let counts = |entry: &&DedupEntry| {
            entry.digest == dedup.digest && entry.received_steady() >= dedup.window_start
        };
        let found = block.entries.iter().rfind(counts);
        if found.is_some_and(|found| latest.as_ref().is_none_or(|known| known.event < found.event))
        {
            latest = found.cloned();
        }
    }
    Ok(latest.map(|entry| Earlier {
        id: entry.event,
        received_at: entry.received_at,
        is_same: entry.fingerprint == dedup.fingerprint,
    }))
}

impl Store {
    /// Returns the earlier events that make events with these dedup ids duplicates, as far as the
    /// state knows. Each dedup id comes with the key that posts the event, if there is a key.
    ///
    /// # Errors
    /// Rows cannot be read.
    pub fn known_duplicates<'a>(
        &self,
        events: impl Iterator<Item = Option<(Option<KeyId>, &'a Dedup)>>,
        now: impl Into<Now>,
    ) -> Result<Vec<Option<Earlier>>, StateError> {
        let (state, now) = (self.read(), now.into());
        let known = events.map(|event| {
            let Some((by, dedup)) = event else { return Ok(None) };
            // An ended key learns nothing, and no key of a suspended organization: their commands
            // are refused when they are applied.
            if let Some(by) = by {
                let key = state.keys.get(by)?.filter(|row| row.key.is_valid(now));
                let Some(key) = key else { return Ok(None) };
                if state.is_suspended(key.org)? {
                    return Ok(None);
                }
            }
            earlier(&state, dedup)
        });
        known.collect()
    }

    /// Returns true if every id in the oldest block was received before this steady time.
    ///
    /// # Errors
    /// Rows cannot be read.
    pub fn has_expired_dedup(&self, before: Timestamp) -> Result<bool, StateError> {
        let state = self.read();
        let Some(meta) = state.meta.get(())? else { return Ok(false) };
        Ok(state.dedup.get(meta.dedup_first)?.is_some_and(|block| block.is_older_than(before)))
    }
}
