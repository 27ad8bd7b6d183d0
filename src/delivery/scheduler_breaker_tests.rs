//! Endpoints with bad answers: pauses, probes, 410, `Retry-After`.

use super::*;

#[test]
fn after_five_failures_nothing_begins_until_one_attempt_probes() {
    let mut world = World::new(LIMITS);
    let org = world.org();
    world.endpoint(org, 1, settings());
    for event in 1..=30 {
        world.event(org, event, &[1]);
    }
    assert_eq!(world.events_begun(), [1, 2, 3, 4]);
    for event in 1..=4 {
        world.fail((1, event), 60_000);
    }
    assert_eq!(world.events_begun(), [5, 6, 7, 8]);
    for event in 5..=8 {
        world.fail((1, event), 60_000);
    }
    let opened = BreakerView::Open(Timestamp(START + 5_000));
    assert_eq!((world.events_begun(), world.view(1)), (vec![], opened));
    assert_eq!(world.scheduler.engine.metrics.breakers_open.get(), 1);
    assert_eq!(world.scheduler.queues.queued(), 0, "memory is for what can be sent");
    world.event(org, 31, &[1]);
    world.pass(4_999);
    assert_eq!(world.events_begun(), [] as [u128; 0]);
    world.pass(1);
    assert_eq!((world.events_begun(), world.view(1)), (vec![9], BreakerView::HalfOpen));
    world.fail((1, 9), 60_000);
    assert_eq!(world.view(1), BreakerView::Open(Timestamp(START + 15_000)));
    world.pass(10_000);
    assert_eq!(world.events_begun(), [10]);
    world.accept((1, 10));
    assert_eq!((world.events_begun(), world.view(1)), (vec![11, 12, 13, 14], BreakerView::Closed));
    assert_eq!(world.scheduler.engine.metrics.breakers_open.get(), 0);
    for event in 11..=14 {
        world.accept((1, event));
    }
    assert_eq!(world.events_begun(), [15, 16, 17, 18]);
}

#[test]
fn a_hint_that_comes_late_begins_nothing_before_its_time() {
    let mut world = World::new(LIMITS);
    let org = world.org();
    world.endpoint(org, 1, settings());
    world.event(org, 1, &[1]);
    assert_eq!(world.events_begun(), [1]);
    world.fail((1, 1), 5_000);
    // A delivery found by a look may also have a hint in the queue.
    world.scheduler.hear(SchedulerHint::Due(EndpointId(1), Look::Now, EventId(1)));
    assert_eq!(world.events_begun(), [] as [u128; 0]);
    world.pass(4_999);
    assert_eq!(world.events_begun(), [] as [u128; 0]);
    world.pass(1);
    assert_eq!(world.events_begun(), [1]);
}

#[test]
fn one_that_fails_every_second_time_is_left_alone_when_forty_answers_are_known() {
    let mut world = World::new(LIMITS);
    let org = world.org();
    world.endpoint(org, 1, EndpointSettings { max_in_flight: Some(1), ..settings() });
    for event in 1..=50 {
        world.event(org, event, &[1]);
    }
    for event in 1..=40 {
        assert_eq!((world.events_begun(), world.view(1)), (vec![event], BreakerView::Closed));
        if event % 2 == 0 { world.accept((1, event)) } else { world.fail((1, event), 3_600_000) }
    }
    assert_eq!(
        (world.events_begun(), world.view(1)),
        (vec![], BreakerView::Open(Timestamp(START + 5_000)))
    );
    world.pass(5_000);
    assert_eq!(world.events_begun(), [41]);
    world.accept((1, 41));
    assert_eq!((world.events_begun(), world.view(1)), (vec![42], BreakerView::Closed));
}

/// The endpoint has a limit of 1, and the first of three deliveries ends with this answer. Returns
/// the events begun before the first is settled.
fn begun_before_it_is_settled(world: &mut World, org: OrgNo, answer: Answer) -> Vec<u128> {
    world.endpoint(org, 1, EndpointSettings { max_in_flight: Some(1), ..settings() });
    for event in 1..=3 {
        world.event(org, event, &[1]);
    }
    assert_eq!(world.events_begun(), [1]);
    world.over((1, 1), answer);
    world.events_begun()
}

#[test]
fn after_a_410_nothing_goes_out_while_that_is_on_its_way_to_the_journal() {
    let mut world = World::new(LIMITS);
    let org = world.org();
    assert_eq!(begun_before_it_is_settled(&mut world, org, Answer::Gone), []);
    assert_eq!(world.scheduler.queues.queued(), 0, "memory is for what can be sent");
    world.event(org, 4, &[1]);
    world.scheduler.hear(SchedulerHint::Changed(EndpointId(1)));
    world.pass(60_000);
    assert_eq!(world.events_begun(), [], "whatever is heard and however long it takes");
    world.settle((1, 1), Answer::Gone, Verdict::Dead(DeadReason::Gone), Some(DisabledReason::Gone));
    world.pass(3_600_000);
    assert_eq!(world.events_begun(), []);
    world.endpoint(org, 1, settings());
    assert_eq!(world.events_begun(), [2, 3, 4], "its owner enabled it again");
}

#[test]
fn after_another_failure_the_next_does_not_wait_for_the_journal() {
    let mut world = World::new(LIMITS);
    let org = world.org();
    assert_eq!(begun_before_it_is_settled(&mut world, org, Answer::Failed), [2]);
}

#[test]
fn a_410_that_could_not_be_settled_is_asked_for_again() {
    let mut world = World::new(LIMITS);
    let org = world.org();
    assert_eq!(begun_before_it_is_settled(&mut world, org, Answer::Gone), []);
    let (_, attempt) = world.attempt((1, 1));
    drop(world.noted.1.lock().unwrap().remove(&attempt.number));
    world.hear_reports();
    assert_eq!(world.events_begun(), []);
    world.pass(1_000);
    assert_eq!(world.events_begun(), [1]);
}

#[test]
fn the_attempts_of_one_delivery_are_late_by_the_pause_at_most() {
    let mut world = World::new(LIMITS);
    let org = world.org();
    world.endpoint(org, 1, settings());
    world.event(org, 1, &[1]);
    assert_eq!(world.events_begun(), [1]);
    for (wait_ms, late_ms) in [(1, 0), (1, 0), (1, 0), (1, 0), (1, 4_999), (20_000, 0), (1, 19_999)]
    {
        world.fail((1, 1), wait_ms);
        world.pass(wait_ms - 1);
        assert_eq!(world.events_begun(), [] as [u128; 0]);
        world.pass(1);
        if late_ms > 0 {
            world.pass(late_ms - 1);
            assert_eq!(world.events_begun(), [] as [u128; 0]);
            world.pass(1);
        }
        assert_eq!(world.events_begun(), [1], "{wait_ms} ms, late by {late_ms}");
    }
    world.end((1, 1), Answer::Failed, Verdict::Dead(DeadReason::AttemptsExhausted));
    world.begun();
    assert_ne!(world.view(1), BreakerView::Closed, "remembered, though nothing waits");
    world.pass(3_600_000);
    world.begun();
    assert_eq!(
        (world.view(1), world.scheduler.queues.len()),
        (BreakerView::Closed, 0),
        "but not for ever"
    );
}

#[test]
fn retry_after_pauses_the_endpoint_as_a_whole_and_a_changed_one_is_judged_again() {
    let mut world = World::new(LIMITS);
    let org = world.org();
    world.endpoint(org, 1, settings());
    for event in 1..=9 {
        world.event(org, event, &[1]);
    }
    world.begun();
    let again = Verdict::RetryAt(Timestamp(START + 90_000));
    world.end((1, 1), Answer::Busy(Some(90_000)), again);
    world.accept((1, 2));
    world.pass(89_999);
    assert_eq!(world.events_begun(), [] as [u128; 0]);
    world.endpoint(
        org,
        1,
        EndpointSettings { url: "https://example.com/other".into(), ..settings() },
    );
    assert_eq!((world.events_begun(), world.view(1)), (vec![5, 6], BreakerView::Closed));
}

#[test]
fn a_pause_begins_with_the_answer_however_late_the_scheduler_hears_of_it() {
    let mut world = World::new(LIMITS);
    let org = world.org();
    world.endpoint(org, 1, settings());
    world.event(org, 1, &[1]);
    world.event(org, 2, &[1]);
    assert_eq!(world.events_begun(), [1, 2]);
    let answered = Timestamp(START);
    world.pass(90_000);
    for event in 1..=2 {
        world.over_since((1, event), Answer::Busy(Some(90_000)), answered);
        world.settle(
            (1, event),
            Answer::Busy(Some(90_000)),
            Verdict::RetryAt(Timestamp(START + 90_000)),
            None,
        );
    }
    assert_eq!(world.events_begun(), [1], "it probes");
}
