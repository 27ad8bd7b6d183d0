//! bincode, behind two functions: fixed-width integers, a size limit, whole input or error.
//!
//! The only importer of bincode, so that the day it has to go is a change in one file. What is written with it carries
//! a version of its own (journal frames, state rows).

use serde::Serialize;
use serde::de::DeserializeOwned;

/// No record is larger: 16 MiB.
const RECORD_BYTES_MAX: usize = 16 << 20;

const CONFIG: bincode::config::Configuration<
    bincode::config::LittleEndian,
    bincode::config::Fixint,
    bincode::config::Limit<RECORD_BYTES_MAX>,
> = bincode::config::legacy().with_limit::<RECORD_BYTES_MAX>();

/// Bytes that are not the record they should be.
#[derive(Debug)]
pub struct CodecError(String);

impl CodecError {
    /// For what a record's own rules refuse.
    pub fn new(rule: &str) -> Self {
        Self(rule.to_owned())
    }
}

impl std::fmt::Display for CodecError {
    fn fmt(&self, f: &mut std::fmt::Formatter<'_>) -> std::fmt::Result {
        write!(f, "not a valid record: {}", self.0)
    }
}

impl std::error::Error for CodecError {}

/// Appends the record to `out`.
///
/// # Errors
/// When the record is over the size limit.
pub fn encode_into<T: Serialize>(record: &T, out: &mut Vec<u8>) -> Result<(), CodecError> {
    bincode::serde::encode_into_std_write(record, out, CONFIG).map_err(|error| CodecError(error.to_string()))?;
    Ok(())
}

/// Decodes one record from the start of `bytes`; gives it and how many bytes it took.
///
/// # Errors
/// When the bytes are no such record.
pub fn decode_prefix<T: DeserializeOwned>(bytes: &[u8]) -> Result<(T, usize), CodecError> {
    bincode::serde::decode_from_slice(bytes, CONFIG).map_err(|error| CodecError(error.to_string()))
}

/// Decodes one record that takes all of `bytes`.
///
/// # Errors
/// When the bytes are no such record, or more than one.
pub fn decode<T: DeserializeOwned>(bytes: &[u8]) -> Result<T, CodecError> {
    let (record, used) = decode_prefix(bytes)?;
    if used == bytes.len() { Ok(record) } else { Err(CodecError(format!("{} bytes left over", bytes.len() - used))) }
}
