//! The crash lab: the real binary meets every fault of a single machine, and a checker compares the
//! acknowledgements with the stored events.
//!
//! ```text
//! cargo test --test lab                   all scenarios at the commit gate's size, then controls
//! cargo test --test lab -- --list         lists the scenarios
//! cargo test --test lab -- --exact kill --rounds 500 --seed 7
//! cargo test --test lab -- --exact neighbours --judge-time          also judges times and rates
//! cargo test --test lab -- --exact controls --only skip_sync-by-power  runs one control
//! cargo test --test lab -- --list-controls         lists the controls
//! TRIGGERD_TEST_BINARY=target/release/triggerd cargo test --test lab -- --exact power --rounds 100
//! ```
//!
//! Times and rates are printed, and judged only with `--judge-time`, as in the gates: a test must
//! pass on every machine, however busy.
//!
//! Words filter scenarios, as with cargo's own tests; with `--exact` an unknown word is an error. A
//! scenario without root, a mount or strace prints why it was skipped; with
//! `TRIGGERD_LAB_SKIP=never` a skip is a failure. With `TRIGGERD_LAB_KEEP=DIR` the last data
//! directory of each scenario is kept there.

#![expect(
    clippy::disallowed_methods,
    reason = "tests wait and read the environment where the server must not"
)]
// Always true here. Clippy then takes helpers for tests too.
#![cfg(test)]

mod backups;
mod checker;
mod client;
mod clock;
mod controls;
mod copies;
mod crowd;
mod dedup;
mod disk;
mod failing;
mod flip;
mod full;
#[path = "../it/harness.rs"]
#[expect(dead_code, reason = "the lab needs a part of what the other tests need")]
mod harness;
mod hot;
mod idle;
mod kill;
mod ledger;
mod load;
mod neighbours;
mod power;
#[path = "../shared/random.rs"]
#[expect(dead_code, reason = "the lab needs a part of it")]
mod random;
mod receiver;
mod replay;
mod retention;
mod rot;
mod scenario;
mod server;
mod slow_copies;
mod small;
mod snapshots;
mod stop;
mod sweep;
mod syscalls;
#[path = "../shared/system.rs"]
mod system;
mod tiny;
mod torn;
mod trace;
mod wrong_keys;

fn main() -> std::process::ExitCode {
    scenario::run_all(&std::env::args().skip(1).collect::<Vec<_>>())
}
