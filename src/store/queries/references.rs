//! References from events to records of the log. Compaction asks for them, to learn which records
//! are still read.

use std::collections::HashMap;
use std::sync::Arc;

use crate::journal::Position;
use crate::model::id::{EventId, OrgNo};
use crate::store::change::block_of;
use crate::store::rows::schema::EventBlock;
use crate::store::{StateError, Store};

/// The records to which the entry of an event refers.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub struct EventRecords {
    /// The position of the event.
    pub position: Position,
    /// The position of the command that routed the event, or ended its routing.
    pub routed: Option<Position>,
    /// Set if nobody may see the payload any more, nor a receiver's answer to it.
    pub is_erased: bool,
}

impl Store {
    /// Returns true for each number of an organization that does not exist any more, or that a
    /// refused command had.
    ///
    /// # Errors
    /// Rows cannot be read.
    pub fn are_forgotten(&self, orgs: &[Option<OrgNo>]) -> Result<Vec<bool>, StateError> {
        let state = self.read();
        let is_forgotten = |org: &Option<OrgNo>| match org {
            Some(org) => Ok(state.orgs.get(*org)?.is_none()),
            None => Ok(false),
        };
        orgs.iter().map(is_forgotten).collect()
    }

    /// Returns the references of each event. `None` if nobody can see the event: the organization
    /// has no such event. The references of one event may be older than those of another, and
    /// references only become less.
    ///
    /// # Errors
    /// Rows cannot be read.
    pub fn event_records(
        &self,
        events: &[(OrgNo, EventId)],
    ) -> Result<Vec<Option<EventRecords>>, StateError> {
        // Events that came one after the other are mostly in the same block.
        let mut last: HashMap<OrgNo, Arc<EventBlock>> = HashMap::new();
        let mut find = |(org, event): (OrgNo, EventId)| {
            let is_known = last.get(&org).is_some_and(|block| block.find(event).is_some());
            // The state is locked for one block at a time, so that no commit waits for the others.
            if !is_known && let Some((_, block)) = block_of(&self.read(), org, event)? {
                last.insert(org, block);
            }
            let entry = last.get(&org).and_then(|block| block.find(event));
            Ok(entry.map(|(_, entry)| EventRecords {
                position: entry.position,
                routed: entry.routed,
                is_erased: entry.erased_at.is_some(),
            }))
        };
        events.iter().copied().map(&mut find).collect()
    }
}
