//! An organization: a tenant.

use std::fmt;
use std::str::FromStr;

use serde::{Deserialize, Serialize};

use super::id::OrgId;
use super::time::Timestamp;

/// Longest name of an organization or key, in characters.
pub const NAME_CHARS_MAX: usize = 200;

/// Whether a text is meant as an organization's id, right or not: then it is no name.
pub fn looks_like_id(text: &str) -> bool {
    text.split_once('_').is_some_and(|(prefix, _)| prefix.eq_ignore_ascii_case(OrgId::PREFIX))
}

/// What an organization may use; the figures of each tier are configuration.
#[derive(Clone, Copy, Debug, PartialEq, Eq, Hash, Serialize, Deserialize)]
#[serde(rename_all = "lowercase")]
pub enum Tier {
    /// For trying it out.
    Free,
    /// For ordinary use.
    Pro,
    /// For much.
    Enterprise,
}

impl Tier {
    /// All of them, smallest first.
    pub const ALL: [Self; 3] = [Self::Free, Self::Pro, Self::Enterprise];

    /// The word for it in the API and in the configuration.
    pub fn name(self) -> &'static str {
        match self {
            Self::Free => "free",
            Self::Pro => "pro",
            Self::Enterprise => "enterprise",
        }
    }
}

impl fmt::Display for Tier {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.write_str(self.name())
    }
}

impl FromStr for Tier {
    type Err = &'static str;

    fn from_str(text: &str) -> Result<Self, Self::Err> {
        Self::ALL.into_iter().find(|tier| tier.name() == text).ok_or("must be free, pro or enterprise")
    }
}

/// When an event leaves the inbox by itself.
#[derive(Clone, Copy, Debug, PartialEq, Eq, Serialize, Deserialize)]
#[serde(rename_all = "snake_case")]
pub enum InboxMode {
    /// When it is acknowledged, or when every endpoint that matched it accepted it and at least one did.
    Auto,
    /// Only when it is acknowledged.
    AckOnly,
}

impl InboxMode {
    /// The word for it.
    pub fn name(self) -> &'static str {
        match self {
            Self::Auto => "auto",
            Self::AckOnly => "ack_only",
        }
    }
}

/// An organization as it was made.
#[derive(Clone, Debug, PartialEq, Eq, Serialize, Deserialize)]
pub struct Org {
    /// Its public id.
    pub id: OrgId,
    /// What people call it. No other has exactly this name; upper and lower case are different.
    pub name: String,
    /// What it may use.
    pub tier: Tier,
    /// When its events leave the inbox.
    pub inbox_mode: InboxMode,
    /// When it was made.
    pub created_at: Timestamp,
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
