//! The need for a record: who still reads it, once a snapshot holds what follows from it.
//! Compaction removes records that nobody needs, and cuts the parts that nobody may see.
//!
//! Records are read by their position for three reasons: for an event ([`Records::event`]), for the
//! attempts of a delivery ([`Records::attempt`]), and for the end of an event's routing
//! ([`Records::routing_end`]). A new reason needs a line in `judge`. The events that a command
//! stores are those of [`Kind::stored_events`].
//!
//! [`Kind::stored_events`]: super::Kind::stored_events
//! [`Records::event`]: super::Records::event
//! [`Records::attempt`]: super::Records::attempt
//! [`Records::routing_end`]: super::Records::routing_end

use super::{Command, Record};
use crate::model::id::{EventId, OrgNo};
use crate::model::time::Timestamp;
use crate::store::{EventRecords, StateError, Store};

/// The parts of a record that nobody may see any more.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq)]
pub struct Cuts {
    /// The receiver's words in the outcome of an attempt.
    outcome: bool,
    /// A bit for each event that the command stores and whose payload is cut.
    payloads: u8,
}

/// The need for a record. Needs only become less: what nobody needs, nobody will ever need.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Need {
    /// The whole record is needed.
    Whole,
    /// The record is needed without these parts.
    Without(Cuts),
    /// Nobody reads the record.
    Nothing,
    /// Nobody reads the record, and nobody may see it any more: its organization was deleted.
    Forgotten,
}

/// Returns the need for each record by the present state.
///
/// # Errors
/// Rows cannot be read.
pub fn needs(store: &Store, records: &[Record]) -> Result<Vec<Need>, StateError> {
    let named: Vec<_> = records.iter().map(named_events).collect();
    let found = store.event_records(&named.concat())?;
    let mut found = found.into_iter();
    let orgs: Vec<_> = records.iter().map(|record| record.command.owner()).collect();
    let forgotten = store.are_forgotten(&orgs)?;
    let need = |((record, named), is_forgotten): ((&Record, &Vec<_>), bool)| {
        let found: Vec<_> = found.by_ref().take(named.len()).collect();
        if is_forgotten { Need::Forgotten } else { judge(record, &found) }
    };
    Ok(records.iter().zip(&named).zip(forgotten).map(need).collect())
}

/// Returns the events that may need the record: first the event that the command is about, if there
/// is one, then the events that the command stores.
fn named_events(record: &Record) -> Vec<(OrgNo, EventId)> {
    let action = record.command.action();
    let Some(org) = action.org() else { return Vec::new() };
    action.event().into_iter().chain(action.stored_events()).map(|event| (org, event)).collect()
}

/// Judges a record by the references of its events, see [`named_events`].
fn judge(record: &Record, found: &[Option<EventRecords>]) -> Need {
    let (at, action) = (record.position, record.command.action());
    let (about, stored) = found.split_at_checked(action.event().iter().count()).unwrap_or_default();
    let about = about.first().copied().flatten();
    let stored = stored.iter().map(|event| event.filter(|event| event.position == at));
    let is_attempt = matches!(action, Command::SettleAttempt(_));
    // The attempts of a delivery are a chain, so each is needed as long as its event exists.
    let is_read_about = about.is_some_and(|about| is_attempt || about.routed == Some(at));
    if !is_read_about && !stored.clone().any(|event| event.is_some()) {
        return Need::Nothing;
    }
    let is_seen = about.is_some_and(|about| !about.is_erased);
    let mut cuts = Cuts { outcome: is_attempt && !is_seen, payloads: 0 };
    for (number, event) in stored.enumerate() {
        if event.is_some_and(|event| event.is_erased) {
            cuts.payloads |= bit(number);
        }
    }
    let cuts_nothing = cuts == Cuts::default() || action.clone().without(cuts) == *action;
    if cuts_nothing { Need::Whole } else { Need::Without(cuts) }
}

/// Returns the bit of the event with this number among the stored events.
fn bit(number: usize) -> u8 {
    u32::try_from(number).ok().and_then(|number| 1_u8.checked_shl(number)).unwrap_or(0)
}

impl Command {
    /// Returns the organization that the record is about, also if the command creates it.
    fn owner(&self) -> Option<OrgNo> {
        self.org().or_else(|| self.made_org())
    }

    /// Returns the time of receipt of the event that the command stores, if it stores one.
    pub fn received_at(&self) -> Option<Timestamp> {
        match self.action() {
            Self::SubmitEvent(submit) => Some(submit.received_at),
            Self::ExpireEvents(expire) => expire.report.as_ref().map(|report| report.received_at),
            Self::ReportKeyEnd(report) => Some(report.report.received_at),
            _ => None,
        }
    }

    /// Returns the command without these parts. The rest that the API shows of it stays the same.
    #[must_use]
    pub fn without(mut self, cuts: Cuts) -> Self {
        for (number, event) in self.stored_events().into_iter().enumerate() {
            if cuts.payloads & bit(number) != 0 {
                self.forget_payload(event);
            }
        }
        if let Self::SettleAttempt(settle) = &mut self
            && cuts.outcome
        {
            settle.outcome = settle.outcome.clone().without_receivers_words();
        }
        self
    }
}

#[cfg(test)]
#[path = "need_tests.rs"]
mod tests;
