//! The records of the log as commands. Only this file turns one into the other; every module that
//! reads the log reads it here.

use std::sync::Arc;

use rayon::iter::{IntoParallelRefIterator, ParallelIterator};

use super::{Command, KindInfo, SettleAttempt, UnknownRecord};
use crate::base::codec::CodecError;
use crate::journal::{Follow, Group, Position, RawRecord, ReadError, ReadLog, RecordRefused};
use crate::model::event::StoredEvent;
use crate::model::id::{EndpointId, EventId};
use crate::model::routing::RoutingEnd;

/// A command of the log.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct Record {
    /// The position of the command in the log.
    pub position: Position,
    /// The command.
    pub command: Command,
}

/// The reason why a record cannot be read.
#[derive(Debug, thiserror::Error)]
pub enum RecordError {
    /// The log cannot be read.
    #[error(transparent)]
    Log(#[from] ReadError),
    /// The log holds a record that this version does not know.
    #[error("the log cannot be read at position {position}: {unknown}")]
    Unknown {
        /// The position of the record.
        position: Position,
        /// The kind and version of the record.
        unknown: UnknownRecord,
    },
    /// The log holds another command than the state says.
    #[error(
        "position {position} of the log has the command {found}, but the state expects {expected}"
    )]
    Other {
        /// The position of the command.
        position: Position,
        /// The kind of the command.
        found: &'static str,
        /// The command that the state says.
        expected: String,
    },
}

impl RecordError {
    /// Returns true if the record was removed: by compaction, or by a salvage around damage.
    pub fn is_removed(&self) -> bool {
        matches!(self, Self::Log(ReadError::Removed(_)))
    }
}

/// The reason why a command cannot become a record.
#[derive(Debug, thiserror::Error)]
pub enum Unwritable {
    /// The command cannot be encoded.
    #[error(transparent)]
    Codec(#[from] CodecError),
    /// The record does not fit into a group.
    #[error(transparent)]
    Refused(#[from] RecordRefused),
}

impl Command {
    /// Adds the command to a commit group.
    ///
    /// # Errors
    /// The command is too large. The group stays as before.
    pub fn add_to(&self, group: &mut Group) -> Result<(), Unwritable> {
        let KindInfo { number, version, .. } = self.kind();
        group.try_push(number, version, |body| Ok(self.write(body)?))
    }

    /// Returns the command as a record at this position.
    ///
    /// # Errors
    /// The command is too large.
    pub fn to_raw(&self, position: Position) -> Result<RawRecord<'static>, CodecError> {
        let (KindInfo { number: kind, version, .. }, mut body) = (self.kind(), Vec::new());
        self.write(&mut body)?;
        Ok(RawRecord { position, kind, version, body: body.into() })
    }

    /// Returns the command of a record.
    ///
    /// # Errors
    /// The record is of a newer version or malformed.
    pub fn of_raw(record: &RawRecord<'_>) -> Result<Self, UnknownRecord> {
        Self::read(record.kind, record.version, &record.body)
    }
}

/// Reads commands from a log. Cheap to clone.
#[derive(Clone)]
pub struct Records(Arc<dyn ReadLog>);

impl Records {
    /// Returns the records of this log.
    pub fn new(log: impl ReadLog + 'static) -> Self {
        Self(Arc::new(log))
    }

    /// Returns the oldest position of the log.
    pub fn first(&self) -> Position {
        self.0.first()
    }

    /// Returns the end of the log, which is the position of the next group.
    pub fn end(&self) -> Position {
        self.0.end()
    }

    /// Returns true if a damaged record was found since the log was opened.
    pub fn is_damaged(&self) -> bool {
        self.0.is_damaged()
    }

    /// Reads the event with this id, of which the state knows the position.
    ///
    /// # Errors
    /// The record cannot be read, or it does not hold the event.
    pub fn event(&self, id: EventId, position: Position) -> Result<StoredEvent, RecordError> {
        let command = self.command(position)?;
        let found = command.kind().name;
        let other = || RecordError::Other { position, found, expected: format!("the event {id}") };
        command.into_event(id).ok_or_else(other)
    }

    /// Reads an attempt of the delivery of an event to an endpoint.
    ///
    /// # Errors
    /// The record cannot be read, or it does not hold such an attempt.
    pub fn attempt(
        &self,
        (event, endpoint): (EventId, EndpointId),
        position: Position,
    ) -> Result<SettleAttempt, RecordError> {
        match self.command(position)? {
            Command::SettleAttempt(found) if (found.event, found.endpoint) == (event, endpoint) => {
                Ok(*found)
            }
            other => Err(RecordError::Other {
                position,
                found: other.kind().name,
                expected: format!("an attempt to send {event} to {endpoint}"),
            }),
        }
    }

    /// Reads how the routing of the event ended, of which the state knows the position.
    ///
    /// # Errors
    /// The record cannot be read, or it does not end the routing of the event.
    pub fn routing_end(
        &self,
        event: EventId,
        position: Position,
    ) -> Result<RoutingEnd, RecordError> {
        let command = self.command(position)?;
        let (found, of) = (command.kind().name, command.event());
        let expected = || format!("the routing of {event}");
        let other = || RecordError::Other { position, found, expected: expected() };
        command.into_routing_end().filter(|_| of == Some(event)).ok_or_else(other)
    }

    fn command(&self, position: Position) -> Result<Command, RecordError> {
        let record = self.0.read(position)?;
        let command = Command::of_raw(&record);
        match command.map_err(|unknown| RecordError::Unknown { position, unknown })? {
            // A salvage writes the note in the place of lost records.
            Command::NoteLoss(_) => Err(ReadError::Removed(position).into()),
            command => Ok(command),
        }
    }

    /// Returns a follower, which gives the commands from `from` on.
    ///
    /// # Errors
    /// The position lies outside of the log.
    pub fn follow(&self, from: Position) -> Result<RecordFollower, RecordError> {
        Ok(RecordFollower(self.0.follow(from)?))
    }
}

/// Commands in order. As an iterator it ends where the log ends, and goes on there when the log has
/// grown. It ends for good when the log cannot be read.
pub struct RecordFollower(Box<dyn Follow>);

impl RecordFollower {
    /// Returns the position at which the next command is expected.
    pub fn position(&self) -> Position {
        self.0.position()
    }

    /// Returns the next commands, with at most `bytes_max` bytes and one command more. They are
    /// decoded in parallel, by the pool of threads that the caller is in. The result is empty at
    /// the end of the log.
    ///
    /// # Errors
    /// A record cannot be read, or is of a newer version.
    pub fn chunk(&mut self, bytes_max: usize) -> Result<Vec<Record>, RecordError> {
        let (mut records, mut bytes) = (Vec::new(), 0);
        while bytes < bytes_max
            && let Some(record) = self.0.next()
        {
            let record = record?;
            bytes += record.body.len();
            records.push(record.into_owned());
        }
        records.par_iter().map(decode).collect()
    }
}

impl Iterator for RecordFollower {
    type Item = Result<Record, RecordError>;

    fn next(&mut self) -> Option<Self::Item> {
        let record = self.0.next()?;
        Some(record.map_err(RecordError::Log).and_then(|record| decode(&record)))
    }
}

fn decode(record: &RawRecord<'_>) -> Result<Record, RecordError> {
    let position = record.position;
    match Command::of_raw(record) {
        Ok(command) => Ok(Record { position, command }),
        Err(unknown) => Err(RecordError::Unknown { position, unknown }),
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn errors_name_the_position_and_the_record() {
        let position = Position(5);
        let malformed = UnknownRecord::Malformed(CodecError::new("3 bytes left over"));
        let newer = UnknownRecord::Newer { kind: 9, version: 3 };
        let [malformed, newer] = [malformed, newer]
            .map(|unknown| RecordError::Unknown { position, unknown }.to_string());
        assert_eq!(
            malformed,
            "the log cannot be read at position 5: not a valid record: 3 bytes left over"
        );
        assert_eq!(
            newer,
            "the log cannot be read at position 5: a record of kind 9 version 3, written by a \
             newer version of triggerd"
        );
        let (found, expected) = ("ack_event", "the event evt_1".to_owned());
        assert_eq!(
            RecordError::Other { position, found, expected }.to_string(),
            "position 5 of the log has the command ack_event, but the state expects the event evt_1"
        );
    }
}
