//! The disk space of the data as several threads see it: the compactor's last look at each segment
//! of the journal, and the figures that the sweeper measures for `/health`. Kept in memory only:
//! after a start the compactor looks again.

use std::collections::{BTreeMap, BTreeSet};
use std::sync::Mutex;
use std::sync::atomic::{AtomicBool, Ordering};

use crate::base::threads::locked;
use crate::journal::{Position, SegmentSize};
use crate::model::time::Timestamp;

/// The compactor's last look at a sealed segment.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq)]
pub struct Look {
    /// The look knows everything that followed from commands before this position.
    pub since: Position,
    /// Bytes of disk space that compaction will give back, at the latest after several graces.
    pub freed: u64,
    /// The earliest and the latest time of receipt of the events in the segment. `None` if it holds
    /// none.
    pub received: Option<(Timestamp, Timestamp)>,
}

/// The reason why events expire before their time.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq, strum::IntoStaticStr, strum::VariantNames)]
#[strum(serialize_all = "snake_case")]
pub enum Pressure {
    /// No event does.
    #[default]
    None,
    /// The data takes more than `[retention] bytes`.
    Bytes,
    /// The filesystem has less free space than `[retention] keep_free_share`.
    Disk,
}

/// The disk space of the data, in bytes.
#[derive(Clone, Copy, Debug, Default, PartialEq)]
pub struct Measured {
    /// The segments of the journal.
    pub journal: u64,
    /// All snapshots.
    pub snapshots: u64,
    /// The state.
    pub state: u64,
    /// The part of the journal and the snapshots that nobody needs any more. It comes back once no
    /// copy can need it.
    pub unneeded: u64,
    /// Disk space of the same filesystem that only backups take, in `[backup] directory`.
    pub backups: u64,
    /// The limit in effect. Absent if the size of the filesystem is unknown.
    pub limit: Option<u64>,
    /// Free space below which events expire before their time.
    pub keep_free: u64,
    /// The reason why events expire before their time at present.
    pub pressure: Pressure,
    /// Days until the disk is full at the present rate. Absent if unknown.
    pub days_until_full: Option<f64>,
}

/// The backups of the schedule on the filesystem of the data.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq)]
pub struct BackupUse {
    /// Disk space that only they take, in bytes.
    pub only_theirs: u64,
    /// True if one of them can be deleted for its space: it is not the newest.
    pub has_spare: bool,
}

/// Shared by the compactor, the sweeper, the maker of backups and the API.
#[derive(Debug, Default)]
pub struct DiskUse {
    looks: Mutex<BTreeMap<Position, Look>>,
    /// The first positions of segments at which the compactor should look soon.
    asked: Mutex<BTreeSet<Position>>,
    measured: Mutex<Measured>,
    backups: Mutex<BackupUse>,
    /// Set while the disk is short and a backup can go before events do.
    wants_backup: AtomicBool,
}

impl DiskUse {
    /// Returns the last look at each segment, by the first position of the segment.
    pub fn looks(&self) -> BTreeMap<Position, Look> {
        locked(&self.looks).clone()
    }

    /// Notes a look at the segment that begins at `first`.
    pub fn note(&self, first: Position, look: Look) {
        locked(&self.looks).insert(first, look);
    }

    /// Asks the compactor to look at the segments that begin at these positions.
    pub fn ask(&self, segments: &[Position]) {
        locked(&self.asked).extend(segments);
    }

    /// Takes the first positions of the segments at which somebody wants the compactor to look.
    pub(super) fn take_asked(&self) -> BTreeSet<Position> {
        std::mem::take(&mut *locked(&self.asked))
    }

    /// Notes that the segment was written again: what the look promised has been given back.
    pub(super) fn punched(&self, first: Position) {
        if let Some(look) = locked(&self.looks).get_mut(&first) {
            look.freed = 0;
        }
    }

    /// Forgets the segments that are gone.
    pub(super) fn keep(&self, segments: &[SegmentSize]) {
        let Some(first) = segments.first().map(|segment| segment.first) else { return };
        let mut looks = locked(&self.looks);
        if looks.first_key_value().is_some_and(|(known, _)| *known < first) {
            *looks = looks.split_off(&first);
        }
    }

    /// Returns the disk space of the backups.
    pub fn backups(&self) -> BackupUse {
        *locked(&self.backups)
    }

    /// Notes the disk space of the backups.
    pub fn note_backups(&self, backups: BackupUse) {
        *locked(&self.backups) = backups;
    }

    /// Says if the space of a backup is wanted.
    pub fn want_backup(&self, is_wanted: bool) {
        self.wants_backup.store(is_wanted, Ordering::SeqCst);
    }

    /// Returns true once for each time that the space of a backup was wanted.
    pub fn takes_backup(&self) -> bool {
        self.wants_backup.swap(false, Ordering::SeqCst)
    }

    /// Returns the figures of the last measurement.
    pub fn measured(&self) -> Measured {
        *locked(&self.measured)
    }

    /// Shows these figures.
    pub fn show(&self, measured: Measured) {
        *locked(&self.measured) = measured;
    }
}
