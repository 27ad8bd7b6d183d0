//! The log as the rest of the program sees it: records in one order, which become durable a group
//! at a time, and which everybody can read. The local journal is the first implementation. A log
//! that is replicated would store each group as one message.
//!
//! A record is a kind, a version and bytes. The bytes around it, by which an implementation finds
//! damage, are known to no other module.

use std::borrow::Cow;

use super::error::{AppendError, ReadError};
use super::frame::{Frame, Group};
use super::position::Position;

/// A record as it is stored.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct RawRecord<'a> {
    /// The position of the record in the log.
    pub position: Position,
    /// The kind, from 1 to 127, which the caller defines.
    pub kind: u8,
    /// The version of the body's encoding, which the caller defines.
    pub version: u8,
    /// The content of the record.
    pub body: Cow<'a, [u8]>,
}

impl RawRecord<'_> {
    /// Copies the body, so that the record outlives the buffer it was read into.
    pub fn into_owned(self) -> RawRecord<'static> {
        let Self { position, kind, version, body } = self;
        RawRecord { position, kind, version, body: Cow::Owned(body.into_owned()) }
    }
}

impl<'a> From<Frame<'a>> for RawRecord<'a> {
    fn from(frame: Frame<'a>) -> Self {
        let Frame { position, kind, version, body, .. } = frame;
        Self { position, kind, version, body: Cow::Borrowed(body) }
    }
}

/// The result of an append.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub struct Appended<'a> {
    /// The position of each record of the group.
    pub positions: &'a [Position],
    /// The position at which the next group will begin.
    pub end: Position,
}

/// The reading side of a log.
pub trait ReadLog: Send + Sync {
    /// Returns the oldest position of the log.
    fn first(&self) -> Position;

    /// Returns the end of the durable records, which is the position of the next group.
    fn end(&self) -> Position;

    /// Reads the record at a position that an append or a follower returned.
    ///
    /// # Errors
    /// There is no whole record at the position, or it cannot be read.
    fn read(&self, position: Position) -> Result<RawRecord<'static>, ReadError>;

    /// Returns a follower, which gives the durable records from `from` on. `from` must be the
    /// position of a record, or an end of the log.
    ///
    /// # Errors
    /// The position lies outside of the log.
    fn follow(&self, from: Position) -> Result<Box<dyn Follow>, ReadError>;

    /// Returns true if a damaged record was found since the log was opened.
    fn is_damaged(&self) -> bool;
}

/// A log with the right to append, which one thread has. The committer only appends, and all others
/// read through a [`ReadLog`] alone; a log that appends can also be read.
pub trait Log: ReadLog + 'static {
    /// Appends a group of records. When this function returns their positions, all of them are
    /// durable. The group stays filled, so that the caller can append it again after
    /// [`AppendError::NoSpace`].
    ///
    /// # Errors
    /// There is no space for the group, or the log cannot be written any more.
    fn append(&mut self, group: &mut Group) -> Result<Appended<'_>, AppendError>;
}

/// Durable records in order.
pub trait Follow: Send {
    /// Returns the next record, or `None` if there is none yet: a later call returns what was
    /// appended meanwhile. After an error the follower returns nothing more.
    fn next(&mut self) -> Option<Result<RawRecord<'_>, ReadError>>;

    /// Returns the position at which the next record is expected, or at which reading failed.
    fn position(&self) -> Position;
}
