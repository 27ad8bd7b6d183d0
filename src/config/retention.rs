//! The keys about how long data stays.

use std::time::Duration;

use super::declare::section;
use super::kinds::seconds;

const HOUR_SECONDS: u64 = 3_600;
const DAY_SECONDS: u64 = 24 * HOUR_SECONDS;

section! {
    /// How long data stays.
    pub struct Retention {
        /// Seconds for which a file that is no longer needed is kept, so that a copy of the data
        /// directory that began before still finds it. Make it longer than a backup takes.
        grace: Duration = seconds("grace_seconds", HOUR_SECONDS, 0..=30 * DAY_SECONDS);
    }
}
