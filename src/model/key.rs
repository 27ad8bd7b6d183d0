//! API keys: the text that a caller sends, the record that is kept, and the scopes.
//!
//! `trg_<live|test>_<26 characters of key id>_<43 characters of secret><6 characters of CRC32>`.
//! The id finds the record without a hash, and the CRC refuses typos and guesses for the price of a
//! checksum. Only then is the secret compared: first with a short keyed hash, which costs next to
//! nothing, then with the argon2id hash.

use std::fmt;
use std::str::FromStr;

use serde::{Deserialize, Serialize};
use zeroize::Zeroizing;

use super::id::{KeyId, SUFFIX_LEN, decode_base32, encode_base32};
use super::time::{Now, Timestamp};
use crate::base::names::{UnknownName, named};

const BASE62: &[u8; 62] = b"0123456789ABCDEFGHIJKLMNOPQRSTUVWXYZabcdefghijklmnopqrstuvwxyz";
/// Number of base62 characters of the secret: 43 hold 256 bits.
const SECRET_LEN: usize = 43;
const CRC_LEN: usize = 6;
const MODE_LIVE: &str = "trg_live_";
const MODE_TEST: &str = "trg_test_";

/// A scope of a key: the permission for one kind of request.
#[derive(
    Clone,
    Copy,
    Debug,
    PartialEq,
    Eq,
    Hash,
    strum::EnumString,
    strum::IntoStaticStr,
    strum::VariantArray,
    strum::VariantNames,
)]
#[repr(u16)]
#[strum(parse_err_ty = UnknownName, parse_err_fn = UnknownName::of::<Scope>)]
pub enum Scope {
    /// The key may post events.
    #[strum(serialize = "events:write")]
    EventsWrite = 1,
    /// The key may read the inbox.
    #[strum(serialize = "inbox:read")]
    InboxRead = 2,
    /// The key may acknowledge events.
    #[strum(serialize = "inbox:write")]
    InboxWrite = 4,
    /// The key may read endpoints.
    #[strum(serialize = "endpoints:read")]
    EndpointsRead = 8,
    /// The key may create, change and delete endpoints.
    #[strum(serialize = "endpoints:write")]
    EndpointsWrite = 16,
    /// The key may read the organization's keys.
    #[strum(serialize = "keys:read")]
    KeysRead = 32,
    /// The key may create, rotate and revoke keys.
    #[strum(serialize = "keys:write")]
    KeysWrite = 64,
    /// The key may read events, acknowledged or not.
    #[strum(serialize = "events:read")]
    EventsRead = 128,
    /// The key may read deliveries and dead letters.
    #[strum(serialize = "deliveries:read")]
    DeliveriesRead = 256,
    /// The key may retry and replay deliveries, and drop dead letters.
    #[strum(serialize = "deliveries:write")]
    DeliveriesWrite = 512,
    /// The key may read the organization's audit log.
    #[strum(serialize = "audit:read")]
    AuditRead = 1_024,
}

named!(Scope);

/// A set of scopes with a name, for keys of a common purpose.
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
    parse_err_fn = UnknownName::of::<ScopeSet>
)]
pub enum ScopeSet {
    /// The key posts events, and does nothing else.
    Producer,
    /// The key reads the inbox and acknowledges.
    Consumer,
    /// The key runs endpoints and deliveries, and reads everything.
    Operator,
    /// The key reads everything and changes nothing.
    ReadOnly,
}

named!(ScopeSet);

impl ScopeSet {
    /// Returns the scopes of the set.
    pub fn scopes(self) -> Scopes {
        let changes: &[Scope] = match self {
            Self::Producer => return Scope::EventsWrite.into(),
            Self::Consumer => return [Scope::InboxRead, Scope::InboxWrite].into_iter().collect(),
            Self::Operator => &[Scope::EndpointsWrite, Scope::DeliveriesWrite],
            Self::ReadOnly => &[],
        };
        let reads = [
            Scope::EventsRead,
            Scope::InboxRead,
            Scope::EndpointsRead,
            Scope::DeliveriesRead,
            Scope::KeysRead,
            Scope::AuditRead,
        ];
        reads.iter().chain(changes).copied().collect()
    }
}

/// The scopes that a text names: one scope, or a set.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub struct NamedScopes(pub Scopes);

impl NamedScopes {
    /// The number of names that there are.
    pub const COUNT: usize = Scope::ALL.len() + ScopeSet::ALL.len();

    /// Returns every name, those of single scopes first.
    pub fn names() -> impl Iterator<Item = &'static str> {
        let sets = ScopeSet::ALL.iter().map(|set| set.name());
        Scope::ALL.iter().map(|scope| scope.name()).chain(sets)
    }
}

impl FromStr for NamedScopes {
    type Err = UnknownName;

    fn from_str(text: &str) -> Result<Self, UnknownName> {
        let scope = text.parse::<Scope>().map(Scopes::from);
        let set = text.parse::<ScopeSet>().map(ScopeSet::scopes);
        scope.or(set).map(Self).map_err(|_no_name| UnknownName::among(Self::names()))
    }
}

/// A set of scopes, a bit for each.
#[derive(Clone, Copy, Debug, PartialEq, Eq, Serialize, Deserialize)]
pub struct Scopes(u16);

impl Scopes {
    /// Returns the empty set.
    pub fn none() -> Self {
        Self(0)
    }

    /// Returns the set of all scopes.
    pub fn all() -> Self {
        Scope::ALL.iter().copied().collect()
    }

    /// Returns the set with the scopes of another set added.
    #[must_use]
    pub fn with(self, more: Self) -> Self {
        Self(self.0 | more.0)
    }

    /// Returns true if the set contains the scope.
    pub fn allows(self, scope: Scope) -> bool {
        self.0 & scope as u16 != 0
    }

    /// Returns true if the set contains every scope of `other`.
    pub fn covers(self, other: Self) -> bool {
        self.0 & other.0 == other.0
    }

    /// Returns the names of the scopes, in a fixed order.
    pub fn names(self) -> Vec<&'static str> {
        Scope::ALL.iter().filter(|scope| self.allows(**scope)).map(|scope| scope.name()).collect()
    }
}

impl From<Scope> for Scopes {
    fn from(scope: Scope) -> Self {
        Self(scope as u16)
    }
}

impl FromIterator<Scope> for Scopes {
    fn from_iter<I: IntoIterator<Item = Scope>>(scopes: I) -> Self {
        Self(scopes.into_iter().fold(0, |bits, scope| bits | scope as u16))
    }
}

/// The record of a key. It does not contain the secret.
#[derive(Clone, Debug, PartialEq, Eq, Serialize, Deserialize)]
pub struct Key {
    /// The public id of the key.
    pub id: KeyId,
    /// The name of the key, for people.
    pub name: String,
    /// The argon2id hash of the whole key text, as a PHC string.
    pub hash: String,
    /// The first 64 bits of an HMAC of the text. They refuse a wrong text at once, before the slow
    /// hash is computed.
    pub check: [u8; 8],
    /// The scopes of the key.
    pub scopes: Scopes,
    /// The time at which the key was created.
    pub created_at: Timestamp,
    /// The time from which the key is not valid, as its creator chose.
    pub expires_at: Option<Timestamp>,
    /// The steady time from which the key is not valid because it or its creator was rotated or
    /// revoked. [`Key::ENDED_FOR_GOOD`] after the key was revoked.
    pub ended_at: Option<Timestamp>,
}

impl Key {
    /// The end of a revoked key. No time is before it, so no clock makes the key valid again.
    pub const ENDED_FOR_GOOD: Timestamp = Timestamp(0);

    /// Ends the key for good, whatever the clock does.
    pub fn end_for_good(&mut self) {
        self.ended_at = Some(Self::ENDED_FOR_GOOD);
    }

    /// Returns the moment at which the key was made. The time in an id is a steady time.
    pub fn made(&self) -> Now {
        Now::new(self.created_at, Timestamp(self.id.unix_ms()))
    }

    /// Returns true if the key is valid at `now`.
    pub fn is_valid(&self, now: impl Into<Now>) -> bool {
        let Now { wall, steady } = now.into();
        self.expires_at.is_none_or(|end| wall < end) && self.ended_at.is_none_or(|end| steady < end)
    }

    /// Returns true if the key has ended for good, whatever the clock does.
    pub fn has_ended(&self) -> bool {
        self.ended_at == Some(Self::ENDED_FOR_GOOD)
    }

    /// Returns true if the key or its creator was rotated or revoked: the key works only until the
    /// grace period ends.
    pub fn is_leaving(&self) -> bool {
        self.ended_at.is_some()
    }

    /// Returns the time at which the key stops or stopped being valid, if no clock was set back.
    pub fn ends_at(&self) -> Option<Timestamp> {
        [self.expires_at, self.ended_at].into_iter().flatten().min()
    }

    /// Returns the reason why this key may not end the other key. A key may end itself. Any other
    /// key must have no more scopes and no later end, and a key in its grace period ends no other.
    pub fn why_not_end(&self, other: &Self) -> Option<MayNotEnd> {
        if self.id == other.id {
            return None;
        }
        let outlives =
            self.ends_at().is_some_and(|end| other.ends_at().is_none_or(|others| others > end));
        if self.is_leaving() {
            Some(MayNotEnd::IsLeaving)
        } else if !self.scopes.covers(other.scopes) {
            Some(MayNotEnd::MoreScopes)
        } else {
            outlives.then_some(MayNotEnd::LaterEnd)
        }
    }

    /// Returns the part of the key text that people may see: everything before the secret.
    pub fn prefix(&self) -> String {
        let id = encode_base32(self.id.0);
        format!("{MODE_LIVE}{}", str::from_utf8(&id).unwrap_or_default())
    }
}

/// The reason why a key may not end another key.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum MayNotEnd {
    /// The key is in its grace period.
    IsLeaving,
    /// The other key has scopes that the key lacks.
    MoreScopes,
    /// The other key outlives the key.
    LaterEnd,
}

/// The text of a key in the clear. It is wiped from memory when dropped, and never printed.
pub struct KeyText {
    text: Zeroizing<String>,
    id: KeyId,
}

impl fmt::Debug for KeyText {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        write!(f, "KeyText({}, …)", self.id)
    }
}

impl KeyText {
    /// Generates the text of the key with this id. `random` returns one unpredictable byte at each
    /// call.
    pub fn generate(id: KeyId, mut random: impl FnMut() -> u8) -> Self {
        let suffix = encode_base32(id.0);
        let mut text = Zeroizing::new(String::with_capacity(128));
        text.push_str(MODE_LIVE);
        text.push_str(str::from_utf8(&suffix).unwrap_or_default());
        text.push('_');
        let secret_end = text.len() + SECRET_LEN;
        while text.len() < secret_end {
            // 248 is the largest multiple of 62 in a byte. Larger bytes would make some characters
            // more frequent.
            let byte = random();
            if byte < 248 {
                text.push(char::from(base62_digit(u32::from(byte) % 62)));
            }
        }
        let crc = crc_characters(&text);
        text.extend(crc.map(char::from));
        Self { text, id }
    }

    /// Returns the text, for showing once or for comparing.
    pub fn reveal(&self) -> &str {
        &self.text
    }

    /// Returns the id of the record to which the text claims to belong.
    pub fn id(&self) -> KeyId {
        self.id
    }
}

/// The error for a text that cannot be a key: its shape or its checksum is wrong.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub struct NotAKey;

impl FromStr for KeyText {
    type Err = NotAKey;

    fn from_str(text: &str) -> Result<Self, NotAKey> {
        let rest =
            text.strip_prefix(MODE_LIVE).or_else(|| text.strip_prefix(MODE_TEST)).ok_or(NotAKey)?;
        let (id, secret) = rest.split_at_checked(SUFFIX_LEN).ok_or(NotAKey)?;
        let id = KeyId(decode_base32(id).ok_or(NotAKey)?);
        let secret = secret.strip_prefix('_').ok_or(NotAKey)?;
        let sound = secret.len() == SECRET_LEN + CRC_LEN
            && secret.bytes().all(|c| c.is_ascii_alphanumeric());
        let (body, crc) =
            text.split_at_checked(text.len().saturating_sub(CRC_LEN)).ok_or(NotAKey)?;
        if sound && crc_characters(body) == crc.as_bytes() {
            Ok(Self { text: Zeroizing::new(text.to_owned()), id })
        } else {
            Err(NotAKey)
        }
    }
}

fn base62_digit(digit: u32) -> u8 {
    let place = usize::try_from(digit).unwrap_or(0);
    BASE62.get(place).copied().unwrap_or(b'0')
}

/// Returns the CRC32 (IEEE) of the text as six base62 characters, the most significant first.
fn crc_characters(text: &str) -> [u8; CRC_LEN] {
    let mut rest = crc32fast::hash(text.as_bytes());
    let mut characters = [0; CRC_LEN];
    for character in characters.iter_mut().rev() {
        *character = base62_digit(rest % 62);
        rest /= 62;
    }
    characters
}

#[cfg(test)]
mod tests {
    use super::*;

    fn key() -> KeyText {
        let mut next = 0u8;
        KeyText::generate(KeyId(0x0188_bac7_4afa_78aa_bc3b_bd1e_ef28_d881), || {
            next = next.wrapping_add(37);
            next
        })
    }

    #[test]
    fn a_key_reads_back_as_it_was_made() {
        let key = key();
        let text = key.reveal();
        assert_eq!(text.len(), 9 + 26 + 1 + 43 + 6);
        assert!(text.starts_with("trg_live_01h2xcejqtf2nbrexx3vqjhp41_"), "{text}");
        let read: KeyText = text.parse().unwrap();
        assert_eq!(read.id(), key.id());
        assert_eq!(
            format!("{read:?}"),
            "KeyText(key_01h2xcejqtf2nbrexx3vqjhp41, …)",
            "never printed"
        );
    }

    #[test]
    fn every_changed_or_missing_character_is_refused_without_hashing() {
        let key = key();
        let text = key.reveal();
        for place in 0..text.len() {
            let mut changed = text.to_owned().into_bytes();
            changed[place] = if changed[place] == b'a' { b'b' } else { b'a' };
            let changed = String::from_utf8(changed).unwrap();
            assert_eq!(changed.parse::<KeyText>().err(), Some(NotAKey), "{changed}");
            assert!(text[..place].parse::<KeyText>().is_err());
        }
        for odd in ["", "trg_live_", "trg_live_ä", &"ä".repeat(50), &format!("{text}a")] {
            assert!(odd.parse::<KeyText>().is_err(), "{odd}");
        }
    }

    #[test]
    fn scopes_cover_what_they_hold() {
        let few: Scopes = [Scope::EventsWrite, Scope::InboxRead].into_iter().collect();
        assert!(Scopes::all().covers(few) && !few.covers(Scopes::all()));
        assert!(few.allows(Scope::InboxRead) && !few.allows(Scope::KeysWrite));
        assert_eq!(few.names(), ["events:write", "inbox:read"]);
    }

    #[test]
    fn a_set_of_scopes_has_a_name_like_a_scope() {
        let named = |text: &str| text.parse::<NamedScopes>().map(|found| found.0.names().join(" "));
        assert_eq!(named("events:write").unwrap(), "events:write");
        assert_eq!(named("producer").unwrap(), "events:write");
        assert_eq!(named("consumer").unwrap(), "inbox:read inbox:write");
        let reads = "inbox:read endpoints:read keys:read events:read deliveries:read audit:read";
        assert_eq!(named("read_only").unwrap(), reads);
        let operator = ScopeSet::Operator.scopes();
        assert!(operator.covers(ScopeSet::ReadOnly.scopes()));
        assert!(!operator.allows(Scope::KeysWrite) && !operator.allows(Scope::EventsWrite));
        let error = named("writer").unwrap_err().to_string();
        assert!(error.contains("`keys:write`") && error.contains("or `read_only`"), "{error}");
    }
}
