//! Tests that the committer, the reading of records and recovery work over any log: here over one
//! that keeps each group as a message, with gaps between the positions.

use std::sync::Arc;
use std::time::{Duration, Instant};

use super::*;
use crate::base::clock::Clock;
use crate::base::threads::spawn_critical;
use crate::commands::{AckEvent, Applied, Command, RecordError, Records, SubmitOutcome};
use crate::journal::message_log::MessageLog;
use crate::journal::{Position, ReadLog as _};
use crate::model::id::{EventId, OrgNo};
use crate::model::time::Timestamp;
use crate::store::Store;

const ORG: OrgNo = OrgNo(0);

fn open(dir: &tempfile::TempDir) -> Arc<Store> {
    Arc::new(Store::open(dir.path(), 8 << 20, Position::MAX).unwrap())
}

/// Runs a committer over the log. Submits the commands, each as a group of its own, and returns the
/// ids of the events.
fn commit(
    log: &MessageLog,
    store: &Arc<Store>,
    commands: impl IntoIterator<Item = Vec<Command>>,
) -> Vec<EventId> {
    let log = (log.clone(), Records::new(log.clone()));
    let (engine, committer) = system::engine(store, Clock::manual(1_000), log);
    let intake = engine.intake.clone();
    let committer = spawn_critical("committer", || committer.run()).unwrap();
    let mut events = Vec::new();
    for commands in commands {
        for applied in intake.submit_all(commands).unwrap().wait().unwrap() {
            if let Applied::SubmitEvent(SubmitOutcome::Accepted { id, .. }) = applied.unwrap() {
                events.push(id);
            }
        }
    }
    intake.close();
    assert!(committer.join_until(Instant::now() + Duration::from_mins(1)));
    events
}

fn submit(payload: &str) -> Command {
    system::submit(0, None, payload.into())
}

#[test]
fn a_log_of_messages_carries_the_committer_the_records_and_recovery() {
    let (log, dirs) = (MessageLog::default(), [(); 3].map(|()| tempfile::tempdir().unwrap()));
    let records = Records::new(log.clone());
    let mut follower = records.follow(records.first()).unwrap();
    assert!(follower.next().is_none());

    let store = open(&dirs[0]);
    let groups = [vec![system::create_org()], vec![submit("1"), submit("[2]")], vec![submit("3")]];
    let events = commit(&log, &store, groups);
    assert_eq!((store.applied(), events.len()), (log.end(), 3));
    assert_eq!(follower.by_ref().map(Result::unwrap).count(), 4);

    // The rows lead to the payloads.
    for (id, payload) in events.iter().zip(["1", "[2]", "3"]) {
        let position = store.event(ORG, *id).unwrap().unwrap().position;
        assert_eq!(&*records.event(*id, position).unwrap().event.payload, payload.as_bytes());
        let other = records.event(EventId(1), position);
        assert!(matches!(other, Err(RecordError::Other { .. })), "{other:?}");
    }

    // A state that lacks a part of the log gets this part, and an empty one gets everything.
    let behind = open(&dirs[1]);
    assert_eq!(recover(&behind, &records, &Space::default()).unwrap().commands, 4);
    let at = Timestamp(1_000);
    commit(&log, &store, [vec![AckEvent { org: ORG, event: events[1], at }.into()]]);
    let acked = follower.next().unwrap().unwrap();
    assert!(matches!(acked.command, Command::AckEvent(_)) && follower.next().is_none());
    assert_eq!(recover(&behind, &records, &Space::default()).unwrap().commands, 1);
    let anew = open(&dirs[2]);
    assert_eq!(recover(&anew, &records, &Space::default()).unwrap().commands, 5);
    for recovered in [&behind, &anew] {
        assert_eq!(recovered.dump().unwrap(), store.dump().unwrap());
    }
}
