//! Positions of records in the log.

use std::fmt;

use serde::{Deserialize, Serialize};

/// The position of a record in the log. In the local journal it is a byte address in the whole log.
/// Another log may count in another way: other modules compare positions and show the distance
/// between two. Only `rebuild`, which repairs a local journal, takes a distance for bytes.
#[derive(Debug, Clone, Copy, PartialEq, Eq, PartialOrd, Ord, Hash, Serialize, Deserialize)]
pub struct Position(pub u64);

impl Position {
    /// The lowest position of a record, at which the local journal begins.
    pub const FIRST: Self = Self(1);
    /// A position that no log reaches.
    pub const MAX: Self = Self(u64::MAX);

    /// Returns the position `distance` later.
    #[must_use]
    pub fn plus(self, distance: u64) -> Self {
        Self(self.0.saturating_add(distance))
    }

    /// Returns the distance from `earlier` to this position; in the local journal, in bytes.
    pub fn since(self, earlier: Self) -> u64 {
        self.0.saturating_sub(earlier.0)
    }
}

impl Default for Position {
    fn default() -> Self {
        Self::FIRST
    }
}

impl From<Position> for u64 {
    fn from(position: Position) -> Self {
        position.0
    }
}

impl fmt::Display for Position {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        self.0.fmt(f)
    }
}
