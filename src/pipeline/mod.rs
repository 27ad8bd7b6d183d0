//! From events to deliveries: the workers find the endpoints of an event, the replayer delivers
//! past events again, and the sweeper finds lost work, lets events expire, carries out the
//! deletion of organizations and does the housekeeping. None of them knows how a webhook is sent.

mod ages;
mod clock_trust;
mod deletions;
mod disk_forecast;
mod disk_limits;
mod disk_watch;
mod early_expiry;
mod expiry_report;
mod key_report;
mod replays;
mod retention;
mod sweeper;
mod worker;

pub use ages::Ages;
pub use disk_limits::DiskLimits;
pub use disk_watch::DiskReport;
pub use expiry_report::ExpiryReport;
pub use key_report::KeyReport;
pub use replays::Replayer;
pub use retention::Retention;
pub use sweeper::{KeysUsed, RefusedRequests, Sweeper};
pub use worker::Worker;
