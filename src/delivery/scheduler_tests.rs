//! Order and limits of attempts, with attempts that are only recorded: no network, no threads, and
//! a manual clock.

use super::*;
use crate::commands::{Command, DeleteEndpoint};
use crate::model::delivery::{DeadReason, Verdict};
use crate::model::endpoint::{DisabledReason, EndpointSettings};
use crate::model::id::OrgNo;
use crate::rules::breaker::{Answer, BreakerPolicy, BreakerView};

#[path = "scheduler_breaker_tests.rs"]
mod breaker;
#[path = "scheduler_days_tests.rs"]
mod days;
#[path = "scheduler_disk_tests.rs"]
mod disk;
#[path = "scheduler_harness_tests.rs"]
mod harness;
#[path = "scheduler_lost_tests.rs"]
mod lost;
#[path = "scheduler_plan_tests.rs"]
mod plan;
#[path = "scheduler_random_tests.rs"]
mod random;
#[path = "scheduler_simulation_tests.rs"]
mod simulation;
#[path = "scheduler_strict_tests.rs"]
mod strict_order;
#[path = "scheduler_suspended_tests.rs"]
mod suspended;
#[path = "scheduler_unreliable_tests.rs"]
mod unreliable;

use harness::{LIMITS, START, World, settings, strict};

/// An organization with 50 endpoints that never answer, and a backlog for each; then a delivery of
/// another organization. Returns the deliveries begun in its turn.
fn beside_hanging_endpoints(limits: SchedulerLimits) -> Vec<(u128, u128)> {
    let mut world = World::new(limits);
    let (slow, other) = (world.org(), world.org());
    let hanging: Vec<u128> = (1..=50).collect();
    for endpoint in &hanging {
        world.endpoint(slow, *endpoint, settings());
    }
    world.endpoint(other, 100, settings());
    for event in 1..=40 {
        world.event(slow, event, &hanging);
    }
    let may_have = limits.in_flight_per_org.min(limits.in_flight - limits.in_flight / 8);
    assert_eq!(world.begun().len(), may_have, "as many as it may");
    world.event(other, 1_000, &[100]);
    // A single turn must be enough.
    let before = world.noted.0.lock().unwrap().len();
    world.scheduler.turn().unwrap();
    let noted = world.noted.0.lock().unwrap();
    noted[before..].iter().map(|(_, it)| (it.endpoint.0, it.event.0)).collect()
}

#[test]
fn fifty_hanging_endpoints_leave_another_organization_alone() {
    assert_eq!(beside_hanging_endpoints(LIMITS), [(100, 1_000)]);
}

#[test]
fn without_a_bound_for_each_organization_they_would_not() {
    // Seven attempts have no eighth.
    let limits = SchedulerLimits { in_flight: 7, in_flight_per_org: 7, ..LIMITS };
    assert_eq!(beside_hanging_endpoints(limits), []);
}

#[test]
fn who_may_have_all_attempts_leaves_the_last_eighth_to_another_organization() {
    let limits = SchedulerLimits { in_flight: 50, ..LIMITS };
    assert_eq!(beside_hanging_endpoints(limits), [(100, 1_000)]);
}

#[test]
fn endpoints_that_hang_leave_something_to_those_of_their_organization_that_work() {
    let mut world = World::new(SchedulerLimits { in_flight_per_org: 16, ..LIMITS });
    let org = world.org();
    let hanging: Vec<u128> = (1..=10).collect();
    for endpoint in hanging.iter().copied().chain([20]) {
        world.endpoint(org, endpoint, settings());
    }
    for event in 1..=40 {
        world.event(org, event, &hanging);
    }
    let begun = world.begun();
    assert_eq!(begun.len(), 16, "each has one, and some a second");
    for delivery in begun {
        world.fail(delivery, 60_000);
    }
    assert_eq!(world.begun().len(), 12, "they are degraded now");
    for event in 41..=44 {
        world.event(org, event, &[20]);
    }
    assert_eq!(
        world.begun(),
        [(20, 41), (20, 42), (20, 43), (20, 44)][..1].to_vec(),
        "one to see whether it works"
    );
    world.accept((20, 41));
    assert_eq!(world.begun(), [(20, 42), (20, 43), (20, 44)]);
}

#[test]
fn the_endpoints_of_an_organization_share_what_it_may_have() {
    let mut world = World::new(SchedulerLimits { in_flight_per_org: 4, ..LIMITS });
    let org = world.org();
    for endpoint in [1, 2] {
        world.endpoint(org, endpoint, settings());
    }
    for event in 1..=9 {
        world.event(org, event, &[1, 2]);
    }
    assert_eq!(world.begun(), [(1, 1), (2, 1), (1, 2), (2, 2)]);
    world.accept((1, 1));
    world.accept((1, 2));
    assert_eq!(world.begun(), [(1, 3), (2, 3)]);
}

#[test]
fn an_endpoint_has_as_many_on_their_way_as_its_owner_wants_and_a_change_counts_from_the_next_attempt()
 {
    let mut world = World::new(LIMITS);
    let org = world.org();
    let with = |most| EndpointSettings { max_in_flight: most, ..settings() };
    world.endpoint(org, 1, with(Some(2)));
    for event in 1..=30 {
        world.event(org, event, &[1]);
    }
    assert_eq!(world.events_begun(), [1, 2]);
    world.accept((1, 2));
    assert_eq!(world.events_begun(), [3]);
    world.endpoint(org, 1, with(Some(3)));
    assert_eq!(world.events_begun(), [4]);
    world.endpoint(org, 1, with(Some(900)));
    assert_eq!(world.events_begun(), [5], "the configuration bounds it");
    world.endpoint(org, 1, with(Some(1)));
    for event in [1, 3, 4] {
        world.accept((1, event));
    }
    assert_eq!(world.events_begun(), [] as [u128; 0], "one is still on its way");
    world.accept((1, 5));
    assert_eq!(world.events_begun(), [6]);
    world.apply(&Command::DeleteEndpoint(DeleteEndpoint { org, endpoint: EndpointId(1) }));
    world.scheduler.turn().unwrap();
    assert_eq!(world.scheduler.queues.queued(), 0);
}

#[test]
fn an_endpoint_with_a_rate_gets_no_more_and_is_looked_at_when_a_token_is_due() {
    let mut world = World::new(LIMITS);
    let org = world.org();
    world.endpoint(org, 1, EndpointSettings { rate_per_second: Some(4), ..settings() });
    for event in 1..=3 {
        world.event(org, event, &[1]);
    }
    assert_eq!(world.events_begun(), [1]);
    assert_eq!(
        world.scheduler.next_timer(),
        Some(Look::At(Timestamp(START + 250))),
        "it sleeps until then"
    );
    world.accept((1, 1));
    world.pass(249);
    assert_eq!(world.events_begun(), [] as [u128; 0]);
    world.pass(1);
    assert_eq!(world.events_begun(), [2]);
    world.pass(250);
    assert_eq!(world.events_begun(), [3]);
    world.accept((1, 2));
    world.accept((1, 3));
    world.begun();
    world.event(org, 4, &[1]);
    let begun = world.events_begun();
    assert_eq!(begun, [] as [u128; 0], "the rate is not forgotten with the last delivery");
    world.clock.set_ms(START - 600_000);
    world.event(org, 5, &[1]);
    assert_eq!(world.events_begun(), [] as [u128; 0], "no time passes when a clock is set back");
    world.pass(250);
    assert_eq!(world.events_begun(), [4], "and it stops nobody");
    world.pass(250);
    assert_eq!(world.events_begun(), [5]);
    world.accept((1, 4));
    world.accept((1, 5));
    world.pass(700_000);
    world.begun();
    assert!(world.scheduler.queues.len() == 0, "then it is forgotten");
}

#[test]
fn a_busy_endpoint_gets_fewer_at_a_time() {
    let mut world = World::new(LIMITS);
    let org = world.org();
    world.endpoint(org, 1, settings());
    for event in 1..=20 {
        world.event(org, event, &[1]);
    }
    assert_eq!(world.begun().len(), 4);
    let again = Verdict::RetryAt(Timestamp(START + 90_000));
    world.end((1, 1), Answer::Busy(None), again);
    world.end((1, 2), Answer::Busy(None), again);
    assert_eq!(world.events_begun(), [] as [u128; 0], "four, two, one: and two are on their way");
    world.accept((1, 3));
    assert_eq!(world.events_begun(), [5], "two");
    world.accept((1, 4));
    assert_eq!(world.events_begun(), [6, 7], "three");
}

/// Organizations with `endpoints` endpoints and `events` events each; every event is for every
/// endpoint of its organization.
fn backlog(limits: SchedulerLimits, orgs: u128, endpoints: u128, events: u128) -> World {
    let mut world = World::new(limits);
    for org_at in 0..orgs {
        let org = world.org();
        let endpoints: Vec<u128> = (1..=endpoints).map(|at| org_at * endpoints + at).collect();
        for endpoint in &endpoints {
            world.endpoint(org, *endpoint, settings());
        }
        for event in 1..=events {
            world.event(org, org_at * events + event, &endpoints);
        }
    }
    world
}

#[test]
fn a_large_backlog_is_neither_loaded_at_once_nor_sent_at_once() {
    const ORGS: u128 = 50;
    const ENDPOINTS: u128 = 50;
    const EVENTS: u128 = 10;
    let limits = SchedulerLimits { queued: 1_250, ..LIMITS };
    let mut world = backlog(limits, ORGS, ENDPOINTS, EVENTS);
    let everything = usize::try_from(ORGS * ENDPOINTS * EVENTS).unwrap();
    world.pass(3_600_000);
    world.restart();
    let most = limits.queued + usize::try_from(ORGS * ENDPOINTS).unwrap();
    let mut ended = 0;
    while ended < everything {
        let looked = world.scheduler.queues.queued();
        world.scheduler.turn().unwrap();
        let held: usize = world.scheduler.queues.waiting().iter().sum();
        assert_eq!(held, world.scheduler.queues.queued());
        assert!(held <= most, "{held}");
        assert!(held <= looked + 64 * limits.queue_per_endpoint, "some at a time");
        assert!(world.scheduler.queues.turns().in_flight() <= limits.in_flight);
        let begun: Vec<_> = std::mem::take(&mut *world.noted.0.lock().unwrap());
        assert!(begun.len() <= limits.in_flight);
        for delivery in begun {
            let (_, attempt) = delivery;
            world.noted.0.lock().unwrap().push(delivery);
            world.accept((attempt.endpoint.0, attempt.event.0));
            world.noted.0.lock().unwrap().clear();
            ended += 1;
        }
    }
    assert_eq!(world.begun(), []);
    assert_eq!(
        (ended, world.scheduler.queues.len(), world.scheduler.queues.queued()),
        (everything, 0, 0)
    );
}
