//! The system under test: the real journal on files that can lose power, the real state and the
//! real committer, with the accidents to survive.

use std::path::{Path, PathBuf};
use std::sync::Arc;

use tempfile::TempDir;
use triggerd::base::clock::Clock;
use triggerd::commands::{AckOutcome, Applied, Applying, Command, Records};
use triggerd::commit::{Intake, Space, recover, restore_newest, take_snapshot};
use triggerd::journal::faults::{Fault, FaultyFiles, Unsynced};
use triggerd::journal::{AppendError, Files, Group, Log as _, Reader, Writer, snapshots_in};
use triggerd::store::{Store, invalidate_last};

use crate::random::Random;
use crate::system::engine;

/// Number of sequences in a directory.
pub(crate) const SEQUENCES_PER_WORLD: u64 = 40;
/// Small, so that a world has several segments.
const SEGMENT_BYTES: u64 = 16 << 10;
const CACHE_BYTES: u64 = 8 << 20;

/// A promise to break on purpose; the model must notice.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(crate) enum Break {
    Nothing,
    /// Some acknowledgements are answered without being done.
    ForgetsAcks,
    KnowsNoDuplicates,
    SyncsNothing,
    /// After a crash, the end of the journal is not applied to the state.
    ForgetsToRecover,
}

/// A system, with its files and counters.
pub(crate) struct System {
    dir: TempDir,
    files: Arc<FaultyFiles>,
    clock: Clock,
    broken: Break,
    acks: u64,
    submissions: u64,
    running: Option<Running>,
}

struct Running {
    store: Arc<Store>,
    records: Records,
    intake: Intake,
    committer: std::thread::JoinHandle<()>,
}

/// Makes a directory, in memory if possible: a world needs no disk, only the order of operations.
pub(crate) fn make_dir() -> TempDir {
    let memory = Path::new("/dev/shm");
    let made = if memory.is_dir() { tempfile::tempdir_in(memory) } else { tempfile::tempdir() };
    made.or_else(|_| tempfile::tempdir()).unwrap()
}

pub(crate) fn open_journal(dir: &Path, files: &Arc<FaultyFiles>) -> (Writer, Reader) {
    let files: Arc<dyn Files> = Arc::<FaultyFiles>::clone(files);
    let (writer, reader, _) =
        triggerd::journal::open(&dir.join("journal"), files, SEGMENT_BYTES).unwrap();
    (writer, reader)
}

/// Opens the state. A state that begins empty is restored from the newest whole snapshot.
fn open_state(dir: &Path, files: &Arc<FaultyFiles>, records: &Records) -> Store {
    let mut store = Store::open(&dir.join("sled"), CACHE_BYTES, records.end()).unwrap();
    if store.rebuild_reason().is_some() {
        let files: Arc<dyn Files> = Arc::<FaultyFiles>::clone(files);
        let (journal, positions) = (dir.join("journal"), records.first()..=records.end());
        let silent = |_done: u64, _all: u64| ();
        let told: (&Space, &dyn Fn(u64, u64)) = (&Space::default(), &silent);
        restore_newest(&mut store, (&journal, &files), &positions, told).unwrap();
    }
    store
}

impl System {
    pub(crate) fn new(clock: Clock, broken: Break) -> Self {
        let files = Arc::new(FaultyFiles::new());
        let mut system =
            Self { dir: make_dir(), files, clock, broken, acks: 0, submissions: 0, running: None };
        system.start();
        system.files.skip_syncs(broken == Break::SyncsNothing);
        system
    }

    fn start(&mut self) {
        let (writer, reader) = open_journal(self.dir.path(), &self.files);
        let records = Records::new(reader);
        let store = Arc::new(open_state(self.dir.path(), &self.files, &records));
        if self.broken != Break::ForgetsToRecover {
            recover(&store, &records, &Space::default()).unwrap();
        }
        let (engine, committer) = engine(&store, self.clock.clone(), (writer, records.clone()));
        let intake = engine.intake.clone();
        let committer = std::thread::spawn(|| committer.run());
        self.running = Some(Running { store, records, intake, committer });
    }

    fn running(&self) -> &Running {
        self.running.as_ref().expect("the system runs")
    }

    pub(crate) fn store(&self) -> &Store {
        &self.running().store
    }

    pub(crate) fn records(&self) -> &Records {
        &self.running().records
    }

    /// Submits all at once and waits for all. Returns the outcomes in order.
    pub(crate) fn submit(&mut self, submissions: Vec<Vec<Command>>) -> Vec<Vec<Applying>> {
        if self.broken == Break::ForgetsAcks
            && let [submission] = submissions.as_slice()
            && let [Command::AckEvent(ack)] = submission.as_slice()
        {
            self.acks += 1;
            if self.acks.is_multiple_of(5)
                && self.store().event(ack.org, ack.event).unwrap().is_some()
            {
                return vec![vec![Ok(Applied::AckEvent(AckOutcome::Acknowledged { at: ack.at }))]];
            }
        }
        let replies: Vec<_> = submissions
            .into_iter()
            .map(|mut commands| {
                if self.broken == Break::KnowsNoDuplicates {
                    commands.iter_mut().for_each(forget_dedup_id);
                }
                self.running().intake.submit_all(commands).unwrap()
            })
            .collect();
        self.submissions += 1;
        if self.submissions.is_multiple_of(7) {
            self.write_back(); // while the commands are applied
        }
        replies.into_iter().map(|reply| reply.wait().unwrap()).collect()
    }

    /// Writes rows back, as the flusher may do at any time. Now and then takes a snapshot, and
    /// deletes all but the last three.
    pub(crate) fn write_back(&self) {
        self.store().write_back().unwrap();
        if !self.submissions.is_multiple_of(4) {
            return;
        }
        let (journal, records) = (self.dir.path().join("journal"), self.records());
        let files: Arc<dyn Files> = Arc::<FaultyFiles>::clone(&self.files);
        let known = snapshots_in(&journal, files.as_ref()).unwrap();
        if known.last().is_some_and(|last| last.position >= self.store().applied()) {
            return;
        }
        let witness = (records.first(), self.clock.now_ms());
        take_snapshot(self.store(), (&journal, &files), witness, &mut |_| Ok(())).unwrap();
        known.iter().rev().skip(2).for_each(|old| files.remove(&old.path).unwrap());
    }

    /// Ends the committer. Rows not written back are lost, as by kill -9.
    fn kill(&mut self) -> Option<Arc<Store>> {
        let Running { store, intake, committer, .. } = self.running.take()?;
        intake.close();
        committer.join().unwrap();
        Some(store)
    }

    pub(crate) fn restart_after_kill(&mut self) {
        drop(self.kill());
        self.start();
    }

    pub(crate) fn restart_in_good_order(&mut self) {
        self.kill().unwrap().close().unwrap();
        self.start();
    }

    pub(crate) fn restart_without_state(&mut self, random: &mut Random) {
        drop(self.kill());
        let state = self.dir.path().join("sled");
        if random.one_in(2) {
            std::fs::remove_dir_all(state).unwrap();
        } else {
            invalidate_last(&state).unwrap();
        }
        self.start();
    }

    /// Cuts the power while an unanswered group is written.
    pub(crate) fn restart_after_power_cut(&mut self, unanswered: &[Command], random: &mut Random) {
        drop(self.kill());
        let (mut writer, _) = open_journal(self.dir.path(), &self.files);
        if !unanswered.is_empty() {
            let mut group = Group::new();
            for command in unanswered {
                command.add_to(&mut group).unwrap();
            }
            // The write fails, or its sync; or the making of the next segment, if due.
            let fault = if random.one_in(2) { Fault::Io } else { Fault::ShortWrite };
            self.files.fail_at(1 + random.below(2), fault);
            assert!(
                matches!(writer.append(&mut group), Err(AppendError::Fatal(_))),
                "the fault was set"
            );
        }
        drop(writer);
        let unsynced =
            if random.one_in(3) { Unsynced::Lost } else { Unsynced::SomePages(random.next()) };
        self.files.cut_power(unsynced).unwrap();
        // The next boot does not trust a state that was not closed.
        invalidate_last(&self.dir.path().join("sled")).unwrap();
        self.start();
    }

    /// Opens a plain copy of the directory elsewhere, for `look`.
    pub(crate) fn with_copy(
        &self,
        look: impl FnOnce(&Store, &Records) -> Result<(), String>,
    ) -> Result<(), String> {
        let copy = make_dir();
        copy_dir(self.dir.path(), copy.path());
        let (_writer, reader) = open_journal(copy.path(), &Arc::new(FaultyFiles::new()));
        let records = Records::new(reader);
        let store = open_state(copy.path(), &Arc::new(FaultyFiles::new()), &records);
        recover(&store, &records, &Space::default()).unwrap();
        look(&store, &records)
    }
}

impl Drop for System {
    fn drop(&mut self) {
        drop(self.kill());
    }
}

fn forget_dedup_id(command: &mut Command) {
    if let Command::SubmitEvent(submit) = command {
        submit.event.dedup = None;
    }
}

fn copy_dir(from: &Path, to: &Path) {
    let paths: Vec<PathBuf> =
        std::fs::read_dir(from).unwrap().map(|entry| entry.unwrap().path()).collect();
    for path in paths {
        let target = to.join(path.file_name().unwrap());
        if path.is_dir() {
            std::fs::create_dir(&target).unwrap();
            copy_dir(&path, &target);
        } else {
            std::fs::copy(&path, &target).unwrap();
        }
    }
}
