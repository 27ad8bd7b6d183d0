//! triggerd: the event appliance.

pub mod journal;
