use super::*;
use crate::archive::directory::MARKER;
use crate::base::clock::Clock;
use crate::commands::tests::{ORG, create_org, erase, submit};
use crate::commands::{Command, Results};
use crate::commit::{Hints, Intake, IntakeLimits};
use crate::data_dir::DataDir;
use crate::journal::Position;
use crate::model::org::InboxMode;
use crate::store::Store;

const EVENT: EventId = EventId(1 << 80);
const LATE: Timestamp = Timestamp(1 << 47);

fn apply(store: &Store, position: u64, command: &Command) {
    let commands = std::iter::once((Position(position), command));
    crate::commands::apply(store, commands, Position(position + 1), &mut Results::default())
        .unwrap();
}

fn engine(store: &Arc<Store>) -> Arc<Engine> {
    let limits = IntakeLimits { queue: 1, wait_max: Duration::ZERO, bytes_max: 1 };
    let (unrouted, _) = bounded(1);
    let (scheduler, _) = bounded(1);
    let hints = Arc::new(Hints::new(unrouted, scheduler));
    Engine::of(store, &Clock::manual(1), Intake::new(limits).0, hints)
}

/// The event is erased after its line was made, and before the line is durable.
#[test]
fn a_payload_that_is_erased_while_it_is_archived_is_taken_back() {
    let dir = tempfile::tempdir().unwrap();
    let store = Arc::new(Store::open(&dir.path().join("sled"), 8 << 20, Position::MAX).unwrap());
    apply(&store, 1, &create_org(InboxMode::Auto, 1));
    apply(&store, 100, &submit(EVENT.0, 5, None));
    let erasing = Arc::clone(&store);
    let lines: Lines = Box::new(move |(org, _), event| {
        let is_erased = erasing.event(org, event).unwrap().unwrap().erased_at.is_some();
        if is_erased {
            return Ok(Some(Line { json: b"null".to_vec(), is_erased, unreadable: None }));
        }
        apply(&erasing, 200, &erase(event.0, &[]));
        Ok(Some(Line { json: b"the payload".to_vec(), is_erased, unreadable: None }))
    });
    let (archive, data) = (dir.path().join("archive"), dir.path().join("data"));
    DataDir::open(&data).unwrap().complete(Timestamp(1)).unwrap();
    let fails = Arc::new(AtomicBool::new(true));
    let (mut archiver, service) =
        Archiver::new(&engine(&store), (&archive, &data), lines, Arc::clone(&fails));
    let cutoffs = Cutoffs { finished: LATE, dead: LATE, open: LATE, erased: LATE, now: LATE };
    let batch = Batch { org: ORG, org_id: OrgId(1), blocks: vec![EVENT], cutoffs };
    let number = archiver.ask(batch).unwrap();
    assert_eq!(archiver.wait(number, Duration::ZERO), Written::Waits);
    let running = crate::base::threads::spawn_critical("archive", || service.run()).unwrap();
    assert_eq!(archiver.wait(number, Duration::from_mins(3)), Written::Done);
    assert!(!archiver.rests() && !fails.load(Ordering::SeqCst));
    drop(archiver);
    assert!(running.join_until(Instant::now() + Duration::from_mins(3)));
    let mut files: Vec<_> =
        std::fs::read_dir(&archive).unwrap().map(|it| it.unwrap().path()).collect();
    files.retain(|path| !path.ends_with(MARKER));
    assert_eq!(files.len(), 1);
    let text = zstd::decode_all(std::fs::File::open(&files[0]).unwrap()).unwrap();
    assert_eq!(text, b"null\n");
}
