//! The authority of a change that a request asks for. It is judged when the change is made, not
//! when the request begins: a key may end while the server reads a body or a request waits.

use serde::{Deserialize, Serialize};

use super::id::KeyId;
use super::key::Scopes;
use super::time::Timestamp;

/// The key that asks for a change, the scopes that the change needs, and the time at which both are
/// judged.
#[derive(Clone, Copy, Debug, PartialEq, Eq, Serialize, Deserialize)]
pub struct Authority {
    /// The key that asks. `None` is the operator, whose token stays the same while the server runs.
    pub key: Option<KeyId>,
    /// The scopes that the key must have.
    pub needs: Scopes,
    /// The time by which the key is judged. The committer sets it, in journal order; until then it
    /// is 0.
    pub at: Timestamp,
}
