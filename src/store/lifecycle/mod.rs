//! The state as a whole: its generations on disk, its write-back, and its comparison with another.

pub(super) mod audit;
pub(super) mod differences;
pub(super) mod dump;
pub(super) mod generation;
pub(super) mod kept;
pub(super) mod load;
pub(super) mod losses;
pub(super) mod opening;
pub(super) mod renewal;
pub(super) mod verify;
pub(super) mod walk;
pub(super) mod write_back;
