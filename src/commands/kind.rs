//! A kind of command: the declaration that each command's file gives.

use crate::base::codec::CodecError;
use crate::model::audit::{Changing, Note, Origin};
use crate::model::event::StoredEvent;
use crate::model::id::{EventId, KeyId, OrgNo};
use crate::model::key::{Scope, Scopes};
use crate::model::routing::RoutingEnd;
use crate::model::time::Timestamp;
use crate::store::{Change, Unapplied};

/// A kind of command. Ids and times are part of a command, so that applying it again, even years
/// later, gives the same state.
pub trait Kind: Sized {
    /// The number of the kind's records in the journal. Numbers are never reused.
    const NUMBER: u8;
    /// The version of written records. It rises when the fields change; [`Kind::read`]
    /// still reads older versions.
    const VERSION: u8;
    /// The scope or role that may ask for the command.
    const ASKED_BY: AskedBy;

    /// Set if a request for the command leaves entries in the audit log.
    const IS_AUDITED: bool = false;

    /// The answer to the submitter of the command.
    type Outcome;

    /// Returns the organization of the command, if there is one.
    fn org(&self) -> Option<OrgNo>;

    /// Returns the number given to a new organization, if the command creates one.
    fn made_org(&self) -> Option<OrgNo> {
        None
    }

    /// Returns the stored event of the command, if there is one.
    fn event(&self) -> Option<EventId> {
        None
    }

    /// Returns the approximate number of rows that can change: the number of endpoints or events in
    /// the command.
    fn weight(&self) -> usize {
        1
    }

    /// Returns the size of the submitted event, in bytes.
    fn payload_bytes(&self) -> usize {
        0
    }

    /// Returns the key created by the command, if any.
    fn made_key(&self) -> Option<KeyId> {
        None
    }

    /// Returns the key that asked for the command, if any.
    fn requester(&self) -> Option<KeyId> {
        None
    }

    /// Sets the ids, the number and the times that the committer gives to a draft.
    fn stamp(&mut self, _stamp: &mut impl Stamp) {}

    /// Returns the ids of the events that the command can store. Compaction removes the record of a
    /// command that stores none of them any more.
    fn stored_events(&self) -> Vec<EventId> {
        Vec::new()
    }

    /// Removes the payload of an event that the command can store.
    fn forget_payload(&mut self, _id: EventId) {}

    /// Returns the time at which the command was asked for, if it has one.
    fn at(&self) -> Option<Timestamp> {
        None
    }

    /// Returns the things whose changes by a request belong into the audit log. Not empty exactly if
    /// [`Kind::IS_AUDITED`] is set.
    fn audited(&self) -> Vec<Changing> {
        Vec::new()
    }

    /// Returns the event with this id, if the command can store it.
    fn into_event(self, _id: EventId) -> Option<StoredEvent> {
        None
    }

    /// Returns how the command ends the routing of its event, if it can.
    fn into_routing_end(self) -> Option<RoutingEnd> {
        None
    }

    /// Appends the body of the command's record to `out`.
    ///
    /// # Errors
    /// The body exceeds the record limit.
    fn write(&self, out: &mut Vec<u8>) -> Result<(), CodecError>;

    /// Reads the body of a record of this kind; `version` is [`Kind::VERSION`] or lower.
    ///
    /// # Errors
    /// The bytes are no such body.
    fn read(version: u8, body: &[u8]) -> Result<Self, UnknownRecord>;

    /// Applies the command to the state.
    ///
    /// # Errors
    /// The key may not ask for the command, or rows cannot be read.
    fn apply(&self, change: &mut Change<'_>) -> Result<Self::Outcome, Unapplied>;
}

/// The scope or role that may ask for a command.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum AskedBy {
    /// Only the server itself; no request can ask.
    Server,
    /// A key of the organization with this scope.
    Key(Scope),
    /// The operator, with the admin token.
    Operator,
    /// Any key of the organization, for itself.
    AnyKey,
    /// The operator, or a key of the organization with this scope.
    OperatorOr(Scope),
    /// The scope or role of the command inside.
    Inner,
}

impl AskedBy {
    /// Returns true if a request of this requester may make the command. The key and its scopes are
    /// judged later, when the command is applied.
    pub fn allows(self, requester: &Requester) -> bool {
        match self {
            Self::Server | Self::Inner => false,
            Self::Key(scope) => requester.key.is_some() && requester.needs.allows(scope),
            Self::Operator => requester.key.is_none(),
            Self::AnyKey => requester.key.is_some(),
            Self::OperatorOr(scope) => requester.key.is_none() || requester.needs.allows(scope),
        }
    }
}

/// The registry's description of a kind of command.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub struct KindInfo {
    /// The value of [`Kind::NUMBER`].
    pub number: u8,
    /// The value of [`Kind::VERSION`].
    pub version: u8,
    /// The name in the output of `verify` and `rebuild`: the name of the command's file.
    pub name: &'static str,
    /// The value of [`Kind::ASKED_BY`].
    pub asked_by: AskedBy,
    /// The value of [`Kind::IS_AUDITED`].
    pub is_audited: bool,
}

/// The key that asks for a command, and the scopes that the key must have.
#[derive(Clone, Debug)]
pub struct Requester {
    /// The key; `None` stands for the operator.
    pub key: Option<KeyId>,
    /// The scopes that the key must have.
    pub needs: Scopes,
    /// The origin of the request, for the audit log. Absent for commands that leave no entry.
    pub origin: Option<Origin>,
    /// An entry of the audit log for the first of the requested commands.
    pub note: Option<Note>,
}

/// The committer's part in a command.
pub trait Stamp {
    /// The id of the next event.
    fn next_id(&mut self) -> EventId;
    /// The number of the next organization.
    fn next_org(&mut self) -> OrgNo;
    /// The time of the commit, by the wall clock.
    fn now(&self) -> Timestamp;
    /// The steady time of the commit.
    fn steady(&self) -> Timestamp;
}

/// A record without a command that this version knows.
#[derive(Debug, thiserror::Error)]
pub enum UnknownRecord {
    /// The kind or version belongs to a newer triggerd.
    #[error("a record of kind {kind} version {version}, written by a newer version of triggerd")]
    Newer {
        /// The kind number of the record.
        kind: u8,
        /// The version of the record.
        version: u8,
    },
    /// The kind is known, but the bytes are malformed.
    #[error(transparent)]
    Malformed(#[from] CodecError),
}
