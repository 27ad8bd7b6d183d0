//! An endpoint: a URL of an organization that events are pushed to.

use std::fmt;
use std::str::FromStr;

use base64::Engine as _;
use base64::engine::general_purpose::STANDARD;
use serde::{Deserialize, Serialize};
use zeroize::Zeroize;

use super::event::{OF_PATTERNS, SEPARATORS, TYPE_CHARS_MAX, is_visible};
use super::id::EndpointId;
use super::time::Timestamp;

/// Longest URL, in bytes.
pub const URL_BYTES_MAX: usize = 2_048;
/// Longest description, in characters.
pub const DESCRIPTION_CHARS_MAX: usize = 500;
/// Most headers of an endpoint's own.
pub const HEADERS_MAX: usize = 20;
/// Longest name of one, in bytes.
pub const HEADER_NAME_BYTES_MAX: usize = 128;
/// Longest value of one, in bytes.
pub const HEADER_VALUE_BYTES_MAX: usize = 1_024;
/// Most waits of an endpoint's own schedule,
pub const RETRIES_MAX: usize = 30;
/// and the longest of them: 30 days.
pub const RETRY_WAIT_S_MAX: u64 = 2_592_000;
/// Longest time an attempt may take, in milliseconds.
pub const TIMEOUT_MS_MAX: u64 = 300_000;
/// Most attempts on their way at a time that an endpoint can ask for; the configuration bounds them too.
pub const MAX_IN_FLIGHT_MAX: u64 = 1_000;
/// Most attempts begun in a second that an endpoint can ask for.
pub const RATE_PER_SECOND_MAX: u64 = 10_000;
/// Most members of an endpoint's metadata,
pub const METADATA_MAX: usize = 20;
/// and the longest name or value of one, in characters.
pub const METADATA_CHARS_MAX: usize = 500;
/// Earlier secrets that can sign at the same time.
const RETIRING_MAX: usize = 4;
/// Most type patterns on one endpoint.
pub const PATTERNS_MAX: usize = 100;
/// Longest type pattern, in characters: a type, and `.*`.
pub const PATTERN_CHARS_MAX: usize = TYPE_CHARS_MAX + 2;

/// Which event types an endpoint wants: `order.created` exactly, or `order.*` for all below `order`, whatever separates
/// the words: `order.created`, `order/created`, `order:created`.
#[derive(Clone, Debug, PartialEq, Eq, Serialize, Deserialize, Hash)]
pub struct TypePattern(String);

impl TypePattern {
    /// The text.
    pub fn as_str(&self) -> &str {
        &self.0
    }

    /// The words that every type begins with that it wants; none if it wants one type exactly.
    pub fn words(&self) -> Option<&str> {
        self.0.strip_suffix('*')?.strip_suffix(SEPARATORS)
    }
}

impl FromStr for TypePattern {
    type Err = &'static str;

    fn from_str(text: &str) -> Result<Self, Self::Err> {
        let words = match text.strip_suffix('*') {
            Some(below) => below.strip_suffix(SEPARATORS).unwrap_or_default(),
            None => text,
        };
        if is_visible(words) && !words.contains(OF_PATTERNS) {
            Ok(Self(text.to_owned()))
        } else {
            Err("must be an event type such as `order.created`, or one ending in `.*` such as `order.*`")
        }
    }
}

/// What signs the requests: 32 random bytes, `whsec_` and base64 at the edges (Standard Webhooks).
#[derive(Clone, PartialEq, Eq)]
pub struct Secret([u8; 32]);

/// A [`Secret`], or another text that may be one, as it is kept: neither the journal nor the state tells it to whoever does not have the key.
#[derive(Clone, Debug, PartialEq, Eq, Serialize, Deserialize)]
pub struct SealedSecret(Vec<u8>);

impl SealedSecret {
    /// What a vault made of a secret.
    pub fn new(sealed: Vec<u8>) -> Self {
        Self(sealed)
    }

    /// The same again.
    pub fn bytes(&self) -> &[u8] {
        &self.0
    }
}

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

/// The body of the requests.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq, Serialize, Deserialize)]
pub enum BodyForm {
    /// `{"id", "type", "timestamp", "data"}`.
    #[default]
    Envelope,
    /// The payload as the producer sent it.
    Payload,
    /// A CloudEvent 1.0 in structured mode.
    CloudEvents,
}

impl BodyForm {
    /// All of them.
    pub const ALL: [Self; 3] = [Self::Envelope, Self::Payload, Self::CloudEvents];

    /// The word for it in the API.
    pub fn name(self) -> &'static str {
        match self {
            Self::Envelope => "envelope",
            Self::Payload => "payload",
            Self::CloudEvents => "cloudevents",
        }
    }
}

impl FromStr for BodyForm {
    type Err = &'static str;

    fn from_str(text: &str) -> Result<Self, Self::Err> {
        let known = Self::ALL.into_iter().find(|form| form.name() == text);
        known.ok_or("must be `envelope`, `payload` or `cloudevents`")
    }
}

/// In which order an endpoint gets its events.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq, Serialize, Deserialize)]
pub enum Ordering {
    /// As they are due; one that fails holds back nothing.
    #[default]
    None,
    /// As they were taken in, one at a time; one that fails holds back all behind it.
    Strict,
}

impl Ordering {
    /// All of them.
    pub const ALL: [Self; 2] = [Self::None, Self::Strict];

    /// The word for it in the API.
    pub fn name(self) -> &'static str {
        match self {
            Self::None => "none",
            Self::Strict => "strict",
        }
    }
}

impl FromStr for Ordering {
    type Err = &'static str;

    fn from_str(text: &str) -> Result<Self, Self::Err> {
        Self::ALL.into_iter().find(|order| order.name() == text).ok_or("must be `none` or `strict`")
    }
}

/// Why an endpoint gets nothing.
#[derive(Clone, Copy, Debug, PartialEq, Eq, Serialize, Deserialize)]
pub enum DisabledReason {
    /// Its owner said so.
    ByOwner,
    /// The receiver answered 410.
    Gone,
    /// Nothing but failures for days.
    Failing,
    /// The key that sealed its secret is lost, so that nothing can be signed with it.
    SecretLost,
}

impl DisabledReason {
    /// The word for it in the API.
    pub fn name(self) -> &'static str {
        match self {
            Self::ByOwner => "by_owner",
            Self::Gone => "gone",
            Self::Failing => "failing",
            Self::SecretLost => "secret_lost",
        }
    }
}

/// What the owner of an endpoint can set.
#[derive(Clone, Debug, Default, PartialEq, Eq, Serialize, Deserialize)]
pub struct EndpointSettings {
    /// Where to.
    pub url: String,
    /// For people.
    pub description: String,
    /// What for; empty: everything that producers post.
    pub event_types: Vec<TypePattern>,
    /// More headers of the requests, names in lower case; any value may be a credential.
    pub headers: Vec<(String, SealedSecret)>,
    /// The body of the requests.
    pub body: BodyForm,
    /// Waits between attempts, in seconds; none: the configured ones.
    pub retry_schedule_s: Option<Vec<u32>>,
    /// How long an attempt may take; none: as configured.
    pub timeout_ms: Option<u32>,
    /// Attempts on their way at a time; none: as configured.
    pub max_in_flight: Option<u16>,
    /// Attempts begun in a second; none: as many as there are.
    pub rate_per_second: Option<u16>,
    /// The order of events.
    pub ordering: Ordering,
    /// For the owner's programs.
    pub metadata: Vec<(String, String)>,
}

/// A secret whose successor is there already; it signs beside it until its time has come.
#[derive(Clone, Debug, PartialEq, Eq, Serialize, Deserialize)]
pub struct RetiringSecret {
    /// The secret.
    pub secret: SealedSecret,
    /// When it ends.
    pub until: Timestamp,
}

/// An endpoint as it was last set.
#[derive(Clone, Debug, PartialEq, Eq, Serialize, Deserialize)]
pub struct Endpoint {
    /// Its public id.
    pub id: EndpointId,
    /// What its owner has set.
    pub settings: EndpointSettings,
    /// Why nothing is pushed to it; none: it is enabled.
    pub disabled: Option<DisabledReason>,
    /// Whether it is the one behind `/api/webhook/config`.
    pub is_default: bool,
    /// What signs the requests.
    pub secret: SealedSecret,
    /// Earlier secrets that still do, the newest first.
    pub retiring: Vec<RetiringSecret>,
    /// When it was made.
    pub created_at: Timestamp,
    /// When it was last changed.
    pub updated_at: Timestamp,
}

impl Endpoint {
    /// A new one, enabled.
    pub fn new(id: EndpointId, settings: EndpointSettings, secret: SealedSecret, now: Timestamp) -> Self {
        Self {
            id,
            settings,
            disabled: None,
            is_default: false,
            secret,
            retiring: Vec::new(),
            created_at: now,
            updated_at: now,
        }
    }

    /// Whether events are pushed to it.
    pub fn is_enabled(&self) -> bool {
        self.disabled.is_none()
    }

    /// The secrets that sign now, the newest first.
    pub fn secrets(&self, now: Timestamp) -> impl Iterator<Item = &SealedSecret> {
        let retiring =
            self.retiring.iter().filter(move |retiring| retiring.until > now).map(|retiring| &retiring.secret);
        std::iter::once(&self.secret).chain(retiring)
    }

    /// Puts a new secret in the place of this one, which signs beside it until `until`.
    pub fn rotate(&mut self, secret: SealedSecret, now: Timestamp, until: Timestamp) {
        let secret = std::mem::replace(&mut self.secret, secret);
        self.retiring.retain(|retiring| retiring.until > now);
        self.retiring.insert(0, RetiringSecret { secret, until });
        self.retiring.truncate(RETIRING_MAX);
        self.retiring.retain(|retiring| retiring.until > now);
        self.updated_at = now;
    }
}

impl AsRef<Self> for Endpoint {
    fn as_ref(&self) -> &Self {
        self
    }
}
