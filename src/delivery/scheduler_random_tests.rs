//! Random sequences of everything: every delivery ends, and strict order is kept.

use std::collections::BTreeMap;

use super::unreliable::{Dice, Unreliable};
use super::*;
use crate::commands::RetryDelivery;
use crate::model::delivery::Trigger;

/// A waiting delivery, as expected by the test.
#[derive(Clone, Copy, Debug)]
struct Waiting {
    due_at: Timestamp,
    attempted: bool,
    on_its_way: bool,
    /// Set by a retry through the API. If its hint is lost, later events may begin before.
    repeated: bool,
}

struct Game {
    world: World,
    org: OrgNo,
    waiting: BTreeMap<(u128, u128), Waiting>,
    /// Events accepted and not yet routed.
    unrouted: Vec<u128>,
    last_event: u128,
    /// Ended deliveries, which can be retried.
    over: Vec<(u128, u128)>,
}

/// Maximum delay of a due delivery that nothing holds back, in milliseconds.
const LATE_MAX_MS: u64 = 60_000;
/// Enough time for all deliveries with all pauses of all breakers, in milliseconds.
const ALL_MAX_MS: u64 = 3_600_000;

const STRICT: u128 = 1;
const ENDPOINTS: [u128; 4] = [STRICT, 2, 3, 4];

impl Game {
    fn new() -> Self {
        let limits =
            SchedulerLimits { in_flight_per_org: 7, queue_per_endpoint: 3, queued: 8, ..LIMITS };
        let mut world = World::new(limits);
        let org = world.org();
        world.endpoint(org, STRICT, strict());
        world.endpoint(org, 2, settings());
        world.endpoint(org, 3, EndpointSettings { rate_per_second: Some(3), ..settings() });
        world.endpoint(org, 4, EndpointSettings { max_in_flight: Some(1), ..settings() });
        Self {
            world,
            org,
            waiting: BTreeMap::new(),
            unrouted: Vec::new(),
            last_event: 0,
            over: Vec::new(),
        }
    }

    fn submit(&mut self) {
        self.last_event += 1;
        self.world.submit(self.org, self.last_event);
        self.unrouted.push(self.last_event);
    }

    /// Routes a random one of the oldest two events, as two workers may.
    fn route(&mut self, dice: &mut Dice) {
        if self.unrouted.is_empty() {
            return;
        }
        let at = usize::try_from(dice.roll(2)).unwrap().min(self.unrouted.len() - 1);
        let event = self.unrouted.remove(at);
        let endpoints: Vec<u128> = ENDPOINTS.into_iter().filter(|_| dice.roll(4) > 0).collect();
        let now = self.world.now();
        let due_at = if dice.roll(5) == 0 { now.plus_ms(dice.roll(20_000)) } else { Timestamp(0) };
        for endpoint in &endpoints {
            self.waiting.insert(
                (*endpoint, event),
                Waiting { due_at, attempted: false, on_its_way: false, repeated: false },
            );
        }
        self.world.route(self.org, event, &endpoints, due_at);
    }

    fn work(&mut self) {
        for delivery in self.world.begun() {
            let now = self.world.now();
            let first_unrouted = self.unrouted.iter().min().copied().unwrap_or(u128::MAX);
            if delivery.0 == STRICT {
                let before = self.waiting.range((STRICT, 0)..delivery);
                let is_told = |it: &Waiting| !it.repeated || self.world.unreliable.is_none();
                let overtaken = before
                    .filter(|(_, it)| it.on_its_way || it.attempted || it.due_at <= now)
                    .filter(|(_, it)| is_told(it));
                assert_eq!(
                    overtaken.map(|(key, _)| *key).collect::<Vec<_>>(),
                    [],
                    "overtaken by {delivery:?}"
                );
                assert!(
                    self.waiting.iter().all(|((to, _), it)| *to != STRICT || !it.on_its_way),
                    "one at a time"
                );
                assert!(
                    delivery.1 < first_unrouted,
                    "{delivery:?} before {first_unrouted} is routed"
                );
            }
            let it = self.waiting.get_mut(&delivery).unwrap();
            assert!(!it.on_its_way && it.due_at <= now, "{delivery:?} is {it:?}");
            it.on_its_way = true;
        }
    }

    fn end_one(&mut self, dice: &mut Dice) {
        let on_their_way: Vec<_> =
            self.waiting.iter().filter(|(_, it)| it.on_its_way).map(|(key, _)| *key).collect();
        let Some(count) = u64::try_from(on_their_way.len()).ok().filter(|count| *count > 0) else {
            return;
        };
        let delivery = on_their_way[usize::try_from(dice.roll(count)).unwrap()];
        match dice.roll(8) {
            0..3 => {
                let again_at = self.world.now().plus_ms(1 + dice.roll(30_000));
                let answers = [Answer::Failed, Answer::Busy(None), Answer::Busy(Some(4_000))];
                let answer = answers[usize::try_from(dice.roll(3)).unwrap()];
                self.world.end(delivery, answer, Verdict::RetryAt(again_at));
                let again = Waiting {
                    due_at: again_at,
                    attempted: true,
                    on_its_way: false,
                    repeated: false,
                };
                self.waiting.insert(delivery, again);
            }
            3 => {
                self.world.end(
                    delivery,
                    Answer::Failed,
                    Verdict::Dead(DeadReason::AttemptsExhausted),
                );
                self.waiting.remove(&delivery);
                self.over.push(delivery);
            }
            _ => {
                self.world.accept(delivery);
                self.waiting.remove(&delivery);
                self.over.push(delivery);
            }
        }
    }

    fn do_something(&mut self, dice: &mut Dice) {
        match dice.roll(13) {
            0..3 => self.submit(),
            3..6 => self.route(dice),
            6..9 => self.end_one(dice),
            9 => self.world.pass(dice.roll(3_000)),
            10 if dice.roll(10) == 0 => self.restart(),
            10 if dice.roll(5) == 0 => {
                // Some hints were missed.
                self.world.scheduler.engine.hints.scheduler_missed.store(true, Ordering::SeqCst);
            }
            11 => self.repeat(),
            _ => {}
        }
    }

    /// Goes on until every delivery has ended; fails if nothing happens for a minute.
    fn end_all(&mut self, dice: &mut Dice) -> Result<(), String> {
        let in_flight = |game: &Self| game.waiting.values().filter(|it| it.on_its_way).count();
        let began = self.world.now();
        let mut quiet_since = began;
        while !self.waiting.is_empty() {
            let before = in_flight(self);
            self.work();
            let now = self.world.now();
            let has_begun = in_flight(self) > before;
            let is_due = self.waiting.values().any(|it| it.due_at <= now);
            if has_begun || !self.is_quiet() || !is_due {
                quiet_since = now;
            }
            if now.0 - quiet_since.0 > LATE_MAX_MS || now.0 - began.0 > ALL_MAX_MS {
                return Err(format!("nothing happens for a minute to {:?}", self.waiting));
            }
            if in_flight(self) > 0 {
                self.end_one(dice);
            } else {
                self.world.pass(500);
            }
        }
        Ok(())
    }

    /// Retries an ended delivery, often before the scheduler knows its end.
    fn repeat(&mut self) {
        let Some((endpoint, event)) = self.over.pop() else { return };
        let (org, at) = (self.org, self.world.now());
        let (id, number) = (EndpointId(endpoint), EventId(event));
        let (only_dead, trigger) = (false, Trigger::Retry);
        let retry = RetryDelivery { org, endpoint: id, event: number, at, only_dead, trigger };
        self.world.apply(&Command::RetryDelivery(retry));
        let again = Waiting { due_at: at, attempted: false, on_its_way: false, repeated: true };
        self.waiting.insert((endpoint, event), again);
    }

    /// True if no attempt is in flight and no breaker is open, as far as the scheduler can know.
    fn is_quiet(&self) -> bool {
        let is_open = |endpoint: u128| self.world.view(endpoint) != BreakerView::Closed;
        !self.waiting.values().any(|it| it.on_its_way) && !ENDPOINTS.into_iter().any(is_open)
    }

    fn restart(&mut self) {
        self.world.restart();
        self.waiting.values_mut().for_each(|it| it.on_its_way = false);
    }
}

/// Plays a game; fails unless every delivery ends, within a minute of its earliest time.
fn play(seed: u64, is_unreliable: bool, scan_is_off: bool) -> Result<(), String> {
    let (mut game, mut dice) = (Game::new(), Dice(seed));
    game.world.unreliable = is_unreliable.then(|| Unreliable::new(seed));
    for _ in 0..150 {
        game.world.scheduler.scan.is_off = scan_is_off;
        game.do_something(&mut dice);
        game.work();
    }
    while !game.unrouted.is_empty() {
        game.route(&mut dice);
    }
    game.end_all(&mut dice).map_err(|fault| format!("seed {seed}: {fault}"))?;
    for _ in 0..10 {
        game.world.pass(600_000);
        game.work();
    }
    let scheduler = &game.world.scheduler;
    let queues = &scheduler.queues;
    assert_eq!((queues.len(), queues.queued()), (0, 0), "seed {seed}");
    assert_eq!((queues.turns().unsettled(), scheduler.under_way.len()), (0, 0), "seed {seed}");
    Ok(())
}

#[test]
fn every_delivery_comes_to_its_end_and_strict_order_is_kept() {
    for seed in 0..60 {
        play(seed, false, false).unwrap();
    }
}

#[test]
fn without_a_scan_too_as_long_as_every_hint_is_heard() {
    for seed in 0..60 {
        play(seed, false, true).unwrap();
    }
}

#[test]
fn whatever_becomes_of_hints_and_reports_everything_comes_to_its_end_a_minute_later_at_most() {
    for seed in 0..60 {
        play(seed, true, false).unwrap();
    }
}

#[test]
fn without_the_scan_lost_hints_are_lost_work() {
    let lost = (0..6).filter(|seed| play(*seed, true, true).is_err()).count();
    assert!(lost >= 5, "only {lost} of 6 games were lost");
}
