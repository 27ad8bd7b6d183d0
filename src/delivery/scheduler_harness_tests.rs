//! Shared by the tests of the scheduler: a state with commands applied directly, a manual clock,
//! and a scheduler whose attempts are only recorded.

use std::collections::HashMap;
use std::sync::atomic::AtomicU64;
use std::sync::{Mutex, PoisonError};

use super::unreliable::Unreliable;
use super::*;
use crate::base::clock::Clock;
use crate::commands::{
    Applied, Command, CreateOrg, CreateOrgOutcome, PutEndpoint, PutEndpointOutcome, Results,
    RouteEvent, SettleAttempt, SubmitEvent, SubmitOutcome,
};
use crate::commit::{Hints, Intake, Space};
use crate::journal::Position;
use crate::model::delivery::{AttemptError, AttemptOutcome, ErrorCode};
use crate::model::endpoint::{self, DisabledReason, Endpoint, EndpointSettings, SealedSecret};
use crate::model::event::NewEvent;
use crate::model::id::{KeyId, OrgId};
use crate::model::key::{Key, Scopes};
use crate::model::org::{InboxMode, Org, Tier};
use crate::model::routing::RouteReasons;
use crate::store::Store;

pub(super) const START: u64 = 1_000_000;
pub(super) const LIMITS: SchedulerLimits = SchedulerLimits {
    in_flight: 100,
    in_flight_per_org: 50,
    in_flight_per_endpoint: 4,
    queue_per_endpoint: 10,
    queued: 100_000,
    breaker: BreakerPolicy {
        failures_in_a_row: 5,
        window: 40,
        failure_share: 0.5,
        pause_ms: 5_000,
        pause_ms_max: 300_000,
    },
};

/// Attempts started, and their completion guards by number.
#[derive(Clone, Default)]
pub(super) struct Noted(
    pub(super) Arc<Mutex<Vec<(DueDelivery, Attempt)>>>,
    pub(super) Arc<Mutex<HashMap<u64, Completion>>>,
);

impl Attempts for Noted {
    fn start(&self, delivery: DueDelivery, completion: Completion) {
        let attempt = completion.attempt();
        self.0.lock().unwrap_or_else(PoisonError::into_inner).push((delivery, attempt));
        self.1.lock().unwrap_or_else(PoisonError::into_inner).insert(attempt.number, completion);
    }
}

/// A state, a clock, and a scheduler over both.
pub(super) struct World {
    pub(super) dir: tempfile::TempDir,
    pub(super) store: Arc<Store>,
    pub(super) clock: Clock,
    pub(super) position: Position,
    pub(super) limits: SchedulerLimits,
    pub(super) noted: Noted,
    pub(super) scheduler: Scheduler<Noted>,
    /// Loses and reorders hints and reports, if present.
    pub(super) unreliable: Option<Unreliable>,
}

/// Makes a scheduler over this state, connected only to these channels.
pub(super) fn scheduler<A: Attempts>(
    store: &Arc<Store>,
    clock: &Clock,
    limits: SchedulerLimits,
    (intake, hints, queue): Channels,
    attempts: A,
) -> Scheduler<A> {
    let engine = Engine::of(store, clock, intake, hints);
    let mut scheduler = Scheduler::new(engine, queue, limits, attempts);
    scheduler.jitter = || 0.5;
    scheduler
}

/// The intake, the flags of missed hints, and the queue of hints.
pub(super) type Channels = (Intake, Arc<Hints>, Receiver<SchedulerHint>);

/// Makes a queue of hints; the flag of missed hints is set.
pub(super) fn hints(capacity: usize) -> (Arc<Hints>, Receiver<SchedulerHint>) {
    let (scheduler, queue) = crossbeam_channel::bounded(capacity);
    let hints = Hints::new(crossbeam_channel::bounded(1).0, scheduler);
    hints.scheduler_missed.store(true, Ordering::SeqCst);
    (Arc::new(hints), queue)
}

/// Channels without senders: hints arrive only through [`World::apply`].
fn closed_channels() -> Channels {
    let (hints, queue) = hints(1);
    (Intake::unheard(), hints, queue)
}

/// The command that makes an organization with its first key.
pub(super) fn create_org(id: u128) -> Command {
    let (name, created_at) = ("first".to_owned(), Timestamp(1));
    let (scopes, expires_at, ended_at) = (Scopes::all(), None, None);
    let key = Key {
        id: KeyId(id),
        name,
        hash: "$".into(),
        check: [0; 8],
        scopes,
        created_at,
        expires_at,
        ended_at,
    };
    let (name, tier) = (format!("Acme {id}"), Tier::Free);
    let org = Org { id: OrgId(id), name, tier, inbox_mode: InboxMode::Auto, created_at };
    Command::CreateOrg(CreateOrg { number: OrgNo(0), org, key: Some(key) })
}

pub(super) fn put_endpoint(
    org: OrgNo,
    id: u128,
    settings: EndpointSettings,
    now: Timestamp,
) -> Command {
    let endpoint = Endpoint::new(EndpointId(id), settings, SealedSecret::new(vec![7; 72]), now);
    Command::PutEndpoint(PutEndpoint { org, endpoint, sets_enabled: true })
}

pub(super) fn submit_event(org: OrgNo, id: u128, received_at: Timestamp) -> Command {
    let event = NewEvent {
        event_type: "a.b".parse().unwrap(),
        dedup: None,
        labels: Vec::new(),
        occurred_at: None,
        deliver_after: None,
        payload: b"{}".as_slice().into(),
        cloudevent: None,
    };
    Command::SubmitEvent(Box::new(SubmitEvent {
        org,
        by: None,
        id: EventId(id),
        received_at,
        event,
    }))
}

impl World {
    pub(super) fn new(limits: SchedulerLimits) -> Self {
        let dir = tempfile::tempdir().unwrap();
        let store = Arc::new(Store::open(dir.path(), 8 << 20, Position::MAX).unwrap());
        let (clock, noted) = (Clock::manual(START), Noted::default());
        let scheduler = scheduler(&store, &clock, limits, closed_channels(), noted.clone());
        Self {
            dir,
            store,
            clock,
            position: Position::FIRST,
            limits,
            noted,
            scheduler,
            unreliable: None,
        }
    }

    /// Replaces the scheduler, which loses its memory.
    pub(super) fn restart(&mut self) {
        assert!(self.dir.path().exists());
        self.noted = Noted::default();
        self.scheduler =
            scheduler(&self.store, &self.clock, self.limits, closed_channels(), self.noted.clone());
    }

    /// Puts the scheduler, without its memory, on a filesystem with this reserve and the free bytes
    /// in `free`.
    pub(super) fn on_disk(&mut self, reserve: u64, free: &Arc<AtomicU64>) {
        let (intake, flags, queue) = closed_channels();
        let engine = Engine::of(&self.store, &self.clock, intake, flags);
        let mut engine = Arc::into_inner(engine).unwrap();
        let free = Arc::clone(free);
        let free = Box::new(move || Some(free.load(Ordering::SeqCst)));
        engine.space = Arc::new(Space::new(free, reserve));
        let engine = Arc::new(engine);
        self.scheduler = Scheduler::new(engine, queue, self.limits, self.noted.clone());
    }

    pub(super) fn now(&self) -> Timestamp {
        Timestamp(self.clock.steady_ms())
    }

    pub(super) fn pass(&self, ms: u64) {
        self.clock.advance_ms(ms);
    }

    /// Applies a command and passes its hints to the scheduler.
    pub(super) fn apply(&mut self, command: &Command) -> Applied {
        let (mut results, position) = (Results::default(), self.position);
        self.position = position.plus(100);
        let mut command = command.clone();
        if let Command::CreateOrg(create) = &mut command {
            create.number = self.store.next_org();
        }
        let commands = std::iter::once((position, &command));
        crate::commands::apply(&self.store, commands, self.position, &mut results).unwrap();
        let Results { mut outcomes, effects } = results;
        let due = effects
            .due
            .into_iter()
            .map(|(endpoint, look, event)| SchedulerHint::Due(endpoint, look, event));
        self.hint(due.chain(effects.endpoints_changed.into_iter().map(SchedulerHint::Changed)));
        outcomes.remove(0).unwrap()
    }

    /// Passes hints to the scheduler, through `unreliable` if present.
    pub(super) fn hint(&mut self, hints: impl Iterator<Item = SchedulerHint>) {
        let hints = match &mut self.unreliable {
            Some(unreliable) => unreliable.hints(hints),
            None => hints.collect(),
        };
        for hint in hints {
            self.scheduler.hear(hint);
        }
    }

    /// Passes reports of attempts to the scheduler.
    pub(super) fn hear_reports(&mut self) {
        let told: Vec<_> = self.scheduler.reports.1.try_iter().collect();
        let told = match &mut self.unreliable {
            Some(unreliable) => unreliable.reports(told.into_iter()),
            None => told,
        };
        for report in told {
            self.scheduler.take_in(report);
        }
    }

    pub(super) fn org(&mut self) -> OrgNo {
        match self.apply(&create_org(self.position.0.into())) {
            Applied::CreateOrg(CreateOrgOutcome::Created(org)) => org,
            other => panic!("{other:?}"),
        }
    }

    pub(super) fn endpoint(&mut self, org: OrgNo, id: u128, settings: EndpointSettings) {
        let put = put_endpoint(org, id, settings, self.now());
        assert_eq!(self.apply(&put), Applied::PutEndpoint(PutEndpointOutcome::Put));
    }

    pub(super) fn submit(&mut self, org: OrgNo, id: u128) {
        let outcome = self.apply(&submit_event(org, id, self.now()));
        assert!(
            matches!(outcome, Applied::SubmitEvent(SubmitOutcome::Accepted { .. })),
            "{outcome:?}"
        );
    }

    pub(super) fn route(&mut self, org: OrgNo, event: u128, endpoints: &[u128], due_at: Timestamp) {
        let endpoints = endpoints.iter().map(|id| EndpointId(*id)).collect();
        self.apply(&Command::RouteEvent(RouteEvent {
            org,
            event: EventId(event),
            endpoints,
            due_at,
            reasons: RouteReasons::default(),
        }));
    }

    pub(super) fn event(&mut self, org: OrgNo, id: u128, endpoints: &[u128]) {
        self.submit(org, id);
        self.route(org, id, endpoints, Timestamp(0));
    }

    /// Runs the scheduler until there is nothing to do at this time; returns endpoint and event of
    /// the attempts begun.
    pub(super) fn begun(&mut self) -> Vec<(u128, u128)> {
        let before = self.noted.0.lock().unwrap().len();
        self.hint(std::iter::empty());
        self.hear_reports();
        for _ in 0..10_000 {
            self.scheduler.turn().unwrap();
            let has_timer = self.scheduler.next_timer().is_some_and(|at| at.is_due(self.now()));
            if self.scheduler.catch_up.is_none() && !has_timer {
                let noted = self.noted.0.lock().unwrap();
                return noted[before..].iter().map(|(_, it)| (it.endpoint.0, it.event.0)).collect();
            }
        }
        panic!("it does not come to rest");
    }

    pub(super) fn events_begun(&mut self) -> Vec<u128> {
        self.begun().into_iter().map(|(_, event)| event).collect()
    }

    /// The last attempt of this delivery.
    pub(super) fn attempt(&self, (endpoint, event): (u128, u128)) -> (DueDelivery, Attempt) {
        let (endpoint, event) = (EndpointId(endpoint), EventId(event));
        let noted = self.noted.0.lock().unwrap();
        noted.iter().rfind(|(_, it)| it.endpoint == endpoint && it.event == event).unwrap().clone()
    }

    /// Ends the request of this delivery now.
    pub(super) fn over(&mut self, delivery: (u128, u128), answer: Answer) {
        self.over_since(delivery, answer, self.scheduler.now());
    }

    /// Ends the request at an earlier time; the report arrives only now.
    pub(super) fn over_since(&mut self, delivery: (u128, u128), answer: Answer, at: Timestamp) {
        let (_, attempt) = self.attempt(delivery);
        if let Some(completion) = self.noted.1.lock().unwrap().get_mut(&attempt.number) {
            completion.answered(answer, at);
            completion.over();
        }
        self.hear_reports();
    }

    /// Settles the delivery in the state and reports the settling.
    pub(super) fn settle(
        &mut self,
        delivery: (u128, u128),
        answer: Answer,
        verdict: Verdict,
        disables: Option<DisabledReason>,
    ) {
        self.store_settled(delivery, answer, verdict, disables);
        self.tell_settled(delivery, verdict);
    }

    /// Reports the settling of the delivery to the scheduler.
    pub(super) fn tell_settled(&mut self, delivery: (u128, u128), verdict: Verdict) {
        let (_, attempt) = self.attempt(delivery);
        let completion = self.noted.1.lock().unwrap().remove(&attempt.number);
        completion.unwrap().end(Some(verdict));
        self.hear_reports();
    }

    /// Settles the delivery in the state only, without a report.
    pub(super) fn store_settled(
        &mut self,
        delivery: (u128, u128),
        answer: Answer,
        verdict: Verdict,
        disables: Option<DisabledReason>,
    ) {
        let (delivery, attempt) = self.attempt(delivery);
        let failed = AttemptError { code: ErrorCode::HttpStatus, detail: String::new() };
        let settle = SettleAttempt {
            org: delivery.org,
            endpoint: attempt.endpoint,
            event: attempt.event,
            number: delivery.attempts + 1,
            outcome: AttemptOutcome {
                status: Some(200),
                error: (answer != Answer::Accepted).then_some(failed),
                ..AttemptOutcome::new(self.now(), 1)
            },
            verdict,
            disables,
            previous: delivery.last_attempt,
            trigger: delivery.trigger,
            operational_events: Vec::new(),
        };
        self.apply(&Command::SettleAttempt(Box::new(settle)));
    }

    /// Ends and settles the last attempt of this delivery.
    pub(super) fn end(&mut self, delivery: (u128, u128), answer: Answer, verdict: Verdict) {
        self.over(delivery, answer);
        self.settle(delivery, answer, verdict, None);
    }

    pub(super) fn accept(&mut self, delivery: (u128, u128)) {
        self.end(delivery, Answer::Accepted, Verdict::Delivered);
    }

    /// Fails the delivery, with a retry after this many milliseconds.
    pub(super) fn fail(&mut self, delivery: (u128, u128), again_ms: u64) {
        let at = self.now().plus_ms(again_ms);
        self.end(delivery, Answer::Failed, Verdict::RetryAt(at));
    }

    pub(super) fn view(&self, endpoint: u128) -> BreakerView {
        self.scheduler.engine.breakers.of(EndpointId(endpoint))
    }
}

pub(super) fn settings() -> EndpointSettings {
    EndpointSettings { url: "https://example.com/".into(), ..EndpointSettings::default() }
}

pub(super) fn strict() -> EndpointSettings {
    EndpointSettings { ordering: endpoint::Ordering::Strict, ..settings() }
}
