//! The keys about how long events and files stay.

use std::time::Duration;

use super::declare::section;
use super::kinds::seconds;
use super::tiers::RETENTION_SECONDS_MAX;

const HOUR_SECONDS: u64 = 3_600;
const DAY_SECONDS: u64 = 24 * HOUR_SECONDS;

section! {
    /// The age at which events expire. An expired event is gone, with its deliveries and attempts.
    /// The age counts from the receipt of the event, or from its `deliver_after` if that is later.
    /// Each tier can have its own ages: `retention_finished_seconds` and `retention_open_seconds`
    /// in `[tiers.free]`, `[tiers.pro]` and `[tiers.enterprise]`.
    pub struct Retention {
        /// Seconds after which an event expires whose story is over: it is acknowledged, delivered
        /// or canceled, and has no dead letter. 0 keeps such events for ever.
        finished: Duration =
            seconds("finished_seconds", 30 * DAY_SECONDS, 0..=RETENTION_SECONDS_MAX).reloaded();

        /// Seconds after which an event expires that still waits in an inbox or for an endpoint, or
        /// has a dead letter. The organization then gets the operational event
        /// [`triggerd.inbox.expired`](operational-events.md#triggerdinboxexpired). 0 keeps such
        /// events for ever.
        open: Duration =
            seconds("open_seconds", 90 * DAY_SECONDS, 0..=RETENTION_SECONDS_MAX).reloaded();

        /// Seconds for which a file that is no longer needed is kept, so that a copy of the data
        /// directory that began before still finds it. Make it longer than a backup takes.
        grace: Duration = seconds("grace_seconds", HOUR_SECONDS, 0..=30 * DAY_SECONDS)
            .at_most_an_eighth_of("erase_seconds");

        /// Seconds within which the bytes of an erased event are gone from the disk of a running
        /// server. Files that copies may still need stay for `grace_seconds`, several times in
        /// turn.
        erase: Duration = seconds("erase_seconds", DAY_SECONDS, 60..=240 * DAY_SECONDS);
    }
}
