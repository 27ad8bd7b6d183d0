//! The words of the product as types: pure data, no I/O, no clock, no locks. Commands contain these
//! types and are written to the journal, so the serde shape of each type is a disk format. Golden
//! bytes in `commands/codec_tests.rs` freeze it.

pub mod activity;
pub mod authority;
pub mod cloudevent;
pub mod delivery;
pub mod endpoint;
pub mod event;
pub mod id;
pub mod key;
pub mod moment;
pub mod operational_event;
pub mod org;
pub mod replay;
pub mod routing;
pub mod time;
