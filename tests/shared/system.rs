//! The parts below the HTTP server, for tests and benches: a committer whose hints nobody receives
//! and whose disk is never full, and commands for it.

use std::sync::{Arc, OnceLock};
use std::time::Duration;

use triggerd::base::clock::Clock;
use triggerd::base::metrics::Metrics;
use triggerd::base::threads::Signal;
use triggerd::commands::{Command, CreateOrg, SubmitEvent};
use triggerd::commit::{
    ActivityStream, CommitterLimits, Flush, Hints, InboxNotifier, Ports, Progress,
};
use triggerd::model::event::{Dedup, NewEvent};
use triggerd::model::id::{EventId, KeyId, OrgId, OrgNo};
use triggerd::model::key::{Key, Scopes};
use triggerd::model::org::{InboxMode, Org, Tier};
use triggerd::model::time::Timestamp;
use triggerd::store::Store;

pub(crate) const LIMITS: CommitterLimits = CommitterLimits {
    queue: 1_024,
    wait_max: Duration::from_mins(1),
    queue_bytes: usize::MAX,
    group_commands: 1_024,
    group_bytes: 8 << 20,
};

/// The parts that a committer needs. Nobody writes rows to sled unless a flusher gets `flush`.
pub(crate) fn ports(store: &Arc<Store>, clock: Clock) -> Ports {
    let hints = Hints {
        unrouted: crossbeam_channel::bounded(1).0,
        unrouted_missed: false.into(),
        scheduler: crossbeam_channel::bounded(1).0,
        scheduler_missed: false.into(),
        notifier: InboxNotifier::default(),
        replays: Signal::new(),
    };
    Ports {
        store: Arc::clone(store),
        clock,
        hints: Arc::new(hints),
        metrics: metrics(),
        flush: Flush::default(),
        progress: Arc::new(Progress::default()),
        space: Arc::default(),
        activity_stream: ActivityStream::default(),
    }
}

/// Metrics shared by the whole process: making them takes longer than a world of the model test.
fn metrics() -> Arc<Metrics> {
    static METRICS: OnceLock<Arc<Metrics>> = OnceLock::new();
    Arc::clone(METRICS.get_or_init(|| Arc::new(Metrics::new(&[]).unwrap())))
}

/// Creates the first organization, [`OrgNo`] 0, and its key, 2.
pub(crate) fn create_org() -> Command {
    let (name, created_at) = ("Acme".to_owned(), Timestamp(1));
    let (scopes, expires_at, ended_at) = (Scopes::all(), None, None);
    let key = Key {
        id: KeyId(2),
        name: name.clone(),
        hash: "$".into(),
        check: [0; 8],
        scopes,
        created_at,
        expires_at,
        ended_at,
    };
    let org = Org { id: OrgId(1), name, tier: Tier::Pro, inbox_mode: InboxMode::Auto, created_at };
    Command::CreateOrg(CreateOrg { number: OrgNo(0), org, key })
}

/// An event of the first organization; a committer replaces its id.
pub(crate) fn submit(id: u128, dedup: Option<Dedup>, payload: Vec<u8>) -> Command {
    let event_type = "order.created".parse().unwrap();
    let payload = payload.into();
    let event = NewEvent {
        event_type,
        dedup,
        labels: Vec::new(),
        occurred_at: None,
        deliver_after: None,
        payload,
        cloudevent: None,
    };
    let (id, received_at) = (EventId(id), Timestamp(1));
    Command::SubmitEvent(Box::new(SubmitEvent { org: OrgNo(0), by: None, id, received_at, event }))
}
