//! Tools for every module, without knowledge of the product: clock, threads, metrics, codec,
//! randomness, exit codes, spellings of addresses, errors of libraries in words for users,
//! pairs as objects, bytes that wait in a socket, failpoints for tests.

pub mod addresses;
pub mod clock;
pub mod codec;
pub mod compression;
pub mod descriptors;
pub mod exit_code;
pub mod failpoint;
pub mod keyed;
pub mod library_errors;
pub mod live;
pub mod metrics;
pub mod names;
pub mod ownership;
pub mod pairs;
pub mod peek;
pub mod peer;
pub mod pieces;
pub mod present_name;
pub mod random;
pub mod regular;
pub mod shares;
pub mod splice;
pub mod threads;
pub mod units;
pub mod unsent;
pub mod vault;
