//! Each file operation of the journal fails once under the committer. After a fatal failure,
//! nothing is acknowledged and the process ends with exit code 70; earlier acknowledgements hold.
//!
//! Each fault ends its process, so the lab runs itself with `sweep-child N FAULT DIR`.

use std::collections::BTreeSet;
use std::path::Path;
use std::process::{Command as Program, ExitCode};
use std::sync::Arc;

use triggerd::base::clock::Clock;
use triggerd::base::failpoint;
use triggerd::base::threads::spawn_critical;
use triggerd::commands::{Applied, Command, Records, SubmitOutcome};
use triggerd::commit::{Intake, Refused, Space, recover};
use triggerd::journal::faults::{Fault, FaultyFiles};
use triggerd::journal::{self, Files, OsFiles, Position};
use triggerd::store::Store;

use crate::scenario::{Outcome, Plan};
use crate::system::{create_org, engine, submit};

/// Number of events: enough for several segments.
const EVENTS: usize = 40;
const SEGMENT_BYTES: u64 = 2_048;
const FAULTS: [(&str, Fault); 3] =
    [("io", Fault::Io), ("space", Fault::NoSpace), ("short", Fault::ShortWrite)];

/// The output and the exit code of a child.
struct Ran {
    /// Event ids. True if the fault came before the acknowledgement.
    acknowledged: Vec<(String, bool)>,
    operations: u64,
    code: Option<i32>,
    text: String,
}

pub(crate) fn run(plan: &Plan) -> Outcome {
    let whole = run_child(plan, u64::MAX / 2, "io");
    assert_eq!((whole.acknowledged.len(), whole.code), (EVENTS, Some(0)), "{}", whole.text);
    let step = (whole.operations * 3).checked_div(plan.rounds).unwrap_or(1).max(1);
    let (mut runs, mut fatal, mut survived) = (0, 0, 0);
    // The range is longer by an operation, so that the last run meets no fault.
    for number in
        (plan.seed % step..(whole.operations + 1) * 3).step_by(usize::try_from(step).unwrap())
    {
        let (n, (name, fault)) = (number / 3 + 1, FAULTS[usize::try_from(number % 3).unwrap()]);
        let ran = run_child(plan, n, name);
        judge(&ran, &format!("operation {n} fails with {name}"), fault);
        check_stored(plan, &ran, n, name);
        runs += 1;
        fatal += u64::from(ran.code == Some(70));
        survived += u64::from(ran.code == Some(0));
    }
    let refused = runs - fatal - survived;
    Outcome::Passed(format!(
        "{} operations, 3 faults, {runs} runs: {fatal} ended with 70, {refused} did not open, \
         {survived} went on; 0 lost",
        whole.operations
    ))
}

fn judge(ran: &Ran, what: &str, fault: Fault) {
    let after = ran.acknowledged.iter().filter(|(_, after)| *after).count();
    match ran.code {
        // The process ends with 70 or never reaches the fault. On a full disk the process may
        // refuse some events and go on.
        Some(0 | 70) => assert!(
            after == 0 || matches!(fault, Fault::NoSpace),
            "acknowledged after a failed operation: {what}\n{}",
            ran.text
        ),
        Some(3) => assert_eq!(ran.acknowledged.len(), 0, "{what}"),
        code => panic!("{what}: exit code {code:?}\n{}", ran.text),
    }
}

/// Runs a child, and parses its output.
fn run_child(plan: &Plan, n: u64, fault: &str) -> Ran {
    let dir = plan.dir.join(format!("{n}-{fault}"));
    std::fs::create_dir(&dir).unwrap();
    let output = Program::new(std::env::current_exe().unwrap())
        .args(["sweep-child", &n.to_string(), fault, dir.to_str().unwrap()])
        .output()
        .unwrap();
    let text = String::from_utf8(output.stdout).unwrap() + &String::from_utf8_lossy(&output.stderr);
    let mut ran = Ran { acknowledged: Vec::new(), operations: 0, code: output.status.code(), text };
    for line in ran.text.lines() {
        match line.split(' ').collect::<Vec<_>>()[..] {
            ["stored", id, after] => ran.acknowledged.push((id.to_owned(), after == "after")),
            ["operations", count] => ran.operations = count.parse().unwrap(),
            _ => {}
        }
    }
    ran
}

/// Checks that each acknowledged event is in the journal of the child.
fn check_stored(plan: &Plan, ran: &Ran, n: u64, fault: &str) {
    let dir = plan.dir.join(format!("{n}-{fault}"));
    let stored = events(&dir.join("journal"));
    for (id, _) in &ran.acknowledged {
        assert!(
            stored.contains(id),
            "acknowledged event {id} is lost: operation {n} fails with {fault}"
        );
    }
    std::fs::remove_dir_all(&dir).unwrap();
}

fn events(dir: &Path) -> BTreeSet<String> {
    let (_writer, reader, _) = journal::open(dir, Arc::new(OsFiles), SEGMENT_BYTES).unwrap();
    let records = Records::new(reader).follow(Position::FIRST).unwrap();
    let ids = records.filter_map(|record| match record.unwrap().command {
        Command::SubmitEvent(submit) => Some(submit.id.to_string()),
        _ => None,
    });
    ids.collect()
}

/// `sweep-child N FAULT DIR`: runs a committer whose N-th operation on the journal's files fails.
pub(crate) fn child(arguments: &[String]) -> ExitCode {
    let [n, fault, dir] = arguments else { return ExitCode::from(2) };
    failpoint::arm(&std::env::var("TRIGGERD_FAILPOINTS").unwrap_or_default()).unwrap();
    let (_, fault) = FAULTS.into_iter().find(|(name, _)| name == fault).unwrap();
    let files = Arc::new(FaultyFiles::new());
    files.fail_at(n.parse().unwrap(), fault);
    let (dir, shared) = (Path::new(dir), Arc::<FaultyFiles>::clone(&files));
    let Ok((writer, reader, _)) =
        journal::open(&dir.join("journal"), shared as Arc<dyn Files>, SEGMENT_BYTES)
    else {
        return ExitCode::from(3);
    };
    let store = Arc::new(Store::open(&dir.join("sled"), 8 << 20, Position::MAX).unwrap());
    let records = Records::new(reader);
    recover(&store, &records, &Space::default()).unwrap();
    let (engine, committer) = engine(&store, Clock::system(), (writer, records));
    let thread = spawn_critical("committer", || committer.run()).unwrap();
    submit_all(&engine.intake, &files);
    engine.intake.close();
    println!("operations {}", files.operations());
    let ended = thread.join_until(std::time::Instant::now() + crate::harness::PATIENCE);
    if ended { ExitCode::SUCCESS } else { ExitCode::FAILURE }
}

/// Submits the commands in turn, and prints each acknowledgement.
fn submit_all(intake: &Intake, files: &FaultyFiles) {
    let mut commands = vec![create_org()];
    commands.extend((0..EVENTS).map(event));
    for command in commands {
        let outcomes = loop {
            // The simulated disk has room again at once.
            intake.set_shortage(None, None);
            match intake.submit_all(vec![command.clone()]).and_then(triggerd::commit::Reply::wait) {
                Err(Refused::DiskFull(_)) => {}
                other => break other,
            }
        };
        match outcomes.as_deref() {
            Ok([Ok(Applied::SubmitEvent(SubmitOutcome::Accepted { id, .. }))]) => {
                println!("stored {id} {}", if files.is_armed() { "before" } else { "after" });
            }
            Ok(_) => {}
            // The committer is ending the process.
            Err(_) => std::thread::park_timeout(crate::harness::PATIENCE),
        }
    }
}

fn event(number: usize) -> Command {
    submit(0, None, format!("\"{}\"", "x".repeat(number * 8)).into_bytes())
}
