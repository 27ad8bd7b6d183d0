//! The parts below the HTTP server, for tests and benches: a committer whose hints nobody receives
//! and whose disk is never full, and commands for it.

use std::cell::OnceCell;
use std::sync::Arc;
use std::time::Duration;

use triggerd::base::clock::Clock;
use triggerd::base::metrics::Metrics;
use triggerd::base::threads::Stop;
use triggerd::base::vault::Vault;
use triggerd::commands::{Command, CreateOrg, Records, SubmitEvent};
use triggerd::commit::{
    ActivityStream, Breakers, Committer, Engine, GroupLimits, Hints, Intake, IntakeLimits,
    Snapshots, Space,
};
use triggerd::journal::Log;
use triggerd::model::event::{Dedup, NewEvent};
use triggerd::model::id::{EventId, KeyId, OrgId, OrgNo};
use triggerd::model::key::{Key, Scopes};
use triggerd::model::org::{InboxMode, Org, Tier};
use triggerd::model::time::Timestamp;
use triggerd::store::Store;

const INTAKE_LIMITS: IntakeLimits =
    IntakeLimits { queue: 1_024, wait_max: Duration::from_mins(1), bytes_max: usize::MAX };
const GROUP_LIMITS: GroupLimits = GroupLimits { commands: 1_024, bytes: 8 << 20 };

/// An engine whose hints nobody receives, and its committer. Nobody writes rows to sled without a
/// flusher.
pub(crate) fn engine<L: Log>(
    store: &Arc<Store>,
    clock: Clock,
    (log, records): (L, Records),
) -> (Arc<Engine>, Committer<L>) {
    engine_with(store, clock, (log, records), (hints(), Space::default()))
}

/// Hints that nobody receives.
pub(crate) fn hints() -> Hints {
    Hints::new(crossbeam_channel::bounded(1).0, crossbeam_channel::bounded(1).0)
}

/// The same with these hints, and on this filesystem.
pub(crate) fn engine_with<L: Log>(
    store: &Arc<Store>,
    clock: Clock,
    (log, records): (L, Records),
    (hints, space): (Hints, Space),
) -> (Arc<Engine>, Committer<L>) {
    let (intake, submissions) = Intake::new(INTAKE_LIMITS);
    let engine = Arc::new(Engine {
        clock,
        metrics: metrics(),
        store: Arc::clone(store),
        records,
        intake,
        hints: Arc::new(hints),
        activity_stream: ActivityStream::default(),
        space: Arc::new(space),
        vault: Vault::new(&[7; 32]),
        breakers: Breakers::default(),
        snapshots: Snapshots::default(),
        disk_use: triggerd::commit::DiskUse::default(),
        stop: Stop::new(),
    });
    let committer = Committer::new(Arc::clone(&engine), submissions, log, GROUP_LIMITS);
    (engine, committer.unwrap())
}

/// Metrics shared by the worlds of one thread, because making them takes longer than a world of the
/// model test. Each test has a thread of its own, so no test counts what another one does.
pub(crate) fn metrics() -> Arc<Metrics> {
    METRICS.with(|known| Arc::clone(known.get_or_init(|| Arc::new(Metrics::new(&[]).unwrap()))))
}

thread_local! {
    pub(crate) static METRICS: OnceCell<Arc<Metrics>> = const { OnceCell::new() };
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
    Command::CreateOrg(CreateOrg { number: OrgNo(0), org, key: Some(key) })
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
