//! The only writer of the state: a command in, rows changed, an outcome out.
//!
//! Deterministic: no clock, no randomness, no configuration, no I/O but reading rows. The same journal gives the same
//! rows, byte for byte, however often it is applied; so anything that varies (ids, times, windows) stands in the command.

mod accounts;
mod deliveries;
mod erase;
mod events;
mod keys;
mod notices;
mod repeats;
mod replays;

pub use accounts::ENDPOINTS_PER_ORG_MAX;
pub use keys::KEYS_PER_ORG_MAX;

use std::sync::Arc;

use super::schema::{BLOCK_EVENTS, EventBlock, FORMAT, KeyRow, Meta};
use super::table::State;
use super::{StateError, Store};
use crate::model::command::Command;
use crate::model::event::EventStatus;
use crate::model::id::{EndpointId, EventId, OrgId, OrgNo};
use crate::model::notice::NoticeKind;
use crate::model::time::Timestamp;

const _: () = assert!(FORMAT > 0 && BLOCK_EVENTS <= u64::BITS as usize);

/// What became of a command.
#[derive(Clone, Debug, PartialEq, Eq)]
pub enum Outcome {
    /// It took effect (or had done so before).
    Done,
    /// The organization has this number.
    OrgCreated(OrgNo),
    /// There is no new organization, because this one has the name.
    OrgExists(OrgId),
    /// The event is stored.
    Accepted {
        /// Its id.
        id: EventId,
        /// When it was taken in.
        received_at: Timestamp,
    },
    /// An event with the same dedup id, type and payload was stored before.
    Duplicate {
        /// The first one's id.
        id: EventId,
        /// When the first one was taken in.
        received_at: Timestamp,
    },
    /// An event with the same dedup id but another type or payload was stored before.
    Mismatch {
        /// The first one's id.
        id: EventId,
    },
    /// The event is confirmed.
    Acknowledged {
        /// Since when.
        at: Timestamp,
    },
    /// The event's payload is erased.
    Erased {
        /// Since when.
        at: Timestamp,
    },
    /// It took effect, and these operational events were stored with it.
    Told(Vec<Told>),
    /// The delivery had been canceled while the attempt was under way, and stays so. The attempt counts for its endpoint,
    /// and these operational events were stored with it.
    Canceled(Vec<Told>),
    /// Nothing happened: the attempt was settled before, or its delivery is over or never was.
    Moot,
    /// What it speaks of does not exist.
    NotFound,
    /// The organization has as many of these as it may have.
    LimitReached,
    /// Nothing happened: the command left out a part of what it would have to change. Looked up again, it is complete.
    Incomplete,
    /// Nothing happened: the key that it stands on has ended by then.
    NotAuthorized,
    /// Nothing happened: the key that it stands on may not do this.
    Forbidden,
}

impl Outcome {
    /// The operational events that were stored with it.
    pub fn told(&self) -> &[Told] {
        match self {
            Self::Told(told) | Self::Canceled(told) => told,
            _ => &[],
        }
    }
}

/// An operational event that was stored.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct Told {
    /// What it says.
    pub kind: NoticeKind,
    /// Its id.
    pub id: EventId,
    /// When it was taken in.
    pub received_at: Timestamp,
}

/// What the applied commands give others to do. All of it is a hint: the rows know it as well.
#[derive(Debug, Default)]
pub struct Effects {
    /// Events that need routing.
    pub unrouted: Vec<(OrgNo, EventId)>,
    /// Deliveries that were made, and when they are due.
    pub due: Vec<(EndpointId, Timestamp, EventId)>,
    /// Endpoints that were made, changed or ended.
    pub endpoints_changed: Vec<EndpointId>,
    /// Organizations whose inbox grew.
    pub inbox_grew: Vec<OrgNo>,
    /// Whether a replay began.
    pub replays_began: bool,
    /// Deliveries that were made because of replays.
    pub replayed: u64,
}

impl Store {
    /// Applies commands that are on stable storage, in journal order. `commands` gives each with the position of its
    /// frame; `applied` is the position behind the last of them.
    ///
    /// # Errors
    /// When rows cannot be read. The state must not be used any more then; a restart rebuilds it.
    pub fn apply<'a>(
        &self,
        commands: impl Iterator<Item = (u64, &'a Command)>,
        applied: u64,
        outcomes: &mut Vec<Outcome>,
    ) -> Result<Effects, StateError> {
        let mut state = self.write();
        let mut effects = Effects::default();
        for (position, command) in commands {
            outcomes.push(Change { state: &mut state, effects: &mut effects, position, asker: None }.apply(command)?);
        }
        meta(&mut state)?.applied = applied;
        Ok(effects)
    }
}

/// The key of an event's block, and its place there.
type Place = (EventId, usize);

/// One command being applied.
struct Change<'a> {
    state: &'a mut State,
    effects: &'a mut Effects,
    /// Of the command's frame.
    position: u64,
    /// The key that asks for it; none: the operator, or the server itself.
    asker: Option<Arc<KeyRow>>,
}

impl Change<'_> {
    fn apply(&mut self, command: &Command) -> Result<Outcome, StateError> {
        match command {
            Command::CreateOrg(command) => self.create_org(command),
            Command::CreateKey(command) => self.create_key(command),
            Command::RotateKey(command) => self.rotate_key(command),
            Command::EndKey(command) => self.end_key(command),
            Command::NoteKeysUsed(command) => self.note_keys_used(command),
            Command::PutEndpoint(command) => self.put_endpoint(command),
            Command::DeleteEndpoint(command) => self.delete_endpoint(command),
            Command::SubmitEvent(command) => self.submit_event(command),
            Command::AckEvent(command) => self.ack_event(command),
            Command::RouteEvent(command) => self.route_event(command),
            Command::NoteRouteCrash(command) => self.note_route_crash(command),
            Command::SettleAttempt(command) => self.settle_attempt(command),
            Command::CancelDeliveries(command) => self.cancel_deliveries(command),
            Command::RetryDelivery(command) => self.retry_delivery(command),
            Command::DropDead(command) => self.drop_dead(command),
            Command::EraseEvent(command) => self.erase_event(command),
            Command::ExpireDedup(command) => self.expire_dedup(command),
            Command::SkipOrgs(command) => self.skip_orgs(command),
            Command::StartReplay(command) => self.start_replay(command),
            Command::StepReplay(command) => self.step_replay(command),
            Command::EndReplay(command) => self.end_replay(command),
            Command::ExpireKeys(command) => self.expire_keys(command),
            Command::Requested(command) => self.requested(command),
        }
    }

    /// Remembers the largest id, so that the next start goes on after it.
    fn note_id(&mut self, id: u128) -> Result<(), StateError> {
        let meta = meta(self.state)?;
        meta.last_id = meta.last_id.max(id);
        Ok(())
    }

    /// The key of the block that holds the event, and the event's place in it.
    fn locate(&self, org: OrgNo, event: EventId) -> Result<Option<(EventId, usize)>, StateError> {
        let Some((first, block)) = block_of(self.state, org, event)? else { return Ok(None) };
        Ok(block.find(event).map(|(place, _)| (first, place)))
    }

    /// Changes an event's entry, then settles what follows for its status and the inbox.
    fn edit_event(
        &mut self,
        org: OrgNo,
        (first, place): (EventId, usize),
        change: impl FnOnce(&mut super::schema::EventEntry),
    ) -> Result<(), StateError> {
        let stays_open =
            self.state.orgs.get(org)?.is_some_and(|row| row.org.inbox_mode == crate::model::org::InboxMode::AckOnly);
        let block = self.state.events.edit((org, first))?;
        let Some(entry) = block.and_then(|block| block.events.get_mut(place)) else { return Ok(()) };
        change(entry);
        entry.status = match entry.status {
            _ if entry.acknowledged_at.is_some() => EventStatus::Acknowledged,
            _ if entry.waiting > 0 => EventStatus::Accepted,
            _ if entry.dead > 0 => EventStatus::Dead,
            _ if entry.accepted > 0 => EventStatus::Delivered,
            EventStatus::Dead => EventStatus::Dead,
            EventStatus::Accepted | EventStatus::Delivered | EventStatus::Acknowledged => EventStatus::Accepted,
        };
        match entry.status {
            _ if entry.erased_at.is_some() => self.leave_inbox(org, first, place),
            EventStatus::Acknowledged => self.leave_inbox(org, first, place),
            EventStatus::Delivered if !stays_open => self.leave_inbox(org, first, place),
            EventStatus::Accepted | EventStatus::Delivered | EventStatus::Dead => Ok(()),
        }
    }

    /// For good: one that is delivered again, to whomever, does not come back, or whoever pulls would see everything anew
    /// when somebody else has history replayed.
    fn leave_inbox(&mut self, org: OrgNo, first: EventId, place: usize) -> Result<(), StateError> {
        let Some(open) = self.state.open.edit((org, first))? else { return Ok(()) };
        let bit = 1 << place;
        if open.0 & bit == 0 {
            return Ok(());
        }
        open.0 &= !bit;
        if open.0 == 0 {
            self.state.open.remove((org, first));
        }
        meta(self.state)?.open -= 1;
        if let Some(inbox) = self.state.inboxes.edit(org)? {
            inbox.open = inbox.open.saturating_sub(1);
        }
        Ok(())
    }
}

/// The one row of counters.
pub(super) fn meta(state: &mut State) -> Result<&mut Meta, StateError> {
    state.meta.edit_or_insert((), Meta::default)
}

/// The block that holds the event if it exists.
pub(super) fn block_of(
    state: &State,
    org: OrgNo,
    event: EventId,
) -> Result<Option<(EventId, std::sync::Arc<EventBlock>)>, StateError> {
    let (lowest, key) = ((org, EventId(0)), (org, event));
    if let Some(((_, first), block)) = state.events.fresh_at_or_before(lowest, key)
        && block.find(event).is_some()
    {
        return Ok(Some((first, block)));
    }
    Ok(state.events.last(lowest..=key)?.map(|((_, first), block)| (first, block)))
}

#[cfg(test)]
#[path = "../apply_tests.rs"]
pub(super) mod tests;
