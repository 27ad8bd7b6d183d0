//! An endpoint: a URL of an organization that events are pushed to.

use std::fmt;
use std::str::FromStr;

use base64::Engine as _;
use base64::engine::general_purpose::STANDARD;
use serde::{Deserialize, Serialize};
use zeroize::Zeroize;

use super::event::is_dotted_words;
use super::id::EndpointId;
use super::time::Timestamp;

/// Longest URL, in bytes.
pub const URL_BYTES_MAX: usize = 2_048;
/// Most type patterns on one endpoint.
pub const PATTERNS_MAX: usize = 100;

/// Which event types an endpoint wants: `order.created` exactly, or `order.*` for all below `order`.
#[derive(Clone, Debug, PartialEq, Eq, Serialize, Deserialize)]
pub struct TypePattern(String);

impl TypePattern {
    /// The text.
    pub fn as_str(&self) -> &str {
        &self.0
    }
}

impl FromStr for TypePattern {
    type Err = &'static str;

    fn from_str(text: &str) -> Result<Self, Self::Err> {
        if is_dotted_words(text.strip_suffix(".*").unwrap_or(text)) {
            Ok(Self(text.to_owned()))
        } else {
            Err("must be an event type such as `order.created`, or one ending in `.*` such as `order.*`")
        }
    }
}

/// What signs the requests: 32 random bytes, `whsec_` and base64 at the edges (Standard Webhooks).
#[derive(Clone, PartialEq, Eq, Serialize, Deserialize)]
pub struct Secret([u8; 32]);

impl Secret {
    /// A secret of these random bytes.
    pub fn new(bytes: [u8; 32]) -> Self {
        Self(bytes)
    }

    /// The key of the HMAC.
    pub fn bytes(&self) -> &[u8] {
        &self.0
    }

    /// The form a consumer gets, once.
    pub fn reveal(&self) -> String {
        format!("whsec_{}", STANDARD.encode(self.0))
    }
}

impl fmt::Debug for Secret {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.write_str("Secret(…)")
    }
}

impl Drop for Secret {
    fn drop(&mut self) {
        self.0.zeroize();
    }
}

/// An endpoint as it was last set.
#[derive(Clone, Debug, PartialEq, Eq, Serialize, Deserialize)]
pub struct Endpoint {
    /// Its public id.
    pub id: EndpointId,
    /// Where to.
    pub url: String,
    /// What for; empty: everything.
    pub event_types: Vec<TypePattern>,
    /// Whether new events are pushed to it.
    pub enabled: bool,
    /// Whether it is the one behind `/api/webhook/config`.
    pub is_default: bool,
    /// What signs the requests.
    pub secret: Secret,
    /// When it was made.
    pub created_at: Timestamp,
    /// When it was last changed.
    pub updated_at: Timestamp,
}

impl AsRef<Self> for Endpoint {
    fn as_ref(&self) -> &Self {
        self
    }
}
