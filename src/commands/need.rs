//! The need for a record: who still reads it, once a snapshot holds what follows from it.
//! Compaction removes records that nobody needs, and cuts the parts that nobody may see.
//!
//! Records are read by their position for three reasons: for an event ([`Records::event`]), for the
//! attempts of a delivery ([`Records::attempt`]), and for the end of an event's routing
//! ([`Records::routing_end`]). A new reason needs a line here.
//!
//! [`Records::event`]: super::Records::event
//! [`Records::attempt`]: super::Records::attempt
//! [`Records::routing_end`]: super::Records::routing_end

use super::{Command, Record, SettleAttempt};
use crate::journal::Position;
use crate::model::id::{EventId, OrgNo};
use crate::store::{EventRecords, StateError, Store};

/// The parts of a record that nobody may see any more.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq)]
pub struct Cuts {
    /// The payload of the event, or the receiver's words in the outcome of the attempt.
    main: bool,
    /// A bit for each operational event in the record whose payload is cut.
    operational_events: u8,
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
}

/// Returns the need for each record by the present state.
///
/// # Errors
/// Rows cannot be read.
pub fn needs(store: &Store, records: &[Record]) -> Result<Vec<Need>, StateError> {
    let events: Vec<_> = records.iter().flat_map(named_events).collect();
    let found = store.event_records(&events)?;
    let mut found = found.into_iter();
    let need = |record: &Record| {
        let named = named_events(record).count();
        judge(record, &found.by_ref().take(named).collect::<Vec<_>>())
    };
    Ok(records.iter().map(need).collect())
}

/// Returns the events that may need the record: the event itself first, then operational events.
fn named_events(record: &Record) -> impl Iterator<Item = (OrgNo, EventId)> {
    let action = record.command.action();
    let (main, told) = match action {
        Command::SubmitEvent(submit) => (Some(submit.id), [].as_slice()),
        Command::SettleAttempt(settle) => {
            (Some(settle.event), settle.operational_events.as_slice())
        }
        Command::ExpireEvents(expire) => (expire.report.as_ref().map(|report| report.id), &[][..]),
        other => (other.event(), [].as_slice()),
    };
    let events = main.into_iter().chain(told.iter().map(|told| told.id));
    action.org().into_iter().flat_map(move |org| events.clone().map(move |event| (org, event)))
}

/// Judges a record by the references of its events, see [`named_events`].
fn judge(record: &Record, found: &[Option<EventRecords>]) -> Need {
    let at = record.position;
    let main = found.first().copied().flatten();
    match record.command.action() {
        Command::SubmitEvent(submit) => judge_event(&submit.event.payload, at, main),
        Command::ExpireEvents(expire) => {
            let payload = expire.report.as_ref().map_or(&[][..], |report| &report.payload);
            judge_event(payload, at, main)
        }
        Command::SettleAttempt(settle) => {
            judge_attempt(settle, at, main, found.get(1..).unwrap_or_default())
        }
        _ => match main.filter(|event| event.routed == Some(at)) {
            Some(_) => Need::Whole,
            None => Need::Nothing,
        },
    }
}

/// A record that holds one event is needed as long as the event exists.
fn judge_event(payload: &[u8], at: Position, event: Option<EventRecords>) -> Need {
    match event.filter(|event| event.position == at) {
        Some(event) if event.is_erased && !payload.is_empty() => {
            Need::Without(Cuts { main: true, operational_events: 0 })
        }
        Some(_) => Need::Whole,
        None => Need::Nothing,
    }
}

/// The attempts of a delivery are a chain, so every attempt is needed as long as its event exists.
fn judge_attempt(
    settle: &SettleAttempt,
    at: Position,
    event: Option<EventRecords>,
    told: &[Option<EventRecords>],
) -> Need {
    let here = |found: &Option<EventRecords>| found.filter(|event| event.position == at);
    if event.is_none() && !told.iter().any(|found| here(found).is_some()) {
        return Need::Nothing;
    }
    let main = event.is_none_or(|event| event.is_erased);
    let mut cuts = Cuts { main, operational_events: 0 };
    for (number, found) in told.iter().enumerate() {
        let is_erased = here(found).is_some_and(|event| event.is_erased);
        cuts.operational_events |= u8::from(is_erased).checked_shl(bit(number)).unwrap_or(0);
    }
    if cuts.of_attempt(settle) == *settle { Need::Whole } else { Need::Without(cuts) }
}

fn bit(number: usize) -> u32 {
    u32::try_from(number).unwrap_or(u32::MAX)
}

impl Command {
    /// Returns the command without these parts. What the API shows of it stays the same.
    #[must_use]
    pub fn without(self, cuts: Cuts) -> Self {
        match self {
            Self::SubmitEvent(mut submit) => {
                if cuts.main {
                    submit.event.payload = Box::default();
                }
                Self::SubmitEvent(submit)
            }
            Self::SettleAttempt(settle) => cuts.of_attempt(&settle).into(),
            Self::ExpireEvents(mut expire) => {
                if let Some(report) = expire.report.as_mut().filter(|_| cuts.main) {
                    report.payload = Box::default();
                }
                Self::ExpireEvents(expire)
            }
            other => other,
        }
    }
}

impl Cuts {
    fn of_attempt(self, settle: &SettleAttempt) -> SettleAttempt {
        let mut cut = settle.clone();
        if self.main {
            cut.outcome = cut.outcome.without_receivers_words();
        }
        for (number, told) in cut.operational_events.iter_mut().enumerate() {
            if self.operational_events.checked_shr(bit(number)).unwrap_or(0) & 1 != 0 {
                told.payload = Box::default();
            }
        }
        cut
    }
}

#[cfg(test)]
#[path = "need_tests.rs"]
mod tests;
