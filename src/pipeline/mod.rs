//! From events to deliveries: the workers find out where an event goes, the replayer has past ones delivered again, the
//! sweeper sees to what was missed and to housekeeping. None of them knows how anything is sent.

mod replays;
mod sweeper;
mod worker;

pub use replays::Replayer;
pub use sweeper::{Sweeper, SweeperSettings};
pub use worker::{Worker, WorkerPorts};
