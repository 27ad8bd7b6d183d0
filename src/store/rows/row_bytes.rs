//! Rows as sled holds them: the key with the table's byte before it, and the row's version before
//! its content.

use std::sync::Arc;

use crate::base::codec;
use crate::store::error::StateError;
use crate::store::rows::row::Row;
use crate::store::rows::row_key::RowKey;

pub(crate) type KeyedRow<R> = (<R as Row>::Key, Arc<R>);
pub(crate) type Pair<R> = Result<KeyedRow<R>, StateError>;

/// Returns the key with the table's byte before it.
pub(super) fn tree_key<R: Row>(key: R::Key) -> Vec<u8> {
    let bytes = key.bytes();
    let mut prefixed = Vec::with_capacity(1 + bytes.as_ref().len());
    prefixed.push(R::PREFIX);
    prefixed.extend_from_slice(bytes.as_ref());
    prefixed
}

/// Returns the key after the table's byte.
pub(super) fn parse_key<R: Row>(bytes: &[u8]) -> Option<R::Key> {
    bytes
        .split_first()
        .filter(|(prefix, _)| **prefix == R::PREFIX)
        .and_then(|(_, key)| R::Key::parse(key))
}

pub(super) fn read_pair<R: Row>(
    pair: sled::Result<(sled::IVec, sled::IVec)>,
) -> Result<(R::Key, R), StateError> {
    let (key, value) = pair?;
    let key = parse_key::<R>(&key)
        .ok_or_else(|| StateError::Rows(format!("a key of {} has the wrong length", R::NAME)))?;
    Ok((key, read_row(&value)?))
}

pub(super) fn read_pair_shared<R: Row>(pair: sled::Result<(sled::IVec, sled::IVec)>) -> Pair<R> {
    read_pair(pair).map(|(key, row)| (key, Arc::new(row)))
}

pub(super) fn read_row<R: Row>(bytes: &[u8]) -> Result<R, StateError> {
    match bytes.split_first() {
        Some((version, row)) => R::read(*version, row),
        None => Err(StateError::Rows(format!("a row of {} is empty", R::NAME))),
    }
}

pub(crate) fn write_row<R: Row>(row: &R) -> Result<Vec<u8>, StateError> {
    let mut bytes = vec![R::VERSION];
    codec::encode_into(row, &mut bytes)?;
    Ok(bytes)
}
