//! Free space of the disk, for events and for sled's writes. The committer, the flusher, recovery
//! and housekeeping ask here. This module knows no row.

use std::io;
use std::sync::atomic::{AtomicBool, AtomicU64, Ordering};
use std::sync::{Mutex, PoisonError};
use std::time::{Duration, Instant};

use crate::base::failpoint::{self, Switch};
use crate::store::{FreshSize, SEGMENT_BYTES};

/// The share of the reserve that sled never gets: a quarter. sled does not survive a write without
/// space.
const RESERVE_SHARE: u64 = 4;
/// Maximum number of bytes kept from sled, because a large reserve is meant for other programs. The
/// minimum is one segment of sled, which sled fills to its end.
const KEPT_BYTES_MAX: u64 = 64 << 20;
/// Bytes that a row takes in sled's file beside its own: its part of the page that is rewritten. A
/// write-back rewrites each page about once for this, so that all rows together take no more than
/// the state has on the disk.
const ROW_BYTES: u64 = 4 << 10;
/// Upper bound on how many times sled writes the bytes of a row while its page fills. Measured: 2.3
/// times, with blocks of 12 KiB, the largest rows.
const TIMES_WRITTEN: u64 = 3;

/// Time for which events are refused after the disk quota or the limit on the size of a file was
/// exceeded. Then the server tries again.
const QUOTA_BELIEVED: Duration = Duration::from_secs(10);

/// Maximum room for the next snapshots that sled and new segments leave alone, in bytes. On a large
/// disk confirmations do not wait for gigabytes.
const LEFT_BYTES_MAX: u64 = 64 << 20;

/// The next snapshots may be larger than the last ones by this part.
const GROWTH_SHARE: u64 = 4;

/// After an estimate was too low, sled is kept from this many times the usual bytes. The need of
/// the rows is not multiplied: after a start on a full disk all rows of the state wait in memory,
/// and events would be refused until several times the state is free.
const PLENTY: u64 = 2;

/// The disk resource in short supply.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
#[repr(u8)]
pub enum Shortage {
    /// Free bytes are below the reserve.
    Bytes = 1,
    /// Free inodes of the filesystem are below the reserve.
    Files = 2,
    /// The user's quota is exceeded, although the disk may have room.
    Quota = 3,
    /// A file is as large as the process may make it, although the disk may have room.
    FileSize = 4,
}

impl Shortage {
    /// Returns the word for the shortage in `/health`.
    pub fn word(self) -> &'static str {
        match self {
            Self::Bytes => "below_reserve",
            Self::Files => "too_few_files",
            Self::Quota => "quota_exceeded",
            Self::FileSize => "file_too_large",
        }
    }

    /// Returns a sentence for the log and the API, with a remedy if any.
    pub fn explanation(self) -> &'static str {
        match self {
            Self::Bytes => {
                "the disk has less free space than the reserve ([storage] reserve_bytes; 0 means \
                 2 % of the filesystem, and more if the snapshots need more)"
            }
            Self::Files => {
                "the disk has fewer free inodes than [storage] reserve_files, although it may have \
                 free bytes; remove files that are not needed, or move the data to a filesystem \
                 with more inodes"
            }
            Self::Quota => {
                "the disk quota of the server's user is used up, although the disk may have room"
            }
            Self::FileSize => {
                "the server may make no file so large, although the disk may have room; raise its \
                 limit on the size of files (LimitFSIZE= of the systemd unit, ulimit -f) and \
                 restart it"
            }
        }
    }

    pub(super) fn of_code(code: u8) -> Option<Self> {
        let all = [Self::Bytes, Self::Files, Self::Quota, Self::FileSize];
        all.into_iter().find(|shortage| *shortage as u8 == code)
    }
}

/// How fast attempts go on to endpoints that did not accept the last request.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum FailingPace {
    /// As fast as to others.
    Free,
    /// One attempt each so long, over all endpoints. Receivers' answers are not kept.
    OneIn(Duration),
}

/// Returns a number of bytes or inodes of a filesystem; `None` if unknown.
pub type DiskFree = Box<dyn Fn() -> Option<u64> + Send + Sync>;

/// The free space of the data's filesystem.
pub struct Space {
    /// Returns the number of free bytes.
    disk_free: DiskFree,
    /// Bytes to be kept free.
    reserve_bytes: u64,
    /// The disk space that the next snapshots need before anything comes free, in bytes.
    to_free: AtomicU64,
    /// Returns how many files can still be created.
    files_free: DiskFree,
    /// Number of inodes to be kept free.
    reserve_files: u64,
    /// Returns the size of the filesystem in bytes.
    size: DiskFree,
    /// Returns the disk space of the state in bytes.
    state_bytes: DiskFree,
    /// The time at which the quota or the limit on the size of a file was last exceeded.
    over_limit: Mutex<Option<(Instant, Shortage)>>,
    /// Set when sled ran out of room although the estimate was enough.
    overrun: AtomicBool,
}

impl Default for Space {
    /// A disk of unknown size that is never short.
    fn default() -> Self {
        Self::new(Box::new(|| None), 0)
    }
}

impl Space {
    /// A filesystem of which `reserve_bytes` are to stay free.
    pub fn new(disk_free: DiskFree, reserve_bytes: u64) -> Self {
        Self {
            disk_free,
            reserve_bytes,
            to_free: AtomicU64::new(0),
            files_free: Box::new(|| None),
            reserve_files: 0,
            size: Box::new(|| None),
            state_bytes: Box::new(|| None),
            over_limit: Mutex::default(),
            overrun: false.into(),
        }
    }

    /// Also keeps `reserve_files` inodes free.
    #[must_use]
    pub fn with_files(self, files_free: DiskFree, reserve_files: u64) -> Self {
        Self { files_free, reserve_files, ..self }
    }

    /// Also knows the size of the filesystem and the disk space of the state.
    #[must_use]
    pub fn with_sizes(self, size: DiskFree, state_bytes: DiskFree) -> Self {
        Self { size, state_bytes, ..self }
    }

    /// Returns the size of the filesystem in bytes; `None` if unknown.
    pub fn size(&self) -> Option<u64> {
        (self.size)()
    }

    /// Returns the disk space of the state in bytes; `None` if unknown.
    pub fn state_bytes(&self) -> Option<u64> {
        (self.state_bytes)()
    }

    /// Returns how many files can still be created; `None` if unknown.
    pub fn free_files(&self) -> Option<u64> {
        (self.files_free)()
    }

    /// Returns the number of free bytes; `None` if unknown.
    pub fn free(&self) -> Option<u64> {
        (self.disk_free)()
    }

    /// Returns the number of bytes to be kept free: the configured reserve, or more if the next
    /// snapshots need more. Without them compaction gives no space back. Half of the configured
    /// reserve is left to what comes before that, such as confirmations and expiry.
    pub fn reserve_bytes(&self) -> u64 {
        let half = self.reserve_bytes / 2;
        let needed = self.wanted_to_free(self.to_free()).saturating_add(half);
        if self.is_small() { self.reserve_bytes } else { needed.max(self.reserve_bytes) }
    }

    /// Notes the size of the snapshots that are kept, which tells how much the next ones need.
    pub fn note_snapshots(&self, kept: u64) {
        self.note_to_free(kept.saturating_add(kept / GROWTH_SHARE));
    }

    fn note_to_free(&self, bytes: u64) {
        self.to_free.store(bytes, Ordering::Relaxed);
    }

    fn to_free(&self) -> u64 {
        self.to_free.load(Ordering::Relaxed)
    }

    /// Returns true if the configured reserve is smaller than what sled needs. Then there is no part
    /// that could be kept for the next snapshots.
    fn is_small(&self) -> bool {
        self.reserve_bytes < self.kept_bytes()
    }

    /// Returns true if the disk has room for a new segment of this size, and for the next
    /// snapshots.
    pub fn has_room_for_segment(&self, bytes: u64) -> bool {
        let wanted = bytes.saturating_add(self.left_bytes());
        let has_room = self.is_small() || self.free().is_none_or(|free| free >= wanted);
        has_room || failpoint::is_on(Switch::ReserveOff)
    }

    /// The bytes that sled and new segments never get: the part of the reserve that keeps sled from
    /// a write without space, and room for the next snapshots.
    fn left_bytes(&self) -> u64 {
        let to_free = if self.is_small() { 0 } else { self.to_free().min(LEFT_BYTES_MAX) };
        self.wanted_to_free(to_free)
    }

    /// Returns the resource below its reserve, if any. Events are refused then.
    pub fn shortage(&self) -> Option<Shortage> {
        if self.free().is_some_and(|free| free < self.reserve_bytes()) {
            return Some(Shortage::Bytes);
        }
        if self.free_files().is_some_and(|free| free < self.reserve_files) {
            return Some(Shortage::Files);
        }
        let over_limit = *self.over_limit.lock().unwrap_or_else(PoisonError::into_inner);
        let believed = over_limit.filter(|(noted, _)| noted.elapsed() < QUOTA_BELIEVED);
        believed.map(|(_, shortage)| shortage)
    }

    /// Returns the likely shortage after the operating system reported that there is no space.
    pub fn explain(&self, kind: io::ErrorKind) -> Shortage {
        let shortage = match kind {
            io::ErrorKind::QuotaExceeded => Some(Shortage::Quota),
            io::ErrorKind::FileTooLarge => Some(Shortage::FileSize),
            _ => None,
        };
        if let Some(shortage) = shortage {
            // Nothing reports when there is room again, so the server tries now and then.
            let noted = Some((Instant::now(), shortage));
            *self.over_limit.lock().unwrap_or_else(PoisonError::into_inner) = noted;
            return shortage;
        }
        let has_files = self.free_files() != Some(0);
        self.shortage().unwrap_or(if has_files { Shortage::Bytes } else { Shortage::Files })
    }

    /// Notes that sled ran out of room although the estimate was enough. sled then gets nothing
    /// until there is plenty of room.
    pub fn note_overrun(&self) {
        self.overrun.store(true, Ordering::SeqCst);
    }

    /// Returns true after [`Space::note_overrun`], until there was plenty of room again.
    pub fn is_overrun(&self) -> bool {
        self.overrun.load(Ordering::SeqCst)
    }

    /// Returns true if the disk has room for a file of this size that helps to free space: the
    /// snapshot for which compaction waits, or a compacted segment. It may use the reserve, except
    /// for the part that sled never gets.
    pub fn has_room_to_free(&self, bytes: u64) -> bool {
        let wanted = self.wanted_to_free(bytes);
        self.reserve_bytes == 0 || self.free().is_none_or(|free| free >= wanted)
    }

    /// The free bytes with which there is room for such a file.
    pub fn wanted_to_free(&self, bytes: u64) -> u64 {
        bytes.saturating_add(self.kept_bytes())
    }

    /// Returns how fast attempts may go on to endpoints that did not accept the last request. While
    /// they are held back already (`is_held`), a tenth more has to be free, so that a disk at the
    /// limit does not change this with each segment.
    ///
    /// An attempt that fails adds to the journal and ends nothing, and a retry schedule may have
    /// any number of them. So such attempts leave a part of the reserve to what gives space back:
    /// confirmations, erasures, expiry, and the snapshot and the segments of compaction.
    pub fn pace_of_failing(&self, is_held: bool) -> FailingPace {
        let Some(free) = self.free().filter(|_| self.reserve_bytes > 0) else {
            return FailingPace::Free;
        };
        let (kept, reserve) = (self.kept_bytes().min(self.reserve_bytes), self.reserve_bytes());
        let middle = kept.midpoint(self.reserve_bytes);
        let floor = kept.saturating_add(self.to_free()).clamp(middle, reserve);
        let floor = if is_held { floor.saturating_add(floor / 10) } else { floor };
        match free {
            _ if free >= floor => FailingPace::Free,
            _ if free >= kept => FailingPace::OneIn(Duration::from_secs(1)),
            _ => FailingPace::OneIn(Duration::from_secs(10)),
        }
    }

    /// Returns true if the free space is all kept for what gives space back: see
    /// [`Space::pace_of_failing`].
    pub fn is_rest(&self, is_held: bool) -> bool {
        self.pace_of_failing(is_held) != FailingPace::Free
    }

    /// The part of the reserve that sled never gets, in bytes.
    fn kept_bytes(&self) -> u64 {
        (self.reserve_bytes / RESERVE_SHARE).clamp(SEGMENT_BYTES as u64, KEPT_BYTES_MAX)
    }

    /// Returns an upper bound of the bytes that sled writes for the pages of so many rows, beside the
    /// rows.
    fn rewritten(&self, rows: usize) -> u64 {
        let bytes = ROW_BYTES.saturating_mul(rows as u64);
        // The size of the state is looked up only if it may matter.
        let is_small = self.free().is_none_or(|free| bytes < free);
        if is_small { bytes } else { bytes.min(self.state_bytes().unwrap_or(u64::MAX)) }
    }

    /// Returns true if the disk has no room for these rows in sled. The rows then stay in memory,
    /// and the journal has them.
    pub fn is_short_for(&self, fresh: FreshSize) -> bool {
        let rows = self.rewritten(fresh.rows);
        let bytes = TIMES_WRITTEN.saturating_mul(fresh.bytes as u64);
        let times = if self.is_overrun() { PLENTY } else { 1 };
        let left = self.left_bytes().saturating_mul(times);
        let wanted = rows.saturating_add(bytes).saturating_add(left);
        let is_short = self.reserve_bytes > 0 && self.free().is_some_and(|free| free < wanted);
        if !is_short {
            self.overrun.store(false, Ordering::SeqCst);
        }
        is_short && !failpoint::is_on(Switch::HoldOff)
    }
}

#[cfg(test)]
mod tests {
    use std::sync::Arc;
    use std::sync::atomic::AtomicU64;

    use super::*;

    #[test]
    fn the_cause_is_told_by_what_there_is_too_little_of() {
        let of = |bytes: u64, files: Option<u64>| {
            Space::new(Box::new(move || Some(bytes)), 100).with_files(Box::new(move || files), 10)
        };
        assert_eq!(of(100, Some(10)).shortage(), None);
        assert_eq!(of(99, Some(10)).shortage(), Some(Shortage::Bytes));
        assert_eq!(of(100, Some(9)).shortage(), Some(Shortage::Files));
        assert_eq!(of(100, None).shortage(), None, "a filesystem without a number of files");
        let full = io::ErrorKind::StorageFull;
        assert_eq!(
            of(100, Some(10)).explain(full),
            Shortage::Bytes,
            "too little for what was wanted"
        );
        assert_eq!(
            Space::new(Box::new(|| None), 0).with_files(Box::new(|| Some(0)), 0).explain(full),
            Shortage::Files
        );
        let space = of(100, Some(10));
        assert_eq!(space.explain(io::ErrorKind::QuotaExceeded), Shortage::Quota);
        assert_eq!(space.shortage(), Some(Shortage::Quota), "events are refused for a while");
        let space = of(100, Some(10));
        assert_eq!(space.explain(io::ErrorKind::FileTooLarge), Shortage::FileSize);
        assert_eq!(space.shortage(), Some(Shortage::FileSize));
    }

    #[test]
    fn events_leave_room_for_the_next_snapshots_and_so_do_new_segments() {
        const MIB: u64 = 1 << 20;
        let space = |free: u64, reserve: u64, to_free: u64| {
            let space = Space::new(Box::new(move || Some(free)), reserve);
            space.note_to_free(to_free);
            space
        };
        // The configured reserve, the size of the snapshots, the reserve, and what segments leave.
        let cases = [(16, 0, 16, 8), (16, 1, 17, 9), (16, 20, 36, 28), (256, 64, 256, 128)];
        for (configured, to_free, reserve, left) in cases {
            let at = |free: u64| space(free, configured * MIB, to_free * MIB);
            assert_eq!(at(0).reserve_bytes(), reserve * MIB);
            assert!(at(reserve * MIB).shortage().is_none());
            assert_eq!(at(reserve * MIB - 1).shortage(), Some(Shortage::Bytes));
            assert!(at((left + 1) * MIB).has_room_for_segment(MIB));
            assert!(!at((left + 1) * MIB - 1).has_room_for_segment(MIB));
        }
        let large = space(128 * MIB, 256 * MIB, 10_000 * MIB);
        assert_eq!(large.reserve_bytes(), (10_000 + 64 + 128) * MIB);
        assert!(large.has_room_for_segment(0) && !large.has_room_for_segment(1));
        let small = space(1, 1, 10_000 * MIB);
        assert!(small.reserve_bytes() == 1 && small.has_room_for_segment(MIB));
    }

    #[test]
    fn failing_attempts_leave_a_part_of_the_reserve_to_what_frees_space() {
        const MIB: u64 = 1 << 20;
        let pace = |free: u64, reserve: u64, to_free: u64| {
            let space = Space::new(Box::new(move || Some(free)), reserve);
            space.note_to_free(to_free);
            space.pace_of_failing(false)
        };
        let slow = |seconds| FailingPace::OneIn(Duration::from_secs(seconds));
        // The reserve, what compaction needs, the floor, and the part that sled never gets.
        let cases =
            [(1, 0, 1, 1), (16, 0, 12, 8), (256, 0, 160, 64), (16, 6, 14, 8), (16, 9, 17, 8)];
        for (reserve, to_free, floor, kept) in cases {
            let unit = if reserve == 1 { 1 } else { MIB };
            let pace = |free| pace(free, reserve * unit, to_free * unit);
            assert_eq!(pace(floor * unit), FailingPace::Free, "{reserve}");
            if floor > kept {
                assert_eq!((pace(floor * unit - 1), pace(kept * unit)), (slow(1), slow(1)));
            }
            assert_eq!(pace(kept * unit - 1), slow(10));
        }
        assert_eq!(pace(0, 0, 0), FailingPace::Free);
        for (free, is_held, expected) in [(12, true, slow(1)), (12, false, FailingPace::Free)] {
            let space = Space::new(Box::new(move || Some(free * MIB)), 16 * MIB);
            assert_eq!(space.pace_of_failing(is_held), expected);
        }
        assert_eq!(Space::default().pace_of_failing(true), FailingPace::Free);
    }

    #[test]
    fn many_rows_need_no_more_than_a_rewrite_of_the_whole_state() {
        const MIB: u64 = 1 << 20;
        let rows = FreshSize { rows: 40_000, bytes: 1 << 20 };
        for (free, is_short) in [(26, true), (27, false)] {
            let space = Space::new(Box::new(move || Some(free * MIB)), 16 * MIB);
            let space = space.with_sizes(Box::new(|| None), Box::new(|| Some(16 * MIB)));
            assert_eq!(space.is_short_for(rows), is_short, "{free}");
        }
    }

    #[test]
    fn what_helps_to_free_space_may_use_the_reserve_but_not_what_sled_never_gets() {
        const MIB: u64 = 1 << 20;
        let space = |free: u64, reserve| Space::new(Box::new(move || Some(free)), reserve);
        let short = space(20 * MIB, 48 * MIB);
        assert!(short.shortage().is_some());
        assert!(short.has_room_to_free(8 * MIB) && !short.has_room_to_free(8 * MIB + 1));
        assert!(space(0, 0).has_room_to_free(MIB) && Space::default().has_room_to_free(MIB));
    }

    #[test]
    fn sled_gets_less_the_fuller_the_disk_is_and_a_disk_without_a_reserve_is_never_short() {
        const MIB: u64 = 1 << 20;
        let space = |free: u64, reserve| Space::new(Box::new(move || Some(free)), reserve);
        assert!(space(99, 100).shortage().is_some() && space(100, 100).shortage().is_none());
        let (none, some) = (FreshSize::default(), FreshSize { rows: 1, bytes: 100 });
        for (reserve, kept) in [(1, 8 * MIB), (48 * MIB, 12 * MIB), (10_000 * MIB, 64 * MIB)] {
            assert!(
                space(kept - 1, reserve).is_short_for(none)
                    && !space(kept, reserve).is_short_for(none)
            );
            assert!(
                space(kept + 4_395, reserve).is_short_for(some)
                    && !space(kept + 4_396, reserve).is_short_for(some)
            );
        }
        assert!(space(0, 0).shortage().is_none() && !space(0, 0).is_short_for(some));
        let overrun = space(8 * MIB, 1);
        assert!(!overrun.is_short_for(none));
        overrun.note_overrun();
        assert!(overrun.is_short_for(none), "what was enough is not believed to be any more");
        let freed = Arc::new(AtomicU64::new(8 * MIB));
        let free = Arc::clone(&freed);
        let space = Space::new(Box::new(move || Some(free.load(Ordering::SeqCst))), 1);
        space.note_overrun();
        for (free, is_short) in [(15 * MIB, true), (16 * MIB, false), (8 * MIB, false)] {
            freed.store(free, Ordering::SeqCst);
            assert_eq!(space.is_short_for(none), is_short, "until there was plenty: {free}");
        }
        let all = FreshSize { rows: usize::MAX, bytes: usize::MAX };
        assert!(Space::default().shortage().is_none() && !Space::default().is_short_for(all));
    }
}
