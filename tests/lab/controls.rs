//! The negative controls: each scenario runs once more with the one thing broken that it is there to catch, and must fail
//! for that reason. A proof that cannot fail proves nothing.

use std::process::Command;

use crate::scenario::{Plan, Told};

struct Control {
    /// What is broken; see `base/sabotage.rs`.
    switch: &'static str,
    scenario: &'static str,
    rounds: u64,
    /// One of these must be said.
    reasons: &'static [&'static str],
}

const CONTROLS: &[Control] = &[
    Control { switch: "skip_sync", scenario: "trace", rounds: 3, reasons: &["no finished sync covers"] },
    Control { switch: "skip_dir_sync", scenario: "trace", rounds: 40, reasons: &["whose name was never synced"] },
    Control { switch: "acknowledge_before_sync", scenario: "trace", rounds: 3, reasons: &["no finished sync covers"] },
    // Only the last group is missing, and often nobody heard of that one: several kills. The state may know more than the
    // journal: then it is the server that misses it, or cannot read it.
    Control {
        switch: "acknowledge_before_write",
        scenario: "kill",
        rounds: 20,
        reasons: &["is lost", "but what is stored goes to position", "the inbox cannot be read"],
    },
    Control { switch: "skip_sync", scenario: "power", rounds: 4, reasons: &["is lost"] },
    Control { switch: "acknowledge_before_write", scenario: "copies", rounds: 1, reasons: &["is lost"] },
    Control { switch: "rebuild_off", scenario: "rot", rounds: 1, reasons: &["the rows differ"] },
    Control {
        switch: "rot_ignored",
        scenario: "rot",
        rounds: 1,
        reasons: &["it goes on with a state that it cannot read"],
    },
    Control {
        switch: "checksum_off",
        scenario: "flip",
        rounds: 0,
        reasons: &["the frames served differ", "flipped: named as offset"],
    },
    Control { switch: "tail_repair_off", scenario: "torn", rounds: 4, reasons: &["what was cut came back"] },
    Control {
        switch: "reserve_off",
        scenario: "full",
        rounds: 1,
        reasons: &["were left when events were refused", "never refused"],
    },
    // Now and then sled finds room for all of it; and at times it ends the server before that is killed.
    Control {
        switch: "hold_off",
        scenario: "full",
        rounds: 8,
        reasons: &["not ready: exit status: 70", "reqwest::Error { kind: Request"],
    },
    Control { switch: "dedup_off", scenario: "clock", rounds: 1, reasons: &["is stored twice"] },
    Control { switch: "watchdog_by_time", scenario: "stop", rounds: 3, reasons: &["because it had been suspended"] },
    Control { switch: "dedup_off", scenario: "dedup", rounds: 1, reasons: &["stored twice"] },
    Control {
        switch: "ignore_failed_sync",
        scenario: "sweep",
        rounds: 0,
        reasons: &["acknowledged after a failed operation"],
    },
    Control { switch: "write_back_hangs", scenario: "hot", rounds: 1, reasons: &["has made no progress for 10 s"] },
    Control { switch: "write_back_hangs", scenario: "idle", rounds: 1, reasons: &["server ended: exit status: 70"] },
    Control { switch: "sweeper_writes", scenario: "idle", rounds: 1, reasons: &["an idle server goes on writing"] },
    Control { switch: "sweeper_hurries", scenario: "idle", rounds: 2, reasons: &["an idle server woke"] },
    // Verify misses the rows that were forgotten; or whoever was about to change them does.
    Control {
        switch: "forget_fresh_rows",
        scenario: "hot",
        rounds: 4,
        reasons: &["verify finds", "thread committer panicked"],
    },
    Control {
        switch: "replay_skips",
        scenario: "replay",
        rounds: 700,
        reasons: &["dead letters were queued, and there were so many"],
    },
];

pub(crate) fn run(plan: &Plan) -> Told {
    if !cfg!(debug_assertions) {
        return Told::Skipped("nothing can be sabotaged without debug assertions".to_owned());
    }
    let (mut caught, mut skipped) = (Vec::new(), Vec::new());
    for number in 0..plan.rounds {
        let seed = plan.seed.wrapping_add(number);
        let (waiting, working): (Vec<_>, Vec<_>) = CONTROLS.iter().partition(|control| control.scenario == "idle");
        let results = std::thread::scope(|scope| {
            // Beside the others, because these do nothing but wait.
            let waiting = scope.spawn(|| run_each(&waiting, seed));
            let worked = run_each(&working, seed);
            [worked, waiting.join().unwrap()].concat()
        });
        for (name, result) in results {
            match result {
                Ok(()) => caught.push(name),
                Err(why) => skipped.push(format!("{name}: {why}")),
            }
        }
    }
    if caught.is_empty() || must_run() && !skipped.is_empty() {
        return Told::Skipped(skipped.join("; "));
    }
    Told::Passed(format!(
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

fn run_each(controls: &[&Control], seed: u64) -> Vec<(String, Result<(), String>)> {
    let run = |control: &&Control| (format!("{} by {}", control.switch, control.scenario), run_one(control, seed));
    controls.iter().map(run).collect()
}

/// Runs a scenario that must fail; or says why it was skipped.
fn run_one(control: &Control, seed: u64) -> Result<(), String> {
    let Control { switch, scenario, rounds, reasons } = control;
    let output = Command::new(std::env::current_exe().unwrap())
        .args(["--exact", scenario, "--rounds", &rounds.to_string(), "--seed", &seed.to_string()])
        .env("TRIGGERD_SABOTAGE", switch)
        // Only a build with debug assertions can be sabotaged, such as cargo's own.
        .env_remove("TRIGGERD_TEST_BINARY")
        .env_remove("TRIGGERD_LAB_KEEP")
        .env_remove("TRIGGERD_LAB_SKIP")
        .output()
        .unwrap();
    let said = String::from_utf8_lossy(&output.stdout).into_owned() + &String::from_utf8_lossy(&output.stderr);
    let result = said.lines().find(|line| line.starts_with(&format!("lab {scenario}: "))).unwrap_or_default();
    if result.contains(": skipped;") {
        return Err(result.to_owned());
    }
    let failed = output.status.code() == Some(1) && result.contains(": FAILED;");
    assert!(failed, "{switch} was not caught by {scenario} (seed {seed}):\n{said}");
    let told = reasons.iter().any(|reason| said.contains(reason));
    assert!(told, "{switch} made {scenario} fail, but for another reason than {reasons:?} (seed {seed}):\n{said}");
    Ok(())
}
