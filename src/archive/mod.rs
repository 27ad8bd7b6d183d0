//! Archives: events as lines of JSON, in files compressed with zstd. The retention has events
//! archived before they expire, and the command `archive` writes the events of a time.
//!
//! This module knows the files and when they are durable. The form of an event is that of the API,
//! which gives the lines.

mod directory;
mod file;
mod service;

pub use directory::{Place, place_of};
pub use file::{ArchiveFile, Draft, EXTENSION};
pub use service::{Archiver, Batch, Line, Lines, Service, Written};
