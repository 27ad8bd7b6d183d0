//! Ids: TypeIDs in the API (a prefix, `_` and a UUIDv7 in 26 Crockford base32 characters; TypeID
//! spec 0.3), 128-bit numbers inside. [`IdSource`] generates them in strictly increasing order.
//!
//! The low 20 bits of a generated id are zero. In the id of a delivery, these bits are the
//! endpoint's number in its organization, so the id names the event and the endpoint without a row.

use std::fmt;
use std::str::FromStr;

use serde::{Deserialize, Deserializer, Serialize, Serializer, de};

use super::time::Timestamp;

const ALPHABET: &[u8; 32] = b"0123456789abcdefghjkmnpqrstvwxyz";
/// Number of characters of the base32 part.
pub const SUFFIX_LEN: usize = 26;
/// Maximum number of characters of a prefix, with its `_`.
const PREFIX_LEN_MAX: usize = 4;
/// Number of low bits that are zero in generated ids.
const NUMBER_BITS: u32 = 20;
/// Maximum number of an endpoint in its organization. The smallest number is 1.
pub const ENDPOINT_NUMBER_MAX: u32 = (1 << NUMBER_BITS) - 1;
const NUMBER_MASK: u128 = ENDPOINT_NUMBER_MAX as u128;

/// The error for a text that is not an id of the expected kind.
#[derive(Clone, Debug, PartialEq, Eq, thiserror::Error)]
#[error("must be `{prefix}_` and 26 lower-case base32 characters")]
pub struct BadId {
    prefix: &'static str,
}

/// The value of each byte of the alphabet. `None` for all other bytes.
const VALUES: [Option<u8>; 256] = {
    let mut values = [None; 256];
    let mut value = 0;
    while value < ALPHABET.len() {
        #[expect(
            clippy::indexing_slicing,
            clippy::cast_possible_truncation,
            reason = "within bounds, or it does not compile"
        )]
        {
            values[ALPHABET[value] as usize] = Some(value as u8);
        }
        value += 1;
    }
    values
};

/// Returns the 26 base32 characters of a 128-bit number.
pub fn encode_base32(number: u128) -> [u8; SUFFIX_LEN] {
    let mut text = [0; SUFFIX_LEN];
    let mut rest = number;
    for character in text.iter_mut().rev() {
        let [.., lowest] = rest.to_be_bytes();
        let digit = usize::from(lowest & 31);
        *character = ALPHABET.get(digit).copied().unwrap_or(b'0');
        rest >>= 5;
    }
    text
}

/// Returns the number behind 26 base32 characters. `None` for another length, another character, or
/// more than 128 bits.
pub fn decode_base32(text: &str) -> Option<u128> {
    let bytes = text.as_bytes();
    if bytes.len() != SUFFIX_LEN || *bytes.first()? > b'7' {
        return None;
    }
    bytes.iter().try_fold(0u128, |number, character| {
        let digit = VALUES.get(usize::from(*character)).copied().flatten()?;
        Some((number << 5) | u128::from(digit))
    })
}

/// The text of an id, kept on the stack because every answer contains an id.
struct IdText {
    bytes: [u8; PREFIX_LEN_MAX + SUFFIX_LEN],
    len: usize,
}

impl IdText {
    /// Writes the text. `prefix` ends with the `_`.
    fn new(prefix: &str, number: u128) -> Self {
        let (mut bytes, len) = ([0; PREFIX_LEN_MAX + SUFFIX_LEN], prefix.len() + SUFFIX_LEN);
        if let Some((first, rest)) = bytes.split_at_mut_checked(prefix.len())
            && let Some(suffix) = rest.first_chunk_mut()
        {
            first.copy_from_slice(prefix.as_bytes());
            *suffix = encode_base32(number);
        }
        Self { bytes, len }
    }

    fn as_str(&self) -> &str {
        self.bytes.get(..self.len).and_then(|text| str::from_utf8(text).ok()).unwrap_or_default()
    }
}

macro_rules! id {
    ($(#[$doc:meta])* $name:ident, $prefix:literal) => {
        $(#[$doc])*
        #[derive(Default, Clone, Copy, PartialEq, Eq, PartialOrd, Ord, Hash)]
        pub struct $name(pub u128);

        impl $name {
            /// The prefix of the text form, without the `_`.
            pub const PREFIX: &'static str = {
                assert!($prefix.len() < PREFIX_LEN_MAX);
                $prefix
            };

            /// Returns sixteen bytes with the sort order of the id.
            pub fn to_bytes(self) -> [u8; 16] {
                self.0.to_be_bytes()
            }

            /// Makes an id of the bytes from [`Self::to_bytes`].
            pub fn from_bytes(bytes: [u8; 16]) -> Self {
                Self(u128::from_be_bytes(bytes))
            }

            /// Returns the time of the UUIDv7 (RFC 9562, 5.7), in milliseconds since 1970.
            pub fn unix_ms(self) -> u64 {
                u64::try_from(self.0 >> 80).unwrap_or(0)
            }
        }

        impl fmt::Display for $name {
            fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
                f.write_str(IdText::new(concat!($prefix, "_"), self.0).as_str())
            }
        }

        /// Shows the id as users know it, also inside a whole row.
        impl fmt::Debug for $name {
            fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
                fmt::Display::fmt(self, f)
            }
        }

        impl FromStr for $name {
            type Err = BadId;

            fn from_str(text: &str) -> Result<Self, BadId> {
                let suffix = text.strip_prefix(concat!($prefix, "_"));
                suffix.and_then(decode_base32).map(Self).ok_or(BadId { prefix: $prefix })
            }
        }

        impl Serialize for $name {
            fn serialize<S: Serializer>(&self, serializer: S) -> Result<S::Ok, S::Error> {
                if serializer.is_human_readable() {
                    serializer.serialize_str(IdText::new(concat!($prefix, "_"), self.0).as_str())
                } else {
                    self.0.serialize(serializer)
                }
            }
        }

        impl<'de> Deserialize<'de> for $name {
            fn deserialize<D: Deserializer<'de>>(deserializer: D) -> Result<Self, D::Error> {
                if deserializer.is_human_readable() {
                    String::deserialize(deserializer)?.parse().map_err(de::Error::custom)
                } else {
                    u128::deserialize(deserializer).map(Self)
                }
            }
        }
    };
}

id!(
    /// The id of an organization.
    OrgId, "org"
);
id!(
    /// The id of an API key, which is the public part of the key.
    KeyId, "key"
);
id!(
    /// The id of an event. Ids sort in the order of acceptance.
    EventId, "evt"
);
id!(
    /// The id of an endpoint.
    EndpointId, "ep"
);

id!(
    /// The id of a delivery: the event's id with the endpoint's number in the low bits.
    DeliveryId, "dlv"
);
id!(
    /// The id of an attempt: its start time and its position in the journal.
    AttemptId, "atm"
);

id!(
    /// The id of a replay.
    ReplayId, "rpl"
);
id!(
    /// Job of the server for the operator, such as a backup.
    JobId, "job"
);

impl EventId {
    /// Returns the smallest id of this time.
    pub fn first_of(at: Timestamp) -> Self {
        Self(u128::from(at.0) << 80)
    }

    /// Returns the next larger id.
    #[must_use]
    pub fn next(self) -> Self {
        Self(self.0.saturating_add(1))
    }
}

impl DeliveryId {
    /// Returns the id of the event's delivery to the endpoint with this number.
    pub fn of(event: EventId, endpoint_number: u32) -> Self {
        Self((event.0 & !NUMBER_MASK) | (u128::from(endpoint_number) & NUMBER_MASK))
    }

    /// Returns the id of the delivered event.
    pub fn event(self) -> EventId {
        EventId(self.0 & !NUMBER_MASK)
    }

    /// Returns the endpoint's number in its organization.
    pub fn endpoint_number(self) -> u32 {
        u32::try_from(self.0 & NUMBER_MASK).unwrap_or(0)
    }
}

impl AttemptId {
    /// Returns the id of the attempt with this start time and this position in the journal. The
    /// position makes the id unique. The id has the shape of a UUIDv7, with the
    /// position in place of the random bits.
    pub fn of(started_at: Timestamp, position: impl Into<u64>) -> Self {
        let mut bytes = [0; 10];
        bytes
            .iter_mut()
            .skip(2)
            .zip(position.into().to_be_bytes())
            .for_each(|(place, byte)| *place = byte);
        Self(uuid::Builder::from_unix_timestamp_millis(started_at.0, &bytes).into_uuid().as_u128())
    }
}

/// The number of an organization in the rows of the state: small, given at creation, never reused.
#[derive(Clone, Copy, Debug, PartialEq, Eq, PartialOrd, Ord, Hash, Serialize, Deserialize)]
pub struct OrgNo(pub u32);

/// A generator of UUIDv7 numbers that always increase, whatever the clock does. Their low 20 bits
/// are zero.
#[derive(Debug)]
pub struct IdSource {
    last: u128,
}

impl IdSource {
    /// Continues after the largest number that was generated so far (0 for none).
    pub fn after(last: u128) -> Self {
        Self { last }
    }

    /// Returns the next number: a UUIDv7 of `now_ms` and `random`. If this number is not larger
    /// than the last (in the same millisecond, or after the clock was set back), it is the last
    /// number plus a random step (RFC 9562, 6.2, method 2).
    pub fn next(&mut self, now_ms: u64, random: [u8; 10]) -> u128 {
        let fresh = Self::of(now_ms, random);
        self.last = if fresh > self.last { fresh } else { self.step(random) };
        self.last
    }

    fn step(&self, random: [u8; 10]) -> u128 {
        const VARIABLE: u128 = (1 << 62) - 1; // rand_b: the bits after the variant
        // Steps of up to 2^24 leave room for some 200,000 ids in a millisecond.
        let [a, b, c, ..] = random;
        let steps = 1 + u128::from(u32::from_be_bytes([0, a, b, c]));
        let low = (self.last & VARIABLE & !NUMBER_MASK) + (steps << NUMBER_BITS);
        if low <= VARIABLE {
            return (self.last & !VARIABLE) | low;
        }
        // rand_b is used up. The next millisecond has room again.
        Self::of(u64::try_from(self.last >> 80).unwrap_or(0) + 1, random)
    }

    fn of(unix_ms: u64, random: [u8; 10]) -> u128 {
        uuid::Builder::from_unix_timestamp_millis(unix_ms, &random).into_uuid().as_u128()
            & !NUMBER_MASK
    }
}

#[cfg(test)]
mod tests {
    use proptest::prelude::*;

    use super::*;

    #[test]
    fn the_text_form_is_the_one_of_the_typeid_specification() {
        // These values are from the TypeID specification's valid examples.
        let valid = [
            (0, "00000000000000000000000000"),
            (1, "00000000000000000000000001"),
            (u128::MAX, "7zzzzzzzzzzzzzzzzzzzzzzzzz"),
            (0x0188_bac7_4afa_78aa_bc3b_bd1e_ef28_d881, "01h2xcejqtf2nbrexx3vqjhp41"),
        ];
        for (number, text) in valid {
            assert_eq!(encode_base32(number), text.as_bytes());
            assert_eq!(decode_base32(text), Some(number));
        }
        for invalid in [
            "",
            "8zzzzzzzzzzzzzzzzzzzzzzzzz",
            "0000000000000000000000000I",
            "0000000000000000000000000",
            "01H2XCEJQTF2NBREXX3VQJHP41",
        ] {
            assert_eq!(decode_base32(invalid), None, "{invalid}");
        }
    }

    #[test]
    fn ids_of_another_kind_are_refused() {
        let event = EventId(1).to_string();
        assert_eq!(event.parse(), Ok(EventId(1)));
        assert!(event.parse::<OrgId>().is_err());
    }

    #[test]
    fn many_ids_of_one_millisecond_stay_in_it() {
        let mut source = IdSource::after(0);
        let ids: Vec<u128> = (0..10_000u64)
            .map(|n| {
                let mixed = n.wrapping_mul(0x9e37_79b9_7f4a_7c15).to_be_bytes();
                source.next(
                    1_000,
                    std::array::from_fn(|at| if at < 8 { mixed[at] & 0x7f } else { 0 }),
                )
            })
            .collect();
        assert!(ids.is_sorted_by(|a, b| a < b));
        assert!(ids.iter().all(|id| EventId(*id).unix_ms() == 1_000));
    }

    #[test]
    fn the_id_of_an_attempt_is_a_uuid_of_its_time_and_place() {
        let id = AttemptId::of(Timestamp(1_769_853_600_000), 0x0012_3456_789a_bcde_u64);
        let uuid = uuid::Uuid::from_u128(id.0);
        assert_eq!((uuid.get_version_num(), uuid.get_variant()), (7, uuid::Variant::RFC4122));
        assert_eq!(
            (id.unix_ms(), id.0 & ((1 << 62) - 1)),
            (1_769_853_600_000, 0x0012_3456_789a_bcde)
        );
    }

    proptest! {
        #[test]
        fn a_delivery_names_event_and_endpoint(ms in 0u64..1 << 40, random: [u8; 10],
        number in 1..=ENDPOINT_NUMBER_MAX) {
            let event = EventId(IdSource::after(0).next(ms, random));
            let id = DeliveryId::of(event, number);
            prop_assert_eq!((id.event(), id.endpoint_number()), (event, number));
            prop_assert_eq!(id.to_string().parse(), Ok(id));
        }

        #[test]
        fn ids_only_grow_whatever_the_clock_does(steps in proptest::collection::vec((0u64..5_000,
        any::<[u8; 10]>()), 1..200)) {
            let mut source = IdSource::after(0);
            let mut last = 0;
            for (now_ms, random) in steps {
                let id = source.next(now_ms, random);
                prop_assert!(id > last);
                prop_assert_eq!(id & NUMBER_MASK, 0);
                prop_assert_eq!(uuid::Uuid::from_u128(id).get_version_num(), 7);
                last = id;
            }
        }

        #[test]
        fn bytes_and_text_sort_like_the_number(a: u128, b: u128) {
            prop_assert_eq!(a.cmp(&b), EventId(a).to_bytes().cmp(&EventId(b).to_bytes()));
            prop_assert_eq!(a.cmp(&b), EventId(a).to_string().cmp(&EventId(b).to_string()));
        }
    }
}
