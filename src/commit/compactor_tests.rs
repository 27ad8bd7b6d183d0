//! Tests of the compactor over a real journal and a real state.

use std::fs;
use std::os::unix::fs::MetadataExt as _;
use std::path::PathBuf;
use std::sync::atomic::{AtomicU64, Ordering};

use super::*;
use crate::base::clock::Clock;
use crate::base::threads::{Thread, spawn_critical};
use crate::commands::{
    Applied, Command, EraseEvent, ExpireEvents, Records, RouteEvent, SettleAttempt, SubmitOutcome,
};
use crate::commit::{Space, recover, system};
use crate::data_dir::DataDir;
use crate::journal::faults::{Fault, FaultyFiles};
use crate::journal::{self, Files, JournalScan, OsFiles, Piece, ReadLog as _, Reader};
use crate::model::delivery::{AttemptOutcome, Trigger, Verdict};
use crate::model::endpoint::{Endpoint, EndpointSettings, SealedSecret};
use crate::model::id::{EndpointId, EventId, OrgNo};
use crate::model::retention::Cutoffs;
use crate::model::routing::RouteReasons;
use crate::model::time::Timestamp;
use crate::store::Store;

const ORG: OrgNo = OrgNo(0);
const ENDPOINT: EndpointId = EndpointId(50);
const SEGMENT_BYTES: u64 = 64 << 10;
const RESERVE: u64 = 64 << 20;
const NOW: Duration = Duration::ZERO;
const HOUR: Duration = Duration::from_hours(1);

#[path = "compactor_removal_tests.rs"]
mod removal;

/// A journal, its state, a committer, and a compactor that nobody runs.
struct World {
    compactor: Compactor,
    work: Work,
    /// The free bytes of the filesystem.
    free: Arc<AtomicU64>,
    reader: Reader,
    data_dir: DataDir,
    committer: Option<Thread>,
    dir: Option<tempfile::TempDir>,
}

impl World {
    fn new(grace: Duration) -> Self {
        Self::on(grace, Arc::new(OsFiles))
    }

    fn on(grace: Duration, files: Arc<dyn Files>) -> Self {
        let dir = tempfile::tempdir().unwrap();
        let world = Self::open_with(dir, grace, files);
        world.commit(vec![system::create_org()]);
        let settings =
            EndpointSettings { url: "https://example.com/".into(), ..EndpointSettings::default() };
        let endpoint =
            Endpoint::new(ENDPOINT, settings, SealedSecret::new(vec![7; 72]), Timestamp(1));
        let put = crate::commands::PutEndpoint { org: ORG, endpoint, sets_enabled: true };
        world.commit(vec![put.into()]);
        world
    }

    fn open(dir: tempfile::TempDir, grace: Duration) -> Self {
        Self::open_with(dir, grace, Arc::new(OsFiles))
    }

    fn open_with(dir: tempfile::TempDir, grace: Duration, files: Arc<dyn Files>) -> Self {
        let mut data_dir = DataDir::open(&dir.path().join("data")).unwrap();
        data_dir.complete(Timestamp(1)).unwrap();
        let opened = journal::open(&data_dir.journal(), files, SEGMENT_BYTES);
        let (writer, reader, _) = opened.unwrap();
        let store = Store::open(&data_dir.state(), 8 << 20, reader.end()).unwrap();
        let (store, records) = (Arc::new(store), Records::new(reader.clone()));
        recover(&store, &records, &Space::default()).unwrap();
        let log = (writer, records);
        let free = Arc::new(AtomicU64::new(u64::MAX));
        let of_disk = Arc::clone(&free);
        let free_bytes = Box::new(move || Some(of_disk.load(Ordering::SeqCst)));
        let parts = (system::hints(), Space::new(free_bytes, RESERVE));
        let (engine, committer) = system::engine_with(&store, Clock::manual(1_000), log, parts);
        let settings = CompactionSettings {
            grace,
            pass_every: HOUR,
            pass_max: HOUR,
            bytes_per_second: u64::MAX,
        };
        let compactor = Compactor {
            engine,
            journal: Compaction::new(&reader),
            format: data_dir.format_file(),
            settings,
        };
        let committer = spawn_critical("committer", || committer.run()).unwrap();
        let work = Work::new(compactor.now_ms());
        let committer = Some(committer);
        Self { compactor, work, free, reader, data_dir, committer, dir: Some(dir) }
    }

    /// Stops the committer, and starts again on the same files.
    fn reopen(mut self, grace: Duration) -> Self {
        self.stop();
        let dir = self.dir.take().unwrap();
        self.compactor.engine.store.close().unwrap();
        drop(self);
        Self::open(dir, grace)
    }

    fn stop(&mut self) {
        self.compactor.engine.intake.close();
        let committer = self.committer.take().unwrap();
        assert!(committer.join_until(Instant::now() + Duration::from_mins(1)));
    }

    fn commit(&self, commands: Vec<Command>) -> Vec<Applied> {
        let reply = self.compactor.engine.intake.submit_all(commands).unwrap();
        reply.wait().unwrap().into_iter().map(Result::unwrap).collect()
    }

    fn event(&self, payload: &str) -> EventId {
        let applied = self.commit(vec![system::submit(0, None, payload.into())]).remove(0);
        match applied {
            Applied::SubmitEvent(SubmitOutcome::Accepted { id, .. }) => id,
            other => panic!("{other:?}"),
        }
    }

    /// An event that was routed, and whose delivery failed with the receiver's words.
    fn failed(&self, payload: &str) -> EventId {
        let event = self.event(payload);
        let (endpoints, due_at) = (vec![ENDPOINT], Timestamp(0));
        let reasons = RouteReasons::default();
        let route = RouteEvent { org: ORG, event, endpoints, due_at, reasons };
        let outcome =
            AttemptOutcome { body: payload.into(), ..AttemptOutcome::new(Timestamp(20), 5) };
        let settle = SettleAttempt {
            org: ORG,
            endpoint: ENDPOINT,
            event,
            number: 1,
            trigger: Trigger::Schedule,
            outcome,
            verdict: Verdict::RetryAt(Timestamp(1 << 40)),
            disables: None,
            previous: None,
            operational_events: Vec::new(),
        };
        self.commit(vec![route.into(), settle.into()]);
        event
    }

    fn erase(&self, event: EventId) {
        let (endpoints, at) = (Vec::new(), Timestamp(50));
        self.commit(vec![EraseEvent { org: ORG, event, endpoints, at }.into()]);
    }

    /// Commands that nobody needs later, in whole segments.
    fn fill_unneeded(&self, segments: usize) {
        let last = self.segments().len() + segments;
        while self.segments().len() < last {
            self.commit(vec![
                NoteKeysUsed {
                    used: vec![(crate::model::id::KeyId(2), Timestamp(9)); 50],
                    at: Timestamp(9),
                }
                .into();
                20
            ]);
        }
    }

    fn segments(&self) -> Vec<SegmentSize> {
        self.compactor.journal.segments().unwrap()
    }

    /// Does everything that can be done now.
    fn compact(&mut self) {
        for _ in 0..3 {
            self.work.passes = Passes::default();
            while self.compactor.step(&mut self.work) {}
        }
    }

    fn snapshot(&self) {
        self.snapshot_of(self.compactor.engine.store.applied());
    }

    /// Has one snapshot kept, of this position.
    fn snapshot_of(&self, position: Position) {
        let kept = KeptSnapshots { oldest: position, newest: position };
        self.compactor.engine.snapshots.publish(Some(kept));
    }

    /// Returns the files of the segments. A segment that is written again has another inode.
    fn inodes(&self) -> BTreeMap<PathBuf, u64> {
        let files = fs::read_dir(self.data_dir.journal()).unwrap();
        files
            .map(Result::unwrap)
            .map(|file| (file.path(), file.metadata().unwrap().ino()))
            .collect()
    }

    /// Returns the number of files of the journal in which the text stands.
    fn found(&self, text: &str) -> usize {
        let files = fs::read_dir(self.data_dir.journal()).unwrap();
        let files = files.map(|file| fs::read(file.unwrap().path()).unwrap());
        files.filter(|bytes| memchr::memmem::find(bytes, text.as_bytes()).is_some()).count()
    }

    /// Returns everything that users can read of these events.
    fn shown(&self, events: &[EventId]) -> Vec<String> {
        let Engine { store, records, .. } = &*self.compactor.engine;
        let shown = |event: &EventId| {
            let summary = store.event(ORG, *event).unwrap().unwrap();
            let mut stored = records.event(*event, summary.position).unwrap();
            if summary.erased_at.is_some() {
                stored.event.payload = Box::default();
            }
            let routing = match store.routing(ORG, *event).unwrap().unwrap() {
                crate::store::Routing::Ended(position) => {
                    Some(records.routing_end(*event, position).unwrap())
                }
                _ => None,
            };
            let delivery = store.delivery(ORG, *event, 1).unwrap();
            let last = delivery.and_then(|found| found.delivery.last_attempt);
            let attempt = last.map(|at| records.attempt((*event, ENDPOINT), at).unwrap());
            let attempt = attempt.map(|mut attempt| {
                if summary.erased_at.is_some() {
                    attempt.outcome = attempt.outcome.without_receivers_words();
                }
                attempt
            });
            format!("{stored:?} {routing:?} {attempt:?}")
        };
        events.iter().map(shown).collect()
    }
}

impl Drop for World {
    fn drop(&mut self) {
        if self.committer.is_some() && !std::thread::panicking() {
            self.stop();
        }
    }
}

/// Fills several segments, and erases some events. Returns all events.
fn filled(world: &World) -> Vec<EventId> {
    let payload = |n: usize| format!("\"{}\"", format!("canary-{n:04}").repeat(40));
    let mut events: Vec<_> = (0..300).map(|n| world.failed(&payload(n))).collect();
    for event in events.iter().skip(3).step_by(10) {
        world.erase(*event);
    }
    world.fill_unneeded(1);
    events.push(world.event("7"));
    events
}

#[test]
fn an_erased_payload_leaves_the_journal_after_a_snapshot_and_the_rest_is_shown_as_before() {
    let mut world = World::new(NOW);
    let events = filled(&world);
    let before = world.shown(&events);
    assert!(world.segments().len() > 5);
    world.compact();
    assert_eq!(world.found("canary-0003"), 1, "there is no snapshot");
    assert!(world.compactor.engine.snapshots.is_asked(), "but one is asked for");
    world.snapshot_of(world.segments()[1].end);
    world.compact();
    assert_eq!(world.found("canary-0003"), 1, "the snapshot is from before the erasure");
    world.snapshot();
    world.compact();
    for n in (3..300).step_by(10) {
        assert_eq!(world.found(&format!("canary-{n:04}")), 0, "{n}");
    }
    assert_eq!((world.found("canary-0002"), world.found("canary-0004")), (1, 1));
    assert_eq!(world.shown(&events), before);
    assert!(world.compactor.engine.metrics.compaction_segments_punched.get() > 0);
    // A pass over compacted segments finds nothing to do. The tests of this process share metrics.
    let compacted = world.inodes();
    world.compact();
    assert_eq!(world.inodes(), compacted);
    let mut world = world.reopen(NOW);
    assert_eq!(world.shown(&events), before, "also after a restart");
    // Somebody has removed the snapshot, and only the state could replace what was removed.
    let snapshots = world.compactor.engine.snapshots.clone();
    assert!(snapshots.kept().is_none() && !snapshots.is_asked());
    world.compact();
    assert!(snapshots.is_asked());
    world.stop();
}

#[test]
fn nothing_is_removed_before_the_grace_is_over() {
    let mut world = World::new(HOUR);
    world.fill_unneeded(3);
    filled(&world);
    world.snapshot();
    world.compact();
    assert_eq!(world.found("canary-0003"), 1);
    let first = world.compactor.journal.first();
    assert_eq!(first, Position::FIRST);
    assert!(world.data_dir.format_file().first() > 1, "what will be removed is witnessed at once");
    world.compactor.settings.grace = NOW;
    world.compact();
    assert_eq!(world.found("canary-0003"), 0);
    assert!(world.compactor.journal.first() > first);
}

#[test]
fn a_lost_hint_costs_time_only_and_a_hint_comes_before_the_pass() {
    for is_lost in [false, true] {
        let mut world = World::new(NOW);
        let canary = world.event("\"canary\"");
        world.fill_unneeded(5);
        world.snapshot();
        world.compact();
        // The next pass is in an hour.
        world.erase(canary);
        // The hint comes a moment after the answer.
        assert!(world.compactor.engine.hints.unneeded.came.wait(Duration::from_mins(1)));
        if is_lost {
            world.compactor.engine.hints.unneeded.take();
        }
        world.snapshot();
        for _ in 0..5 {
            world.compactor.step(&mut world.work);
        }
        assert_eq!(world.found("canary"), usize::from(is_lost));
        world.compact();
        assert_eq!(world.found("canary"), 0);
    }
}

#[test]
fn a_look_tells_what_comes_free_and_the_retention_can_ask_for_another_one() {
    let mut world = World::new(HOUR);
    let events: Vec<_> = (0..300).map(|n| world.event(&format!("\"{n:0400}\""))).collect();
    world.fill_unneeded(2);
    world.snapshot();
    world.compact();
    let first = world.segments()[0];
    let look = |world: &World| world.compactor.engine.disk_use.looks()[&first.first];
    let full = look(&world);
    assert_eq!(full.freed, 0);
    assert!(full.received.is_some() && full.since <= world.compactor.engine.store.applied());
    // Commands at the end are unneeded as a whole.
    let segments = world.segments();
    let unneeded = segments[segments.len() - 2];
    let looks = world.compactor.engine.disk_use.looks();
    assert_eq!(looks[&unneeded.first].freed, unneeded.allocated);
    world.work.looked_ms.insert(first.first, world.compactor.now_ms());
    expire(&world, &events);
    let steps = |world: &mut World| {
        for _ in 0..5 {
            world.compactor.step(&mut world.work);
        }
    };
    steps(&mut world);
    assert_eq!(look(&world), full, "the last look was not long ago");
    world.compactor.engine.disk_use.ask(&[first.first]);
    steps(&mut world);
    assert_eq!(look(&world).freed, first.allocated);
    assert!(look(&world).since > full.since);
    world.compactor.engine.disk_use.punched(first.first);
    assert_eq!(look(&world).freed, 0, "what was promised has been given back");
}

/// Lets these events expire.
fn expire(world: &World, events: &[EventId]) {
    let store = &world.compactor.engine.store;
    let (never, open) = (Timestamp(0), Timestamp(u64::MAX));
    let cutoffs = Cutoffs { finished: never, dead: never, open, erased: never, now: never };
    while events.iter().any(|event| store.event(ORG, *event).unwrap().is_some()) {
        let found = store.expiring(ORG, EventId(0), cutoffs).unwrap();
        let (blocks, looked_at) = (found.blocks, found.looked_at);
        let command = ExpireEvents { org: ORG, blocks, cutoffs, looked_at, report: None };
        world.commit(vec![command.into()]);
    }
}

#[test]
fn a_payload_in_the_segment_that_is_being_written_is_removed_too() {
    let mut world = World::new(NOW);
    let canary = world.event("\"canary\"");
    world.erase(canary);
    assert_eq!(world.segments().len(), 1);
    let until = Instant::now() + Duration::from_mins(1);
    while world.found("canary") > 0 {
        assert!(Instant::now() < until);
        world.snapshot();
        world.compact();
    }
    assert_eq!(world.segments().len(), 2, "one was sealed for it, and no other");
    world.event("1");
    world.compact();
    assert_eq!(world.segments().len(), 2);
}

#[test]
fn an_erased_payload_leaves_a_small_journal_without_a_snapshot_though_a_restart_lost_the_hint() {
    erased_payload_leaves_a_small_journal(u64::MAX);
}

#[test]
fn it_does_so_below_the_reserve_of_a_disk_that_has_room_for_another_segment() {
    erased_payload_leaves_a_small_journal(RESERVE - 1);
}

fn erased_payload_leaves_a_small_journal(free: u64) {
    let world = World::new(NOW);
    let canary = world.event("\"canary\"");
    world.erase(canary);
    let mut world = world.reopen(NOW);
    world.free.store(free, Ordering::SeqCst);
    assert_eq!((world.segments().len(), world.compactor.engine.snapshots.kept()), (1, None));
    let until = Instant::now() + Duration::from_mins(1);
    while world.found("canary") > 0 {
        assert!(Instant::now() < until);
        world.compact();
        if world.compactor.engine.snapshots.take_asked() {
            world.snapshot();
        }
    }
}
