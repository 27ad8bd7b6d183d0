//! The audit log: who changed what, when, and from where.

use std::net::IpAddr;

use serde::{Deserialize, Serialize};

use super::id::{DeliveryId, EndpointId, EventId, KeyId, OrgId, ReplayId};
use super::time::Timestamp;
use crate::base::names::{UnknownName, named};

/// Maximum length of a described value, in characters. A longer value is cut.
pub const VALUE_CHARS_MAX: usize = 500;

/// The origin of a request that changes something.
#[derive(Clone, Debug, PartialEq, Eq, Serialize, Deserialize)]
pub struct Origin {
    /// The address of the client. Absent if unknown.
    pub address: Option<IpAddr>,
    /// The id of the request, as the answer's header `X-Request-Id` shows it.
    pub request_id: String,
}

/// The party that made a change.
#[derive(Clone, Copy, Debug, PartialEq, Eq, Serialize, Deserialize)]
pub enum Actor {
    /// The operator, with the admin token or at the machine.
    Operator,
    /// A key of the organization.
    Key(KeyId),
    /// Nobody: the request had no valid key.
    Unknown,
}

/// A thing of an organization that a command changes.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Changing {
    /// The organization itself.
    Organization,
    /// A key.
    Key(KeyId),
    /// A key that is replaced by another one.
    RotatedKey(KeyId),
    /// An endpoint.
    Endpoint(EndpointId),
    /// An event.
    Event(EventId),
    /// A replay.
    Replay(ReplayId),
}

impl Changing {
    /// Returns the subject of an entry about the thing of this organization.
    pub fn subject_of(self, organization: OrgId) -> Subject {
        match self {
            Self::Organization => Subject::Organization(organization),
            Self::Key(id) | Self::RotatedKey(id) => Subject::Key(id),
            Self::Endpoint(id) => Subject::Endpoint(id),
            Self::Event(id) => Subject::Event(id),
            Self::Replay(id) => Subject::Replay(id),
        }
    }
}

/// The subject of an entry: the thing that was changed, or that somebody asked for.
#[derive(Clone, Copy, Debug, PartialEq, Eq, Serialize, Deserialize)]
pub enum Subject {
    /// An organization.
    Organization(OrgId),
    /// An API key.
    Key(KeyId),
    /// An endpoint.
    Endpoint(EndpointId),
    /// An event.
    Event(EventId),
    /// A replay.
    Replay(ReplayId),
    /// The configuration of the server.
    Configuration,
    /// The routes for the operator.
    Administration,
    /// A delivery.
    Delivery(DeliveryId),
    /// The dead letters of the organization.
    DeadLetters,
    /// A backup of the data directory.
    Backup,
    /// The events of all organizations, as lines of JSON.
    Archive,
}

impl Subject {
    /// Returns the kind of the thing, and its id if it has one.
    pub fn parts(&self) -> (&'static str, Option<String>) {
        match self {
            Self::Organization(id) => ("organization", Some(id.to_string())),
            Self::Key(id) => ("key", Some(id.to_string())),
            Self::Endpoint(id) => ("endpoint", Some(id.to_string())),
            Self::Event(id) => ("event", Some(id.to_string())),
            Self::Replay(id) => ("replay", Some(id.to_string())),
            Self::Configuration => ("configuration", None),
            Self::Administration => ("administration", None),
            Self::Delivery(id) => ("delivery", Some(id.to_string())),
            Self::DeadLetters => ("dead_letters", None),
            Self::Backup => ("backup", None),
            Self::Archive => ("archive", None),
        }
    }
}

/// A kind of recorded change.
#[derive(
    Clone,
    Copy,
    Debug,
    PartialEq,
    Eq,
    Serialize,
    Deserialize,
    strum::EnumString,
    strum::IntoStaticStr,
    strum::VariantArray,
    strum::VariantNames,
)]
#[strum(parse_err_ty = UnknownName, parse_err_fn = UnknownName::of::<Action>)]
pub enum Action {
    /// An organization was created.
    #[strum(serialize = "organization.created")]
    OrganizationCreated,
    /// The settings of an organization were changed.
    #[strum(serialize = "organization.changed")]
    OrganizationChanged,
    /// A key was created, also by a rotation.
    #[strum(serialize = "key.created")]
    KeyCreated,
    /// The name, the scopes or the end of a key were changed.
    #[strum(serialize = "key.changed")]
    KeyChanged,
    /// A key was replaced by another one, and ends after its grace period.
    #[strum(serialize = "key.rotated")]
    KeyRotated,
    /// A key was ended.
    #[strum(serialize = "key.revoked")]
    KeyRevoked,
    /// An endpoint was created.
    #[strum(serialize = "endpoint.created")]
    EndpointCreated,
    /// The settings or the secret of an endpoint were changed.
    #[strum(serialize = "endpoint.changed")]
    EndpointChanged,
    /// An endpoint was deleted.
    #[strum(serialize = "endpoint.deleted")]
    EndpointDeleted,
    /// The payload of an event was erased.
    #[strum(serialize = "event.erased")]
    EventErased,
    /// A replay was started.
    #[strum(serialize = "replay.started")]
    ReplayStarted,
    /// A replay was canceled.
    #[strum(serialize = "replay.canceled")]
    ReplayCanceled,
    /// A running server applied another configuration.
    #[strum(serialize = "configuration.reloaded")]
    ConfigurationReloaded,
    /// Requests to the routes of the operator had no valid admin token.
    #[strum(serialize = "administration.refused")]
    AdministrationRefused,
    /// A delivery was retried by hand.
    #[strum(serialize = "delivery.retried")]
    DeliveryRetried,
    /// Dead letters were delivered again.
    #[strum(serialize = "dead_letters.replayed")]
    DeadLettersReplayed,
    /// Dead letters were dropped.
    #[strum(serialize = "dead_letters.dropped")]
    DeadLettersDropped,
    /// The operator asked for a backup.
    #[strum(serialize = "backup.requested")]
    BackupRequested,
    /// The operator asked for a drill of the newest backup.
    #[strum(serialize = "drill.requested")]
    DrillRequested,
    /// The operator asked for the events of all organizations.
    #[strum(serialize = "archive.requested")]
    ArchiveRequested,
    /// The deletion of an organization was begun.
    #[strum(serialize = "organization.deleted")]
    OrganizationDeleted,
}

named!(Action);

/// The order of the entries in a list.
#[derive(
    Clone,
    Copy,
    Debug,
    PartialEq,
    Eq,
    strum::EnumString,
    strum::IntoStaticStr,
    strum::VariantArray,
    strum::VariantNames,
)]
#[strum(
    serialize_all = "snake_case",
    parse_err_ty = UnknownName,
    parse_err_fn = UnknownName::of::<EntryOrder>
)]
pub enum EntryOrder {
    /// The newest entry comes first.
    Newest,
    /// The oldest entry comes first.
    Oldest,
}

/// A property before and after a change. Secrets are never shown.
#[derive(Clone, Debug, PartialEq, Eq, Serialize, Deserialize)]
pub struct Changed {
    /// The name of the property, as in the API.
    pub field: String,
    /// The value before the change. Absent if there was none.
    pub before: Option<String>,
    /// The value after the change. Absent if there is none.
    pub after: Option<String>,
}

impl Changed {
    /// Names a property that was not there before. The empty text stands for its absence.
    pub fn new(field: &str, after: &(impl ToString + ?Sized)) -> Self {
        let after = Some(cut(&after.to_string())).filter(|text| !text.is_empty());
        Self { field: field.to_owned(), before: None, after }
    }
}

/// A change of something.
#[derive(Clone, Debug, PartialEq, Eq, Serialize, Deserialize)]
pub struct Note {
    /// The kind of change.
    pub action: Action,
    /// The changed thing.
    pub subject: Subject,
    /// The changed properties.
    pub changes: Vec<Changed>,
}

/// An entry of the audit log.
#[derive(Clone, Debug, PartialEq, Eq, Serialize, Deserialize)]
pub struct AuditEntry {
    /// The time of the change.
    pub at: Timestamp,
    /// The party that made the change.
    pub actor: Actor,
    /// The origin of the request. Absent if no request asked.
    pub origin: Option<Origin>,
    /// The organization to which the thing belongs. Absent for the server as a whole.
    pub organization: Option<OrgId>,
    /// The change.
    pub note: Note,
}

/// A property of a thing. `hidden` takes part in the comparison and is never shown.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct Property {
    field: &'static str,
    shown: String,
    hidden: Vec<u8>,
}

impl Property {
    /// Creates a property whose value is shown.
    pub fn new(field: &'static str, value: &(impl ToString + ?Sized)) -> Self {
        Self { field, shown: cut(&value.to_string()), hidden: Vec::new() }
    }

    /// Creates a property with a part that is only compared.
    pub fn with_hidden(
        field: &'static str,
        shown: &(impl ToString + ?Sized),
        hidden: Vec<u8>,
    ) -> Self {
        Self { hidden, ..Self::new(field, shown) }
    }
}

fn cut(value: &str) -> String {
    if value.chars().count() <= VALUE_CHARS_MAX {
        return value.to_owned();
    }
    value.chars().take(VALUE_CHARS_MAX).chain(['…']).collect()
}

/// Returns the differences between two descriptions of a thing; `None` means that the thing does
/// not exist. A value that is empty counts as absent.
pub fn differences(before: Option<&[Property]>, after: Option<&[Property]>) -> Vec<Changed> {
    let (before, after) = (before.unwrap_or_default(), after.unwrap_or_default());
    let find = |all: &[Property], field| all.iter().find(|it| it.field == field).cloned();
    let mut fields: Vec<_> = before.iter().chain(after).map(|property| property.field).collect();
    fields.dedup();
    let mut seen = Vec::with_capacity(fields.len());
    let mut changes = Vec::new();
    for field in fields {
        if seen.contains(&field) {
            continue;
        }
        seen.push(field);
        let (old, new) = (find(before, field), find(after, field));
        let shown = |property: &Option<Property>| {
            property.as_ref().map(|it| it.shown.clone()).filter(|text| !text.is_empty())
        };
        if old != new && (shown(&old).is_some() || shown(&new).is_some()) {
            let (old, new) = (shown(&old), shown(&new));
            changes.push(Changed { field: field.to_owned(), before: old, after: new });
        }
    }
    changes
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn differences_name_what_was_added_changed_and_removed_and_hide_secrets() {
        let before = [
            Property::new("name", "a"),
            Property::with_hidden("secret", "(secret)", vec![1]),
            Property::new("gone", "x"),
            Property::new("same", &1),
        ];
        let after = [
            Property::new("name", "b"),
            Property::with_hidden("secret", "(secret)", vec![2]),
            Property::new("same", &1),
            Property::new("new", &"y".repeat(VALUE_CHARS_MAX + 1)),
            Property::new("empty", ""),
        ];
        let text = |text: &str| Some(text.to_owned());
        let long = Some("y".repeat(VALUE_CHARS_MAX) + "…");
        let expected = [
            ("name", text("a"), text("b")),
            ("secret", text("(secret)"), text("(secret)")),
            ("gone", text("x"), None),
            ("new", None, long),
        ];
        let expected = expected.map(|(field, before, after)| Changed {
            field: field.to_owned(),
            before,
            after,
        });
        assert_eq!(differences(Some(&before), Some(&after)), expected);
        assert!(differences(Some(&before), Some(&before)).is_empty());
        assert_eq!(differences(None, Some(&before)).len(), 4);
    }
}
