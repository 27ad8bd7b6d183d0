//! The journal: an append-only log of opaque frames, and the only thing in the
//! data directory whose loss would lose anything.
//!
//! The committer appends to it through [`Writer`], one group of frames for one
//! `fdatasync`; everybody else reads it through [`Reader`]. It must not know
//! what a frame means (a kind, a version and bytes are all it sees), nor any
//! other room of this crate but `base`.
//!
//! ```text
//! journal/00000000000000000001.seg      named by the first position in it
//! journal/00000000000000065793.seg      = where the one before it ends
//!
//! segment  ┌ header 64 ┬ frame ┬ frame ┬ … ┬ zeros: preallocated, not yet written ┐
//!          0           64
//! header   "TRGJ" 4 │ format u32 │ first position u64 │ device u64 │ inode u64 │ zeros 28 │ crc32c u32
//! frame    len u32 │ crc32c u32 │ position u64 │ kind u8 │ version u8 │ body (len bytes)
//! ```
//!
//! All numbers are big-endian. A [`Position`] is a byte address in the whole
//! log, which begins at 1: a frame lies at `64 + (position - first)` of its
//! segment, so finding it needs no index. A frame's checksum covers all of the
//! frame but itself. The high bit of `kind` marks the first frame of a group.
//!
//! What recovery builds on:
//!
//! * A group is one write and one sync, lies in one segment, and is written only
//!   after the group before it was synced. So a bad frame that has a later
//!   group behind it was once whole on disk: that is damage. One that has none
//!   behind it may be the torn last group, of which nobody was told: it is cut.
//! * The unwritten rest of a segment is zeros, also after a cut, so that what a
//!   crash left behind can never be taken for a frame of a later group.
//! * A header holds the device and inode of its own file. In a file that has
//!   others, a copy, a page may be older than the page behind it, because it was
//!   copied while frames were appended; such a hole is cut as well.
//! * Sealed segments never change; a segment is sealed before the next one is
//!   made.
//! * Only salvaging a damaged journal writes a segment anew: frames stay where
//!   they are, and what is lost becomes a hole, a frame of kind 0 with a body of
//!   zeros, so that no position moves. Readers pass over holes.

mod error;
pub mod faults;
mod files;
mod frame;
mod reader;
mod recover;
mod salvage;
mod segment;
mod spare;
mod survey;
mod watch;
mod writer;

#[cfg(test)]
mod fault_tests;
#[cfg(test)]
mod tests;

pub use error::{AppendError, Damage, JournalError, ReadError};
pub use files::{FileFacts, Files, OsFiles, is_unreadable};
pub use frame::{Frame, FrameRefused, Group, MAX_BODY_BYTES, OwnedFrame, Position};
pub use reader::{Reader, Scan};
pub use recover::{CutCause, CutTail, OpenReport, Options, open};
pub use salvage::{Note, Salvage};
pub use segment::SegmentInfo;
pub use spare::SpareMaker;
pub use survey::{Lost, SegmentFound, Survey};
pub use watch::{Change, Strayed, Watch};
pub use writer::Writer;
