//! What the scheduler is told too early, twice, or not at all; and a clock that is set back.

use super::unreliable::Unreliable;
use super::*;
use crate::model::command::RetryDelivery;
use crate::model::delivery::Trigger;
use crate::store::Outcome;

const DEAD: Verdict = Verdict::Dead(DeadReason::AttemptsExhausted);
/// In which everything is found that got lost.
const A_MINUTE: u64 = 60;

fn retry(org: OrgNo, (endpoint, event): (u128, u128), at: Timestamp) -> Command {
    let (endpoint, event, trigger) = (EndpointId(endpoint), EventId(event), Trigger::Retry);
    Command::RetryDelivery(RetryDelivery { org, endpoint, event, at, only_dead: false, trigger })
}

/// A world with an endpoint and an organization.
fn world(settings: EndpointSettings) -> (World, OrgNo) {
    let mut world = World::new(LIMITS);
    let org = world.org();
    world.endpoint(org, 1, settings);
    (world, org)
}

/// Events that are begun while so many seconds pass, one by one.
fn begun_within(world: &mut World, seconds: u64) -> Vec<u128> {
    let mut begun = Vec::new();
    for _ in 0..seconds {
        begun.extend(world.events_begun());
        world.pass(1_000);
    }
    begun.extend(world.events_begun());
    begun
}

/// What is lost, because nobody hears it.
fn unheard(world: &mut World, change: impl FnOnce(&mut World)) {
    world.unreliable = Some(Unreliable::deaf());
    change(world);
    world.unreliable = None;
}

#[test]
fn what_is_retried_before_the_scheduler_hears_that_it_is_over_is_attempted() {
    for settings in [settings(), strict()] {
        let (mut world, org) = world(settings);
        for event in 1..=3 {
            world.event(org, event, &[1]);
        }
        let mut begun = world.events_begun();
        while let Some(event) = begun.pop() {
            world.over((1, event), Answer::Failed);
            world.store_settled((1, event), Answer::Failed, DEAD, None);
            let again = retry(org, (1, event), world.now());
            assert_eq!(world.apply(&again), Outcome::Done);
            world.tell_settled((1, event), DEAD);
            let next = world.events_begun();
            assert!(next.contains(&event), "{event} is not in {next:?}");
            world.accept((1, event));
            begun.extend(next.into_iter().filter(|other| *other != event));
            begun.extend(world.events_begun());
        }
        assert_eq!((world.scheduler.turns.unsettled(), world.scheduler.queued), (0, 0));
    }
}

#[test]
fn also_behind_a_queue_that_is_full_and_while_hints_are_missed() {
    let (mut world, org) = world(EndpointSettings { max_in_flight: Some(2), ..settings() });
    for event in 1..=30 {
        world.event(org, event, &[1]);
    }
    assert_eq!(world.events_begun(), [1, 2]);
    world.over((1, 1), Answer::Accepted);
    world.store_settled((1, 1), Answer::Accepted, DEAD, None);
    world.apply(&retry(org, (1, 1), Timestamp(START)));
    let mut begun = world.events_begun();
    // All others go on; the first one is the last whose settling is heard.
    let mut again = 0;
    while let Some(event) = begun.pop() {
        if event == 1 {
            again += 1;
        } else {
            world.accept((1, event));
        }
        begun.extend(world.events_begun());
    }
    assert_eq!(again, 0, "it is not made twice at a time");
    world.accept((1, 2));
    world.scheduler.ports.hints.scheduler_missed.store(true, Ordering::SeqCst);
    assert_eq!(world.events_begun(), (3..=30).filter(|_| false).collect::<Vec<u128>>());
    world.tell_settled((1, 1), DEAD);
    assert_eq!(world.events_begun(), [1]);
}

#[test]
fn a_report_that_comes_twice_or_in_the_wrong_order_changes_nothing() {
    let (mut world, org) = world(settings());
    world.event(org, 1, &[1]);
    world.event(org, 2, &[1]);
    assert_eq!(world.events_begun(), [1, 2]);
    let (_, first) = world.attempt((1, 1));
    world.store_settled((1, 1), Answer::Accepted, Verdict::Delivered, None);
    for report in [
        Report::Settled(first, Some(Verdict::Delivered)),
        Report::Over(first, Answer::Accepted, Timestamp(START)),
        Report::Settled(first, Some(Verdict::Delivered)),
        Report::Over(first, Answer::Failed, Timestamp(START)),
    ] {
        world.scheduler.take_in(report);
        assert_eq!((world.scheduler.turns.in_flight(), world.scheduler.turns.unsettled()), (1, 1));
    }
    world.accept((1, 2));
    assert_eq!(world.scheduler.turns.unsettled(), 0);
}

#[test]
fn a_report_that_nobody_hears_gives_the_slot_back_within_a_minute() {
    let (mut world, org) = world(EndpointSettings { max_in_flight: Some(1), ..settings() });
    world.event(org, 1, &[1]);
    world.event(org, 2, &[1]);
    assert_eq!(world.events_begun(), [1]);
    unheard(&mut world, |world| world.accept((1, 1)));
    assert_eq!(world.events_begun(), [] as [u128; 0]);
    assert_eq!(begun_within(&mut world, A_MINUTE), [2]);
    // An attempt that ended without a word, as by a panic.
    let (_, attempt) = world.attempt((1, 2));
    let completion = world.noted.1.lock().unwrap().remove(&attempt.number);
    unheard(&mut world, |world| {
        drop(completion);
        world.hear_reports();
    });
    assert_eq!(begun_within(&mut world, A_MINUTE), [2], "it is made again");
}

#[test]
fn a_hint_that_nobody_hears_costs_a_minute_at_most_and_the_figure_for_it_stays_below() {
    for scan_is_off in [false, true] {
        let (mut world, org) = world(settings());
        world.scheduler.scan.is_off = scan_is_off;
        world.begun();
        unheard(&mut world, |world| world.event(org, 1, &[1]));
        let (mut begun, mut most) = (Vec::new(), 0.0_f64);
        for _ in 0..4 * A_MINUTE {
            begun.extend(begun_within(&mut world, 1));
            most = most.max(world.scheduler.ports.metrics.delivery_overdue_seconds.get());
        }
        assert_eq!(begun, if scan_is_off { vec![] } else { vec![1] });
        assert_eq!(most > 60.0, scan_is_off, "{most}");
    }
}

#[test]
fn what_something_keeps_from_being_sent_is_not_overdue() {
    let hold: [fn(&mut World, OrgNo); 4] = [
        |world, org| {
            // A pause of its breaker, for minutes.
            for event in 1..=5 {
                world.event(org, event, &[1]);
            }
            world.begun();
            for event in 1..=4 {
                world.end((1, event), Answer::Failed, DEAD);
            }
            world.begun();
            world.end((1, 5), Answer::Busy(Some(3_600_000)), DEAD);
            world.event(org, 6, &[1]);
        },
        |world, org| {
            // One that hangs, and a bound.
            world.endpoint(org, 1, EndpointSettings { max_in_flight: Some(1), ..settings() });
            world.event(org, 1, &[1]);
            world.event(org, 2, &[1]);
        },
        |world, org| {
            // The order of events: the first is to be retried in an hour.
            world.endpoint(org, 1, strict());
            world.event(org, 1, &[1]);
            world.event(org, 2, &[1]);
            world.begun();
            world.fail((1, 1), 3_600_000);
        },
        |world, org| {
            // Its owner has disabled it.
            let Command::PutEndpoint(mut put) = harness::put_endpoint(org, 1, settings(), world.now()) else { return };
            put.endpoint.disabled = Some(DisabledReason::ByOwner);
            world.apply(&Command::PutEndpoint(put));
            world.event(org, 1, &[1]);
        },
    ];
    for (number, hold) in hold.into_iter().enumerate() {
        let (mut world, org) = world(settings());
        hold(&mut world, org);
        for _ in 0..2 * A_MINUTE {
            begun_within(&mut world, 1);
            let overdue = world.scheduler.ports.metrics.delivery_overdue_seconds.get();
            assert!(overdue < 1.0, "{number}: {overdue}");
        }
    }
}

#[test]
fn a_clock_that_is_set_back_holds_up_no_retry_and_no_pause() {
    let (mut world, org) = world(settings());
    world.event(org, 1, &[1]);
    assert_eq!(world.events_begun(), [1]);
    world.fail((1, 1), 5_000);
    world.clock.set_ms(START - 700_000);
    world.pass(4_999);
    assert_eq!(world.events_begun(), [] as [u128; 0], "nothing is early");
    world.pass(1);
    assert_eq!(world.events_begun(), [1]);
    world.clock.set_ms(0);
    world.end((1, 1), Answer::Busy(Some(30_000)), Verdict::RetryAt(world.now().plus_ms(30_000)));
    assert_eq!(world.view(1), BreakerView::Open(Timestamp(30_000)), "as its owner's clock has it");
    world.pass(29_999);
    assert_eq!(world.events_begun(), [] as [u128; 0]);
    world.pass(1);
    assert_eq!(world.events_begun(), [1]);
}
