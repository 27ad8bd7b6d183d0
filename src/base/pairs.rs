//! Pairs of a name and a value, written as an object of JSON.

use serde::{Serialize, Serializer};

/// Writes the pairs as the members of an object, in their order. For `serialize_with` of serde.
///
/// # Errors
/// Fails when a value cannot be written.
pub fn as_map<N: Serialize, V: Serialize, S: Serializer>(
    pairs: &impl AsRef<[(N, V)]>,
    serializer: S,
) -> Result<S::Ok, S::Error> {
    serializer.collect_map(pairs.as_ref().iter().map(|(name, value)| (name, value)))
}
