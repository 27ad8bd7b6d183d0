//! Tests of the plans.

use super::*;

const HOUR_MS: u64 = 3_600_000;

/// Plans a segment whose parts have these lengths and needs.
fn plan(first: u64, parts: &[(u64, Need)]) -> Plan {
    let end = first + parts.iter().map(|(len, _)| len).sum::<u64>();
    let mut plan = Plan::new(Position(first), Position(end));
    let mut at = Position(first);
    for (len, need) in parts {
        plan.add((at, at.plus(*len)), *need);
        at = at.plus(*len);
    }
    plan.found_by = at;
    plan
}

/// One kept snapshot.
fn kept(position: u64) -> KeptSnapshots {
    KeptSnapshots { oldest: Position(position), newest: Position(position) }
}

fn without() -> Need {
    Need::Without(Cuts::default())
}

#[test]
fn a_plan_knows_the_need_for_each_record() {
    let parts = [
        (50, Need::Whole),
        (30, Need::Nothing),
        (20, Need::Nothing),
        (40, without()),
        (60, Need::Nothing),
    ];
    let plan = plan(1_001, &parts);
    let mut at = 1_001;
    for (len, need) in parts {
        assert_eq!(plan.need(Position(at)), need, "{at}");
        at += len;
    }
    assert_eq!(plan.need(Position(at)), Need::Whole, "behind the segment");
    assert_eq!(plan.removed.len(), 2, "neighbours are one range");
    assert!(plan.must_be_written());
}

#[test]
fn a_plan_is_worth_its_work_if_half_of_the_space_comes_free_or_something_must_go() {
    const MIB: u64 = 1 << 20;
    let worth = |parts: &[(u64, Need)], allocated| plan(1, parts).is_worth(allocated);
    let (whole, nothing) = (Need::Whole, Need::Nothing);
    assert!(worth(&[(MIB, nothing), (MIB / 2, whole)], 3 * MIB / 2));
    assert!(!worth(&[(MIB, whole), (MIB / 2, nothing)], 3 * MIB / 2));
    assert!(worth(&[(MIB, whole), (100, without())], MIB), "something must go");
    assert!(worth(&[(MIB, nothing)], MIB) && worth(&[], 4_096), "nobody needs anything");
    // Holes within blocks give nothing back.
    let small: Vec<_> = (0..2_000).flat_map(|_| [(100, whole), (900, nothing)]).collect();
    assert!(!worth(&small, 2_000_000));
    let large: Vec<_> = (0..200).flat_map(|_| [(100, whole), (19_900, nothing)]).collect();
    assert!(worth(&large, 4_000_000));
    // What was a hole before is not won again, however much the filesystem gives the file.
    assert!(!worth(&[(100, whole)], 4 * MIB) && !worth(&[(100, whole), (50, nothing)], 4 * MIB));
}

#[test]
fn a_plan_waits_for_a_snapshot_of_its_state_and_then_for_the_grace() {
    let mut plans = Plans::default();
    plans.add(plan(1, &[(100, Need::Nothing), (50, Need::Whole)]));
    assert!(plans.cover(None, 5), "no snapshot");
    assert!(plans.cover(Some(kept(150)), 10), "one from before the plan");
    let older_too = KeptSnapshots { oldest: Position(150), newest: Position(151) };
    assert!(!plans.cover(Some(older_too), 20), "no newer one helps while an older one is kept");
    assert_eq!(plans.take_due(Position::FIRST, u64::MAX, 0), None);
    assert!(!plans.cover(Some(kept(151)), 1_000));
    assert_eq!(plans.take_due(Position::FIRST, 1_000 + HOUR_MS - 1, HOUR_MS), None);
    assert!(!plans.cover(Some(kept(900)), 1_000 + HOUR_MS), "the wait does not begin again");
    assert_eq!(plans.take_due(Position(2), u64::MAX, HOUR_MS), None, "it is to be removed");
    let due = plans.take_due(Position::FIRST, 1_000 + HOUR_MS, HOUR_MS).unwrap();
    assert_eq!(due.first, Position::FIRST);
    assert!(!plans.has(due.first));
}

#[test]
fn the_journal_begins_behind_the_first_segments_that_nobody_needs() {
    let mut plans = Plans::default();
    let nothing = [(100, Need::Nothing)];
    plans.add(plan(1, &nothing));
    plans.add(plan(101, &nothing));
    plans.add(plan(201, &[(100, Need::Nothing), (50, Need::Whole)]));
    plans.add(plan(351, &nothing));
    assert_eq!(plans.new_first(Position(1), 9), Position(1), "no snapshot covers them");
    plans.cover(Some(kept(150)), 9);
    assert_eq!(plans.new_first(Position(1), 8), Position(1), "not for long enough");
    assert_eq!(plans.new_first(Position(1), 9), Position(101));
    plans.cover(Some(kept(900)), 0);
    assert_eq!(plans.new_first(Position(1), 9), Position(201));
    assert_eq!(plans.new_first(Position(351), 9), Position(451));
    plans.forget_before(Position(201));
    assert_eq!(plans.plans.keys().copied().collect::<Vec<_>>(), [Position(201), Position(351)]);
}

#[test]
fn plans_are_bounded() {
    let mut plans = Plans::default();
    let scattered = |first, ranges| {
        let parts: Vec<_> =
            (0..ranges).flat_map(|_| [(20, Need::Nothing), (20, Need::Whole)]).collect();
        plan(first, &parts)
    };
    plans.add(scattered(1, PLANNED_MAX));
    plans.add(scattered(1 << 40, 1));
    assert!(plans.has(Position(1)) && !plans.has(Position(1 << 40)));
}
