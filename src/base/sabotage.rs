//! Promises broken on purpose: the negative controls of the crash lab (`tests/lab`). A proof that cannot fail proves
//! nothing, so the lab runs each scenario once more with the one thing switched off that it is there to catch.
//!
//! Only in builds with debug assertions; elsewhere [`is_on`] is a constant and nothing can be armed. `serve` and the lab
//! arm it from the environment, the rooms ask in one line each where they would otherwise keep the promise.

use std::fmt;

/// What can be broken.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
#[repr(u8)]
pub enum Switch {
    /// A group is acknowledged without a sync.
    SkipSync,
    /// The names of new segments are not synced.
    SkipDirSync,
    /// A group is acknowledged long before its sync.
    AcknowledgeBeforeSync,
    /// A group is acknowledged before it is written: it is when several others came after it.
    AcknowledgeBeforeWrite,
    /// A failed write or sync of a group is taken for a success.
    IgnoreFailedSync,
    /// What a crash left behind the journal's end is not overwritten with zeros.
    TailRepairOff,
    /// Checksums of frames are not compared.
    ChecksumOff,
    /// No event is taken for one that came before.
    DedupOff,
    /// A state that is made anew is left empty.
    RebuildOff,
    /// A disk below the reserve is not noticed.
    ReserveOff,
    /// sled is given rows to write on a full disk.
    HoldOff,
    /// The first try to make the state believes that there is room for all of it.
    RoomMisjudged,
    /// A row of the state that cannot be read is told to nobody but who asked for it.
    RotIgnored,
    /// The watchdog counts the seconds of a suspended process.
    WatchdogByTime,
    /// Rows that changed while rows were brought to sled are forgotten.
    ForgetFreshRows,
    /// Bringing rows to sled never ends, in a server that is up.
    WriteBackHangs,
    /// The sweeper looks a thousand times a second.
    SweeperHurries,
    /// The sweeper writes down that no key was used.
    SweeperWrites,
    /// Half a mebibyte of the head of a receiver's answer is kept.
    HeadUnbounded,
    /// A replay goes on behind deliveries that it did not have made.
    ReplaySkips,
    /// An organization may have as many attempts on their way as all together.
    ShareOff,
    /// The look at all lanes keeps some memory for each of them.
    SurveyHoards,
    /// One user may take all of what many share: slots, bytes of bodies and of answers.
    SharesOff,
    /// Connections are kept whatever they do or do not do, and read from whatever they take.
    ConnectionsUnwatched,
    /// An event wakes everybody who waits in its organization, and each begins to look from the start.
    WaitersWokenByAll,
    /// Each sync takes much longer than any disk needs, so that load is too much on every machine.
    SyncsSlowly,
    /// The endpoints that an erased event is on its way to are looked up before any of its deliveries is there.
    EraseLooksTooEarly,
    /// Nothing looks for work whose hint was lost.
    ScanOff,
    /// Whether a caller may is judged when a request begins, and never again.
    JudgedOnce,
}

impl Switch {
    /// All of them with the names they are armed by.
    pub const ALL: [(Self, &'static str); 29] = [
        (Self::SkipSync, "skip_sync"),
        (Self::SkipDirSync, "skip_dir_sync"),
        (Self::AcknowledgeBeforeSync, "acknowledge_before_sync"),
        (Self::AcknowledgeBeforeWrite, "acknowledge_before_write"),
        (Self::IgnoreFailedSync, "ignore_failed_sync"),
        (Self::TailRepairOff, "tail_repair_off"),
        (Self::ChecksumOff, "checksum_off"),
        (Self::DedupOff, "dedup_off"),
        (Self::RebuildOff, "rebuild_off"),
        (Self::ReserveOff, "reserve_off"),
        (Self::HoldOff, "hold_off"),
        (Self::RoomMisjudged, "room_misjudged"),
        (Self::RotIgnored, "rot_ignored"),
        (Self::WatchdogByTime, "watchdog_by_time"),
        (Self::ForgetFreshRows, "forget_fresh_rows"),
        (Self::WriteBackHangs, "write_back_hangs"),
        (Self::SweeperHurries, "sweeper_hurries"),
        (Self::SweeperWrites, "sweeper_writes"),
        (Self::HeadUnbounded, "head_unbounded"),
        (Self::ReplaySkips, "replay_skips"),
        (Self::ShareOff, "share_off"),
        (Self::SurveyHoards, "survey_hoards"),
        (Self::SharesOff, "shares_off"),
        (Self::ConnectionsUnwatched, "connections_unwatched"),
        (Self::WaitersWokenByAll, "waiters_woken_by_all"),
        (Self::SyncsSlowly, "syncs_slowly"),
        (Self::EraseLooksTooEarly, "erase_looks_too_early"),
        (Self::ScanOff, "scan_off"),
        (Self::JudgedOnce, "judged_once"),
    ];
}

/// No switch has this name.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct UnknownSwitch(pub String);

impl fmt::Display for UnknownSwitch {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        write!(f, "{:?} is nothing that can be sabotaged", self.0)
    }
}

impl std::error::Error for UnknownSwitch {}

pub use imp::{arm, is_on, overlay, sync, write};

#[cfg(debug_assertions)]
mod imp {
    use std::collections::VecDeque;
    use std::fs::File;
    use std::io;
    use std::os::unix::fs::{FileExt, MetadataExt};
    use std::sync::atomic::{AtomicU32, Ordering};
    use std::sync::{Mutex, PoisonError};
    use std::time::Duration;

    use super::{Switch, UnknownSwitch};
    use crate::base::threads::{Signal, spawn_critical};

    /// How late a sync is that comes after its acknowledgement: no machine is so busy that the answer comes later still.
    const LATE: Duration = Duration::from_secs(5);
    /// What a slow sync takes.
    const SLOW: Duration = Duration::from_millis(20);
    /// So many groups are acknowledged and not written. More than one, so that what the server itself has to write down
    /// does not bring the last one that somebody heard of to the disk.
    const HELD_MAX: usize = 8;

    /// A bit for each switch.
    static ARMED: AtomicU32 = AtomicU32::new(0);
    /// Groups that are not written yet, the oldest first.
    static HELD: Mutex<VecDeque<Held>> = Mutex::new(VecDeque::new());

    struct Held {
        file: File,
        inode: u64,
        offset: u64,
        bytes: Vec<u8>,
    }

    impl Held {
        /// Puts what a buffer that was read at `offset` would have of it into that.
        fn overlay(&self, buffer: &mut [u8], offset: u64) {
            let skipped = usize::try_from(offset.saturating_sub(self.offset)).unwrap_or(usize::MAX);
            let before = usize::try_from(self.offset.saturating_sub(offset)).unwrap_or(usize::MAX);
            let (from, into) = (self.bytes.iter().skip(skipped), buffer.iter_mut().skip(before));
            for (byte, place) in from.zip(into) {
                *place = *byte;
            }
        }
    }

    /// Whether a promise is to be broken.
    pub fn is_on(switch: Switch) -> bool {
        ARMED.load(Ordering::Relaxed) & (1 << switch as u8) != 0
    }

    /// Breaks the promises of these names, separated by commas, until the process ends, and says so in the log.
    ///
    /// # Errors
    /// When a name is unknown.
    pub fn arm(names: &str) -> Result<(), UnknownSwitch> {
        for name in names.split(',').map(str::trim).filter(|name| !name.is_empty()) {
            let found = Switch::ALL.into_iter().find(|(_, known)| *known == name);
            let (switch, _) = found.ok_or_else(|| UnknownSwitch(name.to_owned()))?;
            ARMED.fetch_or(1 << switch as u8, Ordering::Relaxed);
            tracing::error!(
                sabotage = name,
                "SABOTAGED: this server breaks a promise on purpose, as a test's negative control; events WILL be lost"
            );
        }
        Ok(())
    }

    /// What is done instead of syncing a group, if anything.
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

    /// What is done instead of writing a group, if anything: an older one is written.
    pub fn write(file: &File, bytes: &[u8], offset: u64) -> Option<io::Result<()>> {
        is_on(Switch::AcknowledgeBeforeWrite).then(|| {
            let held = Held { file: file.try_clone()?, inode: file.metadata()?.ino(), offset, bytes: bytes.to_vec() };
            let mut all = HELD.lock().unwrap_or_else(PoisonError::into_inner);
            all.push_back(held);
            let oldest = if all.len() > HELD_MAX { all.pop_front() } else { None };
            oldest.map_or(Ok(()), |held| held.file.write_all_at(&held.bytes, held.offset))
        })
    }

    /// Puts what is held of a file into what was read there: the process itself sees what it has acknowledged.
    ///
    /// # Errors
    /// When nothing can be found out about the file.
    pub fn overlay(file: &File, buffer: &mut [u8], offset: u64) -> io::Result<()> {
        if is_on(Switch::AcknowledgeBeforeWrite) {
            let inode = file.metadata()?.ino();
            let all = HELD.lock().unwrap_or_else(PoisonError::into_inner);
            all.iter().filter(|held| held.inode == inode).for_each(|held| held.overlay(buffer, offset));
        }
        Ok(())
    }
}

#[cfg(not(debug_assertions))]
mod imp {
    use std::fs::File;
    use std::io;

    use super::{Switch, UnknownSwitch};

    /// Never.
    pub const fn is_on(_: Switch) -> bool {
        false
    }

    /// Does nothing.
    ///
    /// # Errors
    /// None.
    pub const fn arm(_: &str) -> Result<(), UnknownSwitch> {
        Ok(())
    }

    /// Nothing.
    pub const fn sync(_: &File) -> Option<io::Result<()>> {
        None
    }

    /// Nothing.
    pub const fn write(_: &File, _: &[u8], _: u64) -> Option<io::Result<()>> {
        None
    }

    /// Nothing.
    ///
    /// # Errors
    /// None.
    pub const fn overlay(_: &File, _: &mut [u8], _: u64) -> io::Result<()> {
        Ok(())
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn every_switch_has_a_bit_and_a_name_of_its_own_and_is_off() {
        for (number, (switch, name)) in Switch::ALL.into_iter().enumerate() {
            assert_eq!(switch as usize, number);
            assert!(Switch::ALL.iter().filter(|(_, other)| *other == name).count() == 1, "{name}");
            assert!(!is_on(switch), "{name}");
        }
    }

    #[test]
    #[cfg(debug_assertions)]
    fn an_unknown_name_is_refused() {
        assert_eq!(arm(" ,nonsense"), Err(UnknownSwitch("nonsense".to_owned())));
    }
}
