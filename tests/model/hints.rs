//! The whole pipeline with hints that get lost, come twice, late, or in another order. The
//! committer, workers, replayer, sweeper, flusher, scheduler, journal and state are real; the
//! receivers are simulated, and the clock runs fast. All work must be done whatever happens to the
//! hints: the accepted deliveries are compared with a naive count. The scheduler's own simulation,
//! with its exact clock, shows that nothing waits for more than a minute.

use std::collections::{BTreeMap, BTreeSet};
use std::sync::{Arc, Mutex};
use std::thread::JoinHandle;
use std::time::{Duration, Instant};

use crossbeam_channel::{Receiver, Sender, bounded};
use triggerd::base::clock::Clock;
use triggerd::base::live::Live;
use triggerd::base::threads::Signal;
use triggerd::commands::{
    Command, CreateOrgOutcome, DeleteEndpoint, Drafted, EventDraft, Kind, OrgDraft, PutEndpoint,
    PutEndpointOutcome, Records, RetryDelivery, SettleAttempt, StartReplay, StartReplayOutcome,
    SubmitOutcome,
};
use triggerd::commit::{Engine, Flusher, Hints, Intake, Space};
use triggerd::config::Config;
use triggerd::delivery::completion::Completion;
use triggerd::delivery::scheduler::{Attempts, Scheduler, SchedulerLimits};
use triggerd::journal::{ReadLog as _, Reader};
use triggerd::model::delivery::{
    AttemptError, AttemptOutcome, DeadReason, ErrorCode, Trigger, Verdict,
};
use triggerd::model::endpoint::{Endpoint, EndpointSettings, Ordering, SealedSecret};
use triggerd::model::event::{Dedup, NewEvent};
use triggerd::model::id::{EndpointId, EventId, OrgNo, ReplayId};
use triggerd::model::replay::{ReplayOnly, ReplayRequest};
use triggerd::model::time::Timestamp;
use triggerd::pipeline::{Ages, DiskLimits, Replayer, Sweeper, Worker};
use triggerd::rules::breaker::{Answer, BreakerPolicy};
use triggerd::store::{DueDelivery, Store};

use crate::random::Random;
use crate::system::{create_org, engine_with};
use crate::world::{make_dir, open_journal};

const START_MS: u64 = 1_800_000_000_000;
/// Step of the clock in milliseconds.
const STEP_MS: u64 = 500;
/// Real time between two steps. A minute of the clock takes six seconds, in which each thread polls
/// several times.
const STEP_EVERY: Duration = Duration::from_millis(50);
const ENDPOINTS: u128 = 12;
const EVENTS: usize = 30;
/// The endpoint that is deleted while its deliveries wait.
const DELETED: EndpointId = EndpointId(ENDPOINTS);
/// The endpoint with strict ordering.
const STRICT: EndpointId = EndpointId(1);
const DEDUP_WINDOW_MS: u64 = 3_600_000;
/// Work that makes no progress for so long is never done, on any machine.
const PATIENCE: Duration = Duration::from_mins(3);
/// Longest time without progress when the scan is off, enough for many passes.
const GIVEN_UP_AFTER: Duration = Duration::from_secs(20);
const LIMITS_OF_SCHEDULER: SchedulerLimits = SchedulerLimits {
    in_flight: 64,
    in_flight_per_org: 32,
    in_flight_per_endpoint: 4,
    queue_per_endpoint: 8,
    queued: 64,
    breaker: BreakerPolicy {
        failures_in_a_row: 5,
        window: 40,
        failure_share: 0.5,
        pause_ms: 2_000,
        pause_ms_max: 8_000,
    },
};

/// Sends attempts to the simulated receivers.
struct Sent(Sender<(DueDelivery, Completion)>);

impl Attempts for Sent {
    fn start(&self, delivery: DueDelivery, completion: Completion) {
        drop(self.0.send((delivery, completion)));
    }
}

/// The accepted deliveries, by endpoint and event.
type Accepted = Arc<Mutex<BTreeSet<(EndpointId, EventId)>>>;

/// Answers all requests as the receivers.
fn receive(
    requests: &Receiver<(DueDelivery, Completion)>,
    intake: &Intake,
    clock: &Clock,
    accepted: &Accepted,
) {
    let mut made: BTreeMap<(EndpointId, EventId), u32> = BTreeMap::new();
    for (delivery, mut completion) in requests {
        let key = (delivery.endpoint.id, delivery.event);
        let times = made.entry(key).or_default();
        *times += 1;
        let steady = Timestamp(clock.steady_ms());
        let verdict = verdict_on(delivery.event, *times, steady);
        let outcome = outcome_of(&verdict, Timestamp(clock.now_ms()));
        completion.answered(Answer::of(&outcome), steady);
        completion.over();
        let settle = SettleAttempt {
            org: delivery.org,
            endpoint: key.0,
            event: key.1,
            number: delivery.attempts + 1,
            trigger: delivery.trigger,
            outcome,
            verdict,
            disables: None,
            previous: delivery.last_attempt,
            operational_events: Vec::new(),
        };
        let stored = intake.push_for_outcomes([settle]);
        if stored.is_some() && verdict == Verdict::Delivered {
            accepted.lock().unwrap().insert(key);
        }
        completion.end(stored.map(|_| verdict));
    }
}

/// Returns the verdict on this attempt of all for the event. Half of the events fail at first and
/// are retried. A third of these is given up at the second attempt, and accepted at the third.
fn verdict_on(event: EventId, attempt: u32, now: Timestamp) -> Verdict {
    let is_given_up = (event.0 >> 80).is_multiple_of(3);
    match attempt {
        1 if event.0 >> 80 & 1 == 0 => Verdict::RetryAt(now.plus_ms(3_000)),
        2 if is_given_up => Verdict::Dead(DeadReason::AttemptsExhausted),
        _ => Verdict::Delivered,
    }
}

fn outcome_of(verdict: &Verdict, at: Timestamp) -> AttemptOutcome {
    let failed = *verdict != Verdict::Delivered;
    let error = AttemptError { code: ErrorCode::HttpStatus, detail: String::new() };
    AttemptOutcome {
        status: Some(if failed { 500 } else { 200 }),
        error: failed.then_some(error),
        ..AttemptOutcome::new(at, 1)
    }
}

/// Carries hints from end to end with faults, until the first end is gone.
fn carry<T: Copy>(from: &Receiver<T>, to: &Sender<T>, mut random: Random) {
    let mut late: Vec<T> = Vec::new();
    while let Ok(first) = from.recv() {
        let given =
            late.drain(..).chain(std::iter::once(first)).chain(from.try_iter()).collect::<Vec<_>>();
        let mut arrives = Vec::new();
        for hint in given {
            match random.below(10) {
                0..3 => {}
                3..5 => late.push(hint),
                5 => {
                    arrives.push(hint);
                    late.push(hint);
                }
                _ => arrives.push(hint),
            }
        }
        while !arrives.is_empty() {
            let at = usize::try_from(random.below(arrives.len() as u64)).unwrap();
            // A hint for a full queue gets lost as well.
            to.try_send(arrives.swap_remove(at)).unwrap_or_default();
        }
    }
}

struct World {
    engine: Arc<Engine>,
    accepted: Accepted,
    wakes: Vec<Signal>,
    flush: triggerd::commit::Flush,
    threads: Vec<JoinHandle<()>>,
    committer: JoinHandle<()>,
    org: OrgNo,
    expected: BTreeSet<(EndpointId, EventId)>,
    _dir: tempfile::TempDir,
}

/// Returns the two ends of a channel of hints with a bad carrier between them.
fn bad_way<T: Copy + Send + 'static>(
    threads: &mut Vec<JoinHandle<()>>,
    random: Random,
) -> (Sender<T>, Receiver<T>) {
    let ((given, taken), (carried, heard)) = (bounded(4_096), bounded(256));
    threads.push(std::thread::spawn(move || carry(&taken, &carried, random)));
    (given, heard)
}

impl World {
    fn new(seed: u64) -> Self {
        let (dir, clock, mut threads) = (make_dir(), Clock::manual(START_MS), Vec::new());
        let mut random = Random::new(seed);
        let (writer, journal) = open_journal(dir.path(), &Arc::default());
        let store =
            Arc::new(Store::open(&dir.path().join("sled"), 8 << 20, journal.end()).unwrap());
        let (unrouted, to_workers) = bad_way(&mut threads, Random::new(random.next()));
        let (scheduler, to_scheduler) = bad_way(&mut threads, Random::new(random.next()));
        // Nothing listens to the signal of the replayer.
        let hints = Hints::new(unrouted, scheduler);
        let (engine, committer) = engine_with(
            &store,
            clock,
            (writer, Records::new(journal.clone())),
            (hints, Space::default()),
        );
        let (flush, flusher_progress) = (committer.flush(), committer.progress());
        let committer = std::thread::spawn(|| committer.run());
        let mut world = Self {
            engine: Arc::clone(&engine),
            accepted: Accepted::default(),
            wakes: vec![Signal::new(), Signal::new()],
            flush: flush.clone(),
            threads,
            committer,
            org: OrgNo(0),
            expected: BTreeSet::new(),
            _dir: dir,
        };
        for _ in 0..2 {
            let worker = Worker::new(Arc::clone(&engine), to_workers.clone());
            world.threads.push(std::thread::spawn(|| worker.run()));
        }
        let after = Duration::from_millis(50);
        let flusher = Flusher { engine, flush, after, progress: flusher_progress };
        world.threads.push(std::thread::spawn(|| flusher.run()));
        world.start_looking_on(journal);
        world.start_sending(to_scheduler);
        world
    }

    /// Starts the sweeper and the replayer.
    fn start_looking_on(&mut self, journal: Reader) {
        let keys_used = Box::new(Vec::new);
        let engine = Arc::clone(&self.engine);
        let config = Config::from_toml("").unwrap();
        let ages = Arc::new(Live::new(Ages::of(&config.retention, &config.tiers)));
        let limits = Arc::new(Live::new(DiskLimits::of(&config.retention)));
        let sweeper = Sweeper {
            engine,
            journal,
            dedup_window_ms: DEDUP_WINDOW_MS,
            ages,
            lets_expire: true,
            limits,
            keys_used,
            refused: Box::new(|_| None),
            archiver: None,
        };
        let wake = self.wakes[0].clone();
        self.threads.push(std::thread::spawn(move || sweeper.run(&wake)));
        let replayer = Replayer { engine: Arc::clone(&self.engine), wake: self.wakes[1].clone() };
        self.threads.push(std::thread::spawn(|| replayer.run()));
    }

    /// Starts the scheduler and the receivers.
    fn start_sending(&mut self, queue: Receiver<triggerd::commit::SchedulerHint>) {
        let (requests, received) = bounded(1_024);
        let engine = Arc::clone(&self.engine);
        let (stop, scheduler) = (
            self.engine.stop.clone(),
            Scheduler::new(engine, queue, LIMITS_OF_SCHEDULER, Sent(requests)),
        );
        self.threads.push(std::thread::spawn(move || scheduler.run(&stop, Duration::ZERO)));
        let (intake, clock, accepted) =
            (self.engine.intake.clone(), self.engine.clock.clone(), Arc::clone(&self.accepted));
        self.threads
            .push(std::thread::spawn(move || receive(&received, &intake, &clock, &accepted)));
    }

    fn submit<D: Drafted>(&self, draft: D) -> <D::Kind as Kind>::Outcome {
        self.engine.intake.submit(draft).unwrap().wait().unwrap().remove(0)
    }

    fn event(&mut self, number: usize) {
        let dedup = Dedup {
            id: number.to_string(),
            digest: std::array::from_fn(|at| u8::try_from(number >> (at % 8 * 8) & 0xff).unwrap()),
            fingerprint: [1; 8],
            window_start: Timestamp(0),
        };
        let event = NewEvent {
            event_type: "a.b".parse().unwrap(),
            dedup: Some(dedup),
            // Only after the clock was set back: an earlier `deliver_after` would be a day away
            // then, rightly.
            deliver_after: (number > EVENTS / 2 && number.is_multiple_of(7))
                .then(|| Timestamp(self.engine.clock.now_ms() + 10_000)),
            payload: b"{}".as_slice().into(),
            ..event_without_anything()
        };
        let SubmitOutcome::Accepted { id, .. } = self.submit(EventDraft::new(self.org, event))
        else {
            panic!("an event is taken")
        };
        let living = (1..ENDPOINTS).map(EndpointId);
        self.expected.extend(living.map(|endpoint| (endpoint, id)));
        if number.is_multiple_of(10) {
            self.pass();
        }
    }

    /// Lets time pass by a step.
    fn pass(&self) {
        std::thread::sleep(STEP_EVERY);
        self.engine.clock.advance_ms(STEP_MS);
        self.wakes[0].notify();
    }

    /// Plays the story: events, the deletion of an endpoint, a clock set back.
    fn play(&mut self) {
        let Command::CreateOrg(made) = create_org() else { unreachable!() };
        let CreateOrgOutcome::Created(org) = self.submit(OrgDraft::new(made.org, made.key)) else {
            panic!("an organization is made")
        };
        self.org = org;
        for id in 1..=ENDPOINTS {
            let ordering =
                if EndpointId(id) == STRICT { Ordering::Strict } else { Ordering::default() };
            let settings = EndpointSettings {
                url: "https://example.com/".into(),
                ordering,
                ..EndpointSettings::default()
            };
            let now = Timestamp(self.engine.clock.now_ms());
            let endpoint =
                Endpoint::new(EndpointId(id), settings, SealedSecret::new(vec![7; 72]), now);
            let put = PutEndpoint { org, endpoint, sets_enabled: true };
            assert_eq!(self.submit(put), PutEndpointOutcome::Put);
        }
        for number in 0..EVENTS {
            self.event(number);
            if number == EVENTS / 2 {
                self.submit(DeleteEndpoint { org, endpoint: DELETED });
                self.engine.clock.set_ms(START_MS - 86_400_000);
            }
        }
    }

    /// Repeats dead letters, by a replay and by single retries.
    fn repeat(&self) {
        let (org, at) = (self.org, Timestamp(self.engine.clock.now_ms()));
        let request = ReplayRequest {
            endpoint: None,
            since: None,
            until: None,
            event_types: Vec::new(),
            only: ReplayOnly::Failed,
        };
        let replay = ReplayId(u128::from(self.engine.clock.steady_ms()) << 80);
        assert_eq!(
            self.submit(StartReplay { org, replay, request, at }),
            StartReplayOutcome::Started
        );
        let (endpoint, only_dead, trigger) = (EndpointId(2), true, Trigger::Retry);
        for (_, event) in self.expected.iter().filter(|(to, _)| *to == endpoint) {
            let event = *event;
            self.submit(RetryDelivery { org, endpoint, event, at, only_dead, trigger });
        }
    }

    /// Returns a line for each kind of unfinished work.
    fn undone(&self) -> Vec<String> {
        let (counts, accepted) =
            (self.engine.store.counts().unwrap(), self.accepted.lock().unwrap());
        let missing = self.expected.difference(&accepted).count();
        let unrouted =
            self.engine.store.unrouted_after((OrgNo(0), EventId(0)), usize::MAX).unwrap().len();
        let replays = self.engine.store.running_replays().len();
        let fresh = self.engine.store.fresh_rows();
        [
            ("deliveries missing", missing),
            ("deliveries waiting", usize::try_from(counts.waiting).unwrap()),
            ("events not routed", unrouted),
            ("replays running", replays),
            ("rows not written back", fresh),
        ]
        .into_iter()
        .filter(|(_, count)| *count > 0)
        .map(|(what, count)| format!("{count} {what}"))
        .collect()
    }

    /// Lets time pass until no work is left.
    ///
    /// # Errors
    /// The unfinished work, unchanged for as long as `patience`.
    fn finish(&self, patience: Duration) -> Result<(), Vec<String>> {
        let (mut before, mut since) = (Vec::new(), Instant::now());
        let mut has_repeated = false;
        loop {
            self.pass();
            let counts = self.engine.store.counts().unwrap();
            let undone = self.undone();
            if undone != before {
                (before, since) = (undone.clone(), Instant::now());
            }
            // Only dead letters are left.
            if !has_repeated
                && counts.waiting == 0
                && counts.dead > 0
                && undone.iter().all(|it| !it.contains("routed"))
            {
                self.repeat();
                has_repeated = true;
            } else if undone.is_empty() && has_repeated {
                return Ok(());
            } else if since.elapsed() > patience {
                return Err(undone);
            }
        }
    }

    fn end(self) {
        let Self { engine, committer, wakes, flush, threads, .. } = self;
        engine.stop.set();
        engine.intake.close();
        committer.join().unwrap();
        wakes.iter().for_each(Signal::notify);
        flush.wake();
        // The carriers of hints end with the last engine.
        drop(engine);
        for thread in threads {
            thread.join().unwrap();
        }
    }
}

fn event_without_anything() -> NewEvent {
    let Command::SubmitEvent(submit) = crate::system::submit(0, None, Vec::new()) else {
        unreachable!()
    };
    submit.event
}

/// Plays a world to its end. Returns the time taken.
///
/// # Errors
/// The unfinished work.
pub(crate) fn run(seed: u64) -> Result<Duration, Vec<String>> {
    let began = Instant::now();
    let mut world = World::new(seed);
    world.play();
    let finished = world.finish(PATIENCE);
    // Expired dedup ids are forgotten without a hint.
    world.engine.clock.advance_ms(2 * DEDUP_WINDOW_MS);
    let before = Timestamp(world.engine.clock.steady_ms()).minus_ms(DEDUP_WINDOW_MS);
    while finished.is_ok() && world.engine.store.has_expired_dedup(before).unwrap() {
        assert!(began.elapsed() < PATIENCE * 4, "dedup ids are not forgotten");
        world.pass();
    }
    world.end();
    finished.map(|()| began.elapsed())
}

/// Plays a world in which no thread looks for lost work.
pub(crate) fn run_without_scan(seed: u64) -> Result<(), Vec<String>> {
    let mut world = World::new(seed);
    world.play();
    let finished = world.finish(GIVEN_UP_AFTER);
    world.end();
    finished
}
