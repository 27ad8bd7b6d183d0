//! Endpoints with strict order of events.

use super::*;

#[test]
fn strict_order_is_one_at_a_time_and_a_failing_one_holds_back_all_behind_it_also_over_a_restart() {
    let mut world = World::new(LIMITS);
    let org = world.org();
    world.endpoint(org, 1, strict());
    for event in 1..=25 {
        world.event(org, event, &[1]);
    }
    assert_eq!(world.events_begun(), [1]);
    world.accept((1, 1));
    assert_eq!(world.events_begun(), [2]);
    world.fail((1, 2), 5_000);
    world.event(org, 26, &[1]);
    world.pass(4_999);
    world.event(org, 27, &[1]);
    assert_eq!(world.events_begun(), [] as [u128; 0]);
    world.restart();
    assert_eq!(world.events_begun(), [] as [u128; 0]);
    world.event(org, 28, &[1]);
    assert_eq!(world.events_begun(), [] as [u128; 0]);
    world.pass(1);
    assert_eq!(world.events_begun(), [2]);
    world.end((1, 2), Answer::Failed, Verdict::Dead(DeadReason::AttemptsExhausted));
    assert_eq!(world.events_begun(), [3], "one that is given up lets the next one go");
    for event in 3..=28 {
        world.accept((1, event));
        assert_eq!(world.events_begun().first(), (event < 28).then_some(&(event + 1)));
    }
    assert_eq!(
        world.scheduler.queues.len(),
        1,
        "it is remembered that some of the last answers were failures"
    );
    world.pass(700_000);
    world.begun();
    assert!(world.scheduler.queues.len() == 0);
}

#[test]
fn strict_order_counts_from_when_it_is_set() {
    let mut world = World::new(LIMITS);
    let org = world.org();
    world.endpoint(org, 1, settings());
    for event in 1..=8 {
        world.event(org, event, &[1]);
    }
    assert_eq!(world.events_begun(), [1, 2, 3, 4]);
    world.fail((1, 3), 60_000);
    world.endpoint(org, 1, strict());
    world.fail((1, 2), 1_000);
    for event in [1, 4] {
        assert_eq!(
            world.events_begun(),
            [] as [u128; 0],
            "what is on its way comes to its end first"
        );
        world.accept((1, event));
    }
    assert_eq!(world.events_begun(), [] as [u128; 0]);
    world.pass(1_000);
    assert_eq!(world.events_begun(), [2]);
    world.accept((1, 2));
    assert_eq!(
        world.events_begun(),
        [] as [u128; 0],
        "the third failed and is due later than those behind it"
    );
    world.pass(59_000);
    assert_eq!(world.events_begun(), [3]);
    world.accept((1, 3));
    assert_eq!(world.events_begun(), [5]);
}

#[test]
fn strict_order_waits_for_an_earlier_event_that_is_still_being_routed() {
    let mut world = World::new(LIMITS);
    let org = world.org();
    world.endpoint(org, 1, strict());
    world.submit(org, 1);
    world.event(org, 2, &[1]);
    world.scheduler.turn().unwrap();
    assert_eq!(world.events_begun(), [] as [u128; 0]);
    assert!(world.scheduler.sleep() <= Duration::from_millis(5));
    world.route(org, 1, &[1], Timestamp(0));
    assert_eq!(world.events_begun(), [1]);
    world.accept((1, 1));
    assert_eq!(world.events_begun(), [2]);
    world.accept((1, 2));
    world.submit(org, 3);
    world.event(org, 4, &[1]);
    assert_eq!(world.events_begun(), [] as [u128; 0]);
    world.route(org, 3, &[], Timestamp(0));
    world.pass(5);
    assert_eq!(world.events_begun(), [4], "the earlier one goes elsewhere");
}

#[test]
fn an_event_for_later_has_its_place_in_strict_order_when_its_time_has_come() {
    let mut world = World::new(LIMITS);
    let org = world.org();
    world.endpoint(org, 1, strict());
    world.submit(org, 1);
    world.route(org, 1, &[1], Timestamp(START + 10_000));
    for event in [2, 3, 4] {
        world.event(org, event, &[1]);
    }
    assert_eq!(world.events_begun(), [2]);
    world.pass(10_000);
    assert_eq!(world.events_begun(), [] as [u128; 0]);
    world.accept((1, 2));
    assert_eq!(world.events_begun(), [1]);
    world.accept((1, 1));
    assert_eq!(world.events_begun(), [3]);
}
