//! Where changes become durable: the only room that appends to the journal.
//!
//! Everybody hands [`Intake`] their commands and waits for the outcome; one thread, the committer, takes what waits,
//! appends it, syncs once for all of it, applies it, and answers. Another one, the flusher, brings the changed rows to sled.

mod bell;
mod committer;
mod feed;
mod flusher;
mod intake;
mod portions;
mod recovery;
mod space;
mod watchdog;

pub use bell::{InboxBell, InboxListener, WantsType};
pub use committer::{Committer, CommitterLimits, Hints, Ports, SchedulerHint};
pub use feed::{Attempted, Feed, FeedListener, Happening, Heard, TooMany};
pub use flusher::{Flush, Flusher, WRITE_BACK_AFTER};
pub use intake::{Intake, Refused, Reply};
pub use recovery::{Recovered, RecoveryError, recover};
pub use space::{DiskFree, Space};
pub use watchdog::{Progress, watch};
