//! Copies of the live directory under load, while events expire, compaction removes what nobody
//! needs, and snapshots come one after another. Each copy is slowed so that it lasts longer than
//! ten snapshots (three in a commit's run), and reads the directory in an order of its own. Each starts, has everything that
//! was acknowledged before it began and has not expired, and `verify` finds nothing.

use std::fs::{self, File};
use std::io::{self, Read as _, Write as _};
use std::path::{Path, PathBuf};
use std::time::{Duration, Instant};

use crate::checker::{check_accounts, check_pulls, check_pushes};
use crate::client::Load;
use crate::harness::{Client, Process, command, until};
use crate::ledger::{History, Ledger};
use crate::random::Random;
use crate::receiver::Receiver;
use crate::scenario::{Outcome, Plan, keep};
use crate::server::{confirm_all_but, wait_for_acknowledgements};

/// A copy may take this long and no longer: that is what the grace promises.
const GRACE: Duration = Duration::from_secs(8);
/// Snapshots that come while a copy is made, and so many in a run of few copies.
const SNAPSHOTS: usize = 11;
const SNAPSHOTS_OF_FEW: usize = 3;
const FEW: u64 = 3;
/// Tries for each copy; on a machine that is far too busy, a copy takes longer than the grace.
const TRIES: u64 = 4;
/// Events left in the inbox from copy to copy.
const LEFT: usize = 50;
const CHUNK_BYTES: usize = 32 << 10;
/// Payloads of the load: so many bytes that a snapshot is due several times a second.
const PAYLOAD_BYTES: usize = 12 << 10;

/// The order in which a copy reads the directory.
#[derive(Clone, Copy, Debug)]
enum Order {
    /// As `cp -a` does: each directory is listed when its turn comes.
    AsListed,
    /// All names are read first, then the files in the order of their names.
    NamesFirst,
    SortedUp,
    SortedDown,
    Random,
    /// All names are read first, and all files are opened only when the copy is almost over.
    OpenedLate,
    /// All files are opened first, and read when their turn comes.
    OpenedEarly,
}

const ORDERS: [Order; 7] = [
    Order::AsListed,
    Order::NamesFirst,
    Order::SortedUp,
    Order::SortedDown,
    Order::Random,
    Order::OpenedLate,
    Order::OpenedEarly,
];

/// The lab's configuration, with short lives and more snapshots.
fn config(data: &Path) -> String {
    let grace = GRACE.as_secs();
    let short = format!("[retention]\nfinished_seconds = 1\ngrace_seconds = {grace}");
    crate::server::config(data)
        .replace("[retention]\ngrace_seconds = 5", &short)
        .replace("snapshot_bytes = 131072", "snapshot_bytes = 65536")
}

pub(crate) fn run(plan: &Plan) -> Outcome {
    let data = plan.dir.join("data");
    let (ledger, receiver) = (Ledger::new(&plan.dir.join("ledger")), Receiver::start());
    let server = Process::start_on(&data, &config(&data));
    let orgs = server.orgs(&ledger, &receiver);
    let pulls = Client::new(&server.url, &orgs[0].1);
    let mut random = Random::new(plan.seed);
    let first = random.index(ORDERS.len());
    let (mut checked, mut copied, mut tries) = (0, 0, 0);
    let wanted = if plan.rounds > FEW { SNAPSHOTS } else { SNAPSHOTS_OF_FEW };
    while checked < plan.rounds && tries < plan.rounds * TRIES {
        let load = Load {
            seed: random.next(),
            bytes: Some(PAYLOAD_BYTES),
            ..Load::new(&server.url, &orgs, &ledger, tries)
        };
        let order = ORDERS[(first + usize::try_from(tries).unwrap()) % ORDERS.len()];
        let copy = plan.dir.join(format!("copy-{tries}"));
        tries += 1;
        let before = load.during(|| {
            wait_for_compaction(&pulls, &ledger);
            let before = ledger.read();
            SlowCopy::new((&data, &copy), order, random.next(), wanted).make().map(|()| before)
        });
        if let Some(before) = before {
            copied += before.stored.len();
            checked += 1;
            check_copy((&copy, order), before, (&ledger, &receiver), &orgs);
        }
        fs::remove_dir_all(&copy).unwrap();
        confirm_all_but(LEFT, &pulls, &ledger);
    }
    assert_eq!(server.stop().0, Some(0));
    keep("slow_copies", &data);
    outcome((checked, plan.rounds), copied, tries - checked)
}

fn outcome((checked, wanted): (u64, u64), copied: usize, too_long: u64) -> Outcome {
    if checked < wanted {
        return Outcome::Skipped(format!("{checked} of {wanted} copies took less than the grace"));
    }
    Outcome::Passed(format!(
        "{copied} acknowledged events asked of {checked} copies, 0 missing; {too_long} copies took \
         too long"
    ))
}

/// Waits until compaction removes something, so that a copy is made while it is at work.
fn wait_for_compaction(org: &Client, ledger: &Ledger) {
    let of = |what| org.metric(&format!("triggerd_compaction_segments_{what}_total"));
    until(|| (of("punched") + of("removed") > 0.0).then_some(()));
    wait_for_acknowledgements(ledger, 50);
}

/// A copy in the making.
struct SlowCopy<'a> {
    from: &'a Path,
    to: &'a Path,
    order: Order,
    random: Random,
    began: Instant,
    /// The chunks that the copy has when it begins, and those that are copied.
    chunks: usize,
    copied: usize,
    /// The last snapshot that was seen, and the number of those that came since the beginning.
    newest: Option<PathBuf>,
    snapshots: usize,
    /// The number of snapshots that are to come meanwhile.
    wanted: usize,
}

impl<'a> SlowCopy<'a> {
    fn new((from, to): (&'a Path, &'a Path), order: Order, seed: u64, wanted: usize) -> Self {
        let chunks = files_below(from).iter().map(|file| chunks_of(file)).sum();
        let newest = newest_snapshot(from);
        Self {
            from,
            to,
            order,
            random: Random::new(seed),
            began: Instant::now(),
            chunks,
            copied: 0,
            newest,
            snapshots: 0,
            wanted,
        }
    }

    /// Makes the copy. `None` if it took longer than the grace, for which a copy may take.
    fn make(mut self) -> Option<()> {
        fs::create_dir(self.to).unwrap();
        match self.order {
            Order::AsListed | Order::SortedUp | Order::SortedDown => {
                self.tree(self.from);
            }
            Order::NamesFirst | Order::Random => {
                let mut files = files_below(self.from);
                if matches!(self.order, Order::Random) {
                    shuffle(&mut files, &mut self.random);
                }
                for file in files {
                    self.file(&file, open(&file));
                }
            }
            Order::OpenedLate => {
                let files = files_below(self.from);
                self.wait_until(self.wanted);
                for file in files {
                    self.file(&file, open(&file));
                }
            }
            Order::OpenedEarly => {
                let files = files_below(self.from);
                let files: Vec<_> = files.into_iter().map(|file| (open(&file), file)).collect();
                for (open, file) in files {
                    self.file(&file, open);
                }
            }
        }
        self.wait_until(self.wanted);
        (self.began.elapsed() < GRACE).then_some(())
    }

    /// Copies a directory, listed now.
    fn tree(&mut self, dir: &Path) {
        let mut entries: Vec<_> =
            fs::read_dir(dir).unwrap().map(|entry| entry.unwrap().path()).collect();
        match self.order {
            Order::SortedUp => entries.sort(),
            Order::SortedDown => entries.sort_by(|a, b| b.cmp(a)),
            _ => {}
        }
        for path in entries {
            if path.is_dir() { self.tree(&path) } else { self.file(&path, open(&path)) }
        }
    }

    /// Copies a file in chunks, unless it is gone.
    fn file(&mut self, path: &Path, file: Option<File>) {
        let Some(mut file) = file else { return };
        let to = self.to.join(path.strip_prefix(self.from).unwrap());
        fs::create_dir_all(to.parent().unwrap()).unwrap();
        let mut copy = File::create(&to).unwrap();
        copy.set_permissions(file.metadata().unwrap().permissions()).unwrap();
        let mut chunk = vec![0; CHUNK_BYTES];
        loop {
            let read = file.read(&mut chunk).unwrap();
            if read == 0 {
                return;
            }
            copy.write_all(&chunk[..read]).unwrap();
            self.copied += 1;
            self.wait_until(self.wanted * self.copied.min(self.chunks) / (self.chunks + 1));
        }
    }

    /// Waits until so many snapshots have come since the beginning, or the grace is over.
    fn wait_until(&mut self, snapshots: usize) {
        while self.began.elapsed() < GRACE {
            let newest = newest_snapshot(self.from);
            self.snapshots += usize::from(newest != self.newest);
            self.newest = newest;
            if self.snapshots >= snapshots {
                return;
            }
            std::thread::park_timeout(Duration::from_millis(2));
        }
    }
}

/// Opens a file. `None` if it is gone.
fn open(path: &Path) -> Option<File> {
    match File::open(path) {
        Err(error) if error.kind() == io::ErrorKind::NotFound => None,
        opened => Some(opened.unwrap()),
    }
}

fn chunks_of(file: &Path) -> usize {
    let bytes = fs::metadata(file).map_or(0, |metadata| metadata.len());
    usize::try_from(bytes).unwrap().div_ceil(CHUNK_BYTES)
}

/// The files of the directory and the directories in it, sorted.
fn files_below(dir: &Path) -> Vec<PathBuf> {
    let entries = fs::read_dir(dir).unwrap().map(|entry| entry.unwrap().path());
    let below = |path: PathBuf| if path.is_dir() { files_below(&path) } else { vec![path] };
    let mut files: Vec<_> = entries.flat_map(below).collect();
    files.sort();
    files
}

fn shuffle(files: &mut [PathBuf], random: &mut Random) {
    for place in 1..files.len() {
        files.swap(place, random.index(place + 1));
    }
}

fn newest_snapshot(data: &Path) -> Option<PathBuf> {
    let names = fs::read_dir(data.join("journal")).unwrap().map(|entry| entry.unwrap().path());
    names.filter(|path| path.extension() == Some("snap".as_ref())).max()
}

/// Checks that the copy starts, has what was acknowledged before and has not expired, and that
/// `verify` finds nothing in it.
fn check_copy(
    (copy, order): (&Path, Order),
    before: History,
    (ledger, receiver): (&Ledger, &Receiver),
    orgs: &[(&'static str, String)],
) {
    println!("a copy in the order {order:?}");
    let server = Process::start_on(copy, &config(copy));
    // The copy may have events from the time of the copying.
    let after = ledger.read();
    let history = History { sent: after.sent, confirming: after.confirming, ..before };
    let [pulls, pushes] = [0, 1].map(|place| Client::new(&server.url, &orgs[place].1));
    check_accounts(&server.url, &orgs[1].1, &history);
    check_pulls(&pulls, &history);
    check_pushes(&pushes, &history, receiver);
    assert_eq!(server.stop().0, Some(0));
    let (code, text) = command(copy, &["verify"]);
    assert_eq!(code, Some(0), "verify of a copy in the order {order:?}: {text}");
}
