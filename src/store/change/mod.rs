//! A change to the state: the rows of all tables, and the operations shared by several commands.
//! Each command applies itself (`commands/`) in a [`Change`]; nothing else changes rows.
//!
//! Changes are deterministic: without clock, randomness, configuration, or I/O other than reading
//! rows. The same journal gives the same rows, byte for byte, however often it is applied. So all
//! varying values (ids, times, windows) are part of the command.

mod again;
pub(super) mod audit;
mod deliveries;
mod endpoints;
mod events;
mod expiry;
mod keys;

use std::sync::{Arc, RwLockWriteGuard};

pub(crate) use again::Again;
pub(crate) use events::Arrival;
pub use keys::{GRACE_KEYS_PER_FAMILY, KEYS_PER_ORG_MAX, KeyAdded};

use super::{StateError, Store};
use crate::journal::Position;
use crate::model::activity::Activity;
use crate::model::event::EventStatus;
use crate::model::id::{EndpointId, EventId, OrgNo};
use crate::model::operational_event::OperationalEventKind;
use crate::model::org::InboxMode;
use crate::model::time::{Look, Timestamp};
use crate::store::rows::schema::{
    BLOCK_EVENTS, EventAddress, EventBlock, EventEntry, FORMAT, KeyRow, Meta,
};
use crate::store::rows::state::State;

const _: () = assert!(FORMAT > 0 && BLOCK_EVENTS <= u64::BITS as usize);

/// The key of a request may not ask for the command, so nothing is done.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Refusal {
    /// The key has ended, or belongs to another organization.
    NotAuthorized,
    /// The key lacks a scope that the command needs.
    Forbidden,
    /// The organization of the key is suspended.
    Suspended,
}

/// The reason why a command has no effect and no outcome.
#[derive(Debug)]
pub enum Unapplied {
    /// The asking key is refused.
    Refused(Refusal),
    /// The state is broken.
    Broken(StateError),
}

impl From<Refusal> for Unapplied {
    fn from(refusal: Refusal) -> Self {
        Self::Refused(refusal)
    }
}

impl From<StateError> for Unapplied {
    fn from(error: StateError) -> Self {
        Self::Broken(error)
    }
}

/// An operational event that was stored.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct Stored {
    /// The kind of operational event.
    pub kind: OperationalEventKind,
    /// The id of the event.
    pub id: EventId,
    /// The time at which the event was received.
    pub received_at: Timestamp,
}

/// Everything that follows from applied commands beside their outcomes. For work, each item is a
/// hint: the rows hold the same facts.
#[derive(Debug, Default)]
pub struct Effects {
    /// Set if somebody watches, so that commands make activity.
    pub is_watched: bool,
    /// The activity of the commands, in their order; empty unless somebody watches.
    pub activity: Vec<(OrgNo, Activity)>,
    /// Number of stored events.
    pub stored: u64,
    /// Number of events that were not stored, because their dedup id was known.
    pub duplicates: u64,
    /// Events to be routed to endpoints.
    pub unrouted: Vec<(OrgNo, EventId)>,
    /// Deliveries that wait, and when to look at each.
    pub due: Vec<(EndpointId, Look, EventId)>,
    /// Endpoints that were created, changed or deleted.
    pub endpoints_changed: Vec<EndpointId>,
    /// Organizations with new events in the inbox.
    pub inbox_grew: Vec<OrgNo>,
    /// Set when a replay has started.
    pub replays_began: bool,
    /// Number of deliveries queued by replays.
    pub replayed: u64,
    /// Journal positions of events that nobody may see any more.
    pub unneeded: Vec<Position>,
}

impl Effects {
    /// Adds an item to the activity, if somebody watches.
    pub(crate) fn add_activity(&mut self, org: OrgNo, activity: impl FnOnce() -> Activity) {
        if self.is_watched {
            self.activity.push((org, activity()));
        }
    }
}

impl Store {
    /// Locks the state for a batch of changes, which add their effects to `effects`.
    pub fn begin<'a>(&'a self, effects: &'a mut Effects) -> Batch<'a> {
        Batch { state: self.write(), effects }
    }
}

/// The locked state while commands are applied.
#[derive(Debug)]
pub struct Batch<'a> {
    state: RwLockWriteGuard<'a, State>,
    effects: &'a mut Effects,
}

impl Batch<'_> {
    /// Returns the change for the command at `position` in the journal.
    pub fn change(&mut self, position: Position) -> Change<'_> {
        Change { state: &mut self.state, effects: self.effects, position, requester: None }
    }

    /// Ends the batch; `applied` is the journal position behind the last command.
    ///
    /// # Errors
    /// Rows cannot be read. The state must not be used any more then; a restart rebuilds it.
    pub fn finish(mut self, applied: Position) -> Result<(), StateError> {
        meta(&mut self.state)?.applied = applied;
        Ok(())
    }
}

/// Every row of an unrouted event has its event.
pub(crate) const UNROUTED_IS_STORED: StateError =
    StateError::Invariant("an unrouted event is stored");

const NO_EVENT: StateError = StateError::Invariant("a located event is in its block");

/// A count of items.
pub(crate) trait Count: Sized {
    /// Lowers the count by one.
    ///
    /// # Errors
    /// The count is 0.
    fn lower(&mut self) -> Result<(), StateError>;

    /// Lowers the count.
    ///
    /// # Errors
    /// The count is smaller than `fewer`.
    fn lower_by(&mut self, fewer: Self) -> Result<(), StateError>;
}

macro_rules! count {
    ($($number:ty)*) => {
        $(impl Count for $number {
            fn lower(&mut self) -> Result<(), StateError> {
                self.lower_by(1)
            }

            fn lower_by(&mut self, fewer: Self) -> Result<(), StateError> {
                let left = self.checked_sub(fewer);
                *self = left.ok_or(StateError::Invariant("a counted item is removed only once"))?;
                Ok(())
            }
        })*
    };
}

count!(u16 u64);

/// The state while a single command is applied.
#[derive(Debug)]
pub struct Change<'a> {
    pub(crate) state: &'a mut State,
    pub(crate) effects: &'a mut Effects,
    /// The journal position of the command.
    pub(crate) position: Position,
    /// The key that asks for the change; `None` for the operator and the server itself.
    pub(crate) requester: Option<Arc<KeyRow>>,
}

impl Change<'_> {
    /// Returns the row of counters for the whole state.
    pub(crate) fn meta(&mut self) -> Result<&mut Meta, StateError> {
        meta(self.state)
    }

    /// Remembers the largest id, so that ids continue after it at the next start.
    pub(crate) fn note_id(&mut self, id: u128) -> Result<(), StateError> {
        let meta = self.meta()?;
        meta.last_id = meta.last_id.max(id);
        Ok(())
    }

    /// Remembers the latest steady time, so that it never goes back, not even at the next start.
    pub(crate) fn note_steady(&mut self, at: Timestamp) -> Result<(), StateError> {
        let meta = self.meta()?;
        meta.steady = meta.steady.max(at);
        Ok(())
    }

    /// Returns the address of an event, if the event exists.
    pub(crate) fn locate(
        &self,
        org: OrgNo,
        event: EventId,
    ) -> Result<Option<EventAddress>, StateError> {
        let Some((first, block)) = block_of(self.state, org, event)? else { return Ok(None) };
        Ok(block.find(event).map(|(index, _)| (first, index)))
    }

    /// Reads a part of an event's entry.
    pub(crate) fn read_event<T>(
        &self,
        org: OrgNo,
        (first, index): EventAddress,
        read: impl FnOnce(&EventEntry) -> T,
    ) -> Result<T, StateError> {
        let block = self.state.events.promised((org, first))?;
        block.events.get(index).map(read).ok_or(NO_EVENT)
    }

    /// Changes an event's entry, then updates the event's status and the inbox.
    pub(crate) fn edit_event(
        &mut self,
        org: OrgNo,
        (first, index): EventAddress,
        change: impl FnOnce(&mut EventEntry) -> Result<(), StateError>,
    ) -> Result<(), StateError> {
        let stays_open = self.state.orgs.promised(org)?.org.inbox_mode == InboxMode::AckOnly;
        let block = self.state.events.edit_promised((org, first))?;
        block.changed = self.position;
        let entry = block.events.get_mut(index).ok_or(NO_EVENT)?;
        change(entry)?;
        entry.status = match entry.status {
            _ if entry.acknowledged_at.is_some() => EventStatus::Acknowledged,
            _ if entry.waiting > 0 => EventStatus::Accepted,
            _ if entry.dead > 0 => EventStatus::Dead,
            _ if entry.accepted > 0 => EventStatus::Delivered,
            EventStatus::Dead => EventStatus::Dead,
            EventStatus::Accepted | EventStatus::Delivered | EventStatus::Acknowledged => {
                EventStatus::Accepted
            }
        };
        match entry.status {
            _ if entry.erased_at.is_some() => self.leave_inbox(org, first, index),
            EventStatus::Acknowledged => self.leave_inbox(org, first, index),
            EventStatus::Delivered if !stays_open => self.leave_inbox(org, first, index),
            EventStatus::Accepted | EventStatus::Delivered | EventStatus::Dead => Ok(()),
        }
    }

    /// Removes an event from the inbox for good. A later replay or retry does not put the event
    /// back; otherwise consumers would see old events again when history is replayed to an
    /// endpoint.
    fn leave_inbox(&mut self, org: OrgNo, first: EventId, index: usize) -> Result<(), StateError> {
        let Some(open) = self.state.open.edit((org, first))? else { return Ok(()) };
        let bit = 1 << index;
        if open.0 & bit == 0 {
            return Ok(());
        }
        open.0 &= !bit;
        if open.0 == 0 {
            self.state.open.remove((org, first));
        }
        self.meta()?.open.lower()?;
        self.state.inboxes.edit_promised(org)?.open.lower()
    }
}

/// Returns the row of counters for the whole state.
pub(super) fn meta(state: &mut State) -> Result<&mut Meta, StateError> {
    state.meta.edit_or_insert((), Meta::default)
}

/// Returns the block that holds the event if the event exists.
pub(super) fn block_of(
    state: &State,
    org: OrgNo,
    event: EventId,
) -> Result<Option<(EventId, Arc<EventBlock>)>, StateError> {
    let (lowest, key) = ((org, EventId(0)), (org, event));
    if let Some(((_, first), block)) = state.events.fresh_at_or_before(lowest, key)
        && block.find(event).is_some()
    {
        return Ok(Some((first, block)));
    }
    Ok(state.events.at_or_before(lowest, key)?.map(|((_, first), block)| (first, block)))
}
