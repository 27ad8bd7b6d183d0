//! What every room may use and nothing of the product: clock, threads, metrics, codec, randomness, exit codes, sabotage for
//! tests.

pub mod clock;
pub mod codec;
pub mod exit_code;
pub mod metrics;
pub mod random;
pub mod sabotage;
pub mod shares;
pub mod threads;
pub mod vault;
