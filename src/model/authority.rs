//! What a change stands on when a request asks for it. It is judged when the change is made, not when the request began:
//! a key may end while a body is on its way or while something is waited for.

use serde::{Deserialize, Serialize};

use super::id::KeyId;
use super::key::Scopes;
use super::time::Timestamp;

/// Who asks for a change, what they must be allowed to do for it, and by which time that is judged.
#[derive(Clone, Copy, Debug, PartialEq, Eq, Serialize, Deserialize)]
pub struct Authority {
    /// The key. None: the operator, whose token stays the same as long as the server runs.
    pub key: Option<KeyId>,
    /// The scopes that the key must have.
    pub needs: Scopes,
    /// The time that the key is judged by. Given by the committer, in journal order; 0 until then.
    pub at: Timestamp,
}
