//! Attempts while the disk is almost full: failing endpoints are held back, others are not.

use std::sync::atomic::AtomicU64;

use super::harness::{LIMITS, World, settings};
use super::*;

const MIB: u64 = 1 << 20;
const RETRY_MS: u64 = 100;

/// A world on a filesystem with a reserve of 16 MiB: failing endpoints are held back below 12 MiB,
/// and sled never gets the last 8 MiB. Endpoints 1 and 2, of two organizations, fail; endpoint 3
/// accepts what it gets.
fn with_two_failing(free: &Arc<AtomicU64>) -> (World, [OrgNo; 2]) {
    let breaker = BreakerPolicy { failures_in_a_row: 10_000, window: 0, ..LIMITS.breaker };
    let mut world = World::new(SchedulerLimits { breaker, ..LIMITS });
    world.on_disk(16 * MIB, free);
    let orgs = [world.org(), world.org()];
    for (org, endpoint) in [(orgs[0], 1), (orgs[1], 2), (orgs[0], 3)] {
        world.endpoint(org, endpoint, settings());
    }
    world.event(orgs[0], 10, &[1, 3]);
    world.event(orgs[1], 11, &[2]);
    assert_eq!(world.begun().len(), 3);
    world.accept((3, 10));
    world.fail((1, 10), RETRY_MS);
    world.fail((2, 11), RETRY_MS);
    world.pass(RETRY_MS);
    (world, orgs)
}

/// Fails what begins, for `seconds`. Returns the endpoints asked.
fn asked_in(world: &mut World, seconds: u64) -> Vec<u128> {
    let mut asked = Vec::new();
    for _ in 0..seconds * 4 {
        for delivery in world.begun() {
            world.fail(delivery, RETRY_MS);
            asked.push(delivery.0);
        }
        world.pass(250);
    }
    asked
}

#[test]
fn on_an_almost_full_disk_failing_endpoints_take_turns_once_a_second_and_others_go_on() {
    let free = Arc::new(AtomicU64::new(12 * MIB));
    let (mut world, orgs) = with_two_failing(&free);
    assert!(asked_in(&mut world, 10).len() > 40, "below the reserve, both go on at first");

    free.store(12 * MIB - 1, std::sync::atomic::Ordering::SeqCst);
    let asked = asked_in(&mut world, 60);
    let of = |endpoint| asked.iter().filter(|asked| **asked == endpoint).count();
    assert!((59..=61).contains(&asked.len()) && of(1).abs_diff(of(2)) <= 1, "{asked:?}");
    assert_eq!(world.scheduler.engine.metrics.endpoints_held.get(), 2);
    assert!(world.scheduler.sleep() > Duration::ZERO, "the thread does not spin meanwhile");

    // An endpoint that accepts goes on beside them, and so does one that nothing is known about.
    world.endpoint(orgs[1], 4, settings());
    for event in 20..40 {
        world.event(orgs[0], event, &[3]);
        let begun = world.begun();
        assert!(begun.contains(&(3, event)), "{begun:?}");
        world.accept((3, event));
    }
    world.event(orgs[1], 50, &[4]);
    let begun = world.begun();
    assert!(begun.contains(&(4, 50)), "{begun:?}");
}

#[test]
fn in_the_last_part_of_the_reserve_they_are_asked_once_in_ten_seconds_and_with_room_at_once() {
    let free = Arc::new(AtomicU64::new(8 * MIB - 1));
    let (mut world, _) = with_two_failing(&free);
    let asked = asked_in(&mut world, 60);
    assert!((5..=7).contains(&asked.len()), "{asked:?}");
    free.store(14 * MIB, std::sync::atomic::Ordering::SeqCst);
    assert_eq!(world.begun().len(), 2);
    assert_eq!(world.scheduler.engine.metrics.endpoints_held.get(), 0);
}

#[test]
fn an_endpoint_that_accepts_again_gets_everything_that_waits_at_once() {
    let free = Arc::new(AtomicU64::new(0));
    let (mut world, orgs) = with_two_failing(&free);
    for event in 60..70 {
        world.event(orgs[0], event, &[1]);
    }
    let mut first = Vec::new();
    while first.is_empty() {
        world.pass(1_000);
        first = world.begun();
        first.retain(|(endpoint, event)| {
            if *endpoint == 2 {
                world.fail((2, *event), RETRY_MS);
            }
            *endpoint == 1
        });
    }
    world.accept(first[0]);
    let mut settled = 1;
    while settled < 11 {
        let begun = world.begun();
        assert!(!begun.is_empty(), "{settled} of 11 without any time passed");
        settled += begun.len();
        for delivery in begun {
            world.accept(delivery);
        }
    }
}
