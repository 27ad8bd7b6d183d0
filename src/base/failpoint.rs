//! Failpoints: promises broken on purpose, as the negative controls of the crash lab (`tests/lab`).
//! A proof that cannot fail proves nothing, so the lab runs each scenario again with the protection
//! under test switched off.
//!
//! Failpoints exist only in builds with debug assertions. In other builds [`is_on`] is a constant,
//! and nothing can be armed. `serve` and the lab arm failpoints from the environment; the code asks
//! in one line where it would otherwise keep the promise.

/// A failpoint, named by the broken promise.
#[derive(
    Clone, Copy, Debug, PartialEq, Eq, strum::EnumString, strum::IntoStaticStr, strum::VariantArray,
)]
#[repr(u8)]
#[strum(serialize_all = "snake_case")]
pub enum Switch {
    /// A group is acknowledged without a sync.
    SkipSync,
    /// The names of new segments are not synced.
    SkipDirSync,
    /// A group is acknowledged long before its sync.
    AcknowledgeBeforeSync,
    /// A group is acknowledged before its write, which follows after several later groups.
    AcknowledgeBeforeWrite,
    /// A failed write or sync of a group counts as a success.
    IgnoreFailedSync,
    /// Bytes that a crash left after the journal's end are not overwritten with zeros.
    TailRepairOff,
    /// Checksums of the journal are not compared.
    ChecksumOff,
    /// No event counts as a duplicate.
    DedupOff,
    /// A state that is computed anew stays empty.
    RebuildOff,
    /// A disk below the reserve is not noticed.
    ReserveOff,
    /// The write-back gives sled rows on a full disk.
    HoldOff,
    /// The first attempt to compute the state assumes enough space on the disk.
    RoomMisjudged,
    /// An unreadable row of the state is reported only to the caller that asked for the row.
    RotIgnored,
    /// The watchdog counts the seconds of a suspended process.
    WatchdogByTime,
    /// Rows that changed during a write-back are forgotten.
    ForgetFreshRows,
    /// The write-back never ends in a running server.
    WriteBackHangs,
    /// The sweeper runs a thousand times a second.
    SweeperHurries,
    /// The sweeper also writes a command when no key was used.
    SweeperWrites,
    /// Half a mebibyte of the head of a receiver's answer is kept.
    HeadUnbounded,
    /// Each step of a replay leaves out its last delivery.
    ReplaySkips,
    /// An organization may use all attempts of the server.
    ShareOff,
    /// The scan of all endpoint queues leaks some memory for each.
    ScanHoards,
    /// A user may take all of a shared resource: slots, bytes of bodies and of answers.
    SharesOff,
    /// Connections are kept and read, whatever their peers do.
    ConnectionsUnwatched,
    /// An event wakes every waiter of its organization, and each waiter begins to look from the
    /// start.
    WaitersWokenByAll,
    /// Each sync takes much longer than any disk needs, so that every machine is overloaded.
    SyncsSlowly,
    /// The endpoints of an erased event are looked up before any of its deliveries exists.
    EraseLooksTooEarly,
    /// Nothing looks for work whose hint was lost.
    ScanOff,
    /// The permission of a caller is judged only when a request begins.
    JudgedOnce,
    /// A snapshot counts as whole although its end is missing.
    TornSnapshotBelieved,
    /// A snapshot gets its name without a sync.
    SnapshotUnsynced,
    /// Records are removed from the journal before a snapshot holds what follows from them.
    CompactUnproved,
    /// Records, segments and snapshots are removed at once, while a copy may still need them.
    GraceOff,
    /// Accepted deliveries of expired events stay in the state.
    ExpiryLeavesRows,
    /// An open event expires at the age of a finished event.
    ExpiryTooEarly,
    /// Events expire before they are archived.
    ArchiveOutrun,
    /// The filesystem of the archive never answers.
    ArchiveHangs,
    /// A backup has a manifest before it has its files.
    ManifestFirst,
    /// Objects of a bucket are deleted as soon as no manifest names them, while another backup may
    /// count on them.
    ObjectGraceOff,
    /// A drill restores the backup and does not verify it.
    DrillUnverified,
}

/// The error for a name without a failpoint.
#[derive(Clone, Debug, PartialEq, Eq, thiserror::Error)]
#[error("{0:?} is no failpoint")]
pub struct UnknownSwitch(pub String);

pub use imp::{arm, is_on, overlay, sync, write};

#[cfg(debug_assertions)]
mod imp {
    use std::collections::VecDeque;
    use std::fs::File;
    use std::io;
    use std::os::unix::fs::{FileExt, MetadataExt};
    use std::sync::atomic::{AtomicU64, Ordering};
    use std::sync::{Mutex, PoisonError};
    use std::time::Duration;

    use super::{Switch, UnknownSwitch};
    use crate::base::threads::{Signal, spawn_critical};

    /// Delay of a sync after its acknowledgement. The answer comes earlier on any machine, however
    /// busy.
    const LATE: Duration = Duration::from_secs(5);
    /// Additional duration of a slow sync.
    const SLOW: Duration = Duration::from_millis(20);
    /// Number of groups that are acknowledged and not written. There are several, so that the
    /// server's own commands do not push the last acknowledged group to the disk.
    const HELD_MAX: usize = 8;

    /// A bit for each armed failpoint.
    static ARMED: AtomicU64 = AtomicU64::new(0);
    /// Groups that are not written yet, the oldest first.
    static HELD: Mutex<VecDeque<Held>> = Mutex::new(VecDeque::new());

    struct Held {
        file: File,
        inode: u64,
        offset: u64,
        bytes: Vec<u8>,
    }

    impl Held {
        /// Copies the held bytes into a buffer that was read at `offset`, where the two overlap.
        fn overlay(&self, buffer: &mut [u8], offset: u64) {
            let skipped = usize::try_from(offset.saturating_sub(self.offset)).unwrap_or(usize::MAX);
            let before = usize::try_from(self.offset.saturating_sub(offset)).unwrap_or(usize::MAX);
            let (from, into) = (self.bytes.iter().skip(skipped), buffer.iter_mut().skip(before));
            for (byte, place) in from.zip(into) {
                *place = *byte;
            }
        }
    }

    /// Returns true if the failpoint is armed.
    pub fn is_on(switch: Switch) -> bool {
        ARMED.load(Ordering::Relaxed) & (1_u64 << switch as u8) != 0
    }

    /// Arms the failpoints of these names, separated by commas, until the process ends, and logs
    /// each.
    ///
    /// # Errors
    /// A name is unknown.
    pub fn arm(names: &str) -> Result<(), UnknownSwitch> {
        for name in names.split(',').map(str::trim).filter(|name| !name.is_empty()) {
            let switch: Switch = name.parse().map_err(|_unknown| UnknownSwitch(name.to_owned()))?;
            ARMED.fetch_or(1_u64 << switch as u8, Ordering::Relaxed);
            tracing::error!(
                failpoint = name,
                "FAILPOINT ARMED: this server breaks a promise on purpose, as a test's negative \
                 control; events WILL be lost"
            );
        }
        Ok(())
    }

    /// Returns the result of a failpoint in place of the sync of a group. `None`: the sync is done
    /// as usual.
    pub fn sync(file: &File) -> Option<io::Result<()>> {
        if is_on(Switch::AcknowledgeBeforeSync) {
            return Some(sync_late(file));
        }
        if is_on(Switch::SyncsSlowly) {
            Signal::new().wait(SLOW);
        }
        (is_on(Switch::SkipSync) || is_on(Switch::AcknowledgeBeforeWrite)).then_some(Ok(()))
    }

    fn sync_late(file: &File) -> io::Result<()> {
        let file = file.try_clone()?;
        let late = move || {
            Signal::new().wait(LATE);
            drop(file.sync_data());
        };
        spawn_critical("late-sync", late).map(drop)
    }

    /// Returns the result of a failpoint in place of the write of a group: an older group is
    /// written. `None`: the write is done as usual.
    pub fn write(file: &File, bytes: &[u8], offset: u64) -> Option<io::Result<()>> {
        is_on(Switch::AcknowledgeBeforeWrite).then(|| {
            let held = Held {
                file: file.try_clone()?,
                inode: file.metadata()?.ino(),
                offset,
                bytes: bytes.to_vec(),
            };
            let mut all = HELD.lock().unwrap_or_else(PoisonError::into_inner);
            all.push_back(held);
            let oldest = if all.len() > HELD_MAX { all.pop_front() } else { None };
            oldest.map_or(Ok(()), |held| held.file.write_all_at(&held.bytes, held.offset))
        })
    }

    /// Copies the held bytes of a file into a buffer from the same file, so that the process sees
    /// its acknowledged groups.
    ///
    /// # Errors
    /// The file's metadata cannot be read.
    pub fn overlay(file: &File, buffer: &mut [u8], offset: u64) -> io::Result<()> {
        if is_on(Switch::AcknowledgeBeforeWrite) {
            let inode = file.metadata()?.ino();
            let all = HELD.lock().unwrap_or_else(PoisonError::into_inner);
            all.iter()
                .filter(|held| held.inode == inode)
                .for_each(|held| held.overlay(buffer, offset));
        }
        Ok(())
    }
}

#[cfg(not(debug_assertions))]
mod imp {
    use std::fs::File;
    use std::io;

    use super::{Switch, UnknownSwitch};

    /// Returns false in release builds.
    pub const fn is_on(_: Switch) -> bool {
        false
    }

    /// Does nothing in release builds.
    ///
    /// # Errors
    /// None.
    pub const fn arm(_: &str) -> Result<(), UnknownSwitch> {
        Ok(())
    }

    /// Returns `None` in release builds.
    pub const fn sync(_: &File) -> Option<io::Result<()>> {
        None
    }

    /// Returns `None` in release builds.
    pub const fn write(_: &File, _: &[u8], _: u64) -> Option<io::Result<()>> {
        None
    }

    /// Does nothing in release builds.
    ///
    /// # Errors
    /// None.
    pub const fn overlay(_: &File, _: &mut [u8], _: u64) -> io::Result<()> {
        Ok(())
    }
}

#[cfg(test)]
mod tests {
    use strum::VariantArray as _;

    use super::*;

    #[test]
    fn every_switch_has_a_bit_and_a_name_of_its_own_and_is_off() {
        for (number, switch) in Switch::VARIANTS.iter().enumerate() {
            let name = <&str>::from(switch);
            assert_eq!(*switch as usize, number, "{name}");
            assert_eq!(name.parse(), Ok(*switch));
            assert!(!is_on(*switch), "{name}");
        }
    }

    #[test]
    #[cfg(debug_assertions)]
    fn an_unknown_name_is_refused() {
        assert_eq!(arm(" ,nonsense"), Err(UnknownSwitch("nonsense".to_owned())));
    }
}
