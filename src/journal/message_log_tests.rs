//! A log in memory that keeps each group as one message, as a replicated log would. It shows that
//! the rest of the program depends on the [`Log`] alone: positions have gaps, and there is no file.

use std::sync::{Arc, PoisonError, RwLock};

use super::error::{AppendError, Damage, ReadError};
use super::frame::{Group, parse};
use super::log::{Appended, Follow, Log, RawRecord, ReadLog};
use super::position::Position;

/// Number of positions for a message, so that a position is a message's number and an offset in it.
const MESSAGE_BYTES_MAX: u64 = 1 << 32;

type Messages = Arc<RwLock<Vec<Vec<u8>>>>;

/// A log of messages. Clones share the messages.
#[derive(Clone, Default)]
pub(crate) struct MessageLog {
    messages: Messages,
    positions: Vec<Position>,
}

impl MessageLog {
    /// Reads the frame at a position, or returns `None` at the end of a message.
    fn at(&self, position: Position) -> Option<Result<RawRecord<'static>, ReadError>> {
        let messages = self.messages.read().unwrap_or_else(PoisonError::into_inner);
        let (message, offset) =
            (position.0 / MESSAGE_BYTES_MAX, usize::try_from(position.0 % MESSAGE_BYTES_MAX));
        let message = usize::try_from(message).unwrap().checked_sub(1);
        let Some(message) = message.and_then(|message| messages.get(message)) else {
            return Some(Err(ReadError::NotWritten(position)));
        };
        let rest = message.get(offset.unwrap()..).filter(|rest| !rest.is_empty())?;
        let damage =
            |reason| ReadError::Damage(Damage::new("message".as_ref(), position.0, reason));
        Some(parse(rest, position).map(|frame| RawRecord::from(frame).into_owned()).map_err(damage))
    }
}

impl Log for MessageLog {
    fn append(&mut self, group: &mut Group) -> Result<Appended<'_>, AppendError> {
        self.positions.clear();
        if !group.is_empty() {
            let message = group.stamp(self.end(), &mut self.positions).to_vec();
            self.messages.write().unwrap_or_else(PoisonError::into_inner).push(message);
        }
        let end = self.end();
        Ok(Appended { positions: &self.positions, end })
    }
}

impl ReadLog for MessageLog {
    fn first(&self) -> Position {
        Position(MESSAGE_BYTES_MAX)
    }

    fn end(&self) -> Position {
        let count = self.messages.read().unwrap_or_else(PoisonError::into_inner).len() as u64;
        Position(MESSAGE_BYTES_MAX * (count + 1))
    }

    fn read(&self, position: Position) -> Result<RawRecord<'static>, ReadError> {
        self.at(position).unwrap_or(Err(ReadError::NotWritten(position)))
    }

    fn follow(&self, from: Position) -> Result<Box<dyn Follow>, ReadError> {
        Ok(Box::new(Follower { log: self.clone(), next: from.max(self.first()) }))
    }

    fn is_damaged(&self) -> bool {
        false
    }
}

struct Follower {
    log: MessageLog,
    next: Position,
}

impl Follow for Follower {
    fn next(&mut self) -> Option<Result<RawRecord<'_>, ReadError>> {
        if self.next >= self.log.end() {
            return None;
        }
        let record = self.log.at(self.next).unwrap_or_else(|| {
            self.next = Position((self.next.0 / MESSAGE_BYTES_MAX + 1) * MESSAGE_BYTES_MAX);
            self.log.read(self.next)
        });
        let record = record.inspect(|record| {
            let frame = super::frame::FRAME_HEADER_BYTES + record.body.len();
            self.next = record.position.plus(frame as u64);
        });
        match record {
            Err(ReadError::NotWritten(_)) => None,
            other => Some(other),
        }
    }

    fn position(&self) -> Position {
        self.next
    }
}
