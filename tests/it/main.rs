//! The integration tests: one binary, one module for each part of the promise.

// `cfg(test)` is always true here; it tells clippy that helpers are tests too.
#[cfg(test)]
mod contract;
#[cfg(test)]
mod crash;
#[cfg(test)]
mod harness;
#[cfg(test)]
mod pushing;
#[cfg(test)]
mod tidy;
