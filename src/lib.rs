//! triggerd: the event appliance.

pub mod base;
pub mod commit;
pub mod config;
pub mod data_dir;
pub mod delivery;
pub mod journal;
pub mod logging;
pub mod model;
pub mod pipeline;
pub mod rules;
pub mod store;
