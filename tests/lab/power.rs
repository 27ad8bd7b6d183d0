//! Power cuts on a real ext4: unsynced data is gone, and acknowledged events are there.

use std::path::Path;
use std::sync::Arc;
use std::sync::atomic::Ordering;
use std::time::Duration;

use crate::checker::{check_accounts, check_pulls, check_pushes, check_received};
use crate::client::Load;
use crate::disk::Disk;
use crate::harness::{Client, Process};
use crate::ledger::Ledger;
use crate::random::Random;
use crate::receiver::Receiver;
use crate::scenario::{Outcome, Plan, keep};
use crate::server::{confirm_all_but, wait_for_acknowledgements};

/// Payload sizes in bytes, each with the most acknowledgements before a cut.
const SIZES: [(usize, u64); 4] = [(256, 300), (8 << 10, 200), (64 << 10, 80), (255 << 10, 30)];
/// Cuts on the same filesystem and data directory, before new ones are made.
const ERA: u64 = 10;
const DISK_MEBIBYTES: u64 = 384;

pub(crate) fn run(plan: &Plan) -> Outcome {
    let mut random = Random::new(plan.seed);
    let mut acknowledged = Vec::new();
    for (place, size) in (0_u64..).zip(SIZES) {
        let cuts = (plan.rounds + 3 - place) / 4;
        let mut sum = 0;
        let mut first = 0;
        while first < cuts {
            let rounds = first..cuts.min(first + ERA);
            first = rounds.end;
            let dir = plan.dir.join(format!("{}-until-{first}", size.0));
            std::fs::create_dir(&dir).unwrap();
            let disk = match Disk::make(&dir, "disk", DISK_MEBIBYTES) {
                Ok(disk) => disk,
                Err(why) => return Outcome::Skipped(format!("no filesystem of its own: {why}")),
            };
            sum += cut(disk, &dir, size, rounds, &mut random);
            // The image is sparse, but written blocks take space.
            std::fs::remove_dir_all(&dir).unwrap();
        }
        acknowledged.push(format!("{sum} at {} B", size.0));
    }
    Outcome::Passed(format!(
        "acknowledgements: {}; 0 lost, 0 stored twice",
        acknowledged.join(", ")
    ))
}

fn cut(
    mut disk: Disk,
    dir: &Path,
    (bytes, most): (usize, u64),
    rounds: std::ops::Range<u64>,
    random: &mut Random,
) -> u64 {
    let data = disk.mount.join("data");
    let ledger = Ledger::new(&dir.join("ledger"));
    let receiver = Receiver::start_with(Arc::clone(ledger.dark()));
    let (mut server, _) = Process::boot(&data);
    let orgs = server.orgs(&ledger, &receiver);
    for round in rounds {
        let url = server.url.clone();
        let load = Load {
            bytes: Some(bytes),
            ..Load::repeating(&url, &orgs, &ledger, (round, &mut *random))
        };
        load.during(|| {
            wait_for_acknowledgements(&ledger, 1 + random.below(most));
            disk.cut_power(|| ledger.dark().store(true, Ordering::SeqCst));
            // The server notices by its next sync; in reality a power cut ends the machine anyway.
            std::thread::park_timeout(Duration::from_millis(100));
            if let Some(status) = server.ended() {
                assert_eq!(status.code(), Some(70), "a failed sync ends the server");
            }
            server.kill();
        });
        disk.remount();
        ledger.dark().store(false, Ordering::SeqCst);
        be_another_boot(&data);
        server = Process::boot(&data).0;
        check(&server, &orgs, &ledger, &receiver);
    }
    assert_eq!(server.stop().0, Some(0));
    keep("power", &data);
    ledger.acknowledgements()
}

/// Checks that nothing acknowledged is lost, and empties the inbox.
fn check(server: &Process, orgs: &[(&str, String); 2], ledger: &Ledger, receiver: &Receiver) {
    let history = ledger.read();
    let [pulls, pushes] = [0, 1].map(|place| Client::new(&server.url, &orgs[place].1));
    check_accounts(&server.url, &orgs[1].1, &history);
    check_pulls(&pulls, &history);
    check_pushes(&pushes, &history, receiver);
    check_received(&history, receiver);
    confirm_all_but(0, &pulls, ledger);
}

/// Changes the boot id in the state's mark: after a real power cut the boot id is new, and this
/// machine lost no power.
fn be_another_boot(data: &Path) {
    let Ok(generations) = std::fs::read_dir(data.join("sled")) else { return };
    for mark in generations
        .map(|generation| generation.unwrap().path().join("RUNNING"))
        .filter(|mark| mark.exists())
    {
        let text = std::fs::read_to_string(&mark).unwrap();
        let mut words: Vec<_> = text.split_whitespace().collect();
        if let Some(boot) = words.get_mut(1) {
            *boot = "another-boot";
        }
        std::fs::write(&mark, words.join(" ") + "\n").unwrap();
    }
}
