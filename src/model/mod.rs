//! The words of the product as types: pure data, no I/O, no clock, no locks. What stands in a [`command::Command`] is
//! also what stands in the journal, so the serde shape of these types is a disk format, frozen by golden bytes in the
//! tests of `journal_codec`.

pub mod authority;
pub mod cloudevent;
pub mod command;
pub mod delivery;
pub mod endpoint;
pub mod event;
pub mod id;
pub mod journal_codec;
pub mod key;
pub mod moment;
pub mod notice;
pub mod org;
pub mod replay;
pub mod time;
