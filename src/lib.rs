//! triggerd: the event appliance.

pub mod base;
pub mod commit;
pub mod journal;
pub mod model;
pub mod store;
