//! The crash lab: the real binary under every fault that one machine can be given, and a checker that compares what was
//! acknowledged with what is there.
//!
//! ```text
//! cargo test --test lab                                    every scenario at the size of the commit gate, then the controls
//! cargo test --test lab -- --list                          what there is
//! cargo test --test lab -- --exact kill --rounds 500 --seed 7
//! TRIGGERD_TEST_BINARY=target/release/triggerd cargo test --test lab -- --exact power --rounds 100
//! ```
//!
//! Words are filters as cargo's own tests have them; `--exact` makes one that names nothing an error. A scenario that
//! needs root, a mount or strace says that it was skipped and why; with `TRIGGERD_LAB_SKIP=never` that is a failure.
//! With `TRIGGERD_LAB_KEEP=DIR` the last data directory of each scenario is left there.

#![expect(clippy::disallowed_methods, reason = "tests wait and read the environment where the server must not")]

#[cfg(test)]
mod checker;
#[cfg(test)]
mod client;
#[cfg(test)]
mod clock;
#[cfg(test)]
mod controls;
#[cfg(test)]
mod copies;
#[cfg(test)]
mod dedup;
#[cfg(test)]
mod disk;
#[cfg(test)]
mod flip;
#[cfg(test)]
mod full;
#[cfg(test)]
#[path = "../it/harness.rs"]
#[expect(dead_code, reason = "the lab needs a part of what the other tests need")]
mod harness;
#[cfg(test)]
mod kill;
#[cfg(test)]
mod ledger;
#[cfg(test)]
mod power;
#[cfg(test)]
mod random;
#[cfg(test)]
mod receiver;
#[cfg(test)]
mod rot;
#[cfg(test)]
mod scenario;
#[cfg(test)]
mod server;
#[cfg(test)]
mod stop;
#[cfg(test)]
mod sweep;
#[cfg(test)]
mod syscalls;
#[cfg(test)]
mod torn;
#[cfg(test)]
mod trace;

#[cfg(test)]
fn main() -> std::process::ExitCode {
    scenario::run_all(&std::env::args().skip(1).collect::<Vec<_>>())
}

#[cfg(not(test))]
fn main() {}
