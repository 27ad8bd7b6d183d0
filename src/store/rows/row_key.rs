//! The keys of rows as bytes.

use crate::journal::Position;
use crate::model::id::{EndpointId, EventId, KeyId, OrgNo, ReplayId};
use crate::model::time::Timestamp;

/// A key whose parts sort like its bytes.
pub(crate) trait RowKey: Copy + Ord + std::fmt::Debug {
    type Bytes: AsRef<[u8]>;
    /// Returns the bytes of the parts.
    fn bytes(self) -> Self::Bytes;
    /// Returns the parts of the bytes. `None` if the length is wrong.
    fn parse(bytes: &[u8]) -> Option<Self>;
}

/// Joins several byte arrays into one.
fn join<const N: usize>(parts: &[&[u8]]) -> [u8; N] {
    let mut joined = [0; N];
    for (place, byte) in joined.iter_mut().zip(parts.iter().copied().flatten()) {
        *place = *byte;
    }
    joined
}

/// Takes the next `N` bytes from the front.
fn take<const N: usize>(bytes: &mut &[u8]) -> Option<[u8; N]> {
    let (first, rest) = bytes.split_first_chunk::<N>()?;
    *bytes = rest;
    Some(*first)
}

macro_rules! key {
    ($parts:ty, $len:literal, |$key:ident| [$($part:expr),*], |$rest:ident| $parse:expr) => {
        impl RowKey for $parts {
            type Bytes = [u8; $len];

            fn bytes(self) -> [u8; $len] {
                let $key = self;
                join(&[$($part.as_slice()),*])
            }

            fn parse(bytes: &[u8]) -> Option<Self> {
                let mut rest = bytes;
                let $rest = &mut rest;
                let key = $parse;
                rest.is_empty().then_some(key)
            }
        }
    };
}

fn org(rest: &mut &[u8]) -> Option<OrgNo> {
    take(rest).map(u32::from_be_bytes).map(OrgNo)
}

fn event(rest: &mut &[u8]) -> Option<EventId> {
    take(rest).map(EventId::from_bytes)
}

fn endpoint(rest: &mut &[u8]) -> Option<EndpointId> {
    take(rest).map(EndpointId::from_bytes)
}

fn position(rest: &mut &[u8]) -> Option<Position> {
    take(rest).map(u64::from_be_bytes).map(Position)
}

fn moment(rest: &mut &[u8]) -> Option<Timestamp> {
    take(rest).map(u64::from_be_bytes).map(Timestamp)
}

key!((), 0, |_key| [], |_rest| ());
key!(u32, 4, |key| [key.to_be_bytes()], |rest| u32::from_be_bytes(take(rest)?));
key!(OrgNo, 4, |key| [key.0.to_be_bytes()], |rest| org(rest)?);
key!((OrgNo, u32), 8, |key| [key.0.0.to_be_bytes(), key.1.to_be_bytes()], |rest| (
    org(rest)?,
    u32::from_be_bytes(take(rest)?)
));
key!(
    (OrgNo, Position, u32),
    16,
    |key| [key.0.0.to_be_bytes(), key.1.0.to_be_bytes(), key.2.to_be_bytes()],
    |rest| (org(rest)?, position(rest)?, u32::from_be_bytes(take(rest)?))
);
key!((Position, u32), 12, |key| [key.0.0.to_be_bytes(), key.1.to_be_bytes()], |rest| (
    position(rest)?,
    u32::from_be_bytes(take(rest)?)
));
key!(KeyId, 16, |key| [key.to_bytes()], |rest| KeyId::from_bytes(take(rest)?));
key!(EndpointId, 16, |key| [key.to_bytes()], |rest| endpoint(rest)?);
key!((OrgNo, EventId), 20, |key| [key.0.0.to_be_bytes(), key.1.to_bytes()], |rest| (
    org(rest)?,
    event(rest)?
));
key!((OrgNo, ReplayId), 20, |key| [key.0.0.to_be_bytes(), key.1.to_bytes()], |rest| (
    org(rest)?,
    ReplayId::from_bytes(take(rest)?)
));
key!((EndpointId, EventId), 32, |key| [key.0.to_bytes(), key.1.to_bytes()], |rest| (
    endpoint(rest)?,
    event(rest)?
));
key!(
    (EndpointId, Timestamp, EventId),
    40,
    |key| [key.0.to_bytes(), key.1.0.to_be_bytes(), key.2.to_bytes()],
    |rest| (endpoint(rest)?, moment(rest)?, event(rest)?)
);
key!(
    (OrgNo, Timestamp, EventId, EndpointId),
    44,
    |key| [key.0.0.to_be_bytes(), key.1.0.to_be_bytes(), key.2.to_bytes(), key.3.to_bytes()],
    |rest| (org(rest)?, moment(rest)?, event(rest)?, endpoint(rest)?)
);

#[cfg(test)]
#[path = "row_key_tests.rs"]
mod tests;
