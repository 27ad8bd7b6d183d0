//! Commands as the bodies of journal frames: a kind, a version, and bytes.
//!
//! Version 1 of every kind is the bincode form of the structs in [`super::command`]; a producer's payload stands raw at
//! the end of its frame, so that it is kept byte for byte and can be read without decoding. Nothing was released yet: until
//! then a struct may change, and the format of the data directory (`data_dir.rs`) rises with it, so that a journal of
//! another build is refused before a frame of it is read. From the first release on, a struct that has to change leaves its
//! old shape here, in a `mod v1`, to be read for ever.

use serde::{Deserialize, Serialize};

use super::authority::Authority;
use super::cloudevent::CloudEvent;
use super::command::{Command, Requested, SubmitEvent};
use super::event::{Dedup, EventType, NewEvent};
use super::id::{EventId, KeyId, OrgNo};
use super::time::Timestamp;
use crate::base::codec::{CodecError, decode, decode_prefix, encode_into};

/// The version that is written.
pub const VERSION: u8 = 1;

/// What kind of frame a command makes. Numbers are not given twice; a kind that goes leaves its number unused.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
#[repr(u8)]
#[expect(missing_docs, reason = "each is the command of the same name")]
pub enum Kind {
    CreateOrg = 1,
    CreateKey = 2,
    RotateKey = 3,
    NoteKeysUsed = 4,
    PutEndpoint = 5,
    DeleteEndpoint = 6,
    SubmitEvent = 7,
    AckEvent = 8,
    RouteEvent = 9,
    NoteRouteCrash = 10,
    SettleAttempt = 11,
    CancelDeliveries = 12,
    ExpireDedup = 13,
    EndKey = 14,
    SkipOrgs = 15,
    RetryDelivery = 16,
    DropDead = 17,
    StartReplay = 18,
    StepReplay = 19,
    EndReplay = 20,
    EraseEvent = 21,
    ExpireKeys = 22,
    Requested = 23,
}

impl Kind {
    /// The word for it, in what verify and rebuild say.
    pub fn name(self) -> &'static str {
        match self {
            Self::CreateOrg => "create_org",
            Self::CreateKey => "create_key",
            Self::RotateKey => "rotate_key",
            Self::NoteKeysUsed => "note_keys_used",
            Self::PutEndpoint => "put_endpoint",
            Self::DeleteEndpoint => "delete_endpoint",
            Self::SubmitEvent => "submit_event",
            Self::AckEvent => "ack_event",
            Self::RouteEvent => "route_event",
            Self::NoteRouteCrash => "note_route_crash",
            Self::SettleAttempt => "settle_attempt",
            Self::CancelDeliveries => "cancel_deliveries",
            Self::ExpireDedup => "expire_dedup",
            Self::EndKey => "end_key",
            Self::SkipOrgs => "skip_orgs",
            Self::RetryDelivery => "retry_delivery",
            Self::DropDead => "drop_dead",
            Self::StartReplay => "start_replay",
            Self::StepReplay => "step_replay",
            Self::EndReplay => "end_replay",
            Self::EraseEvent => "erase_event",
            Self::ExpireKeys => "expire_keys",
            Self::Requested => "requested",
        }
    }

    const ALL: [Self; 23] = [
        Self::CreateOrg,
        Self::CreateKey,
        Self::RotateKey,
        Self::NoteKeysUsed,
        Self::PutEndpoint,
        Self::DeleteEndpoint,
        Self::SubmitEvent,
        Self::AckEvent,
        Self::RouteEvent,
        Self::NoteRouteCrash,
        Self::SettleAttempt,
        Self::CancelDeliveries,
        Self::ExpireDedup,
        Self::EndKey,
        Self::SkipOrgs,
        Self::RetryDelivery,
        Self::DropDead,
        Self::StartReplay,
        Self::StepReplay,
        Self::EndReplay,
        Self::EraseEvent,
        Self::ExpireKeys,
        Self::Requested,
    ];
}

/// A frame that holds no command this version knows.
#[derive(Debug)]
pub enum UnknownFrame {
    /// A kind or version of a newer triggerd.
    Newer {
        /// Its kind.
        kind: u8,
        /// Its version.
        version: u8,
    },
    /// A known kind whose bytes are not what they should be.
    Malformed(CodecError),
}

impl std::fmt::Display for UnknownFrame {
    fn fmt(&self, f: &mut std::fmt::Formatter<'_>) -> std::fmt::Result {
        match self {
            Self::Newer { kind, version } => {
                write!(f, "a record of kind {kind} version {version}, written by a newer version of triggerd")
            }
            Self::Malformed(error) => error.fmt(f),
        }
    }
}

impl std::error::Error for UnknownFrame {}

/// The kind of the command's frame.
pub fn kind(command: &Command) -> Kind {
    match command {
        Command::CreateOrg(_) => Kind::CreateOrg,
        Command::CreateKey(_) => Kind::CreateKey,
        Command::RotateKey(_) => Kind::RotateKey,
        Command::NoteKeysUsed(_) => Kind::NoteKeysUsed,
        Command::PutEndpoint(_) => Kind::PutEndpoint,
        Command::DeleteEndpoint(_) => Kind::DeleteEndpoint,
        Command::SubmitEvent(_) => Kind::SubmitEvent,
        Command::AckEvent(_) => Kind::AckEvent,
        Command::RouteEvent(_) => Kind::RouteEvent,
        Command::NoteRouteCrash(_) => Kind::NoteRouteCrash,
        Command::SettleAttempt(_) => Kind::SettleAttempt,
        Command::CancelDeliveries(_) => Kind::CancelDeliveries,
        Command::ExpireDedup(_) => Kind::ExpireDedup,
        Command::EndKey(_) => Kind::EndKey,
        Command::SkipOrgs(_) => Kind::SkipOrgs,
        Command::RetryDelivery(_) => Kind::RetryDelivery,
        Command::DropDead(_) => Kind::DropDead,
        Command::StartReplay(_) => Kind::StartReplay,
        Command::StepReplay(_) => Kind::StepReplay,
        Command::EndReplay(_) => Kind::EndReplay,
        Command::EraseEvent(_) => Kind::EraseEvent,
        Command::ExpireKeys(_) => Kind::ExpireKeys,
        Command::Requested(_) => Kind::Requested,
    }
}

/// Appends the command's frame body to `out`.
///
/// # Errors
/// When it is over the record limit.
pub fn write_body(command: &Command, out: &mut Vec<u8>) -> Result<(), CodecError> {
    match command {
        Command::CreateOrg(body) => encode_into(body, out),
        Command::CreateKey(body) => encode_into(body, out),
        Command::RotateKey(body) => encode_into(body, out),
        Command::NoteKeysUsed(body) => encode_into(body, out),
        Command::PutEndpoint(body) => encode_into(body, out),
        Command::DeleteEndpoint(body) => encode_into(body, out),
        Command::SubmitEvent(body) => {
            encode_into(&EventHead::of(body), out)?;
            out.extend_from_slice(&body.event.payload);
            Ok(())
        }
        Command::AckEvent(body) => encode_into(body, out),
        Command::RouteEvent(body) => encode_into(body, out),
        Command::NoteRouteCrash(body) => encode_into(body, out),
        Command::SettleAttempt(body) => encode_into(body, out),
        Command::CancelDeliveries(body) => encode_into(body, out),
        Command::ExpireDedup(body) => encode_into(body, out),
        Command::EndKey(body) => encode_into(body, out),
        Command::SkipOrgs(body) => encode_into(body, out),
        Command::RetryDelivery(body) => encode_into(body, out),
        Command::DropDead(body) => encode_into(body, out),
        Command::StartReplay(body) => encode_into(body, out),
        Command::StepReplay(body) => encode_into(body, out),
        Command::EndReplay(body) => encode_into(body, out),
        Command::EraseEvent(body) => encode_into(body, out),
        Command::ExpireKeys(body) => encode_into(body, out),
        Command::Requested(body) => write_requested(body, out),
    }
}

/// The command of a frame.
///
/// # Errors
/// When the frame is of a newer version or malformed.
pub fn read_body(kind: u8, version: u8, body: &[u8]) -> Result<Command, UnknownFrame> {
    let known = Kind::ALL.into_iter().find(|known| *known as u8 == kind);
    let (Some(known), VERSION) = (known, version) else {
        return Err(UnknownFrame::Newer { kind, version });
    };
    let command = match known {
        Kind::CreateOrg => decode(body).map(Command::CreateOrg),
        Kind::CreateKey => decode(body).map(Command::CreateKey),
        Kind::RotateKey => decode(body).map(Command::RotateKey),
        Kind::NoteKeysUsed => decode(body).map(Command::NoteKeysUsed),
        Kind::PutEndpoint => decode(body).map(Command::PutEndpoint),
        Kind::DeleteEndpoint => decode(body).map(Command::DeleteEndpoint),
        Kind::SubmitEvent => read_event(body).map(|event| Command::SubmitEvent(Box::new(event))),
        Kind::AckEvent => decode(body).map(Command::AckEvent),
        Kind::RouteEvent => decode(body).map(Command::RouteEvent),
        Kind::NoteRouteCrash => decode(body).map(Command::NoteRouteCrash),
        Kind::SettleAttempt => decode(body).map(Command::SettleAttempt),
        Kind::CancelDeliveries => decode(body).map(Command::CancelDeliveries),
        Kind::ExpireDedup => decode(body).map(Command::ExpireDedup),
        Kind::EndKey => decode(body).map(Command::EndKey),
        Kind::SkipOrgs => decode(body).map(Command::SkipOrgs),
        Kind::RetryDelivery => decode(body).map(Command::RetryDelivery),
        Kind::DropDead => decode(body).map(Command::DropDead),
        Kind::StartReplay => decode(body).map(Command::StartReplay),
        Kind::StepReplay => decode(body).map(Command::StepReplay),
        Kind::EndReplay => decode(body).map(Command::EndReplay),
        Kind::EraseEvent => decode(body).map(Command::EraseEvent),
        Kind::ExpireKeys => decode(body).map(Command::ExpireKeys),
        Kind::Requested => return read_requested(body),
    };
    command.map_err(UnknownFrame::Malformed)
}

/// What stands before the payload in an event's frame.
#[derive(Serialize, Deserialize)]
struct EventHead {
    org: OrgNo,
    by: Option<KeyId>,
    id: EventId,
    received_at: Timestamp,
    event_type: EventType,
    dedup: Option<Dedup>,
    labels: Vec<(String, String)>,
    occurred_at: Option<Timestamp>,
    deliver_after: Option<Timestamp>,
    cloudevent: Option<Box<CloudEvent>>,
}

/// The same, borrowed, for writing: the field order is the format.
#[derive(Serialize)]
struct EventHeadRef<'a> {
    org: OrgNo,
    by: Option<KeyId>,
    id: EventId,
    received_at: Timestamp,
    event_type: &'a EventType,
    dedup: Option<&'a Dedup>,
    labels: &'a [(String, String)],
    occurred_at: Option<Timestamp>,
    deliver_after: Option<Timestamp>,
    cloudevent: Option<&'a CloudEvent>,
}

impl EventHead {
    fn of(command: &SubmitEvent) -> EventHeadRef<'_> {
        EventHeadRef {
            org: command.org,
            by: command.by,
            id: command.id,
            received_at: command.received_at,
            event_type: &command.event.event_type,
            dedup: command.event.dedup.as_ref(),
            labels: &command.event.labels,
            occurred_at: command.event.occurred_at,
            deliver_after: command.event.deliver_after,
            cloudevent: command.event.cloudevent.as_deref(),
        }
    }
}

/// What it stands on, then the kind and the body of what is asked for.
fn write_requested(requested: &Requested, out: &mut Vec<u8>) -> Result<(), CodecError> {
    encode_into(&requested.authority, out)?;
    out.push(kind(&requested.command) as u8);
    write_body(&requested.command, out)
}

fn read_requested(body: &[u8]) -> Result<Command, UnknownFrame> {
    let (authority, authority_len): (Authority, usize) = decode_prefix(body).map_err(UnknownFrame::Malformed)?;
    match body.get(authority_len..).and_then(<[u8]>::split_first) {
        Some((number, body)) if ![Kind::Requested as u8, Kind::SubmitEvent as u8].contains(number) => {
            let command = read_body(*number, VERSION, body)?;
            Ok(Command::Requested(Box::new(Requested { authority, command })))
        }
        _ => Err(UnknownFrame::Malformed(CodecError::new("a request for nothing that can be asked for so"))),
    }
}

fn read_event(body: &[u8]) -> Result<SubmitEvent, CodecError> {
    let (head, head_len): (EventHead, usize) = decode_prefix(body)?;
    let event = NewEvent {
        event_type: head.event_type,
        dedup: head.dedup,
        labels: head.labels,
        occurred_at: head.occurred_at,
        deliver_after: head.deliver_after,
        payload: body.get(head_len..).unwrap_or_default().into(),
        cloudevent: head.cloudevent,
    };
    Ok(SubmitEvent { org: head.org, by: head.by, id: head.id, received_at: head.received_at, event })
}

#[cfg(test)]
#[path = "journal_codec_tests.rs"]
mod tests;
