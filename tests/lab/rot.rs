//! The state rots or vanishes: the server starts all the same, and every row is as before.

use std::path::{Path, PathBuf};

use serde_json::json;

use crate::harness::Process;
use crate::ledger::Ledger;
use crate::random::Random;
use crate::receiver::Receiver;
use crate::scenario::{Plan, Told, keep};
use crate::server::config;

/// Starts that a supervisor makes: the first may end with 70 when it meets the damage.
const STARTS: usize = 3;

pub(crate) fn run(plan: &Plan) -> Told {
    let data = plan.dir.join("data");
    fill(&data, &plan.dir);
    let before = dump(&data);
    for table in ["meta", "orgs", "inboxes", "keys", "endpoints", "events", "open", "dedup", "delivered"] {
        assert!(before.lines().any(|row| row.starts_with(&format!("{table} "))), "no row of {table}:\n{before}");
    }
    let mut random = Random::new(plan.seed);
    let mut restarts = 0;
    for round in 0..plan.rounds {
        let what = damage(&data.join("sled"), round, &mut random);
        restarts += start_and_stop(&data, &what);
        let after = dump(&data);
        assert!(before == after, "the rows differ after {what}:\n{}", first_difference(&before, &after));
    }
    keep("rot", &data);
    Told::Passed(format!("{} rows, the same each time; {restarts} starts ended by the damage", before.lines().count()))
}

/// A stopped server with some of everything in it, and nothing that is still due.
fn fill(data: &Path, dir: &Path) {
    let (ledger, receiver) = (Ledger::new(&dir.join("ledger")), Receiver::start());
    let (server, _) = Process::boot(data);
    let orgs = server.orgs(&ledger, &receiver);
    let [pulls, pushes] = [0, 1].map(|place| server.admin().with_key(&orgs[place].1));
    let ids: Vec<_> = (0..150).map(|n| pulls.send_once(&format!("d-{n}"), &json!(n)).id()).collect();
    (0..70).for_each(|n| drop(pushes.send_once(&format!("d-{n}"), &json!("x".repeat(n * 50)))));
    ids.iter().take(70).for_each(|id| assert_eq!(pulls.ack(id).status, 200));
    pulls.post("/api/keys/rotate", &json!({"grace_seconds": 1}));
    pushes.inbox_until(<[_]>::is_empty);
    assert_eq!(server.stop().0, Some(0));
}

fn start_and_stop(data: &Path, what: &str) -> usize {
    for failed in 0..STARTS {
        match Process::spawn(data, &config(data), &[]).ready() {
            Ok(server) => {
                let (code, _) = server.stop();
                if code == Some(0) {
                    return failed;
                }
                assert_eq!(code, Some(70), "after {what}");
            }
            Err((status, log)) => assert_eq!(status.code(), Some(70), "after {what}: {log}"),
        }
    }
    panic!("it does not start after {what}");
}

/// Damages the state of a stopped server; says how.
fn damage(sled: &Path, round: u64, random: &mut Random) -> String {
    let files = files_below(sled);
    let largest = files.iter().max_by_key(|file| file.metadata().unwrap().len()).unwrap();
    let mark = files.iter().find(|file| file.ends_with("CLEAN")).unwrap();
    match round % 7 {
        0 => {
            std::fs::remove_dir_all(sled).unwrap();
            "deleting it".to_owned()
        }
        1 => truncate(largest, 0),
        2 => truncate(largest, largest.metadata().unwrap().len() / 2),
        3 => {
            std::fs::write(mark, "no mark at all").unwrap();
            "overwriting its mark".to_owned()
        }
        4 => {
            std::fs::remove_file(largest).unwrap();
            format!("removing {}", largest.display())
        }
        5 => {
            let any = &files[random.index(files.len())];
            truncate(any, random.below(any.metadata().unwrap().len().max(1)))
        }
        _ => flip_bits(largest, random),
    }
}

fn truncate(file: &Path, len: u64) -> String {
    std::fs::File::options().write(true).open(file).unwrap().set_len(len).unwrap();
    format!("truncating {} to {len} bytes", file.display())
}

/// Several bits of what is not zero.
fn flip_bits(file: &Path, random: &mut Random) -> String {
    let mut bytes = std::fs::read(file).unwrap();
    let written: Vec<_> = (0..bytes.len()).filter(|&at| bytes[at] != 0).collect();
    let places: Vec<_> = (0..16).map(|_| written[random.index(written.len())]).collect();
    for &at in &places {
        bytes[at] ^= 1 << random.below(8);
    }
    std::fs::write(file, bytes).unwrap();
    format!("flipping bits of {} at {places:?}", file.display())
}

fn files_below(dir: &Path) -> Vec<PathBuf> {
    let mut found = Vec::new();
    for entry in std::fs::read_dir(dir).unwrap() {
        let path = entry.unwrap().path();
        if path.is_dir() { found.extend(files_below(&path)) } else { found.push(path) }
    }
    found.sort();
    found
}

fn first_difference(before: &str, after: &str) -> String {
    let mut pairs = before.lines().zip(after.lines()).filter(|(before, after)| before != after);
    let lines = (before.lines().count(), after.lines().count());
    let shown = pairs.next().map(|(before, after)| format!("{before}\n{after}"));
    format!("{} and {} rows; {}", lines.0, lines.1, shown.unwrap_or_default())
}

/// All rows of a stopped server's state, through the library.
fn dump(data_dir: &Path) -> String {
    let sled = data_dir.join("sled");
    let newest = std::fs::read_dir(&sled).unwrap().map(|entry| entry.unwrap().file_name().into_string().unwrap());
    assert_eq!(newest.count(), 1, "one generation is left");
    let store = triggerd::store::Store::open(&sled, 8 << 20, u64::MAX).unwrap();
    assert_eq!(store.rebuild_reason(), None, "the state is usable as it is");
    let dump = store.dump().unwrap();
    store.close().unwrap();
    dump
}
