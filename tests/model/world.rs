//! The system under test: the real journal on files that can lose power, the real state and the
//! real committer, with the accidents to survive.

use std::path::{Path, PathBuf};
use std::sync::Arc;
use std::time::Duration;

use tempfile::TempDir;
use triggerd::base::clock::Clock;
use triggerd::commands::{AckOutcome, Applied, Applying, Command, Records};
use triggerd::commit::{Intake, Space, recover};
use triggerd::data_dir::DataDir;
use triggerd::journal::faults::{Fault, FaultyFiles, Unsynced};
use triggerd::journal::{
    AppendError, Files, Group, JournalScan, Log as _, ReadLog as _, Reader, Writer, snapshots_in,
};
use triggerd::model::time::Timestamp;
use triggerd::store::{Store, invalidate_last};

use crate::care::{Care, CareLimits, misplace};
use crate::opening::{open_state, require_witness};
use crate::random::Random;
use crate::system::engine;

/// Number of sequences in a directory.
pub(crate) const SEQUENCES_PER_WORLD: u64 = 40;
/// Small, so that a world has several segments.
const SEGMENT_BYTES: u64 = 16 << 10;
/// The time for which a copy finds every file. A copy of these tests takes less. Long enough for
/// several snapshots to be kept, unless compaction moves the clock.
const GRACE_MS: u64 = 30_000;

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
    /// A snapshot has the rows of an earlier position.
    MisplacesSnapshots,
}

/// A system, with its files and counters.
pub(crate) struct System {
    dir: TempDir,
    files: Arc<FaultyFiles>,
    clock: Clock,
    broken: Break,
    acks: u64,
    submissions: u64,
    /// True before the first start on a copy.
    is_copy: bool,
    running: Option<Running>,
}

struct Running {
    store: Arc<Store>,
    records: Records,
    intake: Intake,
    committer: std::thread::JoinHandle<()>,
    care: Care,
    /// Locks the directory.
    data_dir: DataDir,
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

impl System {
    pub(crate) fn new(clock: Clock, broken: Break) -> Self {
        let mut system = Self {
            dir: make_dir(),
            files: Arc::new(FaultyFiles::new()),
            clock,
            broken,
            acks: 0,
            submissions: 0,
            is_copy: false,
            running: None,
        };
        system.start();
        system.files.skip_syncs(broken == Break::SyncsNothing);
        system
    }

    fn start(&mut self) {
        let mut data_dir = DataDir::open(self.dir.path()).unwrap();
        let (writer, reader) = open_journal(self.dir.path(), &self.files);
        data_dir.complete(Timestamp(self.clock.now_ms())).unwrap();
        require_witness((&data_dir, &self.files()), reader.first());
        let records = Records::new(reader.clone());
        let is_copy = std::mem::take(&mut self.is_copy);
        let store = open_state((self.dir.path(), is_copy), &self.files(), &records);
        let store = Arc::new(store);
        if self.broken != Break::ForgetsToRecover {
            recover(&store, &records, &Space::default()).unwrap();
        }
        let (engine, committer) = engine(&store, self.clock.clone(), (writer, records.clone()));
        let intake = engine.intake.clone();
        let journal = (data_dir.journal(), self.files());
        let limits = CareLimits {
            snapshot_bytes: 4 << 10,
            grace: Duration::from_millis(GRACE_MS),
            pass_every: Duration::from_millis(GRACE_MS),
            steps_max: 300,
        };
        let care = Care::new(&engine, journal, (&reader, data_dir.format_file()), limits);
        let committer = std::thread::spawn(|| committer.run());
        let running = Running { store, records, intake, committer, care, data_dir };
        self.running = Some(running);
    }

    fn files(&self) -> Arc<dyn Files> {
        Arc::<FaultyFiles>::clone(&self.files)
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

    /// Returns the commands of the journal that compaction has left, also below the snapshots.
    pub(crate) fn commands(&self) -> Result<Vec<Command>, String> {
        let scan = JournalScan::open_with(&self.dir.path().join("journal"), self.files());
        let (scan, mut commands) = (scan.map_err(|error| error.to_string())?, Vec::new());
        for segment in 0..scan.len() {
            let read = scan.look(segment, &mut |record| {
                commands.push(Command::of_raw(record).map_err(|unknown| unknown.to_string())?);
                Ok(())
            });
            read.map_err(|error| error.to_string())?;
        }
        Ok(commands)
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

    /// Writes rows back, as the flusher may do at any time. Now and then takes a snapshot that is
    /// due.
    pub(crate) fn write_back(&mut self) {
        self.store().write_back().unwrap();
        if self.submissions.is_multiple_of(2) {
            self.take_care(false);
        }
    }

    /// Takes a snapshot if one is due, and then compacts the journal, if `compacts` is set.
    fn take_care(&mut self, compacts: bool) {
        let (journal, files) = (self.dir.path().join("journal"), self.files());
        let running = self.running.as_mut().expect("the system runs");
        let newest = || snapshots_in(&journal, files.as_ref()).unwrap().pop();
        let before = newest();
        running.care.snapshots();
        if self.broken == Break::MisplacesSnapshots && newest() != before {
            misplace(&journal, &files);
        }
        if compacts {
            running.care.compaction();
        }
    }

    /// Takes care of the journal so often that everything can be compacted that nobody needs. Each
    /// time the clock moves by the grace.
    pub(crate) fn compact(&mut self, times: u64) {
        for _ in 0..times {
            self.store().write_back().unwrap();
            self.take_care(true);
            self.clock.advance_ms(GRACE_MS);
        }
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

    /// Loses the state; now and then the newest snapshot is torn too, if there is an older one.
    pub(crate) fn restart_without_state(&mut self, random: &mut Random) {
        drop(self.kill());
        let found = snapshots_in(&self.dir.path().join("journal"), self.files.as_ref()).unwrap();
        if let [.., _, newest] = found.as_slice()
            && random.one_in(2)
        {
            let file = std::fs::File::options().write(true).open(&newest.path).unwrap();
            file.set_len(random.below(file.metadata().unwrap().len())).unwrap();
        }
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
        self.lose_power(unanswered, random);
        self.start();
    }

    /// Stops answering, has file operations fail under snapshots and compaction, and ends there: by
    /// a kill, or with the power.
    pub(crate) fn restart_after_failed_care(&mut self, random: &mut Random) {
        let Running { store, intake, committer, mut care, data_dir, .. } =
            self.running.take().expect("the system runs");
        intake.close();
        committer.join().unwrap();
        store.write_back().unwrap();
        let fault = random.pick(&[Fault::Io, Fault::NoSpace, Fault::ShortWrite]).unwrap();
        self.files.fail_at(1 + random.below(80), fault);
        for _ in 0..=random.below(6) {
            care.snapshots();
            care.compaction();
            self.clock.advance_ms(GRACE_MS);
        }
        self.files.fail_at(u64::MAX / 2, fault);
        drop((store, care, data_dir));
        if random.one_in(2) {
            self.lose_power(&[], random);
        }
        self.start();
    }

    /// Loses what was not synced, of the process that has ended and of an unanswered group.
    fn lose_power(&mut self, unanswered: &[Command], random: &mut Random) {
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
    }

    /// Opens a plain copy of the directory elsewhere, for `look`.
    pub(crate) fn with_copy(
        &self,
        look: impl FnOnce(&Store, &Records) -> Result<(), String>,
    ) -> Result<(), String> {
        let copy = make_dir();
        copy_dir(self.dir.path(), copy.path());
        let files = Arc::new(FaultyFiles::new());
        let (_writer, reader) = open_journal(copy.path(), &files);
        let records = Records::new(reader);
        let files: Arc<dyn Files> = files;
        let store = open_state((copy.path(), true), &files, &records);
        recover(&store, &records, &Space::default()).unwrap();
        look(&store, &records)
    }

    /// Copies the directory in any order of its files, while care is taken of the journal. The
    /// directories are listed first, or each when its turn comes. The copy takes almost as long as
    /// the grace. Files that are gone meanwhile are passed over.
    pub(crate) fn slow_copy(&mut self, random: &mut Random) -> TempDir {
        let copy = make_dir();
        let mut paths = entries(self.dir.path());
        if random.one_in(2) {
            paths = paths
                .into_iter()
                .flat_map(|path| if path.is_dir() { entries(&path) } else { vec![path] })
                .collect();
        }
        let mut pauses = 1 + random.below(8);
        let pause_ms = (GRACE_MS - 1) / pauses;
        while !paths.is_empty() {
            let from = paths.swap_remove(random.index(paths.len()));
            if from.is_dir() {
                paths.extend(entries(&from));
                continue;
            }
            copy_file(&from, &copy.path().join(from.strip_prefix(self.dir.path()).unwrap()));
            if pauses > 0 && random.one_in(2) {
                pauses -= 1;
                self.clock.advance_ms(pause_ms);
                self.store().write_back().unwrap();
                self.take_care(true);
            }
        }
        copy
    }

    /// Goes on with the copy in place of the directory.
    pub(crate) fn restore(&mut self, copy: TempDir) {
        drop(self.kill());
        (self.dir, self.files) = (copy, Arc::new(FaultyFiles::new()));
        self.files.skip_syncs(self.broken == Break::SyncsNothing);
        self.is_copy = true;
        self.start();
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

fn entries(dir: &Path) -> Vec<PathBuf> {
    std::fs::read_dir(dir).unwrap().map(|entry| entry.unwrap().path()).collect()
}

/// Copies a file, unless it is gone.
fn copy_file(from: &Path, to: &Path) {
    std::fs::create_dir_all(to.parent().unwrap()).unwrap();
    match std::fs::copy(from, to) {
        Err(error) if error.kind() == std::io::ErrorKind::NotFound => {}
        copied => _ = copied.unwrap(),
    }
}
