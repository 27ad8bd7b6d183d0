//! Commands are the durable changes. The journal is a list of commands, and the state results from
//! applying them in order.
//!
//! Each command has a file here, with its fields, its number and version in the journal, its
//! organization and event, the scope or role that may ask for it, and its effect on the state. A
//! line in the registry below adds it to [`Command`]; commands are listed nowhere else.

mod ack_event;
mod cancel_deliveries;
mod change_key;
mod change_org;
mod codec;
mod create_key;
mod create_org;
mod delete_endpoint;
mod delete_org;
mod draft;
mod drop_dead;
mod end_key;
mod end_overlaps;
mod end_replay;
mod erase_event;
mod expire_audit;
mod expire_dedup;
mod expire_events;
mod expire_keys;
mod forget_deleted;
mod forget_org;
mod kind;
mod need;
mod note_audit;
mod note_keys_used;
mod note_loss;
mod note_route_crash;
mod put_endpoint;
mod records;
mod report_key_end;
mod requested;
mod retry_delivery;
mod rotate_key;
mod route_event;
mod settle_attempt;
mod start_replay;
mod step_replay;
mod submit_event;

pub use ack_event::AckOutcome;
pub use change_key::ChangeKeyOutcome;
pub use change_org::ChangeOrgOutcome;
pub use create_org::{CreateOrgOutcome, OrgDraft};
pub use delete_endpoint::DeleteEndpointOutcome;
pub use delete_org::DeleteOrgOutcome;
pub use draft::{Draft, Drafted, Less};
pub use drop_dead::DropOutcome;
pub use end_key::EndKeyOutcome;
pub use end_replay::EndReplayOutcome;
pub use erase_event::EraseOutcome;
pub use expire_events::ExpireOutcome;
pub use forget_org::ForgetOrgOutcome;
pub use kind::{AskedBy, Kind, KindInfo, Requester, Stamp, UnknownRecord};
pub use need::{Cuts, Need, needs};
pub use put_endpoint::{ENDPOINTS_PER_ORG_MAX, PutEndpointOutcome};
pub use records::{Record, RecordError, RecordFollower, Records, Unwritable};
pub use retry_delivery::RetryOutcome;
pub use settle_attempt::SettleOutcome;
pub use start_replay::StartReplayOutcome;
pub use step_replay::{StepReplayOutcome, command_of_turn};
pub use submit_event::{EventDraft, SubmitOutcome};

pub(crate) use codec::plain_body;
#[cfg(test)]
pub(crate) use codec::tests::one_of_each;

use std::convert::Infallible;

use codec::read_as;

use crate::base::codec::CodecError;
use crate::journal::Position;
use crate::model::audit::Changing;
use crate::model::event::StoredEvent;
use crate::model::id::{EventId, KeyId, OrgNo};
use crate::model::routing::RoutingEnd;
use crate::model::time::Timestamp;
use crate::store::{Change, Effects, Refusal, StateError, Store, Unapplied};

/// A kind of command that a draft can become, because its outcome can be told from others.
pub trait Submitted: Kind + Into<Command> {
    /// Returns the outcome if it is of this kind.
    fn outcome(applied: Applied) -> Option<Self::Outcome>;
}

/// The type in a variant of [`Command`].
macro_rules! held {
    ($name:ident) => { $name };
    ($name:ident, $holder:ident) => { $holder<$name> };
}

/// The outcome type. An envelope has the outcome of the command inside, and none of its own.
macro_rules! own_outcome {
    ($name:ident $(, drafted)?) => {
        <$name as Kind>::Outcome
    };
    ($name:ident, envelope) => {
        Infallible
    };
}

macro_rules! apply_one {
    ($name:ident, $command:ident, $change:ident $(, drafted)?) => {
        $command.apply($change).map(Applied::$name)
    };
    ($name:ident, $command:ident, $change:ident, envelope) => {
        $command.apply($change)
    };
}

/// Most kinds are their own draft; those that are marked have a draft of their own in their file.
macro_rules! submitted {
    ($name:ident) => {
        submitted!($name, drafted);

        impl Drafted for $name {
            type Kind = Self;
        }

        impl From<$name> for Draft {
            fn from(command: $name) -> Self {
                Command::from(command).into()
            }
        }
    };
    ($name:ident, drafted) => {
        impl Submitted for $name {
            fn outcome(applied: Applied) -> Option<Self::Outcome> {
                match applied {
                    Applied::$name(outcome) => Some(outcome),
                    _ => None,
                }
            }
        }
    };
    ($name:ident, envelope) => {};
}

macro_rules! registry {
    ($($module:ident::$name:ident $(in $holder:ident)? $(as $envelope:ident)?,)*) => {
        $(pub use $module::$name;)*

        /// A durable change: any of the commands.
        #[derive(Clone, Debug, PartialEq, Eq)]
        pub enum Command {
            $(
                #[doc = concat!("See [`", stringify!($name), "`].")]
                $name(held!($name $(, $holder)?)),
            )*
        }

        /// The outcome of a command of any kind.
        #[derive(Clone, Debug, PartialEq, Eq)]
        pub enum Applied {
            $(
                #[doc = concat!("The outcome of [`", stringify!($name), "`].")]
                $name(own_outcome!($name $(, $envelope)?)),
            )*
        }

        $(submitted!($name $(, $envelope)?);)*

        $(
            impl From<$name> for Command {
                fn from(command: $name) -> Self {
                    Self::$name(command.into())
                }
            }
        )*

        /// All kinds of commands, in the order of the registry.
        pub const KINDS: &[KindInfo] = &[$(KindInfo {
            number: <$name as Kind>::NUMBER,
            version: <$name as Kind>::VERSION,
            name: stringify!($module),
            asked_by: <$name as Kind>::ASKED_BY,
            is_audited: <$name as Kind>::IS_AUDITED,
        }),*];

        impl Command {
            /// Returns the registry's description of the kind.
            pub fn kind(&self) -> KindInfo {
                match self {
                    $(Self::$name(_) => KindInfo {
                        number: <$name as Kind>::NUMBER,
                        version: <$name as Kind>::VERSION,
                        name: stringify!($module),
                        asked_by: <$name as Kind>::ASKED_BY,
                        is_audited: <$name as Kind>::IS_AUDITED,
                    },)*
                }
            }

            /// Returns the organization, see [`Kind::org`].
            pub fn org(&self) -> Option<OrgNo> {
                match self {
                    $(Self::$name(command) => command.org(),)*
                }
            }

            /// Returns the new organization's number, see [`Kind::made_org`].
            pub fn made_org(&self) -> Option<OrgNo> {
                match self {
                    $(Self::$name(command) => command.made_org(),)*
                }
            }

            /// Returns the stored event, see [`Kind::event`].
            pub fn event(&self) -> Option<EventId> {
                match self {
                    $(Self::$name(command) => command.event(),)*
                }
            }

            /// Returns the approximate number of rows, at least 1; see [`Kind::weight`].
            pub fn weight(&self) -> usize {
                match self {
                    $(Self::$name(command) => command.weight().max(1),)*
                }
            }

            /// Returns the event's size in bytes, see [`Kind::payload_bytes`].
            pub fn payload_bytes(&self) -> usize {
                match self {
                    $(Self::$name(command) => command.payload_bytes(),)*
                }
            }

            /// Returns the created key, see [`Kind::made_key`].
            pub fn made_key(&self) -> Option<KeyId> {
                match self {
                    $(Self::$name(command) => command.made_key(),)*
                }
            }

            /// Returns the asking key, see [`Kind::requester`].
            pub fn requester(&self) -> Option<KeyId> {
                match self {
                    $(Self::$name(command) => command.requester(),)*
                }
            }

            /// Returns the time, see [`Kind::at`].
            pub fn at(&self) -> Option<Timestamp> {
                match self {
                    $(Self::$name(command) => command.at(),)*
                }
            }

            /// Sets the ids, the number and the times, see [`Kind::stamp`].
            fn stamp(&mut self, stamp: &mut impl Stamp) {
                match self {
                    $(Self::$name(command) => command.stamp(stamp),)*
                }
            }

            /// Returns the events that it can store, see [`Kind::stored_events`].
            pub fn stored_events(&self) -> Vec<EventId> {
                match self {
                    $(Self::$name(command) => command.stored_events(),)*
                }
            }

            /// Removes the payload of this event, see [`Kind::forget_payload`].
            fn forget_payload(&mut self, id: EventId) {
                match self {
                    $(Self::$name(command) => command.forget_payload(id),)*
                }
            }

            /// Returns the event with this id, see [`Kind::into_event`].
            pub fn into_event(self, id: EventId) -> Option<StoredEvent> {
                match self {
                    $(Self::$name(command) => command.into_event(id),)*
                }
            }

            /// Returns the things in the audit log, see [`Kind::audited`].
            pub(crate) fn audited(&self) -> Vec<Changing> {
                match self {
                    $(Self::$name(command) => command.audited(),)*
                }
            }

            /// Returns the end of a routing, see [`Kind::into_routing_end`].
            fn into_routing_end(self) -> Option<RoutingEnd> {
                match self {
                    $(Self::$name(command) => command.into_routing_end(),)*
                }
            }

            /// Appends the body of the command's record to `out`.
            ///
            /// # Errors
            /// The body exceeds the record limit.
            pub fn write(&self, out: &mut Vec<u8>) -> Result<(), CodecError> {
                match self {
                    $(Self::$name(command) => command.write(out),)*
                }
            }

            /// Reads the command of a record.
            ///
            /// # Errors
            /// The record is of a newer version or malformed.
            pub fn read(number: u8, version: u8, body: &[u8]) -> Result<Self, UnknownRecord> {
                match number {
                    $(<$name as Kind>::NUMBER => read_as::<$name>(version, body).map(Self::from),)*
                    kind => Err(UnknownRecord::Newer { kind, version }),
                }
            }

            fn apply(&self, change: &mut Change<'_>) -> Result<Applied, Unapplied> {
                match self {
                    $(Self::$name(command) => apply_one!($name, command, change $(, $envelope)?),)*
                }
            }
        }
    };
}

registry! {
    create_org::CreateOrg as drafted,
    create_key::CreateKey,
    rotate_key::RotateKey,
    note_keys_used::NoteKeysUsed,
    put_endpoint::PutEndpoint,
    delete_endpoint::DeleteEndpoint,
    submit_event::SubmitEvent in Box as drafted, // the most frequent command, and the largest
    ack_event::AckEvent,
    route_event::RouteEvent,
    note_route_crash::NoteRouteCrash,
    settle_attempt::SettleAttempt in Box,
    cancel_deliveries::CancelDeliveries,
    expire_dedup::ExpireDedup,
    end_key::EndKey,
    retry_delivery::RetryDelivery,
    drop_dead::DropDead,
    start_replay::StartReplay,
    step_replay::StepReplay,
    end_replay::EndReplay,
    erase_event::EraseEvent,
    expire_keys::ExpireKeys,
    requested::Requested in Box as envelope,
    note_loss::NoteLoss,
    expire_events::ExpireEvents,
    forget_deleted::ForgetDeleted,
    end_overlaps::EndOverlaps,
    change_org::ChangeOrg,
    change_key::ChangeKey,
    report_key_end::ReportKeyEnd,
    expire_audit::ExpireAudit,
    note_audit::NoteAudit,
    delete_org::DeleteOrg,
    forget_org::ForgetOrg,
}

/// The result of an applied command: its outcome, or the refusal of the key that asked for it.
pub type Applying = Result<Applied, Refusal>;

/// Everything that applied commands gave: the answer to each, and the hints, the activity and the
/// counts that follow from all of them.
#[derive(Debug, Default)]
pub struct Results {
    /// The outcome of each command, in order.
    pub outcomes: Vec<Applying>,
    /// The effects of all commands together.
    pub effects: Effects,
}

impl Results {
    /// Makes empty results for commands that make activity if somebody watches.
    pub fn new(is_watched: bool) -> Self {
        Self { outcomes: Vec::new(), effects: Effects { is_watched, ..Effects::default() } }
    }
}

/// Applies commands from stable storage, in journal order, and adds their results to `results`.
/// Each item of `commands` has the position of the command; `applied` is the position behind the
/// last command.
///
/// # Errors
/// Rows cannot be read. The state must not be used any more then; a restart rebuilds it.
pub fn apply<'a>(
    store: &Store,
    commands: impl Iterator<Item = (Position, &'a Command)>,
    applied: Position,
    results: &mut Results,
) -> Result<(), StateError> {
    let mut batch = store.begin(&mut results.effects);
    for (position, command) in commands {
        results.outcomes.push(match command.apply(&mut batch.change(position)) {
            Ok(applied) => Ok(applied),
            Err(Unapplied::Refused(refusal)) => Err(refusal),
            Err(Unapplied::Broken(error)) => return Err(error),
        });
    }
    batch.finish(applied)
}

#[cfg(test)]
#[path = "apply_tests.rs"]
pub(crate) mod tests;
