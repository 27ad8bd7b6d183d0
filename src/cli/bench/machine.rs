//! The machine under measurement, and the best speed of its disk.

use std::fs;
use std::io::{self, Write as _};
use std::os::unix::fs::OpenOptionsExt as _;
use std::path::Path;
use std::time::{Duration, Instant};

use hdrhistogram::Histogram;
use rustix::thread::{CpuSet, sched_getaffinity, sched_setaffinity};
use serde::Serialize;

use super::tally::{max_ms, micros, quantile_ms};
use crate::base::exit_code::ExitCode;
use crate::base::library_errors::{io_words, os_words};
use crate::base::{ownership, random};
use crate::cli::Failure;
use crate::cli::output::eprint;

/// Maximum number of timed syncs.
const SYNCS: u64 = 500;
/// Maximum time for all syncs.
const SYNCS_WITHIN: Duration = Duration::from_secs(2);
const BLOCK: [u8; 4096] = [0x5a; 4096];

/// The machine's hardware and kernel.
#[derive(Clone, Debug, Serialize)]
pub(super) struct Machine {
    pub(super) cpu: String,
    pub(super) cores: usize,
    pub(super) memory_bytes: u64,
    pub(super) kernel: String,
    /// The type of the filesystem with the measured directory.
    pub(super) filesystem: String,
}

/// The minimum duration of a sync on this disk: 4 KiB appended to a file, then fdatasync, without
/// other load.
#[derive(Clone, Copy, Debug, Serialize)]
pub(super) struct SyncFloor {
    pub(super) syncs: u64,
    pub(super) p50_ms: f64,
    pub(super) p99_ms: f64,
    pub(super) max_ms: f64,
}

impl Machine {
    /// Reads the machine's figures; a missing figure is "unknown" or 0.
    pub(super) fn of(dir: &Path) -> Self {
        let read = |path: &str| fs::read_to_string(path).unwrap_or_default();
        let unknown = || "unknown".to_owned();
        Self {
            cpu: field(&read("/proc/cpuinfo"), "model name").map_or_else(unknown, str::to_owned),
            cores: std::thread::available_parallelism().map_or(1, usize::from),
            memory_bytes: field(&read("/proc/meminfo"), "MemTotal")
                .and_then(kibibytes)
                .unwrap_or(0),
            kernel: format!("Linux {}", read("/proc/sys/kernel/osrelease").trim()),
            filesystem: filesystem(&read("/proc/self/mountinfo"), dir).unwrap_or_else(unknown),
        }
    }

    /// True if the directory is on a filesystem in memory.
    pub(super) fn has_no_disk(&self) -> bool {
        ["tmpfs", "ramfs"].contains(&self.filesystem.as_str())
    }
}

/// Runs `start`, and the processes started by it, on all processors but the last. This thread then
/// continues on the last processor, where the load takes nothing from the server. With a single
/// processor, both share it.
pub(super) fn apart<T>(start: impl FnOnce() -> T) -> T {
    let Some((theirs, ours)) = sched_getaffinity(None).ok().and_then(divided) else {
        return start();
    };
    let go_on_with = |processors: &CpuSet| {
        if let Err(error) = sched_setaffinity(None, processors) {
            let words = os_words(&error.into());
            eprint(&format!(
                "triggerd: load and server share all processors, because they cannot be divided: \
                 {words}"
            ));
        }
    };
    go_on_with(&theirs);
    let started = start();
    go_on_with(&ours);
    started
}

/// Splits off the last processor; none if there is only one.
fn divided(all: CpuSet) -> Option<(CpuSet, CpuSet)> {
    let last = (0..CpuSet::MAX_CPU).rev().find(|processor| all.is_set(*processor))?;
    let (mut first, mut only) = (all, CpuSet::new());
    first.unset(last);
    only.set(last);
    (first.count() > 0).then_some((first, only))
}

/// The value in a line of the form `name : value`.
pub(super) fn field<'a>(text: &'a str, name: &str) -> Option<&'a str> {
    let value =
        |line: &'a str| line.strip_prefix(name)?.trim_start().strip_prefix(':').map(str::trim);
    text.lines().find_map(value)
}

/// Converts a text such as `123 kB` to bytes.
pub(super) fn kibibytes(text: &str) -> Option<u64> {
    text.strip_suffix("kB")?.trim().parse::<u64>().ok().map(|kibibytes| kibibytes * 1024)
}

/// The type of the filesystem with the nearest mount point above the directory;
/// proc_pid_mountinfo(5).
fn filesystem(mounts: &str, dir: &Path) -> Option<String> {
    let dir = dir.canonicalize().ok()?;
    let mount = |line: &str| {
        let (place, kind) = line.split_once(" - ")?;
        let place = place.split(' ').nth(4)?.replace("\\040", " ");
        dir.starts_with(&place)
            .then(|| (place.len(), kind.split(' ').next().unwrap_or_default().to_owned()))
    };
    // Of two mounts at the same path, the later hides the earlier.
    mounts.lines().filter_map(mount).max_by_key(|(length, _)| *length).map(|(_, kind)| kind)
}

impl SyncFloor {
    /// Measures syncs in this directory, for at most two seconds.
    pub(super) fn measure(dir: &Path) -> Result<Self, Failure> {
        let path = dir.join(format!("triggerd-sync-{:08x}", u32::from_be_bytes(random::bytes())));
        Self::measure_with(&path).map_err(|error| unusable(&path, &error))
    }

    /// Measures syncs of this new file.
    fn measure_with(path: &Path) -> io::Result<Self> {
        let mut file =
            fs::OpenOptions::new().write(true).create_new(true).mode(0o600).open(path)?;
        let mut histogram =
            Histogram::<u64>::new_with_bounds(1, 60_000_000, 3).map_err(io::Error::other)?;
        let began = Instant::now();
        while histogram.len() < SYNCS && began.elapsed() < SYNCS_WITHIN {
            let began = Instant::now();
            file.write_all(&BLOCK)?;
            file.sync_data()?;
            histogram.saturating_record(micros(began.elapsed()));
        }
        fs::remove_file(path)?;
        Ok(Self {
            syncs: histogram.len(),
            p50_ms: quantile_ms(&histogram, 0.5),
            p99_ms: quantile_ms(&histogram, 0.99),
            max_ms: max_ms(&histogram),
        })
    }
}

/// The failure for a path below the directory of `--dir`.
pub(super) fn unusable(path: &Path, error: &io::Error) -> Failure {
    let (shown, words) = (path.display(), io_words(error));
    let owner = ownership::denied(path, error);
    let message = format!(
        "{shown} cannot be made: {words}{owner}; name a directory with space for the temporary \
         data with --dir"
    );
    Failure::new(ExitCode::of_io(error, ExitCode::Failed), message)
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn the_filesystem_is_that_of_the_nearest_mount() {
        let dir = tempfile::tempdir().unwrap();
        let inner = dir.path().canonicalize().unwrap();
        let mounts = format!(
            "22 1 0:20 / / rw - ext4 /dev/vda rw\n30 22 0:30 / {} rw shared:1 - xfs /dev/vdb rw\n\
             31 22 0:31 / /elsewhere rw - tmpfs tmpfs rw\n",
            inner.display()
        );
        assert_eq!(filesystem(&mounts, &inner).as_deref(), Some("xfs"));
        assert_eq!(filesystem(&mounts, Path::new("/")).as_deref(), Some("ext4"));
        assert_eq!(filesystem("", &inner), None);
    }

    #[test]
    fn this_machine_has_cores_and_memory_and_a_disk_that_syncs() {
        let dir = tempfile::tempdir().unwrap();
        let machine = Machine::of(dir.path());
        assert!(machine.cores >= 1 && machine.memory_bytes > 1 << 20, "{machine:?}");
        let floor = SyncFloor::measure(dir.path()).unwrap();
        assert!(
            floor.syncs >= 1 && floor.p50_ms <= floor.p99_ms && floor.p99_ms <= floor.max_ms,
            "{floor:?}"
        );
        assert_eq!(fs::read_dir(dir.path()).unwrap().count(), 0, "nothing is left behind");
        assert_eq!(kibibytes("16384 kB"), Some(16 << 20));
    }

    #[test]
    fn the_last_processor_is_set_apart_if_there_are_two() {
        let of = |processors: &[usize]| {
            let mut set = CpuSet::new();
            for processor in processors {
                set.set(*processor);
            }
            set
        };
        let (first, last) = divided(of(&[0, 3, 7])).unwrap();
        assert!(first == of(&[0, 3]) && last == of(&[7]));
        assert!(divided(of(&[5])).is_none());
    }
}
