//! Snapshots: files beside the segments, each with every row of the state as of one position of the
//! journal. A start without a state continues from the newest whole snapshot instead of the
//! journal's beginning. To the journal, rows are opaque pairs of bytes in ascending order.
//!
//! ```text
//! journal/00000000000000123456.snap     named by its position
//!
//! snapshot ┌ header 40 ┬ block ┬ block ┬ … ┬ trailer 36 ┐
//! header   "TRGS" │ format u32 │ rows' format u32 │ position u64 │ first u64 │ taken u64 │ crc u32
//! block    len u32 │ crc u32 │ rows (len bytes)
//! row      key len u16 │ key │ value len u32 │ value
//! trailer  0 u32 │ blocks u64 │ rows u64 │ bytes of all blocks u64 │ chain u32 │ crc u32
//! ```
//!
//! All numbers are big-endian. `first` is the journal's first position when the snapshot was taken,
//! and witnesses that nothing before it is missing by mistake. The checksums of blocks form a
//! chain: each continues the checksum before it, and the first continues the header's. So a block
//! in the wrong place, or of another snapshot, does not fit. The trailer holds the end of the
//! chain. Without its trailer a snapshot is torn.
//!
//! A snapshot has no name until it is whole and synced. So a copy of the live directory never meets
//! a name that disappears, and no crash leaves a torn file with the name of a snapshot. A named
//! snapshot never changes.

mod directory;
mod format;
mod names;
mod reader;
mod writer;

#[cfg(test)]
mod tests;

pub use directory::{clear_snapshot_drafts, first_witnessed, snapshots_in};
pub use format::{SnapshotHeader, SnapshotSize};
pub use names::{SnapshotFile, position_of as snapshot_position};
pub use reader::SnapshotReader;
pub use writer::SnapshotWriter;
