//! An organization, which is a tenant.

use serde::{Deserialize, Serialize};

use super::id::OrgId;
use super::time::Timestamp;
use crate::base::names::{UnknownName, named};

/// Maximum length of an organization's or a key's name, in characters.
pub const NAME_CHARS_MAX: usize = 200;

/// Returns true if a text begins like an organization's id, correct or not. Such a text cannot be a
/// name.
pub fn looks_like_id(text: &str) -> bool {
    text.split_once('_').is_some_and(|(prefix, _)| prefix.eq_ignore_ascii_case(OrgId::PREFIX))
}

/// The tier of an organization. The configuration has the limits of each tier.
#[derive(
    Clone,
    Copy,
    Debug,
    PartialEq,
    Eq,
    Hash,
    Serialize,
    Deserialize,
    strum::Display,
    strum::EnumString,
    strum::IntoStaticStr,
    strum::VariantArray,
    strum::VariantNames,
)]
#[serde(rename_all = "lowercase")]
#[strum(
    serialize_all = "snake_case",
    parse_err_ty = UnknownName,
    parse_err_fn = UnknownName::of::<Tier>
)]
pub enum Tier {
    /// The tier for trying the server out.
    Free,
    /// The tier for ordinary use.
    Pro,
    /// The tier for heavy use.
    Enterprise,
}

named!(Tier);

/// The rule by which an event leaves the inbox.
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
#[serde(rename_all = "snake_case")]
#[strum(
    serialize_all = "snake_case",
    parse_err_ty = UnknownName,
    parse_err_fn = UnknownName::of::<InboxMode>
)]
pub enum InboxMode {
    /// An event leaves at its acknowledgement, or when every matching endpoint (at least one) has
    /// accepted the event.
    Auto,
    /// An event leaves only at its acknowledgement.
    AckOnly,
}

named!(InboxMode);

/// An organization with its settings.
#[derive(Clone, Debug, PartialEq, Eq, Serialize, Deserialize)]
pub struct Org {
    /// The public id of the organization.
    pub id: OrgId,
    /// The name for people. The name is unique; upper and lower case are different.
    pub name: String,
    /// The tier of the organization.
    pub tier: Tier,
    /// The rule by which events leave the inbox.
    pub inbox_mode: InboxMode,
    /// The time at which the organization was created.
    pub created_at: Timestamp,
}

/// The deletion of an organization while it is under way.
#[derive(Clone, Copy, Debug, PartialEq, Eq, Serialize, Deserialize)]
pub struct OrgDeletion {
    /// The time at which the operator asked for it.
    pub at: Timestamp,
    /// The number of events that the organization had then.
    pub events: u64,
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_text_with_the_prefix_is_meant_as_an_id() {
        for id in ["org_", "org_zzz", "ORG_01h455vb4pex5vsknk084sn02q", "Org_chart"] {
            assert!(looks_like_id(id), "{id}");
        }
        for name in ["", "org", "organ_zzz", "my org_zzz", "Acme"] {
            assert!(!looks_like_id(name), "{name}");
        }
    }
}
