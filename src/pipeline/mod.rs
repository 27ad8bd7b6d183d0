//! From events to deliveries: the workers find the endpoints of an event, the replayer delivers
//! past events again, and the sweeper finds lost work and does the housekeeping. None of them knows
//! how a webhook is sent.

mod disk_watch;
mod replays;
mod sweeper;
mod worker;

pub use replays::Replayer;
pub use sweeper::{KeysUsed, Sweeper};
pub use worker::Worker;
