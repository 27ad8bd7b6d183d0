//! Tests of the decision about early expiry.

use super::*;

const BYTES: u64 = 100;
const NOW: Timestamp = Timestamp(1_000_000);

/// A journal of sealed segments of 100 bytes each and a last one, with an event each millisecond.
struct World {
    segments: Vec<SegmentSize>,
    looks: BTreeMap<Position, Look>,
    began: Position,
    early: EarlyExpiry,
    /// The position of the state, which each pass moves on.
    at: u64,
}

fn first_of(number: u64) -> Position {
    Position(1 + number * BYTES)
}

impl World {
    /// All sealed segments came after the start, and were looked at.
    fn new(sealed: u64) -> Self {
        let segment = |number| SegmentSize {
            first: first_of(number),
            end: first_of(number + 1),
            allocated: BYTES,
        };
        let segments = (0..=sealed).map(segment).collect();
        let mut world = Self {
            segments,
            looks: BTreeMap::new(),
            began: Position(0),
            early: EarlyExpiry::default(),
            at: 0,
        };
        (0..sealed).for_each(|number| world.look(number, 0, 0));
        world
    }

    /// The compactor looks at a segment.
    fn look(&mut self, number: u64, since: u64, freed: u64) {
        let received = Some((Timestamp(number * BYTES), Timestamp(number * BYTES + BYTES - 1)));
        self.looks.insert(first_of(number), Look { since: Position(since), freed, received });
    }

    fn decide(&mut self, (of_limit, of_free): (u64, u64), drop_open: bool) -> Decision {
        let journal =
            Journal { segments: &self.segments, looks: &self.looks, began: self.began, now: NOW };
        self.early.decide(journal, Missing { of_limit, of_free }, drop_open)
    }

    fn given(&self) -> u64 {
        let Self { segments, looks, began, early, .. } = self;
        early.given(Journal { segments, looks, began: *began, now: NOW })
    }

    /// Decides until nothing more leaves. Returns the kinds that left, in order.
    fn settle(&mut self, missing: (u64, u64), drop_open: bool) -> Vec<Leaving> {
        let mut kinds = Vec::new();
        loop {
            let decision = self.decide(missing, drop_open);
            let Some(kind) = decision.widened else { return kinds };
            kinds.push(kind);
            self.at += 1;
            self.early.passed(Position(self.at));
        }
    }

    fn until(&self) -> [u64; 3] {
        self.early.until.map(|until| until.0)
    }
}

#[test]
fn the_oldest_segments_leave_until_enough_counts_as_given_and_no_more_while_it_waits() {
    let mut world = World::new(10);
    assert_eq!(world.settle((0, 0), false), []);
    assert!(world.settle((250, 0), false).iter().all(|kind| *kind == Leaving::Finished));
    assert_eq!((world.until(), world.given()), ([300, 0, 0], 300));
    // The compactor has not given anything back, and nothing more leaves.
    assert_eq!(world.settle((300, 0), false), []);
    assert_eq!(world.decide((301, 0), false).widened, Some(Leaving::Finished));
    assert_eq!(world.until(), [400, 0, 0]);
}

#[test]
fn a_look_after_the_pass_tells_how_much_is_really_given() {
    let mut world = World::new(10);
    world.settle((200, 0), false);
    world.look(0, 0, 30);
    assert_eq!(world.given(), 200, "the look began before the pass was over");
    world.look(0, world.at, 30);
    world.look(1, world.at, 0);
    assert_eq!(world.given(), 30);
    world.settle((200, 0), false);
    assert_eq!((world.until(), world.given()), ([400, 0, 0], 230));
    // What is given back is no longer there, and no longer missing.
    world.segments[0].allocated = 70;
    world.look(0, world.at, 0);
    assert_eq!(world.given(), 200);
    assert_eq!(world.settle((170, 0), false), []);
}

#[test]
fn unneeded_bytes_of_segments_from_which_nothing_leaves_early_count_as_given() {
    let mut world = World::new(4);
    world.look(2, 0, 80);
    assert_eq!(world.settle((80, 0), false), []);
    world.settle((81, 0), false);
    assert_eq!(world.until(), [100, 0, 0]);
}

#[test]
fn after_a_start_nothing_leaves_before_the_compactor_has_looked() {
    let mut world = World::new(6);
    world.began = first_of(4);
    let looks = std::mem::take(&mut world.looks);
    let decision = world.decide((300, 0), false);
    let asked: Vec<_> = (0..6).map(first_of).collect();
    assert_eq!(decision, Decision { asked, ..Decision::default() });
    assert_eq!(world.given(), 400, "without the segments that came later");
    // They are as the last run left them: the first two segments are unneeded.
    world.looks = looks;
    world.look(0, 0, 100);
    world.look(1, 0, 100);
    assert_eq!(world.settle((200, 0), false), []);
    world.settle((201, 0), false);
    assert!(world.given() <= 300, "{}", world.given());
}

#[test]
fn dead_letters_leave_when_finished_events_do_not_do_and_open_ones_only_if_allowed() {
    for drop_open in [false, true] {
        let mut world = World::new(3);
        // For the limit, only finished events leave, even if this does not do.
        let kinds = world.settle((10_000, 250), drop_open);
        assert!(kinds.iter().all(|kind| *kind == Leaving::Finished), "{kinds:?}");
        assert!(world.decide((10_000, 250), drop_open).is_exhausted);
        (0..3).for_each(|number| world.look(number, world.at, 0));
        let kinds = world.settle((10_000, 250), drop_open);
        assert!(kinds.iter().all(|kind| *kind == Leaving::Dead), "{kinds:?}");
        assert_eq!(world.until(), [300, 300, 0]);
        (0..3).for_each(|number| world.look(number, world.at, 10));
        let kinds = world.settle((10_000, 250), drop_open);
        assert_eq!(kinds.is_empty(), !drop_open, "{kinds:?}");
        assert!(kinds.iter().all(|kind| *kind == Leaving::Open), "{kinds:?}");
        assert_eq!(world.until()[2] > 0, drop_open);
    }
}

#[test]
fn a_decision_covers_a_bounded_part_and_waits_for_the_look_at_the_oldest() {
    let mut world = World::new(320);
    let decision = world.decide((0, 1_000_000), false);
    assert_eq!((decision.widened, decision.is_for_disk), (Some(Leaving::Finished), true));
    assert_eq!(world.until(), [1_100, 0, 0], "a part of a 32nd, and a segment");
    let mut world = World::new(3);
    world.looks.remove(&first_of(1));
    assert!(!world.early.has_to_pass());
    let decision = world.decide((0, 1_000), true);
    assert!(world.early.has_to_pass(), "until the pass is over");
    assert_eq!((decision.widened, &*decision.asked), (Some(Leaving::Finished), &[first_of(1)][..]));
    world.early.passed(Position(1));
    let decision = world.decide((0, 1_000), true);
    assert_eq!((decision.widened, decision.is_exhausted), (None, false));
}

#[test]
fn a_clock_that_was_ahead_lets_no_newer_event_leave() {
    let mut world = World::new(4);
    let ahead = Some((Timestamp(NOW.0 + 5), Timestamp(NOW.0 + 9)));
    world.looks.insert(first_of(0), Look { since: Position(0), received: ahead, freed: 0 });
    world.settle((100, 0), false);
    assert_eq!(world.until(), [100, 0, 0], "up to the beginning of the second segment");
    let mut all = World::new(1);
    all.looks.insert(first_of(0), Look { since: Position(0), received: ahead, freed: 0 });
    all.settle((100, 0), false);
    assert_eq!(all.until(), [NOW.0, 0, 0]);
}
