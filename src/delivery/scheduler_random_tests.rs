//! Whatever happens, in whatever order: every delivery comes to its end, and strict order is kept.

use std::collections::BTreeMap;

use super::*;

/// Numbers that look random and are the same each time.
struct Dice(u64);

impl Dice {
    fn roll(&mut self, sides: u64) -> u64 {
        self.0 = self.0.wrapping_mul(6_364_136_223_846_793_005).wrapping_add(1_442_695_040_888_963_407);
        (self.0 >> 33) % sides
    }
}

/// A delivery that waits, as the test knows it.
#[derive(Clone, Copy, Debug)]
struct Waiting {
    due_at: Timestamp,
    attempted: bool,
    on_its_way: bool,
}

struct Game {
    world: World,
    org: OrgNo,
    waiting: BTreeMap<(u128, u128), Waiting>,
    /// Accepted and not routed yet.
    unrouted: Vec<u128>,
    last_event: u128,
}

const STRICT: u128 = 1;
const ENDPOINTS: [u128; 4] = [STRICT, 2, 3, 4];

impl Game {
    fn new() -> Self {
        let limits = SchedulerLimits { in_flight_per_org: 7, queue_per_endpoint: 3, queued: 8, ..LIMITS };
        let mut world = World::new(limits);
        let org = world.org();
        world.endpoint(org, STRICT, strict());
        world.endpoint(org, 2, settings());
        world.endpoint(org, 3, EndpointSettings { rate_per_second: Some(3), ..settings() });
        world.endpoint(org, 4, EndpointSettings { max_in_flight: Some(1), ..settings() });
        Self { world, org, waiting: BTreeMap::new(), unrouted: Vec::new(), last_event: 0 }
    }

    fn submit(&mut self) {
        self.last_event += 1;
        self.world.submit(self.org, self.last_event);
        self.unrouted.push(self.last_event);
    }

    /// Two workers route: not always in order.
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
            self.waiting.insert((*endpoint, event), Waiting { due_at, attempted: false, on_its_way: false });
        }
        self.world.route(self.org, event, &endpoints, due_at);
    }

    fn work(&mut self) {
        for delivery in self.world.begun() {
            let now = self.world.now();
            let first_unrouted = self.unrouted.iter().min().copied().unwrap_or(u128::MAX);
            if delivery.0 == STRICT {
                let before = self.waiting.range((STRICT, 0)..delivery);
                let overtaken = before.filter(|(_, it)| it.on_its_way || it.attempted || it.due_at <= now);
                assert_eq!(overtaken.map(|(key, _)| *key).collect::<Vec<_>>(), [], "overtaken by {delivery:?}");
                assert!(self.waiting.iter().all(|((to, _), it)| *to != STRICT || !it.on_its_way), "one at a time");
                assert!(delivery.1 < first_unrouted, "{delivery:?} before {first_unrouted} is routed");
            }
            let it = self.waiting.get_mut(&delivery).unwrap();
            assert!(!it.on_its_way && it.due_at <= now, "{delivery:?} is {it:?}");
            it.on_its_way = true;
        }
    }

    fn end_one(&mut self, dice: &mut Dice) {
        let on_their_way: Vec<_> = self.waiting.iter().filter(|(_, it)| it.on_its_way).map(|(key, _)| *key).collect();
        let Some(count) = u64::try_from(on_their_way.len()).ok().filter(|count| *count > 0) else { return };
        let delivery = on_their_way[usize::try_from(dice.roll(count)).unwrap()];
        match dice.roll(8) {
            0..3 => {
                let again_at = self.world.now().plus_ms(1 + dice.roll(30_000));
                let answers = [Answer::Failed, Answer::Busy(None), Answer::Busy(Some(4_000))];
                let answer = answers[usize::try_from(dice.roll(3)).unwrap()];
                self.world.end(delivery, answer, Verdict::RetryAt(again_at));
                let again = Waiting { due_at: again_at, attempted: true, on_its_way: false };
                self.waiting.insert(delivery, again);
            }
            3 => {
                self.world.end(delivery, Answer::Failed, Verdict::Dead(DeadReason::AttemptsExhausted));
                self.waiting.remove(&delivery);
            }
            _ => {
                self.world.accept(delivery);
                self.waiting.remove(&delivery);
            }
        }
    }

    fn restart(&mut self) {
        self.world.restart();
        self.waiting.values_mut().for_each(|it| it.on_its_way = false);
    }
}

#[test]
fn every_delivery_comes_to_its_end_and_strict_order_is_kept() {
    for seed in 0..60 {
        let (mut game, mut dice) = (Game::new(), Dice(seed));
        for _ in 0..150 {
            match dice.roll(12) {
                0..3 => game.submit(),
                3..6 => game.route(&mut dice),
                6..9 => game.end_one(&mut dice),
                9 => game.world.pass(dice.roll(3_000)),
                10 if dice.roll(10) == 0 => game.restart(),
                10 if dice.roll(5) == 0 => {
                    // Hints were missed.
                    game.world.scheduler.ports.hints.scheduler_missed.store(true, Ordering::SeqCst);
                }
                _ => {}
            }
            game.work();
        }
        while !game.unrouted.is_empty() {
            game.route(&mut dice);
        }
        for _ in 0..100_000 {
            game.work();
            if game.waiting.is_empty() {
                break;
            }
            if game.waiting.values().any(|it| it.on_its_way) {
                game.end_one(&mut dice);
            } else {
                game.world.pass(500);
            }
        }
        assert!(game.waiting.is_empty(), "seed {seed}: {:?}", game.waiting);
        game.world.pass(3_600_000);
        game.work();
        assert_eq!((game.world.scheduler.lanes.len(), game.world.scheduler.queued), (0, 0), "seed {seed}");
        assert_eq!(game.world.scheduler.turns.unsettled(), 0);
    }
}
