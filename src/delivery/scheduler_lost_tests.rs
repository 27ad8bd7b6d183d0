//! Hints and reports that arrive too early, twice, or never; and a clock that is set back.

use super::unreliable::Unreliable;
use super::*;
use crate::commands::{Applied, RetryDelivery, RetryOutcome};
use crate::model::delivery::Trigger;

const DEAD: Verdict = Verdict::Dead(DeadReason::AttemptsExhausted);
/// Seconds in which the scan finds all lost work.
const A_MINUTE: u64 = 60;

fn retry(org: OrgNo, (endpoint, event): (u128, u128), at: Timestamp) -> Command {
    let (endpoint, event, trigger) = (EndpointId(endpoint), EventId(event), Trigger::Retry);
    Command::RetryDelivery(RetryDelivery { org, endpoint, event, at, only_dead: false, trigger })
}

/// A world with an organization and an endpoint.
fn world(settings: EndpointSettings) -> (World, OrgNo) {
    let mut world = World::new(LIMITS);
    let org = world.org();
    world.endpoint(org, 1, settings);
    (world, org)
}

/// Returns the events begun in this many seconds, in steps of a second.
fn begun_within(world: &mut World, seconds: u64) -> Vec<u128> {
    let mut begun = Vec::new();
    for _ in 0..seconds {
        begun.extend(world.events_begun());
        world.pass(1_000);
    }
    begun.extend(world.events_begun());
    begun
}

/// Makes a change whose hints and reports are all lost.
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
            assert_eq!(world.apply(&again), Applied::RetryDelivery(RetryOutcome::Queued));
            world.tell_settled((1, event), DEAD);
            let next = world.events_begun();
            assert!(next.contains(&event), "{event} is not in {next:?}");
            world.accept((1, event));
            begun.extend(next.into_iter().filter(|other| *other != event));
            begun.extend(world.events_begun());
        }
        assert_eq!(
            (world.scheduler.queues.turns().unsettled(), world.scheduler.queues.queued()),
            (0, 0)
        );
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
    // All other attempts end; the settling of the first is reported last.
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
    world.scheduler.engine.hints.scheduler_missed.store(true, Ordering::SeqCst);
    assert_eq!(world.events_begun(), [] as [u128; 0]);
    world.tell_settled((1, 1), DEAD);
    assert_eq!(world.events_begun(), [1]);
}

#[test]
fn a_report_that_comes_twice_or_late_changes_nothing() {
    let (mut world, org) = world(settings());
    world.event(org, 1, &[1]);
    world.event(org, 2, &[1]);
    assert_eq!(world.events_begun(), [1, 2]);
    let (_, first) = world.attempt((1, 1));
    unheard(&mut world, |world| world.accept((1, 1)));
    for _ in 0..4 {
        world.scheduler.take_in(first.number);
        assert_eq!(
            (
                world.scheduler.queues.turns().in_flight(),
                world.scheduler.queues.turns().unsettled()
            ),
            (1, 1)
        );
    }
    world.accept((1, 2));
    assert_eq!(world.scheduler.queues.turns().unsettled(), 0);
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
    // An attempt that ended without a report, for example by a panic.
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
            most = most.max(world.scheduler.engine.metrics.delivery_overdue_seconds.get());
        }
        assert_eq!(begun, if scan_is_off { vec![] } else { vec![1] });
        assert_eq!(most > 60.0, scan_is_off, "{most}");
    }
}

/// A pause of the breaker, for minutes.
fn a_pause_of_the_breaker(world: &mut World, org: OrgNo) {
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
}

/// An attempt that hangs, with a limit of 1.
fn an_attempt_that_hangs(world: &mut World, org: OrgNo) {
    world.endpoint(org, 1, EndpointSettings { max_in_flight: Some(1), ..settings() });
    world.event(org, 1, &[1]);
    world.event(org, 2, &[1]);
}

/// Strict order: the first event is retried in an hour.
fn a_retry_in_strict_order(world: &mut World, org: OrgNo) {
    world.endpoint(org, 1, strict());
    world.event(org, 1, &[1]);
    world.event(org, 2, &[1]);
    world.begun();
    world.fail((1, 1), 3_600_000);
}

/// The owner has disabled the endpoint.
fn a_disabled_endpoint(world: &mut World, org: OrgNo) {
    let Command::PutEndpoint(mut put) = harness::put_endpoint(org, 1, settings(), world.now())
    else {
        return;
    };
    put.endpoint.disabled = Some(DisabledReason::ByOwner);
    world.apply(&Command::PutEndpoint(put));
    world.event(org, 1, &[1]);
}

#[test]
fn what_something_keeps_from_being_sent_is_not_overdue() {
    let hold = [
        a_pause_of_the_breaker,
        an_attempt_that_hangs,
        a_retry_in_strict_order,
        a_disabled_endpoint,
    ];
    for (number, hold) in hold.into_iter().enumerate() {
        let (mut world, org) = world(settings());
        hold(&mut world, org);
        for _ in 0..2 * A_MINUTE {
            begun_within(&mut world, 1);
            let overdue = world.scheduler.engine.metrics.delivery_overdue_seconds.get();
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

#[test]
fn what_was_taken_in_since_a_clock_was_set_back_an_hour_is_no_older_for_it() {
    const HOUR: u64 = 3_600_000;
    for settings in [settings(), strict()] {
        let is_strict = settings.ordering == crate::model::endpoint::Ordering::Strict;
        let (mut world, org) = world(EndpointSettings { max_in_flight: Some(1), ..settings });
        world.clock.set_ms(2 * HOUR);
        world.begun();
        let id = |world: &World, number: u128| u128::from(world.now().0) << 80 | number;
        // An id contains the steady time, and `received_at` is a wall time.
        let taken_in = |world: &mut World, event: u128| {
            unheard(world, |world| {
                world.apply(&harness::submit_event(org, event, Timestamp(world.clock.now_ms())));
                world.route(org, event, &[1], Timestamp(0));
            });
        };
        let first = id(&world, 1);
        world.event(org, first, &[1]);
        assert_eq!(world.events_begun(), [first]);
        world.clock.set_ms(HOUR);
        world.fail((1, first), 1_000);
        world.pass(2_000);
        let later = id(&world, 2);
        taken_in(&mut world, later);
        assert_eq!(world.events_begun(), [first], "its retry was due before, strict: {is_strict}");
        world.accept((1, first));
        assert_eq!(world.events_begun(), [later]);
        world.accept((1, later));
        // The hints of the next event are lost.
        let last = id(&world, 3);
        taken_in(&mut world, last);
        let (mut begun, mut most) = (Vec::new(), 0.0_f64);
        for _ in 0..A_MINUTE {
            begun.extend(begun_within(&mut world, 1));
            most = most.max(world.scheduler.engine.metrics.delivery_overdue_seconds.get());
        }
        assert_eq!((begun, most < 60.0), (vec![last], true), "{most}");
    }
}

#[test]
fn a_report_that_nobody_hears_is_found_behind_however_many_attempts_that_hang() {
    const MANY: usize = 1_000;
    let many = SchedulerLimits {
        in_flight: MANY,
        in_flight_per_org: MANY,
        in_flight_per_endpoint: MANY,
        queue_per_endpoint: MANY,
        ..LIMITS
    };
    let mut world = World::new(many);
    let org = world.org();
    world.endpoint(org, 1, settings());
    let events: Vec<u128> = (1..=u128::try_from(MANY).unwrap()).collect();
    for event in &events {
        world.event(org, *event, &[1]);
    }
    // As many attempts as the share for degraded endpoints allows.
    let begun = world.events_begun();
    let (hang, told) = begun.split_at(600);
    assert!(!told.is_empty());
    unheard(&mut world, |world| told.iter().for_each(|event| world.accept((1, *event))));
    assert_eq!(world.scheduler.queues.turns().unsettled(), begun.len());
    let mut next = begun_within(&mut world, A_MINUTE);
    next.retain(|event| !hang.contains(event));
    assert_eq!(
        world.scheduler.queues.turns().unsettled(),
        hang.len() + next.len(),
        "those that hang, and what began since"
    );
    assert!(told.iter().all(|event| !next.contains(event)) && next.len() >= told.len());
}

#[test]
fn also_the_first_pass_of_the_scan_comes_round_in_time_however_many_endpoints_there_are() {
    let mut world = World::new(LIMITS);
    let in_a_year = world.now().plus_ms(365 * 86_400_000);
    let mut org = world.org();
    for thousand in 0..6u128 {
        org = world.org();
        let endpoints: Vec<u128> = (1..=1_000).map(|number| thousand * 1_000 + number).collect();
        for endpoint in &endpoints {
            world.endpoint(org, *endpoint, settings());
        }
        world.submit(org, thousand + 1);
        world.route(org, thousand + 1, &endpoints, in_a_year);
    }
    assert_eq!(world.begun(), []);
    unheard(&mut world, |world| world.event(org, 100, &[6_000]));
    let mut waited_ms = 0;
    while world.events_begun().is_empty() {
        world.pass(250);
        waited_ms += 250;
        assert!(waited_ms < 60_000);
    }
    assert!(waited_ms < 18_000, "{waited_ms}");
}

#[test]
fn there_is_room_for_all_that_attempts_can_report_after_the_limits_were_raised() {
    let world = World::new(LIMITS);
    let raised = SchedulerLimits { in_flight: LIMITS.in_flight * RAISED_TIMES, ..LIMITS };
    assert!(world.scheduler.reports.0.capacity().unwrap() >= 2 * raised.room().unsettled);
}
