//! The state rots or vanishes: the server starts all the same, with the same rows. After damage
//! under a running server, no answer is wrong: a request fails, the server ends, and the next start
//! has all events.

use std::path::{Path, PathBuf};
use std::time::{Duration, Instant};

use reqwest::Method;
use serde_json::json;

use crate::harness::{Client, Process, patience};
use crate::ledger::Ledger;
use crate::random::Random;
use crate::receiver::Receiver;
use crate::scenario::{Outcome, Plan, keep};
use crate::server::config;

/// Number of starts by a supervisor: the first may end with exit code 70 because of the damage.
const STARTS: usize = 3;
/// Longest time for which a server in a negative control may go on with an unreadable state.
const GOES_ON: Duration = Duration::from_secs(15);

pub(crate) fn run(plan: &Plan) -> Outcome {
    let data = plan.dir.join("data");
    fill(&data, &plan.dir);
    let before = dump(&data);
    for table in
        ["meta", "orgs", "inboxes", "keys", "endpoints", "events", "open", "dedup", "delivered"]
    {
        assert!(
            before.lines().any(|row| row.starts_with(&format!("{table} "))),
            "no row of {table}:\n{before}"
        );
    }
    let mut random = Random::new(plan.seed);
    let mut restarts = 0;
    for round in 0..plan.rounds {
        let what = damage(&data.join("sled"), round, &mut random);
        restarts += start_and_stop(&data, &what);
        let after = dump(&data);
        assert!(
            before == after,
            "the rows differ after {what}:\n{}",
            first_difference(&before, &after)
        );
    }
    keep("rot", &data);
    let live = rot_live(plan, &mut random);
    Outcome::Passed(format!(
        "{} rows, the same each time; {restarts} starts ended by the damage; {live} times met \
         while running",
        before.lines().count()
    ))
}

/// Damages the state under a running server. Returns how often a server met the damage.
fn rot_live(plan: &Plan, random: &mut Random) -> u64 {
    let data = plan.dir.join("live");
    let (server, _) = Process::boot(&data);
    let key = server.org("Live").key;
    let org = Client::new(&server.url, &key);
    for batch in 0..20 {
        // Distinct types make the rows long. The state has many pages, and a start reads few of
        // them.
        let item = |n: usize| {
            json!({"type": format!("{}.b{batch}.n{n}", "long".repeat(25)),
        "payload": n})
        };
        let sent = org
            .post("/api/events/batch", &json!({"events": (0..100).map(item).collect::<Vec<_>>()}));
        assert!(sent.status < 300, "{sent:?}");
    }
    let ids = org.inbox_ids();
    assert_eq!((ids.len(), server.stop().0), (2_000, Some(0)));
    let mut met = 0;
    for round in 0..plan.rounds {
        let (mut server, _) = Process::boot(&data);
        let what =
            format!("{} under the running server", damage_live(&data.join("sled"), round, random));
        let mut starts = 1;
        while let Err(status) = read_pages(&Client::new(&server.url, &key), &ids) {
            assert!(status.is_none_or(|status| status == 500), "{status:?} after {what}");
            assert_eq!(end_of(&mut server), Some(70), "after {what}");
            (met, starts) = (met + 1, starts + 1);
            assert!(starts <= STARTS, "it does not get whole after {what}");
            server = Process::boot(&data).0;
        }
        server.kill();
        restart_whole(&data, &key, &ids, &what);
    }
    assert!(met > 0, "no damage was met while the server ran");
    met
}

fn end_of(server: &mut Process) -> Option<i32> {
    let began = Instant::now();
    loop {
        assert!(began.elapsed() < patience(GOES_ON), "it goes on with a state that it cannot read");
        if let Some(status) = server.ended() {
            return status.code();
        }
        std::thread::park_timeout(Duration::from_millis(20));
    }
}

/// Starts until a server has all events and stops in order.
fn restart_whole(data: &Path, key: &str, ids: &[String], what: &str) {
    for _ in 0..STARTS {
        let mut server = match Process::spawn(data, &config(data), &[]).ready() {
            Ok(server) => server,
            Err((status, log)) => {
                assert_eq!(status.code(), Some(70), "after {what}: {log}");
                continue;
            }
        };
        match read_pages(&Client::new(&server.url, key), ids) {
            Err(None | Some(500)) => assert_eq!(end_of(&mut server), Some(70), "after {what}"),
            Err(Some(status)) => panic!("{status} after {what}"),
            Ok(()) if server.stop().0 == Some(0) => return,
            Ok(()) => {}
        }
    }
    panic!("it does not get whole after {what}");
}

/// Reads the inbox page by page. All shown events must be right. Returns the status of a failed
/// page, or nothing if there was no answer: the server also ends when it meets the damage while it
/// writes rows back, before any page needs them.
fn read_pages(org: &Client, ids: &[String]) -> Result<(), Option<u16>> {
    let (mut path, mut seen) = ("/api/inbox?limit=100".to_owned(), Vec::new());
    loop {
        let page = org.try_request(Method::GET, &path, &[], "").map_err(|_ended| None)?;
        if page.status != 200 {
            return Err(Some(page.status));
        }
        let events = page.json["data"].as_array().unwrap();
        seen.extend(events.iter().map(|event| event["id"].as_str().unwrap().to_owned()));
        assert!(ids.starts_with(&seen), "a damaged inbox was shown as if it were whole");
        match page.json["next_cursor"].as_str().filter(|_| page.json["has_more"] == true) {
            Some(cursor) => path = format!("/api/inbox?limit=100&cursor={cursor}"),
            None => break,
        }
    }
    assert!(ids == seen, "a damaged inbox was shown as if it were whole");
    Ok(())
}

/// Changes sled's file in place while a server has it open. Returns a description.
fn damage_live(sled: &Path, round: u64, random: &mut Random) -> String {
    let files = files_below(sled);
    let file = files.iter().find(|file| file.ends_with("db")).unwrap();
    let len = usize::try_from(file.metadata().unwrap().len()).unwrap();
    let overwrite = |byte| {
        use std::os::unix::fs::FileExt;
        let file = std::fs::File::options().write(true).open(file).unwrap();
        file.write_all_at(&vec![byte; len], 0).unwrap();
        format!("overwriting the state with {byte:#x}")
    };
    match round % 4 {
        0 => overwrite(0xa5),
        1 => overwrite(0),
        2 => truncate(file, random.below(len as u64)),
        _ => flip_bits(file, random),
    }
}

/// Fills all tables, leaves no delivery due, and stops the server.
fn fill(data: &Path, dir: &Path) {
    let (ledger, receiver) = (Ledger::new(&dir.join("ledger")), Receiver::start());
    let (server, _) = Process::boot(data);
    let orgs = server.orgs(&ledger, &receiver);
    let [pulls, pushes] = [0, 1].map(|place| server.admin().with_key(&orgs[place].1));
    let ids: Vec<_> =
        (0..150).map(|n| pulls.send_once(&format!("d-{n}"), &json!(n)).id()).collect();
    (0..70).for_each(|n| drop(pushes.send_once(&format!("d-{n}"), &json!("x".repeat(n * 50)))));
    ids.iter().take(70).for_each(|id| assert_eq!(pulls.ack(id).status, 200));
    // The grace period is so long that no server records its end, which would add rows.
    assert_eq!(pulls.post("/api/keys/rotate", &json!({"grace_seconds": 86_400})).status, 201);
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

/// Damages the state of a stopped server. Returns a description.
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

/// Flips 16 bits of bytes that are not zero.
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

/// Returns all rows of a stopped server's state, read through the library.
fn dump(data_dir: &Path) -> String {
    let sled = data_dir.join("sled");
    let newest = std::fs::read_dir(&sled)
        .unwrap()
        .map(|entry| entry.unwrap().file_name().into_string().unwrap());
    assert_eq!(newest.count(), 1, "one generation is left");
    let store =
        triggerd::store::Store::open(&sled, 8 << 20, triggerd::journal::Position::MAX).unwrap();
    assert_eq!(store.rebuild_reason(), None, "the state is usable as it is");
    let dump = store.dump().unwrap();
    store.close().unwrap();
    dump
}
