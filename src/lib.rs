//! triggerd: the event appliance.

pub mod base;
pub mod config;
pub mod logging;
pub mod model;
