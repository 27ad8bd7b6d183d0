//! A random sequence of operations has the same result in triggerd and in a naive model, also when
//! the process is killed, the power is cut, the state is lost or the directory is copied in
//! between.
//!
//! A world is a data directory with the real journal, state and committer. Sequences run in a world
//! one after another, each in an organization of its own; after a crash, the organizations of all
//! earlier sequences are checked again. After each step the answers are compared with [`naive`],
//! which is written from the contract without the store's code.
//!
//! `TRIGGERD_MODEL_SEQUENCES` sets the number of sequences (5,000 by default),
//! `TRIGGERD_MODEL_SEED` runs a single world again. Seeds that failed once are kept in `seeds.txt`
//! and run first.

#![expect(
    clippy::disallowed_methods,
    reason = "tests read the environment and start threads where the server must not"
)]
// Always true here. Clippy then takes helpers for tests too.
#![cfg(test)]

mod care;
mod checks;
mod gone;
mod hints;
mod naive;
mod opening;
#[path = "../shared/random.rs"]
#[expect(dead_code, reason = "the model needs a part of it")]
mod random;
mod replays;
mod steps;
#[path = "../shared/system.rs"]
mod system;
mod world;
mod year;

mod tests {
    use std::io::Write as _;
    use std::panic::{AssertUnwindSafe, catch_unwind};
    use std::path::PathBuf;
    use std::process::Command;
    use std::sync::atomic::{AtomicU64, Ordering};
    use std::sync::{Arc, Mutex};
    use std::time::Instant;

    use triggerd::base::failpoint;

    use crate::random::{Random, fresh_seed};
    use crate::steps::run_world;
    use crate::system::{METRICS, metrics};
    use crate::world::{Break, SEQUENCES_PER_WORLD};
    use crate::year::{self, figures};

    /// The file of seeds that failed once or reach far. New failures are added.
    const KEPT: &str = concat!(env!("CARGO_MANIFEST_DIR"), "/tests/model/seeds.txt");
    const SEQUENCES: u64 = 5_000;
    /// Enough for several segments a month.
    const EVENTS_A_MONTH: u64 = 2_000;
    /// Number of worlds of a broken system. The break must be noticed at least once.
    const WORLDS_OF_A_BREAK: u64 = 12;
    /// The same for a broken promise of the product.
    const WORLDS_OF_A_FAILPOINT: u64 = 40;

    /// The promises of the product to break, and the texts of which one tells the right reason.
    const FAILPOINTS: [(&str, &[&str]); 5] = [
        ("expiry_leaves_rows", &["which does not exist", "are counted"]),
        ("expiry_too_early", &["expired: "]),
        ("torn_snapshot_believed", &["are of position"]),
        ("compact_unproved", &["Removed(", "no frame of this position"]),
        ("grace_off", &["Removed(", "before the journal", "no frame of this position"]),
    ];

    fn number(name: &str) -> Option<u64> {
        std::env::var(name).ok()?.parse().ok()
    }

    /// Returns the kept seeds: the number at the beginning of each line.
    fn kept() -> Vec<u64> {
        let text = std::fs::read_to_string(KEPT).unwrap();
        let seeds = text.lines().filter(|line| !line.starts_with('#'));
        seeds.map(|line| line.split(' ').next().unwrap().parse().unwrap()).collect()
    }

    /// Adds the seeds of new failures to the file.
    fn keep(failures: &[(u64, String)]) {
        let mut file = std::fs::File::options().append(true).open(KEPT).unwrap();
        let known = kept();
        for (seed, fault) in failures.iter().filter(|(seed, _)| !known.contains(seed)) {
            writeln!(file, "{seed} {}", fault.lines().next().unwrap_or_default()).unwrap();
        }
    }

    /// Runs a world. Returns its first fault, also for a panic.
    fn judge(seed: u64, broken: Break) -> Result<(), String> {
        let ran = catch_unwind(AssertUnwindSafe(|| run_world(seed, broken)));
        ran.unwrap_or_else(|panic| {
            let text = panic.downcast_ref::<String>().cloned();
            Err(format!(
                "panicked: {}",
                text.or_else(|| panic.downcast_ref::<&str>().map(ToString::to_string))
                    .unwrap_or_default()
            ))
        })
    }

    /// Runs worlds on all cores. Returns the seeds and faults of failed worlds.
    fn run_all(seeds: &[u64], broken: Break) -> Vec<(u64, String)> {
        let (next, failures) = (AtomicU64::new(0), Mutex::new(Vec::new()));
        let metrics = metrics();
        let cores = std::thread::available_parallelism().map_or(2, std::num::NonZero::get);
        std::thread::scope(|scope| {
            for _ in 0..cores {
                scope.spawn(|| {
                    METRICS.with(|of_thread| of_thread.set(Arc::clone(&metrics))).unwrap();
                    while let Some(&seed) = usize::try_from(next.fetch_add(1, Ordering::SeqCst))
                        .ok()
                        .and_then(|at| seeds.get(at))
                    {
                        if let Err(fault) = judge(seed, broken) {
                            failures.lock().unwrap().push((seed, fault));
                        }
                    }
                });
            }
        });
        failures.into_inner().unwrap()
    }

    #[test]
    fn random_sequences_mean_the_same_to_us_and_to_a_naive_model() {
        if let Some(seed) = number("TRIGGERD_MODEL_SEED") {
            return assert_eq!(judge(seed, Break::Nothing), Ok(()), "TRIGGERD_MODEL_SEED={seed}");
        }
        if let Ok(failpoints) = std::env::var("TRIGGERD_FAILPOINTS") {
            failpoint::arm(&failpoints).unwrap();
            let seeds: Vec<u64> = (0..WORLDS_OF_A_FAILPOINT).collect();
            return assert_eq!(run_all(&seeds, Break::Nothing), [], "the failpoint was noticed");
        }
        let began = Instant::now();
        let worlds =
            number("TRIGGERD_MODEL_SEQUENCES").unwrap_or(SEQUENCES).div_ceil(SEQUENCES_PER_WORLD);
        let first = fresh_seed();
        let mut random = Random::new(first);
        let seeds: Vec<u64> =
            kept().into_iter().chain((0..worlds).map(|_| random.next())).collect();
        let failures = run_all(&seeds, Break::Nothing);
        println!(
            "{} sequences in {} worlds from seed {first}, {:?}",
            seeds.len() as u64 * SEQUENCES_PER_WORLD,
            seeds.len(),
            began.elapsed()
        );
        let metrics = metrics();
        let punched = metrics.compaction_segments_punched.get();
        let removed = metrics.compaction_segments_removed.get();
        println!("{punched} segments were written again, {removed} removed");
        assert!(punched > 0 && removed > 0, "nothing was compacted");
        keep(&failures);
        let faults: Vec<_> = failures
            .iter()
            .map(|(seed, fault)| format!("TRIGGERD_MODEL_SEED={seed}: {fault}"))
            .collect();
        assert!(faults.is_empty(), "{}", faults.join("\n"));
    }

    /// The negative controls: each broken system is noticed, for the right reason.
    #[test]
    fn a_broken_system_is_noticed() {
        for (broken, reason) in [
            (Break::ForgetsAcks, "inbox"),
            (Break::KnowsNoDuplicates, "outcome"),
            (Break::SyncsNothing, "after"),
            (Break::ForgetsToRecover, "after"),
            (Break::MisplacesSnapshots, "are of position"),
        ] {
            let seeds: Vec<u64> = (0..WORLDS_OF_A_BREAK).collect();
            let failures = run_all(&seeds, broken);
            println!(
                "{broken:?} was noticed in {} of {WORLDS_OF_A_BREAK} worlds, e.g. {:?}",
                failures.len(),
                failures.first()
            );
            let for_that = failures.iter().filter(|(_, fault)| fault.contains(reason)).count();
            assert!(for_that > 0, "{broken:?} was not noticed: {failures:?}");
        }
    }

    /// More negative controls: a promise of the product is broken. A failpoint stays armed, so each
    /// has a process of its own.
    #[test]
    fn a_broken_promise_is_noticed() {
        if !cfg!(debug_assertions) {
            return;
        }
        for (failpoint, reasons) in FAILPOINTS {
            let output = Command::new(std::env::current_exe().unwrap())
                .args([
                    "--exact",
                    "tests::random_sequences_mean_the_same_to_us_and_to_a_naive_model",
                ])
                .env("TRIGGERD_FAILPOINTS", failpoint)
                .env_remove("TRIGGERD_MODEL_SEED")
                .output()
                .unwrap();
            let said = String::from_utf8_lossy(&output.stdout).into_owned()
                + &String::from_utf8_lossy(&output.stderr);
            assert!(!output.status.success(), "{failpoint} was not noticed: {said}");
            let is_expected = said.contains("the failpoint was noticed")
                && reasons.iter().any(|reason| said.contains(reason));
            assert!(is_expected, "{failpoint} was noticed for another reason: {said}");
        }
    }

    /// After the first quarter of a year of steady traffic, nothing on disk grows any more.
    /// `TRIGGERD_YEAR_EVENTS` sets the number of events a month; `TRIGGERD_YEAR_FIGURES` names a
    /// directory that gets the figures as a table and as a drawing.
    #[test]
    fn a_year_of_steady_traffic_becomes_flat() {
        let events = number("TRIGGERD_YEAR_EVENTS").unwrap_or(EVENTS_A_MONTH);
        let (began, dir) = (Instant::now(), tempfile::tempdir().unwrap());
        let months = year::run(dir.path(), events);
        let table = figures::table(&months);
        println!("{table}\n{events} events a month, {:?}", began.elapsed());
        if let Some(into) = std::env::var_os("TRIGGERD_YEAR_FIGURES").map(PathBuf::from) {
            std::fs::write(into.join("year.md"), &table).unwrap();
            std::fs::write(into.join("year.svg"), figures::drawing(&months)).unwrap();
        }
        let faults = year::faults(&months);
        assert!(faults.is_empty(), "{}", faults.join("; "));
    }

    /// Lost hints leave no work undone. The control comes last: its failpoint stays armed.
    #[test]
    fn whatever_becomes_of_hints_all_work_is_done_and_without_the_scan_it_is_not() {
        let seed = number("TRIGGERD_MODEL_SEED").unwrap_or_else(fresh_seed);
        let took = std::thread::scope(|scope| {
            let worlds = [0, 1].map(|number| scope.spawn(move || crate::hints::run(seed ^ number)));
            worlds.map(|world| world.join().unwrap())
        });
        println!("TRIGGERD_MODEL_SEED={seed}: {took:?}");
        assert!(took.iter().all(Result::is_ok), "TRIGGERD_MODEL_SEED={seed}: {took:?}");
        if cfg!(debug_assertions) {
            triggerd::base::failpoint::arm("scan_off").unwrap();
            let undone = crate::hints::run_without_scan(seed).unwrap_err();
            println!("without the scan: {undone:?}");
        }
    }
}
