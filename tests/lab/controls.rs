//! The negative controls: each scenario runs again with its one promise broken, and must fail for
//! this reason. A proof that cannot fail proves nothing.
//!
//! Most faults are caught in each run: the fault is always there, or holds its window open. Where
//! chance decides, the scenario runs again with another seed. The harness is broken if it misses so
//! often in a row that bad luck has a chance of one in a million.

use std::process::Command;

use crate::scenario::{Outcome, Plan, in_lanes};

struct Control {
    /// Name of the promise to break; see `base/failpoint.rs`.
    switch: &'static str,
    scenario: &'static str,
    rounds: u64,
    catch: Catch,
    /// The output must contain one of these texts.
    reasons: &'static [&'static str],
}

/// How surely the scenario catches the fault.
#[derive(Clone, Copy)]
enum Catch {
    /// The fault is caught in every run.
    Certain,
    /// The fault is caught in every run with `--judge-time`, as in the gates.
    CertainByTime,
    /// The fault is caught in most runs. The harness is broken if all `runs` miss it.
    Chance { runs: u64 },
}

use Catch::{Certain, CertainByTime, Chance};

const CONTROLS: &[Control] = &[
    Control {
        switch: "skip_sync",
        scenario: "trace",
        rounds: 3,
        catch: Certain,
        reasons: &["no finished sync covers"],
    },
    Control {
        switch: "skip_dir_sync",
        scenario: "trace",
        rounds: 40,
        catch: Certain,
        reasons: &["whose name was never synced"],
    },
    Control {
        switch: "acknowledge_before_sync",
        scenario: "trace",
        rounds: 3,
        catch: Certain,
        reasons: &["no finished sync covers"],
    },
    // The state may know more than the journal: then the server notices first, or cannot read an
    // event.
    Control {
        switch: "acknowledge_before_write",
        scenario: "kill",
        rounds: 20,
        catch: Certain,
        // The eight groups that are held are a large part of a segment, so a segment is often
        // sealed among them. It then lacks groups, which is the same loss, noticed earlier.
        reasons: &[
            "is lost",
            "but the stored state goes to",
            "but the snapshot",
            "the inbox cannot be read",
            "there is no frame of this position",
        ],
    },
    Control {
        switch: "skip_sync",
        scenario: "power",
        rounds: 4,
        catch: Chance { runs: 4 },
        // A snapshot is synced, and may go further than the journal.
        reasons: &["is lost", "but the snapshot"],
    },
    Control {
        switch: "acknowledge_before_write",
        scenario: "copies",
        rounds: 1,
        catch: Certain,
        // The eight groups that are held are a large part of a segment, so a segment is often
        // sealed among them. It then lacks groups, which is the same loss, noticed earlier.
        reasons: &["is lost", "there is no frame of this position"],
    },
    // The kill may come before or behind the window.
    Control {
        switch: "manifest_first",
        scenario: "backups",
        rounds: 3,
        catch: Chance { runs: 4 },
        reasons: &["verify of a backup that counts as complete"],
    },
    Control {
        switch: "rebuild_off",
        scenario: "rot",
        rounds: 1,
        catch: Certain,
        reasons: &["the rows differ"],
    },
    // The start may notice it first: the rows are of no position, or contradict one another.
    Control {
        switch: "torn_snapshot_believed",
        scenario: "snapshots",
        rounds: 6,
        catch: Certain,
        reasons: &["is lost", "not ready: exit status: 70", "cannot be read"],
    },
    // What a copy needs goes while it is made, often but not always.
    Control {
        switch: "grace_off",
        scenario: "slow_copies",
        rounds: 3,
        catch: Chance { runs: 4 },
        reasons: &["not ready: exit status: 3", "is lost", "verify of a copy"],
    },
    Control {
        switch: "snapshot_unsynced",
        scenario: "trace",
        rounds: 40,
        catch: Certain,
        reasons: &["got its name before a sync covered it"],
    },
    Control {
        switch: "compact_unproved",
        scenario: "retention",
        rounds: 0,
        catch: Certain,
        reasons: &["not ready: exit status: 3"],
    },
    Control {
        switch: "grace_off",
        scenario: "copies",
        rounds: 1,
        catch: Certain,
        reasons: &["the positions before it are missing"],
    },
    Control {
        switch: "expiry_leaves_rows",
        scenario: "retention",
        rounds: 2,
        catch: Certain,
        reasons: &["verify finds"],
    },
    Control {
        switch: "rot_ignored",
        scenario: "rot",
        rounds: 1,
        catch: Certain,
        reasons: &["it goes on with a state that it cannot read"],
    },
    Control {
        switch: "checksum_off",
        scenario: "flip",
        rounds: 0,
        catch: Certain,
        reasons: &["the frames served differ", "flipped: named as offset"],
    },
    Control {
        switch: "tail_repair_off",
        scenario: "torn",
        rounds: 4,
        catch: Certain,
        reasons: &["what was cut came back"],
    },
    Control {
        switch: "reserve_off",
        scenario: "full",
        rounds: 1,
        catch: Certain,
        reasons: &["were left when events were refused", "never refused"],
    },
    // Sometimes sled finds room for everything, sometimes it takes the reserve, and sometimes it
    // ends the server before the kill.
    Control {
        switch: "hold_off",
        scenario: "full",
        rounds: 8,
        catch: Chance { runs: 4 },
        reasons: &[
            "not ready: exit status: 70",
            "reqwest::Error { kind: Request",
            // The server ended in the middle of an answer.
            "reqwest::Error { kind: Decode",
            "bytes were left when events were refused",
        ],
    },
    Control {
        switch: "dedup_off",
        scenario: "clock",
        rounds: 1,
        catch: Certain,
        reasons: &["is stored twice"],
    },
    Control {
        switch: "watchdog_by_time",
        scenario: "stop",
        rounds: 3,
        catch: Certain,
        reasons: &["because it had been suspended"],
    },
    Control {
        switch: "dedup_off",
        scenario: "dedup",
        rounds: 1,
        catch: Certain,
        reasons: &["stored twice"],
    },
    Control {
        switch: "ignore_failed_sync",
        scenario: "sweep",
        rounds: 0,
        catch: Certain,
        reasons: &["acknowledged after a failed operation"],
    },
    Control {
        switch: "write_back_hangs",
        scenario: "hot",
        rounds: 1,
        catch: Certain,
        reasons: &["has made no progress for 10 s"],
    },
    Control {
        switch: "write_back_hangs",
        scenario: "idle",
        rounds: 1,
        catch: Certain,
        reasons: &["server ended: exit status: 70"],
    },
    Control {
        switch: "sweeper_writes",
        scenario: "idle",
        rounds: 1,
        catch: Certain,
        reasons: &["an idle server goes on writing"],
    },
    Control {
        switch: "sweeper_hurries",
        scenario: "idle",
        rounds: 2,
        catch: CertainByTime,
        reasons: &["an idle server woke"],
    },
    Control {
        switch: "share_off",
        scenario: "neighbours",
        rounds: 1_000,
        catch: Certain,
        reasons: &["requests at once to endpoints that hang"],
    },
    Control {
        switch: "scan_hoards",
        scenario: "neighbours",
        rounds: 1_000,
        catch: Certain,
        reasons: &["bytes of memory more than an empty start"],
    },
    Control {
        switch: "connections_unwatched",
        scenario: "crowd",
        rounds: 2,
        catch: Certain,
        reasons: &["did not get in"],
    },
    // Either `verify` misses the forgotten rows, or the committer panics when a command changes
    // them.
    Control {
        switch: "forget_fresh_rows",
        scenario: "hot",
        rounds: 4,
        catch: Chance { runs: 4 },
        reasons: &["verify finds", "thread committer panicked"],
    },
    Control {
        switch: "replay_skips",
        scenario: "replay",
        rounds: 700,
        catch: Certain,
        reasons: &["dead letters were queued, and there were so many"],
    },
];

impl Control {
    fn name(&self) -> String {
        format!("{}-by-{}", self.switch, self.scenario)
    }
}

/// Returns the names of all controls, for `--only`.
pub(crate) fn names() -> Vec<String> {
    CONTROLS.iter().map(Control::name).collect()
}

pub(crate) fn run(plan: &Plan) -> Outcome {
    if !cfg!(debug_assertions) {
        return Outcome::Skipped("failpoints need debug assertions".to_owned());
    }
    let (mut caught, mut skipped) = (Vec::new(), Vec::new());
    let wanted = |control: &&Control| plan.only.as_ref().is_none_or(|only| control.name() == *only);
    for number in 0..plan.rounds {
        let seed = plan.seed.wrapping_add(number);
        let run = |control: &&Control| (control.name(), run_until_caught(control, seed));
        let (judging, certain): (Vec<_>, Vec<_>) = CONTROLS
            .iter()
            .filter(wanted)
            .partition(|control| !matches!(control.catch, Certain) && control.scenario != "idle");
        // Chance and measured times want the machine for themselves. The controls of `idle` only
        // wait.
        let results = [in_lanes(&certain, run), judging.iter().map(run).collect()].concat();
        for (name, result) in results {
            match result {
                Ok(1) => caught.push(name),
                Ok(runs) => caught.push(format!("{name} in {runs} runs")),
                Err(why) => skipped.push(format!("{name}: {why}")),
            }
        }
    }
    if caught.is_empty() || must_run() && !skipped.is_empty() {
        return Outcome::Skipped(skipped.join("; "));
    }
    Outcome::Passed(format!(
        "{} caught: {}; {} skipped {}",
        caught.len(),
        caught.join(", "),
        skipped.len(),
        skipped.join("; ")
    ))
}

fn must_run() -> bool {
    std::env::var("TRIGGERD_LAB_SKIP").is_ok_and(|value| value == "never")
}

/// Runs a scenario that must fail, with other seeds where chance decides. Returns the number of
/// runs.
///
/// # Errors
/// The reason why the scenario was skipped.
fn run_until_caught(control: &Control, seed: u64) -> Result<u64, String> {
    let runs = match control.catch {
        Certain | CertainByTime => 1,
        Chance { runs } => runs,
    };
    for run in 0..runs {
        // The seeds stay away from those of the other rounds.
        if run_one(control, seed.wrapping_add(run << 32), run + 1 == runs)? {
            return Ok(run + 1);
        }
    }
    Err("it was never run".to_owned())
}

/// Runs a scenario once. Returns true if it failed for the right reason.
///
/// # Errors
/// The reason why the scenario was skipped.
fn run_one(control: &Control, seed: u64, must_fail: bool) -> Result<bool, String> {
    let Control { switch, scenario, rounds, catch, reasons } = control;
    let mut lab = Command::new(std::env::current_exe().unwrap());
    lab.args(["--exact", scenario, "--rounds", &rounds.to_string(), "--seed", &seed.to_string()])
        .env("TRIGGERD_FAILPOINTS", switch)
        // Promises can be broken only in a build with debug assertions, such as cargo's own.
        .env_remove("TRIGGERD_TEST_BINARY")
        .env_remove("TRIGGERD_LAB_KEEP")
        .env_remove("TRIGGERD_LAB_SKIP");
    if matches!(catch, CertainByTime) {
        lab.arg("--judge-time");
    }
    let output = lab.output().unwrap();
    let said = String::from_utf8_lossy(&output.stdout).into_owned()
        + &String::from_utf8_lossy(&output.stderr);
    let result = said
        .lines()
        .find(|line| line.starts_with(&format!("lab {scenario}: ")))
        .unwrap_or_default();
    if result.contains(": skipped;") {
        return Err(result.to_owned());
    }
    if !must_fail && output.status.success() && result.contains(": ok;") {
        return Ok(false);
    }
    let failed = output.status.code() == Some(1) && result.contains(": FAILED;");
    assert!(failed, "{switch} was not caught by {scenario} (seed {seed}):\n{said}");
    let is_expected = reasons.iter().any(|reason| said.contains(reason));
    assert!(
        is_expected,
        "{switch} made {scenario} fail, but for another reason than {reasons:?} (seed \
         {seed}):\n{said}"
    );
    Ok(true)
}
