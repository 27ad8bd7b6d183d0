//! The scenarios, their command line, and their result lines.

use std::panic::{AssertUnwindSafe, catch_unwind};
use std::path::{Path, PathBuf};
use std::process::ExitCode;
use std::sync::atomic::{AtomicUsize, Ordering};
use std::time::Instant;

use triggerd::base::failpoint;

use crate::random::fresh_seed;
use crate::{
    backups, clock, controls, copies, crowd, dedup, failing, flip, full, hot, idle, kill,
    neighbours, power, replay, retention, rot, slow_copies, small, snapshots, stop, sweep, tiny,
    torn, trace, wrong_keys,
};

/// Number of scenarios that run at the same time.
const LANES: usize = 4;
/// The scenarios that print or judge times, rates or the cost of a server that does nothing. They
/// run alone.
const MEASURING: [&str; 5] = ["hot", "neighbours", "crowd", "wrong_keys", "idle"];

/// A scenario: its promise, its size in the commit gate, and its function, which panics when the
/// promise is broken.
struct Scenario {
    name: &'static str,
    shows: &'static str,
    /// Default of `--rounds`, and its unit.
    rounds: (u64, &'static str),
    run: fn(&Plan) -> Outcome,
}

/// Size, seed and options of a run.
pub(crate) struct Plan {
    pub(crate) rounds: u64,
    pub(crate) seed: u64,
    /// Working directory, removed at the end.
    pub(crate) dir: PathBuf,
    /// True if times and rates are judged and not only printed. Set by the gates, whose machine is
    /// idle otherwise.
    pub(crate) judges_time: bool,
    /// The only control to run; all run if `None`.
    pub(crate) only: Option<String>,
}

/// The result of a scenario without a broken promise.
pub(crate) enum Outcome {
    /// The figures for the result line.
    Passed(String),
    /// The reason why the scenario could not run.
    Skipped(String),
}

/// The scenarios. The longest come first, so that none of them runs on at the end when the other
/// lanes are done.
const SCENARIOS: &[Scenario] = &[
    Scenario {
        name: "small",
        shows: "a small disk lives with the default limits, however long it is filled",
        rounds: (96, "MiB of confirmed events"),
        run: small::run,
    },
    Scenario {
        name: "tiny",
        shows: "a disk full of tiny events keeps the room to confirm all of them",
        rounds: (26, "MiB of disk"),
        run: tiny::run,
    },
    Scenario {
        name: "failing",
        shows: "endpoints that fail without end leave a full disk the room to become free again",
        rounds: (1, "fillings"),
        run: failing::run,
    },
    Scenario {
        name: "retention",
        shows: "expiry, compaction and snapshots lose nothing else, also in a copy and after a kill",
        rounds: (4, "kills, each after a copy"),
        run: retention::run,
    },
    Scenario {
        name: "slow_copies",
        shows: "a copy that lasts longer than ten snapshots is whole, in any order of its files",
        rounds: (2, "copies"),
        run: slow_copies::run,
    },
    Scenario {
        name: "rot",
        shows: "the state deleted, flipped, truncated comes back row by row",
        rounds: (7, "damages"),
        run: rot::run,
    },
    Scenario {
        name: "trace",
        shows: "every 2xx comes after a finished sync that covers its write",
        rounds: (40, "requests of each of 4 clients"),
        run: trace::run,
    },
    Scenario {
        name: "kill",
        shows: "kill -9 at any instant, while starting, rebuilding, sealing, twice in a row",
        rounds: (10, "kills"),
        run: kill::run,
    },
    Scenario {
        name: "power",
        shows: "a power cut on ext4 at 256 B, 8 KiB, 64 KiB and 256 KiB payloads",
        rounds: (4, "cuts"),
        run: power::run,
    },
    Scenario {
        name: "copies",
        shows: "cp -a of the live directory is a backup",
        rounds: (3, "copies"),
        run: copies::run,
    },
    Scenario {
        name: "backups",
        shows: "kill -9 while a backup is made: no half one counts, and the next one is whole",
        rounds: (4, "kills"),
        run: backups::run,
    },
    Scenario {
        name: "snapshots",
        shows: "a lost state comes back from the newest whole snapshot, also if one is torn",
        rounds: (6, "losses"),
        run: snapshots::run,
    },
    Scenario {
        name: "flip",
        shows: "every flipped byte of a journal is found or harmless",
        rounds: (6, "flips under the real binary"),
        run: flip::run,
    },
    Scenario {
        name: "torn",
        shows: "a torn last group is cut and never comes back",
        rounds: (4, "tears"),
        run: torn::run,
    },
    Scenario {
        name: "full",
        shows: "a full disk is a state, not a crash",
        rounds: (1, "fillings"),
        run: full::run,
    },
    Scenario {
        name: "clock",
        shows: "steps of the clock, also to 1970",
        rounds: (1, "walks"),
        run: clock::run,
    },
    Scenario {
        name: "stop",
        shows: "SIGSTOP and SIGCONT under load",
        rounds: (3, "seconds stopped"),
        run: stop::run,
    },
    Scenario {
        name: "dedup",
        shows: "200 racing posts with one dedup id, restarted and killed: one event",
        rounds: (1, "dedup ids"),
        run: dedup::run,
    },
    Scenario {
        name: "replay",
        shows: "kill -9 while dead letters are replayed: each is made again once, counted once, \
            and arrives",
        rounds: (1_000, "dead letters"),
        run: replay::run,
    },
    Scenario {
        name: "sweep",
        shows: "every file operation fails once under the committer; 0 rounds: all of them",
        rounds: (0, "operations"),
        run: sweep::run,
    },
    Scenario {
        name: "hot",
        shows: "hot rows rewritten at full speed do not hang the state; verify finds nothing",
        rounds: (4, "seconds"),
        run: hot::run,
    },
    Scenario {
        name: "neighbours",
        shows: "endpoints that hang and all that waits for them cost another organization \
            nothing, nor does a restart",
        rounds: (2_000, "waiting deliveries"),
        run: neighbours::run,
    },
    Scenario {
        name: "crowd",
        shows: "thousands who wait for what never comes, or hold connections, cost others nothing \
            they could notice",
        rounds: (2, "hundreds who wait"),
        run: crowd::run,
    },
    Scenario {
        name: "wrong_keys",
        shows: "5,000 wrong keys a second, from one address and from 1,600, keep no owner of a \
            key out",
        rounds: (2, "turns of 50 requests"),
        run: wrong_keys::run,
    },
    Scenario {
        name: "idle",
        shows: "a server that nobody calls writes nothing and hardly wakes",
        rounds: (3, "seconds"),
        run: idle::run,
    },
    Scenario {
        name: "controls",
        shows: "each scenario fails when the one thing is broken that it is there to catch",
        rounds: (1, "times"),
        run: controls::run,
    },
];

/// The options of the command line.
struct Wanted {
    words: Vec<String>,
    exact: bool,
    list: bool,
    rounds: Option<u64>,
    seed: u64,
    judges_time: bool,
    only: Option<String>,
}

impl Wanted {
    fn read(arguments: &[String]) -> Result<Self, String> {
        let seed = fresh_seed();
        let (words, rounds, only) = (Vec::new(), None, None);
        let mut wanted =
            Self { words, exact: false, list: false, rounds, seed, judges_time: false, only };
        let mut arguments = arguments.iter();
        while let Some(argument) = arguments.next() {
            let mut number = || {
                let value = arguments.next().and_then(|value| value.parse().ok());
                value.ok_or_else(|| format!("{argument} needs a number"))
            };
            match argument.as_str() {
                "--rounds" => wanted.rounds = Some(number()?),
                "--seed" => wanted.seed = number()?,
                "--judge-time" => wanted.judges_time = true,
                "--only" => {
                    wanted.only =
                        Some(arguments.next().ok_or("--only needs a control's name")?.clone());
                }
                "--exact" => wanted.exact = true,
                "--list" => wanted.list = true,
                // Flags of cargo's own tests are accepted and ignored.
                "--nocapture" | "--no-capture" | "--quiet" | "-q" | "--include-ignored"
                | "--show-output" => {}
                flag if flag.starts_with("--test-threads") => {}
                flag if flag.starts_with('-') => return Err(format!("the lab has no {flag}")),
                word => wanted.words.push(word.to_owned()),
            }
        }
        let is_known = |word: &String| SCENARIOS.iter().any(|scenario| scenario.name == word);
        if let Some(only) = wanted.only.as_ref().filter(|only| !controls::names().contains(only)) {
            return Err(format!("there is no control {only}; --list-controls shows all"));
        }
        match wanted.words.iter().find(|word| wanted.exact && !is_known(word)) {
            Some(word) => Err(format!("there is no scenario {word}; --list shows all")),
            None => Ok(wanted),
        }
    }

    fn has(&self, scenario: &Scenario) -> bool {
        let matches = |word: &String| {
            if self.exact { scenario.name == word } else { scenario.name.contains(word.as_str()) }
        };
        self.words.is_empty() || self.words.iter().any(matches)
    }
}

/// Runs the scenarios chosen by the arguments.
pub(crate) fn run_all(arguments: &[String]) -> ExitCode {
    match arguments.split_first().map(|(first, rest)| (first.as_str(), rest)) {
        Some(("sweep-child", rest)) => return sweep::child(rest),
        Some(("hot-child", rest)) => return hot::child(rest),
        Some(("--list-controls", [])) => {
            for name in controls::names() {
                println!("{name}");
            }
            return ExitCode::SUCCESS;
        }
        _ => {}
    }
    if let Err(unknown) = failpoint::arm(&std::env::var("TRIGGERD_FAILPOINTS").unwrap_or_default())
    {
        println!("lab: {unknown}");
        return ExitCode::from(2);
    }
    let wanted = match Wanted::read(arguments) {
        Ok(wanted) => wanted,
        Err(fault) => {
            println!("lab: {fault}");
            return ExitCode::from(2);
        }
    };
    let chosen: Vec<_> = SCENARIOS.iter().filter(|scenario| wanted.has(scenario)).collect();
    if wanted.list {
        for Scenario { name, shows, rounds: (rounds, unit), .. } in chosen {
            println!("{name}: {shows} ({rounds} {unit} unless --rounds says otherwise)");
        }
        return ExitCode::SUCCESS;
    }
    let number = chosen.len();
    // The controls have lanes of their own.
    let (beside, alone): (Vec<_>, Vec<_>) = chosen.into_iter().partition(|scenario| {
        !wanted.judges_time && scenario.name != "controls" && !MEASURING.contains(&scenario.name)
    });
    let mut kept = in_lanes(&beside, |scenario| run_one(scenario, &wanted));
    kept.extend(alone.into_iter().map(|scenario| run_one(scenario, &wanted)));
    let failed = kept.into_iter().filter(|kept| !kept).count();
    println!("lab: {number} scenarios, {failed} failed");
    if failed == 0 { ExitCode::SUCCESS } else { ExitCode::FAILURE }
}

/// Calls `run` for each item, in as many threads as [`LANES`]: servers mostly wait for their disk
/// or for a time. Returns the results in the order of the items.
pub(crate) fn in_lanes<T: Sync, R: Send>(items: &[T], run: impl Fn(&T) -> R + Sync) -> Vec<R> {
    let next = AtomicUsize::new(0);
    let lane = || {
        let turn = || Some(next.fetch_add(1, Ordering::SeqCst)).filter(|at| *at < items.len());
        std::iter::from_fn(turn).map(|at| (at, run(&items[at]))).collect::<Vec<_>>()
    };
    let mut results = std::thread::scope(|scope| {
        let lanes: Vec<_> = (0..LANES).map(|_| scope.spawn(lane)).collect();
        lanes.into_iter().flat_map(|lane| lane.join().unwrap()).collect::<Vec<_>>()
    });
    results.sort_by_key(|(at, _)| *at);
    results.into_iter().map(|(_, result)| result).collect()
}

/// Runs a scenario and prints its result line. Returns true if the promise was kept.
fn run_one(scenario: &Scenario, wanted: &Wanted) -> bool {
    let (name, seed) = (scenario.name, wanted.seed);
    let rounds = wanted.rounds.unwrap_or(scenario.rounds.0);
    let dir = tempfile::Builder::new().prefix(&format!("lab-{name}-")).tempdir().unwrap();
    let (judges_time, only) = (wanted.judges_time, wanted.only.clone());
    let plan = Plan { rounds, seed, dir: dir.path().to_owned(), judges_time, only };
    let began = Instant::now();
    let outcome = catch_unwind(AssertUnwindSafe(|| (scenario.run)(&plan)));
    let seconds = began.elapsed().as_secs_f64();
    let (word, said, kept) = match outcome {
        Ok(Outcome::Passed(numbers)) => ("ok", numbers, true),
        Ok(Outcome::Skipped(why)) => {
            let must = std::env::var("TRIGGERD_LAB_SKIP").is_ok_and(|value| value == "never");
            (if must { "FAILED, must not be skipped" } else { "skipped" }, why, !must)
        }
        // The message of the panic was printed above.
        Err(_panic) => ("FAILED", scenario.shows.to_owned(), false),
    };
    println!(
        "lab {name}: {word}; {rounds} {}; {said}; seed {seed}; {seconds:.1} s",
        scenario.rounds.1
    );
    kept
}

/// Copies the data directory of a stopped server for `triggerd verify`, if `TRIGGERD_LAB_KEEP` is
/// set.
pub(crate) fn keep(name: &str, data_dir: &Path) {
    let Some(kept) = std::env::var_os("TRIGGERD_LAB_KEEP").map(|dir| PathBuf::from(dir).join(name))
    else {
        return;
    };
    drop(std::fs::remove_dir_all(&kept));
    std::fs::create_dir_all(kept.parent().unwrap()).unwrap();
    let copied =
        std::process::Command::new("cp").arg("-a").args([data_dir, &kept]).status().unwrap();
    assert!(copied.success(), "{} could not be kept", data_dir.display());
}
