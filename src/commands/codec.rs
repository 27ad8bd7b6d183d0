//! Commands as the bodies of the journal's records: a kind, a version, and bytes.
//!
//! Most bodies are the bincode form of the command's struct, see [`plain_body`]. A producer's
//! payload stands raw at the end of its record: it is kept byte for byte and can be read without
//! decoding.

use super::kind::{Kind, UnknownRecord};
use crate::base::codec::CodecError;

/// Reads a record as a command of the kind `K`.
pub(super) fn read_as<K: Kind>(version: u8, body: &[u8]) -> Result<K, UnknownRecord> {
    if version > K::VERSION {
        return Err(UnknownRecord::Newer { kind: K::NUMBER, version });
    }
    K::read(version, body)
}

/// Refuses every version but the current one, for kinds whose older versions were never released.
pub(super) fn only_current<K: Kind>(version: u8) -> Result<(), UnknownRecord> {
    if version == K::VERSION {
        return Ok(());
    }
    Err(CodecError::new("its version is of before the first release").into())
}

/// Implements [`Kind::write`] and [`Kind::read`] for a command whose body is the bincode form of
/// its struct. The order of the fields is the format. Before the first release, a struct may
/// change: the format of the data directory rises with each change, so a journal of another build
/// is refused before its records are read. After the first release, a struct that changes must keep
/// its old shape in its file, to be read for ever.
macro_rules! plain_body {
    () => {
        fn write(&self, out: &mut Vec<u8>) -> Result<(), $crate::base::codec::CodecError> {
            $crate::base::codec::encode_into(self, out)
        }

        fn read(version: u8, body: &[u8]) -> Result<Self, $crate::commands::UnknownRecord> {
            $crate::commands::codec::only_current::<Self>(version)?;
            Ok($crate::base::codec::decode(body)?)
        }
    };
}
pub(crate) use plain_body;

#[cfg(test)]
#[path = "codec_tests.rs"]
pub(super) mod tests;
