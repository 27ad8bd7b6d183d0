//! The product's decisions as pure code: `now`, jitter and policy are arguments. Modules of all
//! higher layers use the rules. The rules have no clock, no randomness, no I/O and no knowledge of
//! storage, so each rule can be tested exactly.

pub mod breaker;
pub mod egress;
pub mod fan_out;
pub mod filter;
pub mod retry;
pub mod signature;
pub mod token_bucket;
pub mod type_filter;
