//! A row: the declaration of its table, its key and the version of its encoding.

use serde::Serialize;
use serde::de::DeserializeOwned;

use crate::base::codec;
use crate::store::error::StateError;
use crate::store::rows::row_key::RowKey;

/// A row with its table and the type of its key.
pub(crate) trait Row:
    Serialize + DeserializeOwned + Clone + PartialEq + std::fmt::Debug + 'static
{
    type Key: RowKey;
    /// The name of the table in dumps.
    const NAME: &'static str;
    /// The first byte of the keys. All tables share one tree, so a batch changes all of them
    /// atomically.
    const PREFIX: u8;
    /// Set if all rows stay in memory, because they are few and read at every request.
    const RESIDENT: bool = false;
    /// The version of the row's encoding. It rises when the encoding changes, and [`Row::read`]
    /// then also reads the versions before, because snapshots hold them.
    const VERSION: u8 = 1;
    /// Reads a row in the encoding of a version.
    fn read(version: u8, bytes: &[u8]) -> Result<Self, StateError> {
        read_as(version, bytes)
    }
    /// Returns roughly how many bytes a large row takes beside its struct.
    fn heap_bytes(&self) -> usize {
        0
    }
}

/// Reads a row in the encoding of its present version.
pub(crate) fn read_as<R: Row>(version: u8, bytes: &[u8]) -> Result<R, StateError> {
    if version == R::VERSION {
        return Ok(codec::decode(bytes)?);
    }
    Err(StateError::Rows(format!("a row of {} is of version {version}", R::NAME)))
}

/// Declares a struct as a row. `added` stands for version 2, whose new fields are at the end: a row
/// of version 1 reads as if so many zero bytes followed, which are absent options and counts of 0.
/// `then` stands for version 3 in the same way.
macro_rules! row {
    ($name:ident, $prefix:literal, $label:literal, $key:ty) => {
        impl $crate::store::rows::row::Row for $name {
            type Key = $key;
            const NAME: &'static str = $label;
            const PREFIX: u8 = $prefix;
        }
    };
    ($name:ident, $prefix:literal, $label:literal, $key:ty, resident) => {
        impl $crate::store::rows::row::Row for $name {
            type Key = $key;
            const NAME: &'static str = $label;
            const PREFIX: u8 = $prefix;
            const RESIDENT: bool = true;
        }
    };
    ($name:ident, $prefix:literal, $label:literal, $key:ty, resident, added $added:literal) => {
        impl $crate::store::rows::row::Row for $name {
            type Key = $key;
            const NAME: &'static str = $label;
            const PREFIX: u8 = $prefix;
            const RESIDENT: bool = true;
            const VERSION: u8 = 2;

            fn read(version: u8, bytes: &[u8]) -> Result<Self, $crate::store::StateError> {
                match version {
                    1 => $crate::store::rows::row::read_as(2, &[bytes, &[0; $added]].concat()),
                    _ => $crate::store::rows::row::read_as(version, bytes),
                }
            }
        }
    };
    (
        $name:ident,
        $prefix:literal,
        $label:literal,
        $key:ty,
        resident,added
        $second:literal,then
        $third:literal
    ) => {
        impl $crate::store::rows::row::Row for $name {
            type Key = $key;
            const NAME: &'static str = $label;
            const PREFIX: u8 = $prefix;
            const RESIDENT: bool = true;
            const VERSION: u8 = 3;

            fn read(version: u8, bytes: &[u8]) -> Result<Self, $crate::store::StateError> {
                let added: &[u8] = match version {
                    1 => &[0; $second + $third],
                    2 => &[0; $third],
                    _ => return $crate::store::rows::row::read_as(version, bytes),
                };
                $crate::store::rows::row::read_as(3, &[bytes, added].concat())
            }
        }
    };
    ($name:ident, $prefix:literal, $label:literal, $key:ty, |$row:ident| $heap_bytes:expr) => {
        impl $crate::store::rows::row::Row for $name {
            type Key = $key;
            const NAME: &'static str = $label;
            const PREFIX: u8 = $prefix;

            fn heap_bytes(&self) -> usize {
                let $row = self;
                $heap_bytes
            }
        }
    };
}
pub(crate) use row;
