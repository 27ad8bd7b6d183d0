//! Positions in the log.

use std::fmt;

use serde::{Deserialize, Serialize};

/// The place of a record in the log. In the local journal a position is a byte address in the whole
/// log. Other modules only compare positions, so another log may count in another way.
#[derive(Debug, Clone, Copy, PartialEq, Eq, PartialOrd, Ord, Hash, Serialize, Deserialize)]
pub struct Position(pub u64);

impl Position {
    /// The position at which every log begins. No record has the position 0.
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
