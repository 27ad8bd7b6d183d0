//! Where changes become durable: the only room that appends to the journal.
//!
//! Everybody hands [`Intake`] their commands and waits for the outcome; one thread, the committer, takes what waits,
//! appends it, syncs once for all of it, applies it, and answers. Another one, the flusher, brings the changed rows to sled.
//!
//! # Hints, and what finds the work when one is lost
//!
//! What the committer tells others, and what they tell each other, may be lost, doubled, late or out of order. The state
//! knows what is to be done, and for each kind somebody looks there again by itself:
//!
//! ```text
//! hint                                    found again by                                              at the latest after
//! event to route (channel, missed flag)   the sweeper: the first that waits, each second; all, every 20 s    20 s and a nap
//! delivery due, endpoint changed          the scheduler's scan: overdue, and of deleted endpoints     a pass, one every 20 s: below
//!   (channel, missed flag)                                                                            60 s with 250,000 endpoints
//! attempt over, attempt settled           the scan, in the ledger that the attempt shares             the same
//! replay began, endpoint enabled (signal) the replayer, which looks for running replays               5 s
//! fresh rows (signal, asked flag)         the flusher, which looks for fresh rows                     20 s
//! event in the inbox (bell)               the bell's thread, which looks where somebody waits;        5 s
//!                                         the waiting request, which looks once more at its end       `wait`
//! disk short, disk has room               the sweeper, and the committer after each megabyte          1 s
//! dedup ids to forget, keys that were used  no hint: the sweeper looks                                1 s, 10 s
//! keys whose time has come                no hint: the sweeper looks at 4,096 keys each second        a round; judged when used
//! event, attempt (feed)                   nobody: who watches is told how many were missed
//! ```
//!
//! Submitted commands, their replies and a request to stop are no hints: they are never dropped while both ends live.

mod bell;
mod committer;
mod feed;
mod flusher;
mod intake;
mod portions;
mod recovery;
mod reply;
mod space;
mod watchdog;

pub use bell::{InboxBell, InboxListener, WantsType};
pub use committer::{Committer, CommitterLimits, Hints, Ports, SchedulerHint};
pub use feed::{Attempted, Feed, FeedListener, Happening, Heard};
pub use flusher::{Flush, Flusher, WRITE_BACK_AFTER};
pub use intake::{Intake, Refused};
pub use recovery::{Recovered, RecoveryError, recover, recover_telling};
pub use reply::{CommitError, Pending, Reply};
pub use space::{DiskFree, Shortage, Space};
pub use watchdog::{Progress, watch};
