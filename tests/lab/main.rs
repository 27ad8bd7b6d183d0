//! The crash lab: the real binary under every fault that one machine can be given, and a checker that compares what was
//! acknowledged with what is there.
//!
//! ```text
//! cargo test --test lab                                    every scenario at the size of the commit gate, then the controls
//! cargo test --test lab -- --list                          what there is
//! cargo test --test lab -- --exact kill --rounds 500 --seed 7
//! cargo test --test lab -- --exact neighbours --judge-time           judges how long things take, too
//! cargo test --test lab -- --exact controls --only skip_sync-by-power   one control; --list-controls shows all
//! TRIGGERD_TEST_BINARY=target/release/triggerd cargo test --test lab -- --exact power --rounds 100
//! ```
//!
//! Times and rates are told and not judged, unless `--judge-time` is given, as the gates do: what passes on one machine must
//! pass on every other, however busy it is.
//!
//! Words are filters as cargo's own tests have them; `--exact` makes one that names nothing an error. A scenario that
//! needs root, a mount or strace says that it was skipped and why; with `TRIGGERD_LAB_SKIP=never` that is a failure.
//! With `TRIGGERD_LAB_KEEP=DIR` the last data directory of each scenario is left there.

#![expect(clippy::disallowed_methods, reason = "tests wait and read the environment where the server must not")]
// Always true here; it tells clippy that helpers are tests too.
#![cfg(test)]

mod checker;
mod client;
mod clock;
mod controls;
mod copies;
mod crowd;
mod dedup;
mod disk;
mod flip;
mod full;
#[path = "../it/harness.rs"]
#[expect(dead_code, reason = "the lab needs a part of what the other tests need")]
mod harness;
mod hot;
mod idle;
mod kill;
mod ledger;
mod neighbours;
mod power;
#[path = "../shared/random.rs"]
#[expect(dead_code, reason = "the lab needs a part of it")]
mod random;
mod receiver;
mod replay;
mod rot;
mod scenario;
mod server;
mod stop;
mod sweep;
mod syscalls;
#[path = "../shared/system.rs"]
mod system;
mod torn;
mod trace;
mod wrong_keys;

fn main() -> std::process::ExitCode {
    scenario::run_all(&std::env::args().skip(1).collect::<Vec<_>>())
}
