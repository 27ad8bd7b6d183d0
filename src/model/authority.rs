//! The authority of a requested change. A key is judged when the change is made, not when the
//! request begins: the key may end while the server reads a body or a request waits.

use serde::{Deserialize, Serialize};

use super::id::KeyId;
use super::key::Scopes;
use super::time::Now;

/// The asking key, the scopes for the change, and the time at which both are judged.
#[derive(Clone, Copy, Debug, PartialEq, Eq, Serialize, Deserialize)]
pub struct Authority {
    /// The key that asks. `None` is the operator, whose token stays the same while the server runs.
    pub key: Option<KeyId>,
    /// The scopes for the change. The key must have all of them.
    pub needs: Scopes,
    /// The time by which the key is judged. The committer sets the time, in journal order.
    pub at: Now,
}
