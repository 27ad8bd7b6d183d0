//! bincode behind a few functions: fixed-width integers, a size limit, and the whole input or an
//! error.
//!
//! The only importer of bincode, so replacing bincode changes one file. Every format on top
//! (records of the journal, rows of the state) has a version of its own.

use serde::Serialize;
use serde::de::DeserializeOwned;

/// Maximum size of a record: 16 MiB.
const RECORD_BYTES_MAX: usize = 16 << 20;

const CONFIG: bincode::config::Configuration<
    bincode::config::LittleEndian,
    bincode::config::Fixint,
    bincode::config::Limit<RECORD_BYTES_MAX>,
> = bincode::config::legacy().with_limit::<RECORD_BYTES_MAX>();

/// The error for bytes that are not a valid record.
#[derive(Debug, thiserror::Error)]
#[error("not a valid record: {0}")]
pub struct CodecError(String);

impl CodecError {
    /// Makes the error for a record that breaks a rule of its own.
    pub fn new(rule: &str) -> Self {
        Self(rule.to_owned())
    }
}

/// Appends the record to `out`.
///
/// # Errors
/// The record is over the size limit.
pub fn encode_into<T: Serialize>(record: &T, out: &mut Vec<u8>) -> Result<(), CodecError> {
    bincode::serde::encode_into_std_write(record, out, CONFIG)
        .map_err(|error| CodecError(error.to_string()))?;
    Ok(())
}

/// Decodes one record from the start of `bytes`. Returns the record and its length in bytes.
///
/// # Errors
/// The bytes are not such a record.
pub fn decode_prefix<T: DeserializeOwned>(bytes: &[u8]) -> Result<(T, usize), CodecError> {
    bincode::serde::decode_from_slice(bytes, CONFIG).map_err(|error| CodecError(error.to_string()))
}

/// Decodes one record that takes all of `bytes`.
///
/// # Errors
/// The bytes are not such a record, or more bytes follow.
pub fn decode<T: DeserializeOwned>(bytes: &[u8]) -> Result<T, CodecError> {
    let (record, used) = decode_prefix(bytes)?;
    if used == bytes.len() {
        Ok(record)
    } else {
        Err(CodecError(format!("{} bytes left over", bytes.len() - used)))
    }
}
