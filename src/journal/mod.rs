//! The journal: an append-only log of opaque records. The state can be computed from the journal; a
//! lost journal is lost data.
//!
//! The rest of the program sees a [`Log`] of records: the committer appends groups of them, and all
//! others read them, as commands, through `commands::Records`. The local journal is the log in this
//! module: [`Writer`] appends a group with one `fdatasync`, and [`Reader`] reads. In a file, a
//! record lies in a frame, and no other module knows frames. The journal does not know the meaning
//! of a record: a kind, a version and bytes are all it sees. It uses no other module of this crate
//! but `base`.
//!
//! ```text
//! journal/00000000000000000001.seg      named by the first position in it
//! journal/00000000000000065793.seg      = the end of the segment before
//!
//! segment  ┌ header 64 ┬ frame ┬ frame ┬ … ┬ zeros: preallocated, not yet written ┐
//!          0           64
//! header   "TRGJ" │ format u32 │ first u64 │ device u64 │ inode u64 │ length u64
//!          │ zeros 20 │ crc32c u32
//! frame    cut 1 bit, padding 5, len 26 │ crc32c u32 │ position u64 │ kind u8 │ version u8
//!          │ body (len bytes) │ zeros (padding bytes)
//! ```
//!
//! All numbers are big-endian. A [`Position`] is a byte address in the whole log, and the first
//! position is 1. A frame lies at the offset `64 + (position - first)` of its segment, so a reader
//! needs no index. The checksum covers the header, except its own bytes, and the body of a record.
//! The high bit of `kind` marks the first frame of a group.
//!
//! A frame of kind 0 is a hole: the records in its place are lost (version 0) or were removed by
//! compaction (version 1). Its body is zeros that are not read and take no disk space. A record
//! that compaction has cut has a shorter body; a hole follows, or a padding too short for a hole.
//!
//! Recovery relies on these rules:
//!
//! * A group is one write and one sync, lies in one segment, and is written only after the group
//!   before was synced. So a bad frame with a later group behind it was once whole on disk: this is
//!   damage. A bad frame without a later group may be the torn last group, which was never
//!   acknowledged: it is cut.
//! * The unwritten rest of a segment is zeros, also after a cut. So leftovers of a crash never look
//!   like a frame of a later group.
//! * A file gets a segment's name when it has its header and its whole length, and never becomes
//!   shorter: sealing gives the unused space back as a hole. The header holds this length. So a
//!   shorter file was cut, or is a copy that broke off, and is refused: the lost bytes may have
//!   held acknowledged frames. This holds in whatever order a copy of a live journal reads the
//!   files.
//! * A header holds the device and inode of its own file. If they differ, the file is a copy. In a
//!   copy, a page may be older than the page behind it, because frames were appended during the
//!   copying. Such a hole is cut as well.
//! * A sealed segment changes only as a whole: another file takes its name in one step. Compaction
//!   does so while the server runs, and salvaging a damaged journal while it does not. Whole frames
//!   keep their positions. A segment is sealed before the next segment is created.
//! * The segments have no gaps between them. Compaction removes segments only from the beginning,
//!   one after the other, and only after another file witnessed that the journal may begin later.
//!   A copy that was made meanwhile may have segments before a gap; they are left out.
//! * A follower skips lost records, which salvaging has reported. It stops at records that
//!   compaction removed or cut, because later records cannot be applied without them.

mod compact;
mod error;
pub mod faults;
mod files;
mod frame;
mod log;
mod new_file;
mod pinned;
mod position;
mod punched_file;
mod reader;
mod recover;
mod salvage;
mod scan;
mod segment;
mod snapshot;
mod spare;
mod watch;
mod writer;

#[cfg(test)]
mod fault_tests;
#[cfg(test)]
#[path = "message_log_tests.rs"]
pub(crate) mod message_log;
#[cfg(test)]
mod tests;

pub use compact::{Compaction, Decision, Judge, Pace, Piece, Punched, SegmentSize};
pub use error::{AppendError, Damage, JournalError, ReadError};
pub use files::{FileFacts, Files, OsFiles, is_unreadable};
pub use frame::{Group, MAX_BODY_BYTES, RecordRefused};
pub use log::{Appended, Follow, Log, RawRecord, ReadLog};
pub use pinned::{PinnedSegment, end_at};
pub use position::Position;
pub use reader::{Reader, RoomFor, Sizes};
pub use recover::{CutCause, CutTail, OpenReport, open, open_from};
pub use salvage::Salvage;
pub use scan::{JournalScan, Lost, SegmentFound};
pub use segment::first_from_path as segment_first;
pub use snapshot::{
    SnapshotFile, SnapshotHeader, SnapshotReader, SnapshotSize, SnapshotWriter,
    clear_snapshot_drafts, first_witnessed, snapshot_position, snapshots_in,
};
pub use spare::SpareMaker;
pub use watch::{FileChange, Strayed, Watch};
pub use writer::Writer;
