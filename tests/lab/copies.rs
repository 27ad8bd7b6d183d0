//! `cp -a` of the live directory, first in a quiet moment and then under load. Each copy starts,
//! and has all events, keys and endpoints acknowledged before the copying began. A slow copy finds
//! all that compaction would have removed meanwhile without the grace.

use std::path::Path;
use std::process::Command;
use std::time::{Duration, Instant};

use triggerd::base::failpoint::{self, Switch};

use crate::checker::{check_accounts, check_pulls, check_pushes};
use crate::client::Load;
use crate::harness::{Client, PATIENCE, Process, copy_running};
use crate::ledger::{History, Ledger};
use crate::receiver::Receiver;
use crate::scenario::{Outcome, Plan, keep};
use crate::server::{
    compacting, confirm_all_but, loses_first_segment, store_and_confirm, wait_for_acknowledgements,
};

/// The grace of the lab's configuration.
const GRACE: Duration = Duration::from_secs(5);
/// The grace of the server that is copied slowly.
const SLOW_GRACE: Duration = Duration::from_secs(30);
/// Time for which the slow copy waits before it reads the journal.
const SLOW: Duration = Duration::from_secs(12);

pub(crate) fn run(plan: &Plan) -> Outcome {
    let data = plan.dir.join("data");
    let (ledger, receiver) = (Ledger::new(&plan.dir.join("ledger")), Receiver::start());
    let (server, _) = Process::boot(&data);
    let orgs = server.orgs(&ledger, &receiver);
    let mut asked = 0;
    for number in 0..plan.rounds.max(1) {
        let copy = plan.dir.join(format!("copy-{number}"));
        let load = Load {
            seed: plan.seed.wrapping_add(number),
            ..Load::new(&server.url, &orgs, &ledger, number)
        };
        let copy_now = || copied(&data, &copy, GRACE, &ledger);
        let under_load = load.during(|| {
            wait_for_acknowledgements(&ledger, 100);
            ledger.key(&server.org("another").key);
            (number > 0).then(copy_now)
        });
        let before = under_load.unwrap_or_else(|| {
            // The first copy is made in a quiet moment: no later group pushes the last acknowledged
            // group to the disk.
            Client::new(&server.url, &orgs[1].1).inbox_until(<[_]>::is_empty);
            ledger.key(&server.org("quiet").key);
            copy_now()
        });
        asked += before.stored.len();
        check_copy(&copy, before, &ledger, &orgs, &receiver);
        confirm_all_but(100, &Client::new(&server.url, &orgs[0].1), &ledger);
    }
    assert_eq!(server.stop().0, Some(0));
    copy_slowly(&plan.dir);
    keep("copies", &data);
    Outcome::Passed(format!(
        "{asked} acknowledged events asked of copies, 0 missing; {} acknowledgements",
        ledger.acknowledgements()
    ))
}

/// Copies the directory. Returns what was acknowledged before. A copy that took longer than the
/// grace is made again, and so is a copy from which `cp` left out a file that the server replaced
/// at that moment. A copy lacks no other file, except for files that had been given up before it
/// began and were removed just then.
pub(crate) fn copied(data: &Path, copy: &Path, grace: Duration, ledger: &Ledger) -> History {
    for _ in 0..20 {
        let (began, before) = (Instant::now(), ledger.read());
        let (lacks, took) = (copy_running(data, copy), began.elapsed());
        if took < grace {
            let (replaced, lacks): (Vec<_>, Vec<_>) =
                lacks.into_iter().partition(|line| line.contains("as it was replaced while"));
            let needed: Vec<_> = lacks.iter().filter(|line| !is_given_up(copy, line)).collect();
            assert!(needed.is_empty(), "a copy that took {took:?} lacks {needed:?}");
            if replaced.is_empty() {
                return before;
            }
        }
        std::fs::remove_dir_all(copy).unwrap();
    }
    panic!("no copy was made within {grace:?}");
}

/// Returns true if `cp` found a file gone that the copy does not need: a segment before the
/// position at which the journal begins according to the copy's own `FORMAT`, or a snapshot older
/// than one that the copy has.
fn is_given_up(copy: &Path, line: &str) -> bool {
    let gone = line.strip_suffix("': No such file or directory");
    let Some((_, name)) = gone.and_then(|path| path.rsplit_once('/')) else { return false };
    let number = |name: &str, kind| name.strip_suffix(kind)?.parse::<u64>().ok();
    if let Some(segment) = number(name, ".seg") {
        let format = std::fs::read_to_string(copy.join("FORMAT")).unwrap();
        let begins = format.split("journal_from=").nth(1).and_then(|rest| rest.split(' ').next());
        return segment < begins.unwrap().trim().parse().unwrap();
    }
    let kept = std::fs::read_dir(copy.join("journal")).unwrap();
    let newest = kept.filter_map(|file| number(file.unwrap().file_name().to_str()?, ".snap")).max();
    number(name, ".snap").is_some_and(|gone| newest.is_some_and(|newest| gone < newest))
}

/// Makes a copy that has the journal's beginning in its state, and reads the journal when the
/// original could do without its beginning. The copy starts.
fn copy_slowly(dir: &Path) {
    let (data, copy) = (dir.join("slow"), dir.join("slow-copy"));
    let server = Process::start_on(&data, &compacting(&data, SLOW_GRACE.as_secs()));
    let org = server.org("slow");
    let mut listed = Vec::new();
    let last = store_and_confirm(&org, || listed = copy_all_but_journal(&data, &copy));
    // The negative control waits as long as it takes, so that chance does not decide.
    let at_most = if failpoint::is_on(Switch::GraceOff) { PATIENCE } else { SLOW };
    loses_first_segment(&data, at_most);
    for name in listed {
        let (from, to) = (data.join("journal").join(&name), copy.join("journal").join(&name));
        if from.exists() {
            std::fs::copy(from, to).unwrap();
        }
    }
    assert_eq!(server.stop().0, Some(0));
    let server = Process::start_on(&copy, &compacting(&copy, SLOW_GRACE.as_secs()));
    let inbox = Client::new(&server.url, &org.key).inbox_ids();
    assert!(inbox.contains(&last), "the slow copy lacks {last}");
    assert_eq!(server.stop().0, Some(0));
}

/// Returns the names of the journal's files.
fn copy_all_but_journal(data: &Path, copy: &Path) -> Vec<std::ffi::OsString> {
    let names = |dir: &Path| {
        let entries = std::fs::read_dir(dir).unwrap();
        entries.map(|entry| entry.unwrap().file_name()).collect::<Vec<_>>()
    };
    std::fs::create_dir_all(copy.join("journal")).unwrap();
    let listed = names(&data.join("journal"));
    for name in names(data).iter().filter(|name| *name != "journal") {
        let status = Command::new("cp").arg("-a").arg(data.join(name)).arg(copy).status().unwrap();
        assert!(status.success(), "{status}");
    }
    listed
}

/// Starts a copy, and checks that it has what was acknowledged before.
pub(crate) fn check_copy(
    copy: &Path,
    before: History,
    ledger: &Ledger,
    orgs: &[(&'static str, String)],
    receiver: &Receiver,
) {
    let (server, _) = Process::boot(copy);
    // The copy may have events from the time of the copying.
    let after = ledger.read();
    let history = History { sent: after.sent, confirming: after.confirming, ..before };
    let [pulls, pushes] = [0, 1].map(|place| Client::new(&server.url, &orgs[place].1));
    check_accounts(&server.url, &orgs[1].1, &history);
    check_pulls(&pulls, &history);
    check_pushes(&pushes, &history, receiver);
    assert_eq!(
        pulls.send_once("on-the-copy", &serde_json::json!(1)).status,
        202,
        "a copy takes events"
    );
    assert_eq!(server.stop().0, Some(0));
    std::fs::remove_dir_all(copy).unwrap();
}
