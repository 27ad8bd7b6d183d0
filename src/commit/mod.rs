//! The commit layer, which makes changes durable. Only this layer appends to the journal.
//!
//! Everyone submits commands to [`Intake`] and waits for the outcome. One thread, the committer,
//! takes the waiting commands, appends them, syncs once, applies them and answers. Another thread,
//! the flusher, writes the changed rows to sled. A third takes snapshots of all rows, and a fourth
//! compacts the journal below them.
//!
//! # Hints, and how the work of a lost hint is found
//!
//! Hints from the committer and between other threads may be lost, doubled, late or out of order.
//! The state knows the work that is left, and for each kind of hint a thread looks there by itself:
//!
//! ```text
//! hint                               found again by                            at the latest after
//! event to route                     the sweeper: the oldest each second,      20 s and a nap
//!   (channel, missed flag)           all of them every 20 s
//! delivery due, endpoint changed,    the scheduler's scan: overdue deliveries  a scan each 20 s:
//!   organization suspended or not    and those of deleted endpoints            at most 60 s with
//!   (channel, missed flag)                                                     250,000 endpoints
//! attempt over, attempt settled      the scan, in the ledger that the attempt  the same
//!                                    shares
//! replay began, endpoint enabled     the replayer, which looks for running     5 s
//!   (signal)                         replays
//! fresh rows (signal, asked flag)    the flusher, which looks for fresh rows   20 s
//! snapshot due, asked for (signal)   the snapshot thread, which looks          20 s
//! event in the inbox (notifier)      the notifier, where requests wait;        5 s
//!                                    the request, which looks again at its end `wait`
//! disk short, disk has room          the sweeper; the committer after each     1 s
//!                                    megabyte
//! old dedup ids, keys in use         no hint: the sweeper looks                1 s, 10 s
//! keys that expire, or expire soon   no hint: the sweeper looks at 4,096 keys  a round; keys are
//!                                    each second                               judged at use too
//! event erased or expired (signal)   the compactor, which reads all segments   6 h
//! segment to look at (signal)        the sweeper, which asks again             1 s
//! event, attempt (activity stream)   nobody; watchers are told the number of
//!                                    missed items
//! ```
//!
//! Submitted commands, their replies and requests to stop are not hints: they are never dropped
//! while both ends live.

mod activity_stream;
mod breakers;
mod chunks;
mod committer;
mod compaction_passes;
mod compaction_plans;
mod compaction_reading;
mod compactor;
mod disk_use;
mod engine;
mod flusher;
mod hints;
mod intake;
mod notifier;
mod recovery;
mod reply;
mod restore;
mod snapshot_maker;
mod snapshot_taking;
mod snapshots;
mod space;
mod watchdog;

#[cfg(test)]
mod log_tests;
#[cfg(test)]
#[path = "../../tests/shared/system.rs"]
mod system;

pub use activity_stream::{ActivityListener, ActivityStream, Heard};
pub use breakers::Breakers;
pub use committer::{Committer, GroupLimits};
pub use compactor::{CompactionSettings, Compactor, Work as CompactionWork};
pub use disk_use::{BackupUse, DiskUse, Look, Measured, Pressure};
pub use engine::Engine;
pub use flusher::{Flush, Flusher, WRITE_BACK_AFTER};
pub use hints::{Hints, SchedulerHint, Unneeded};
pub use intake::{Intake, IntakeLimits, Submissions};
pub use notifier::{InboxListener, InboxNotifier, WantsType};
pub use recovery::{Recovered, RecoveryError, recover, recover_with_progress};
pub use reply::{CommitError, Pending, Refused, Reply};
pub use restore::{Restored, newest_whole, restore, restore_newest};
pub use snapshot_maker::{SNAPSHOTS_KEPT_MIN, SnapshotLimits, SnapshotMaker};
pub use snapshot_taking::{NotTaken, take_snapshot};
pub use snapshots::{KeptSnapshots, Snapshots};
pub use space::{DiskFree, FailingPace, Shortage, Space};
pub use watchdog::{Progress, watch};
