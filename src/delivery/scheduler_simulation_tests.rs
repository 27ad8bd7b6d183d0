//! Days of delivery in seconds: the real journal, committer, state and scheduler on a directory,
//! simulated receivers, and a clock that jumps from one timer to the next. All requests to
//! receivers are recorded for the judges.

use std::collections::{BTreeMap, HashMap};
use std::path::Path;
use std::sync::{Mutex, PoisonError};

use super::harness::{create_org, hints, put_endpoint, scheduler, settings, submit_event};
pub(super) use super::plan::{
    DAY, HOUR, Hearing, Kind, MINUTE, Plan, Request, Rest, SECOND, START, Seen, TIMEOUT,
};
use super::unreliable::Unreliable;
use super::*;
use crate::base::clock::Clock;
use crate::commands::{
    Applied, Applying, Command, CreateOrgOutcome, PutEndpointOutcome, Records, RouteEvent,
    SettleAttempt, SubmitOutcome,
};
use crate::commit::{Committer, GroupLimits, Intake, IntakeLimits, Space, recover};
use crate::journal::{self, OsFiles, ReadLog as _};
use crate::model::delivery::{AttemptError, AttemptOutcome, ErrorCode};
use crate::model::routing::RouteReasons;
use crate::rules::retry::{disables, verdict};
use crate::store::Store;

const ENDPOINTS_PER_ORG: u32 = 500;
/// When each endpoint gets an event, in milliseconds since the beginning.
const EVENTS_AT: [u64; 4] = [0, 2 * DAY, 4 * DAY, 6 * DAY];
/// When the hopeless endpoints get many events at once.
pub(super) const FLOOD_AT: u64 = HOUR;
/// Number of these events for each hopeless endpoint.
const FLOOD: u32 = 150;
/// Maximum number of commands in one submission.
const COMMANDS_AT_ONCE: usize = 512;
/// Number of steps of the clock between two write-backs to sled.
const WRITE_BACK_AFTER: u64 = 200;

/// A generator of pseudorandom numbers with a fixed seed.
struct Dice(u64);

impl Dice {
    /// Returns a number from 0 up to 1.
    fn unit(&mut self) -> f64 {
        self.0 =
            self.0.wrapping_mul(6_364_136_223_846_793_005).wrapping_add(1_442_695_040_888_963_407);
        f64::from(u32::try_from(self.0 >> 32).unwrap()) / (f64::from(u32::MAX) + 1.0)
    }
}

#[derive(Clone, Default)]
struct Noted(Arc<Mutex<Vec<(DueDelivery, Completion)>>>);

impl Attempts for Noted {
    fn start(&self, delivery: DueDelivery, completion: Completion) {
        self.0.lock().unwrap_or_else(PoisonError::into_inner).push((delivery, completion));
    }
}

/// The parts of the process that a restart replaces.
struct Running {
    store: Arc<Store>,
    intake: Intake,
    committer: std::thread::JoinHandle<()>,
    scheduler: Scheduler<Noted>,
    noted: Noted,
}

/// Makes a directory in memory if possible: the simulation needs no disk.
fn make_dir() -> tempfile::TempDir {
    let memory = Path::new("/dev/shm");
    let made = if memory.is_dir() { tempfile::tempdir_in(memory) } else { tempfile::tempdir() };
    made.or_else(|_| tempfile::tempdir()).unwrap()
}

pub(super) struct Simulation {
    plan: Plan,
    dir: tempfile::TempDir,
    clock: Clock,
    /// The scheduler's clock, which may be fast.
    fast_clock: Clock,
    dice: Dice,
    running: Option<Running>,
    orgs: Vec<OrgNo>,
    /// Requests in flight, by the time of their end.
    on_their_way: BTreeMap<(Timestamp, u64), (DueDelivery, Completion)>,
    unreliable: Option<Unreliable>,
    begun: u64,
    in_flight_of_org: HashMap<OrgNo, usize>,
    /// The next due time of each delivery.
    due: HashMap<(EndpointId, EventId), Timestamp>,
    seen: Seen,
}

/// Runs a plan to its end and returns the recorded requests.
pub(super) fn simulate(plan: Plan) -> Seen {
    let clock = Clock::manual(START.0);
    let mut simulation = Simulation {
        dir: make_dir(),
        fast_clock: Clock::manual(START.0 + plan.fast_by_ms),
        clock,
        dice: Dice(plan.seed),
        running: None,
        orgs: Vec::new(),
        on_their_way: BTreeMap::new(),
        begun: 0,
        in_flight_of_org: HashMap::new(),
        due: HashMap::new(),
        unreliable: (plan.hearing != Hearing::Good).then(|| Unreliable::new(plan.seed)),
        seen: Seen::default(),
        plan,
    };
    simulation.start();
    simulation.populate();
    simulation.run();
    simulation.look_at_the_rest();
    simulation.stop();
    simulation.seen
}

impl Simulation {
    fn start(&mut self) {
        let (writer, journal, _) =
            journal::open(&self.dir.path().join("journal"), Arc::new(OsFiles), 4 << 20).unwrap();
        let store = Store::open(&self.dir.path().join("sled"), 8 << 20, journal.end()).unwrap();
        if !self.plan.forgetful {
            recover(&store, &Records::new(journal), &Space::default()).unwrap();
        }
        let store = Arc::new(store);
        let (hints, queue) = hints(4_096);
        let limits =
            IntakeLimits { queue: 1_024, wait_max: Duration::from_mins(10), bytes_max: usize::MAX };
        let (intake, submissions) = Intake::new(limits);
        let engine = Engine::of(&store, &self.clock, intake.clone(), Arc::clone(&hints));
        let limits = GroupLimits { commands: 1_024, bytes: 8 << 20 };
        let committer = Committer::new(engine, submissions, writer, limits).unwrap();
        #[expect(clippy::disallowed_methods, reason = "a test")]
        let committer = std::thread::spawn(|| committer.run());
        let (noted, channels) = (Noted::default(), (intake.clone(), hints, queue));
        let mut scheduler =
            scheduler(&store, &self.fast_clock, self.plan.limits, channels, noted.clone());
        scheduler.scan.is_off = self.plan.hearing == Hearing::BadWithoutScan;
        self.running = Some(Running { store, intake, committer, scheduler, noted });
    }

    /// Stops without a write-back, as `kill -9` does.
    fn stop(&mut self) {
        let Running { intake, committer, scheduler, store, .. } = self.running.take().unwrap();
        intake.close();
        committer.join().unwrap();
        drop((scheduler, store));
    }

    fn running(&mut self) -> &mut Running {
        self.running.as_mut().unwrap()
    }

    fn now(&self) -> Timestamp {
        Timestamp(self.clock.now_ms())
    }

    fn since_start(&self) -> u64 {
        self.now().0 - START.0
    }

    fn submit(&mut self, commands: &[Command]) -> Vec<Applying> {
        let intake = self.running().intake.clone();
        let replies: Vec<_> = commands
            .chunks(COMMANDS_AT_ONCE)
            .map(|some| intake.submit_all(some.to_vec()).unwrap())
            .collect();
        let outcomes = replies.into_iter().flat_map(|reply| reply.wait().unwrap()).collect();
        // Hints come after the answers and before the next group of commands.
        drop(intake.submit_all(Vec::<Command>::new()).unwrap().wait());
        outcomes
    }

    /// The numbers of an organization's endpoints, counted over all organizations.
    fn numbers_of(&self, org_at: usize) -> std::ops::Range<u32> {
        let first = u32::try_from(org_at).unwrap() * ENDPOINTS_PER_ORG;
        first..self.plan.endpoints.min(first + ENDPOINTS_PER_ORG)
    }

    fn populate(&mut self) {
        let orgs = self.plan.endpoints.div_ceil(ENDPOINTS_PER_ORG);
        let creations: Vec<_> = (1..=orgs).map(|org| create_org(org.into())).collect();
        for outcome in self.submit(&creations) {
            let Ok(Applied::CreateOrg(CreateOrgOutcome::Created(org))) = outcome else {
                panic!("{outcome:?}")
            };
            self.orgs.push(org);
        }
        for org_at in 0..self.orgs.len() {
            let (org, now) = (self.orgs[org_at], self.now());
            let puts = self
                .numbers_of(org_at)
                .map(|number| put_endpoint(org, number.into(), settings(), now));
            let puts: Vec<_> = puts.collect();
            assert!(
                self.submit(&puts)
                    .iter()
                    .all(|outcome| *outcome == Ok(Applied::PutEndpoint(PutEndpointOutcome::Put)))
            );
        }
    }

    /// Sends an event to each of these endpoints of an organization.
    fn send(&mut self, org: OrgNo, numbers: impl Iterator<Item = u32>) {
        let endpoints: Vec<EndpointId> = numbers.map(|number| EndpointId(number.into())).collect();
        if endpoints.is_empty() {
            return;
        }
        let now = self.now();
        let sent = self.submit(&[submit_event(org, 0, now)]).pop();
        let Some(Ok(Applied::SubmitEvent(SubmitOutcome::Accepted { id, .. }))) = sent else {
            panic!("an event is accepted")
        };
        for endpoint in &endpoints {
            *self.seen.deliveries.entry(*endpoint).or_default() += 1;
            self.due.insert((*endpoint, id), now);
        }
        self.submit(&[Command::RouteEvent(RouteEvent {
            org,
            event: id,
            endpoints,
            due_at: Timestamp(0),
            reasons: RouteReasons::default(),
        })]);
    }

    fn send_what_is_planned(&mut self, from: u64, to: u64) {
        let is_now = |at: u64| from <= at && at < to;
        for org_at in 0..self.orgs.len() {
            let (org, numbers) = (self.orgs[org_at], self.numbers_of(org_at));
            for _ in EVENTS_AT.iter().filter(|at| is_now(**at)) {
                self.send(org, numbers.clone());
            }
            for _ in 0..if is_now(FLOOD_AT) { FLOOD } else { 0 } {
                self.send(
                    org,
                    numbers.clone().filter(|number| Kind::of(*number) == Kind::Hopeless),
                );
            }
        }
    }

    fn run(&mut self) {
        self.send_what_is_planned(0, 1);
        loop {
            while self.work() {}
            let Some(next) = self.next_timer() else { break };
            // Rounds the time up, so that a step serves several timers.
            let grain = grain(self.since_start());
            let (before, next) =
                (self.since_start(), next.0.max(self.now().0 + 1).div_ceil(grain) * grain);
            self.clock.set_ms(next);
            self.fast_clock.set_ms(next + self.plan.fast_by_ms);
            self.seen.steps += 1;
            if self.since_start() >= self.plan.ends_at {
                break;
            }
            self.send_what_is_planned(before + 1, self.since_start() + 1);
            if self.plan.restarts_at.first().is_some_and(|at| *at <= self.since_start()) {
                self.plan.restarts_at.remove(0);
                self.restart();
                if self.plan.forgetful {
                    break;
                }
            }
            if self.seen.steps.is_multiple_of(WRITE_BACK_AFTER) {
                self.running().store.write_back().unwrap();
                self.look_at_queues();
            }
        }
        self.seen.ended_at = self.now();
    }

    /// Returns the time of the next timer, end of a request, or planned event.
    fn next_timer(&mut self) -> Option<Timestamp> {
        let planned =
            EVENTS_AT.into_iter().chain([FLOOD_AT]).filter(|at| *at > self.since_start()).min();
        let ends = self.on_their_way.keys().next().map(|(at, _)| *at);
        let is_unreliable = self.plan.hearing != Hearing::Good;
        let Running { scheduler, .. } = self.running();
        // The timers cover all due deliveries, unless a hint was lost.
        let scan = is_unreliable.then_some(scheduler.scan.next_at);
        let own = scheduler.next_timer().map(|look| match look {
            Look::Now => scheduler.now(),
            Look::At(at) => at,
        });
        [own, scan, ends, planned.map(|at| START.plus_ms(at))].into_iter().flatten().min()
    }

    /// Runs a turn of the scheduler and its consequences; returns true if there may be more to do
    /// at this time.
    fn work(&mut self) -> bool {
        let queue = self.running().scheduler.hints.clone();
        let heard = match &mut self.unreliable {
            Some(unreliable) => unreliable.hints(queue.try_iter()),
            None => queue.try_iter().collect(),
        };
        self.hear_reports();
        let running = self.running();
        let has_heard = !heard.is_empty();
        let mut for_endpoint_most = 0;
        for hint in heard {
            running.scheduler.hear(hint);
            if let SchedulerHint::Due(endpoint, ..) = hint {
                for_endpoint_most = for_endpoint_most
                    .max(running.scheduler.queues.get(endpoint).map_or(0, EndpointQueue::waiting));
            }
        }
        running.scheduler.turn().unwrap();
        let fast_now = running.scheduler.now();
        let has_timer = running.scheduler.next_timer().is_some_and(|look| look.is_due(fast_now));
        let has_more = running.scheduler.catch_up.is_some() || has_timer;
        let queues = &running.scheduler.queues;
        let (held, in_flight) = (queues.queued(), queues.turns().in_flight());
        let begun = std::mem::take(&mut *running.noted.0.lock().unwrap());
        self.seen.queued_for_endpoint_most =
            self.seen.queued_for_endpoint_most.max(for_endpoint_most);
        self.seen.queued_most = self.seen.queued_most.max(held);
        self.seen.in_flight_most = self.seen.in_flight_most.max(in_flight);
        let has_begun = !begun.is_empty();
        for (delivery, completion) in begun {
            self.begin(delivery, completion);
        }
        let has_ended = self.end_what_is_over();
        has_heard || has_more || has_begun || has_ended
    }

    /// Records a request and schedules its end.
    fn begin(&mut self, delivery: DueDelivery, completion: Completion) {
        let attempt = completion.attempt();
        let (now, key) = (self.now(), (attempt.endpoint, attempt.event));
        let due_at = self.due.remove(&key).unwrap_or(Timestamp(u64::MAX));
        let hangs = Kind::of(number(attempt.endpoint)).answer(self.since_start()).is_none();
        let ends_at = now.plus_ms(if hangs { TIMEOUT } else { 0 });
        let request = Request { due_at, began_at: now, ended_at: None, asked_ms: 0 };
        self.seen.requests.entry(key).or_default().push(request);
        self.begun += 1;
        self.on_their_way.insert((ends_at, self.begun), (delivery, completion));
        let of_org = self.in_flight_of_org.entry(attempt.org).or_default();
        *of_org += 1;
        self.seen.in_flight_of_org_most = self.seen.in_flight_of_org_most.max(*of_org);
    }

    /// Ends requests as an attempt does: reports the end, settles by the rules, reports the
    /// settling.
    fn end_what_is_over(&mut self) -> bool {
        let now = self.now();
        let later = self.on_their_way.split_off(&(now.plus_ms(1), 0));
        let over: Vec<_> = std::mem::replace(&mut self.on_their_way, later).into_values().collect();
        let settles: Vec<_> = over
            .into_iter()
            .map(|(delivery, completion)| self.end(&delivery, completion, now))
            .collect();
        self.hear_reports();
        let commands: Vec<_> = settles.iter().map(|(.., command)| command.clone()).collect();
        assert!(
            self.submit(&commands)
                .iter()
                .all(|outcome| { matches!(outcome, Ok(Applied::SettleAttempt(_))) })
        );
        let has_settled = !settles.is_empty();
        for (completion, verdict, _) in settles {
            completion.end(Some(verdict));
        }
        self.hear_reports();
        has_settled
    }

    /// Ends a request and judges its outcome; returns the command that settles it.
    fn end(
        &mut self,
        delivery: &DueDelivery,
        mut completion: Completion,
        now: Timestamp,
    ) -> (Completion, Verdict, Command) {
        let attempt = completion.attempt();
        *self.in_flight_of_org.entry(attempt.org).or_default() -= 1;
        let mut outcome = self.outcome(attempt);
        let key = (attempt.endpoint, attempt.event);
        let request = self.seen.requests.get_mut(&key).unwrap().last_mut().unwrap();
        request.ended_at = Some(now);
        request.asked_ms = outcome.retry_after_ms.unwrap_or(0);
        outcome.retry_after_ms = outcome.retry_after_ms.filter(|_| !self.plan.deaf);
        let number = delivery.attempts + 1;
        let verdict =
            verdict(&self.plan.policy, number - delivery.base, &outcome, now, self.dice.unit());
        if let Verdict::RetryAt(at) = verdict {
            self.due.insert(key, at);
        }
        let is_gone = outcome.status == Some(410);
        let disables = disables(self.plan.disable_after_ms, delivery.failing_from, &outcome, now);
        completion.answered(Answer::of(&outcome), now);
        completion.over();
        let settle = SettleAttempt {
            org: delivery.org,
            endpoint: attempt.endpoint,
            event: attempt.event,
            number,
            outcome,
            verdict,
            disables: disables.filter(|_| !(self.plan.stubborn && is_gone)),
            previous: delivery.last_attempt,
            trigger: delivery.trigger,
            operational_events: Vec::new(),
        };
        (completion, verdict, Command::SettleAttempt(Box::new(settle)))
    }

    /// Passes reports of attempts to the scheduler.
    fn hear_reports(&mut self) {
        let reports = self.running().scheduler.reports.1.clone();
        let told = match &mut self.unreliable {
            Some(unreliable) => unreliable.reports(reports.try_iter()),
            None => reports.try_iter().collect(),
        };
        for report in told {
            self.running().scheduler.take_in(report);
        }
    }

    fn outcome(&self, attempt: Attempt) -> AttemptOutcome {
        let (now, kind) = (self.now(), Kind::of(number(attempt.endpoint)));
        let answer = kind.answer(self.since_start());
        let code = if answer.is_none() { ErrorCode::Timeout } else { ErrorCode::HttpStatus };
        let failed = answer.is_none_or(|(status, _)| status != 200);
        let took_ms = if answer.is_none() { TIMEOUT } else { 0 };
        AttemptOutcome {
            status: answer.map(|(status, _)| status),
            error: failed.then(|| AttemptError { code, detail: String::new() }),
            retry_after_ms: answer.and_then(|(_, asked_ms)| asked_ms),
            ..AttemptOutcome::new(Timestamp(now.0 - took_ms), u32::try_from(took_ms).unwrap())
        }
    }

    /// The waiting deliveries of each endpoint in the state, with their due times.
    fn due_times(&mut self) -> Vec<(EndpointId, Vec<(Timestamp, EventId)>)> {
        let (now, endpoints) = (self.now(), self.plan.endpoints);
        let store = &self.running().store;
        let ids = (0..endpoints).map(|number| EndpointId(number.into()));
        ids.map(|id| (id, store.waiting_for(id, now, usize::MAX).unwrap())).collect()
    }

    fn restart(&mut self) {
        let before = self.due_times();
        self.stop();
        let cut_off = std::mem::take(&mut self.on_their_way);
        for (_, completion) in cut_off.values() {
            // The delivery keeps its due time, and the request is repeated.
            let attempt = completion.attempt();
            let key = (attempt.endpoint, attempt.event);
            let due_at = self.seen.requests.get_mut(&key).and_then(Vec::pop).unwrap().due_at;
            self.due.insert(key, due_at);
        }
        self.in_flight_of_org.clear();
        self.start();
        let same = before == self.due_times();
        self.seen.restarts.push((cut_off.len(), same));
    }

    fn look_at_queues(&mut self) {
        let in_queues = self.running().scheduler.queues.waiting();
        assert_eq!(in_queues.iter().sum::<usize>(), self.running().scheduler.queues.queued());
        self.seen.queued_for_endpoint_most =
            in_queues.into_iter().chain([self.seen.queued_for_endpoint_most]).max().unwrap();
    }

    fn look_at_the_rest(&mut self) {
        for org_at in 0..self.orgs.len() {
            for number in self.numbers_of(org_at) {
                let (org, id) = (self.orgs[org_at], EndpointId(number.into()));
                let found = self.running().store.endpoint_of(org, id).unwrap();
                if let Some((endpoint, health)) = found {
                    self.seen.rest.insert(id, Rest { endpoint, health });
                }
            }
        }
        self.seen.waiting =
            self.due.iter().map(|((endpoint, _), due_at)| (*endpoint, *due_at)).collect();
    }
}

/// The precision of the clock: finer while the waits are short.
pub(super) fn grain(since_start: u64) -> u64 {
    if since_start < 15 * MINUTE { SECOND } else { 30 * SECOND }
}

pub(super) fn number(endpoint: EndpointId) -> u32 {
    u32::try_from(endpoint.0).unwrap()
}
