//! The words of the product as types: pure data, no I/O, no clock, no locks. Commands are made of them and stand in the
//! journal, so the serde shape of these types is a disk format, frozen by golden bytes in `commands/codec_tests.rs`.

pub mod authority;
pub mod cloudevent;
pub mod delivery;
pub mod endpoint;
pub mod event;
pub mod id;
pub mod key;
pub mod moment;
pub mod notice;
pub mod org;
pub mod replay;
pub mod time;
