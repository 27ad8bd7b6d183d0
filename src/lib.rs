//! triggerd: the event appliance.

pub mod base;
pub mod model;
