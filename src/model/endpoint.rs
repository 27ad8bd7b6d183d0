//! An endpoint: a URL to which the events of an organization are pushed.

use std::fmt;
use std::str::FromStr;

use base64::Engine as _;
use base64::engine::general_purpose::STANDARD;
use serde::{Deserialize, Serialize};
use zeroize::Zeroize;

use super::event::{OF_PATTERNS, SEPARATORS, TYPE_CHARS_MAX, is_visible};
use super::id::EndpointId;
use super::time::{Now, Timestamp};
use crate::base::names::{UnknownName, named};

/// Maximum length of a URL, in bytes.
pub const URL_BYTES_MAX: usize = 2_048;
/// Maximum length of a description, in characters.
pub const DESCRIPTION_CHARS_MAX: usize = 500;
/// Maximum number of headers that an endpoint adds to its requests.
pub const HEADERS_MAX: usize = 20;
/// Maximum length of a header's name, in bytes.
pub const HEADER_NAME_BYTES_MAX: usize = 128;
/// Maximum length of a header's value, in bytes.
pub const HEADER_VALUE_BYTES_MAX: usize = 1_024;
/// Maximum number of waits in an endpoint's own retry schedule.
pub const RETRIES_MAX: usize = 30;
/// Maximum wait in a retry schedule: 30 days, in seconds.
pub const RETRY_WAIT_S_MAX: u64 = 2_592_000;
/// Maximum timeout of an attempt, in milliseconds.
pub const TIMEOUT_MS_MAX: u64 = 300_000;
/// Maximum number of concurrent attempts that an endpoint can ask for. The configuration limits
/// them too.
pub const MAX_IN_FLIGHT_MAX: u64 = 1_000;
/// Maximum number of attempts per second that an endpoint can ask for.
pub const RATE_PER_SECOND_MAX: u64 = 10_000;
/// Maximum number of members in an endpoint's metadata.
pub const METADATA_MAX: usize = 20;
/// Maximum length of a metadata name or value, in characters.
pub const METADATA_CHARS_MAX: usize = 500;
/// Maximum number of earlier secrets that sign beside the current secret.
const RETIRING_MAX: usize = 4;
/// Maximum number of an endpoint's type patterns.
pub const PATTERNS_MAX: usize = 100;
/// Maximum length of a type pattern, in characters: the longest type and `.*`.
pub const PATTERN_CHARS_MAX: usize = TYPE_CHARS_MAX + 2;

/// A pattern of the event types that an endpoint gets: `order.created` matches exactly, and
/// `order.*` matches every type below `order`, with any separator (`order.created`,
/// `order/created`, `order:created`).
#[derive(Clone, Debug, PartialEq, Eq, Serialize, Deserialize, Hash)]
pub struct TypePattern(String);

impl TypePattern {
    /// Returns the text of the pattern.
    pub fn as_str(&self) -> &str {
        &self.0
    }

    /// Returns the words with which every matching type begins. `None` if the pattern is one exact
    /// type.
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
            Err("must be an event type such as `order.created`, or one ending in `.*` such as \
                 `order.*`")
        }
    }
}

/// A signing secret: 32 random bytes. The API shows them as `whsec_` and base64 (Standard
/// Webhooks).
#[derive(Clone, PartialEq, Eq)]
pub struct Secret([u8; 32]);

/// A [`Secret`] or the value of a header, sealed. Without the vault's key, the journal and the
/// state do not reveal the text.
#[derive(Clone, Debug, PartialEq, Eq, Serialize, Deserialize)]
pub struct SealedSecret(Vec<u8>);

impl SealedSecret {
    /// Wraps the sealed bytes of a vault.
    pub fn new(sealed: Vec<u8>) -> Self {
        Self(sealed)
    }

    /// Returns the sealed bytes.
    pub fn bytes(&self) -> &[u8] {
        &self.0
    }
}

impl Secret {
    /// Makes a secret of random bytes.
    pub fn new(bytes: [u8; 32]) -> Self {
        Self(bytes)
    }

    /// Returns the key of the HMAC.
    pub fn bytes(&self) -> &[u8] {
        &self.0
    }

    /// Returns the text form, which the API shows only once.
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

/// The form of the body of an endpoint's requests.
#[derive(
    Clone,
    Copy,
    Debug,
    Default,
    PartialEq,
    Eq,
    Serialize,
    Deserialize,
    strum::EnumString,
    strum::IntoStaticStr,
    strum::VariantArray,
    strum::VariantNames,
)]
#[strum(
    serialize_all = "lowercase",
    parse_err_ty = UnknownName,
    parse_err_fn = UnknownName::of::<BodyForm>
)]
pub enum BodyForm {
    /// An object: `{"id", "type", "timestamp", "data"}`.
    #[default]
    Envelope,
    /// The payload, byte for byte as the producer sent it.
    Payload,
    /// A CloudEvent 1.0 in structured mode.
    CloudEvents,
}

named!(BodyForm);

/// The order in which an endpoint gets its events.
#[derive(
    Clone,
    Copy,
    Debug,
    Default,
    PartialEq,
    Eq,
    Serialize,
    Deserialize,
    strum::EnumString,
    strum::IntoStaticStr,
    strum::VariantArray,
    strum::VariantNames,
)]
#[strum(
    serialize_all = "snake_case",
    parse_err_ty = UnknownName,
    parse_err_fn = UnknownName::of::<Ordering>
)]
pub enum Ordering {
    /// Events are sent as they are due. A failed delivery holds back no other.
    #[default]
    None,
    /// Events are sent one at a time, in the order in which the server accepted them. A failed
    /// delivery holds back all later events.
    Strict,
}

named!(Ordering);

/// The reason why an endpoint is disabled.
#[derive(
    Clone,
    Copy,
    Debug,
    PartialEq,
    Eq,
    Serialize,
    Deserialize,
    strum::IntoStaticStr,
    strum::VariantNames,
)]
#[strum(serialize_all = "snake_case")]
pub enum DisabledReason {
    /// The organization disabled the endpoint.
    ByOwner,
    /// The receiver answered 410.
    Gone,
    /// Every attempt failed for days.
    Failing,
    /// The key that sealed the secret is lost, so the server cannot sign requests.
    SecretLost,
}

impl DisabledReason {
    /// The name of the reason in the API.
    pub fn name(self) -> &'static str {
        self.into()
    }
}

/// The settings of an endpoint that its organization can change.
#[derive(Clone, Debug, Default, PartialEq, Eq, Serialize, Deserialize)]
pub struct EndpointSettings {
    /// The URL of the receiver.
    pub url: String,
    /// A description for people. The server does not read it.
    pub description: String,
    /// The event types for the endpoint. Empty: all events of producers.
    pub event_types: Vec<TypePattern>,
    /// Additional headers of the requests, with names in lower case. A value may be a credential,
    /// so all are sealed.
    pub headers: Vec<(String, SealedSecret)>,
    /// The form of the request body.
    pub body: BodyForm,
    /// The waits between attempts, in seconds. Absent: the configured schedule.
    pub retry_schedule_s: Option<Vec<u32>>,
    /// The timeout of an attempt, in milliseconds. Absent: the configured timeout.
    pub timeout_ms: Option<u32>,
    /// Maximum number of concurrent attempts. Absent: the configured number.
    pub max_in_flight: Option<u16>,
    /// Maximum number of attempts per second. Absent: no limit.
    pub rate_per_second: Option<u16>,
    /// The order in which events are sent.
    pub ordering: Ordering,
    /// Names and values for the organization's own programs. The server does not read them.
    pub metadata: Vec<(String, String)>,
}

impl EndpointSettings {
    /// Returns the URL without its query, which often holds tokens. The URL of an endpoint never
    /// has a user or a password.
    pub fn url_without_query(&self) -> &str {
        self.url.split(['?', '#']).next().unwrap_or_default()
    }

    /// Returns the bytes of the settings whose length the organization chooses.
    fn bytes(&self) -> usize {
        let headers = self.headers.iter().map(|(name, value)| name.len() + value.bytes().len());
        let metadata = self.metadata.iter().map(|(name, value)| name.len() + value.len());
        self.url.len() + self.description.len() + headers.chain(metadata).sum::<usize>()
    }
}

/// Returns true if the new value is less than the old one, false if both are equal, and none if it
/// is more.
fn less<T: Ord + Copy>(new: T, old: T) -> Option<bool> {
    (new <= old).then_some(new < old)
}

/// A rotated secret. It signs beside its successor until `until`.
#[derive(Clone, Debug, PartialEq, Eq, Serialize, Deserialize)]
pub struct RetiringSecret {
    /// The earlier secret, sealed.
    pub secret: SealedSecret,
    /// The steady time at which the secret stops signing.
    pub until: Timestamp,
}

/// An endpoint with its current settings.
#[derive(Clone, Debug, PartialEq, Eq, Serialize, Deserialize)]
pub struct Endpoint {
    /// The public id of the endpoint.
    pub id: EndpointId,
    /// The current settings of the endpoint.
    pub settings: EndpointSettings,
    /// The reason why the endpoint is disabled. Absent if the endpoint is enabled.
    pub disabled: Option<DisabledReason>,
    /// Set for the endpoint behind `/api/webhook/config`.
    pub is_default: bool,
    /// The signing secret of the requests.
    pub secret: SealedSecret,
    /// Rotated secrets, which may still sign, the newest first.
    pub retiring: Vec<RetiringSecret>,
    /// The time at which the endpoint was created.
    pub created_at: Timestamp,
    /// The time of the last change.
    pub updated_at: Timestamp,
}

impl Endpoint {
    /// Creates an enabled endpoint.
    pub fn new(
        id: EndpointId,
        settings: EndpointSettings,
        secret: SealedSecret,
        now: Timestamp,
    ) -> Self {
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

    /// Returns true if events are pushed to the endpoint.
    pub fn is_enabled(&self) -> bool {
        self.disabled.is_none()
    }

    /// Returns true if this value makes less work and data than the one before: it is disabled, or
    /// it has fewer types, fewer attempts or shorter settings, and nothing of it makes more.
    pub fn is_less_than(&self, before: &Self) -> bool {
        let (new, old) = (&self.settings, &before.settings);
        let enabled = less(self.is_enabled(), before.is_enabled());
        let types = match (new.event_types.as_slice(), old.event_types.as_slice()) {
            (new, old) if new == old => Some(false),
            ([], _) => None,
            (_, []) => Some(true),
            (new, old) => new.iter().all(|kind| old.contains(kind)).then_some(true),
        };
        let attempts = match (&new.retry_schedule_s, &old.retry_schedule_s) {
            (Some(new), Some(old)) => less(new.len(), old.len()),
            (new, old) => (new == old).then_some(false),
        };
        let parts = [
            enabled,
            types,
            attempts,
            less(new.bytes(), old.bytes()),
            (self.secret == before.secret && self.retiring == before.retiring).then_some(false),
        ];
        parts.iter().all(Option::is_some) && parts.contains(&Some(true))
    }

    /// Returns the secrets that sign at this steady time, the newest first.
    pub fn secrets(&self, now: Timestamp) -> impl Iterator<Item = &SealedSecret> {
        let retiring = self
            .retiring
            .iter()
            .filter(move |retiring| retiring.until > now)
            .map(|retiring| &retiring.secret);
        std::iter::once(&self.secret).chain(retiring)
    }

    /// Replaces the secret by a new secret. The old secret signs too during the overlap.
    pub fn rotate(&mut self, secret: SealedSecret, now: impl Into<Now>, overlap_ms: u64) {
        let Now { wall, steady } = now.into();
        let secret = std::mem::replace(&mut self.secret, secret);
        self.end_overlaps(steady);
        self.retiring.insert(0, RetiringSecret { secret, until: steady.plus_ms(overlap_ms) });
        self.retiring.truncate(RETIRING_MAX);
        self.end_overlaps(steady);
        self.updated_at = wall;
    }

    /// Returns true if the endpoint has a rotated secret that signs no more at this steady time.
    pub fn has_ended_overlap(&self, now: Timestamp) -> bool {
        self.retiring.iter().any(|retiring| retiring.until <= now)
    }

    /// Removes the rotated secrets that sign no more at this steady time.
    pub fn end_overlaps(&mut self, now: Timestamp) {
        self.retiring.retain(|retiring| retiring.until > now);
    }
}

impl AsRef<Self> for Endpoint {
    fn as_ref(&self) -> &Self {
        self
    }
}
