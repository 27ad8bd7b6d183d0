//! From events to deliveries: the workers find out where an event goes, the sweeper sees to what was missed and to
//! housekeeping. Neither knows how anything is sent.

mod disk_watch;
mod sweeper;
mod worker;

pub use sweeper::{Sweeper, SweeperSettings};
pub use worker::{Worker, WorkerPorts};
