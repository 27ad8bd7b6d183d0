//! triggerd: the event appliance.

pub mod base;
pub mod delivery;
pub mod model;
pub mod rules;
