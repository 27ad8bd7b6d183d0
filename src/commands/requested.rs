//! Envelope: a command asked for by a request.

use super::{Applied, AskedBy, Command, Kind, KindInfo, Requester, SubmitEvent, UnknownRecord};
use crate::base::codec::{CodecError, decode_prefix, encode_into};
use crate::model::audit::{Note, Origin};
use crate::model::authority::Authority;
use crate::model::id::{EventId, KeyId, OrgNo};
use crate::model::routing::RoutingEnd;
use crate::model::time::Timestamp;
use crate::store::{AuditSource, Change, Unapplied};

/// The version before the origin of the request was written.
const WITHOUT_ORIGIN: u8 = 2;

/// A command asked for by a request. It has an effect only if the request's key may ask for it when
/// it is applied. Events need no envelope, because they name their key.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct Requested {
    /// The asking key and the scopes that the command needs.
    pub authority: Authority,
    /// The origin of the request, for the audit log.
    pub origin: Option<Origin>,
    /// The entry of the audit log about the request, if no comparison gives one.
    pub note: Option<Note>,
    /// The command; neither an event nor another envelope.
    pub command: Command,
}

impl Command {
    /// Returns the command as asked for by a request with this authority, of unknown origin.
    #[must_use]
    pub fn requested(self, authority: Authority) -> Self {
        self.requested_from(authority, (None, None))
    }

    /// Returns the command as asked for by a request with this authority, its origin, and its entry
    /// of the audit log if no comparison gives one.
    #[must_use]
    pub fn requested_from(
        self,
        authority: Authority,
        (origin, note): (Option<Origin>, Option<Note>),
    ) -> Self {
        match self {
            Self::SubmitEvent(mut submit) => {
                submit.by = authority.key;
                Self::SubmitEvent(submit)
            }
            command => Requested { authority, origin, note, command }.into(),
        }
    }

    /// Takes the command out of its envelope, if it has one.
    pub(super) fn opened(self) -> (Option<Requester>, Self) {
        match self {
            Self::Requested(requested) => {
                let Requested { authority: Authority { key, needs, .. }, origin, note, command } =
                    *requested;
                (Some(Requester { key, needs, origin, note }), command)
            }
            command => (None, command),
        }
    }

    /// Returns the command without its envelope.
    pub fn action(&self) -> &Self {
        match self {
            Self::Requested(requested) => &requested.command,
            command => command,
        }
    }
}

impl Kind for Requested {
    const NUMBER: u8 = 23;
    const VERSION: u8 = 3;
    const ASKED_BY: AskedBy = AskedBy::Inner;

    type Outcome = Applied;

    fn org(&self) -> Option<OrgNo> {
        self.command.org()
    }

    fn made_org(&self) -> Option<OrgNo> {
        self.command.made_org()
    }

    fn made_key(&self) -> Option<KeyId> {
        self.command.made_key()
    }

    fn requester(&self) -> Option<KeyId> {
        self.authority.key
    }

    fn event(&self) -> Option<EventId> {
        self.command.event()
    }

    fn at(&self) -> Option<Timestamp> {
        Some(self.authority.at.wall)
    }

    fn weight(&self) -> usize {
        self.command.weight()
    }

    fn into_routing_end(self) -> Option<RoutingEnd> {
        self.command.into_routing_end()
    }

    /// Writes the authority, the origin, the note, then the kind, the version and the body of the
    /// command.
    fn write(&self, out: &mut Vec<u8>) -> Result<(), CodecError> {
        encode_into(&self.authority, out)?;
        encode_into(&self.origin, out)?;
        encode_into(&self.note, out)?;
        let KindInfo { number, version, .. } = self.command.kind();
        out.extend_from_slice(&[number, version]);
        self.command.write(out)
    }

    fn read(version: u8, body: &[u8]) -> Result<Self, UnknownRecord> {
        if version < WITHOUT_ORIGIN {
            return Err(CodecError::new("its version is of before the first release").into());
        }
        let (authority, authority_len): (Authority, usize) = decode_prefix(body)?;
        let body = body.get(authority_len..).unwrap_or_default();
        let ((origin, note), source_len): ((Option<Origin>, Option<Note>), usize) =
            if version == WITHOUT_ORIGIN { ((None, None), 0) } else { decode_prefix(body)? };
        match body.get(source_len..).and_then(<[u8]>::split_first_chunk) {
            Some(([number, version], body))
                if ![Self::NUMBER, SubmitEvent::NUMBER].contains(number) =>
            {
                let command = Command::read(*number, *version, body)?;
                Ok(Self { authority, origin, note, command })
            }
            _ => Err(CodecError::new("a request for nothing that can be asked for so").into()),
        }
    }

    fn apply(&self, change: &mut Change<'_>) -> Result<Applied, Unapplied> {
        change.judge(self.authority, self.command.org())?;
        let Some(origin) = &self.origin else { return self.command.apply(change) };
        let org = self.command.org().or_else(|| self.command.made_org());
        let source = AuditSource { org, authority: self.authority, origin };
        let (audited, note) = (self.command.audited(), self.note.as_ref());
        change.recorded(source, (&audited, note), |change| self.command.apply(change))
    }
}
