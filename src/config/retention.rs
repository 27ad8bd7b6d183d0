//! The keys about how long events, files and erased bytes stay.

use std::path::PathBuf;
use std::time::Duration;

use super::declare::section;
use super::kinds::{flag, optional_path, seconds, share, size};
use super::tiers::RETENTION_SECONDS_MAX;

const HOUR_SECONDS: u64 = 3_600;
const DAY_SECONDS: u64 = 24 * HOUR_SECONDS;
const PIB: u64 = 1 << 50;

section! {
    /// How long events and files stay. Events expire at an age, and some earlier while disk space
    /// is short: they are gone then, with their deliveries and attempts. The age counts from the
    /// receipt of the event, or from its `deliver_after` if that is later. Each tier can have its
    /// own ages: `retention_finished_seconds` and `retention_open_seconds` in `[tiers.free]`,
    /// `[tiers.pro]` and `[tiers.enterprise]`. The files of the journal change later, when no
    /// backup that is under way can need them: see `grace_seconds` and `erase_seconds`.
    pub struct Retention {
        /// Seconds after which a finished event expires: one that is not in the inbox, waits for no
        /// endpoint and has no dead letter. With 0, no finished event expires by its age; the limits
        /// `bytes` and `keep_free_share` hold all the same.
        finished: Duration =
            seconds("finished_seconds", 30 * DAY_SECONDS, 0..=RETENTION_SECONDS_MAX).reloaded();

        /// Seconds after which an unfinished event expires: one that is in the inbox, waits for an
        /// endpoint or has a dead letter. The organization then gets the operational event
        /// [`triggerd.inbox.expired`](operational-events.md#triggerdinboxexpired). With 0, no
        /// unfinished event expires by its age.
        open: Duration =
            seconds("open_seconds", 90 * DAY_SECONDS, 0..=RETENTION_SECONDS_MAX).reloaded();

        /// Bytes of disk space for the journal, its newest two snapshots and the state. While they
        /// need more, the oldest finished events expire
        /// [before their time](operations.md#disk-space). Space that comes back once no copy can
        /// need it any more is counted as free already. 0 means half of the filesystem.
        bytes: u64 = size("bytes", 0, 0..=PIB).reloaded();

        /// Share of the filesystem that is kept free, as a last resort. While less is free, events
        /// expire before their time, the oldest first: finished ones, then those of which only dead
        /// letters are left, and the others only if `drop_open` is set. At least one and a quarter
        /// of `[storage] reserve_bytes` is kept free. 0 turns it off.
        keep_free_share: f64 = share("keep_free_share", 0.1).reloaded();

        /// If true, events in an inbox or waiting for an endpoint expire as well, the oldest first,
        /// when less than `keep_free_share` is still free after all other events have expired. If
        /// false, they stay. In both cases new events are refused with 507 below `[storage]
        /// reserve_bytes`.
        drop_open: bool = flag("drop_open", false).reloaded();

        /// Directory in which events are [archived](operations.md#archives) before they expire,
        /// preferably on another disk. An event that cannot be archived does not expire, also when
        /// the disk is short of space. Empty means that events expire without an archive.
        archive_directory: Option<PathBuf> = optional_path("archive_directory");

        /// Seconds for which the entries of the [audit log](api.md#audit) stay: who changed what,
        /// when, and from where. With 0, they stay for ever.
        audit: Duration =
            seconds("audit_seconds", 400 * DAY_SECONDS, 0..=RETENTION_SECONDS_MAX).reloaded();

        /// Seconds for which a file that is no longer needed is kept, so that a copy of the data
        /// directory that began before still finds it. Make it longer than a backup takes, and
        /// `erase_seconds` at least eight times as long.
        // An erased payload can wait for two plans of the compactor, each for three times the
        // grace, then for the beginning of a pass over the journal, and for the pass itself. These
        // two share the rest of the time: at least one grace each.
        grace: Duration = seconds("grace_seconds", HOUR_SECONDS, 0..=30 * DAY_SECONDS)
            .at_most_an_eighth_of("erase_seconds");

        /// Seconds within which the bytes of an erased event or a deleted organization are gone from
        /// the files of a server that runs without long pauses and frequent restarts and has disk
        /// space. The bytes stay for `grace_seconds`, several times in turn, because copies under
        /// way may need the files.
        erase: Duration = seconds("erase_seconds", DAY_SECONDS, 60..=240 * DAY_SECONDS);
    }
}
