//! Deliveries of a suspended organization.

use super::unreliable::Unreliable;
use super::*;
use crate::commands::ChangeOrg;

fn suspend(world: &mut World, org: OrgNo, suspended: bool) {
    let (suspended, at) = (Some(suspended), world.now());
    let change = ChangeOrg { org, name: None, tier: None, inbox_mode: None, suspended, at };
    world.apply(&change.into());
}

const NOTHING: [u128; 0] = [];

#[test]
fn nothing_is_sent_while_an_organization_is_suspended_and_all_of_it_afterwards() {
    let mut world = World::new(LIMITS);
    let (org, other) = (world.org(), world.org());
    world.endpoint(org, 1, settings());
    world.endpoint(org, 2, strict());
    world.endpoint(other, 3, settings());
    world.event(org, 10, &[1]);
    assert_eq!(world.begun(), [(1, 10)]);
    suspend(&mut world, org, true);
    world.fail((1, 10), 1_000);
    for event in 11..=13 {
        world.event(org, event, &[1, 2]);
    }
    world.event(other, 14, &[3]);
    assert_eq!(world.begun(), [(3, 14)], "others go on");
    world.accept((3, 14));
    world.pass(3_600_000);
    assert_eq!(world.events_begun(), NOTHING, "not by the scan either");
    assert!(world.scheduler.engine.metrics.delivery_overdue_seconds.get() < 1.0);
    world.restart();
    assert_eq!(world.events_begun(), NOTHING, "not after a restart either");
    suspend(&mut world, org, false);
    let mut begun = world.begun();
    begun.sort_unstable();
    assert_eq!(begun, [(1, 10), (1, 11), (1, 12), (1, 13), (2, 11)]);
    for event in 11..=13 {
        world.accept((2, event));
        assert_eq!(world.events_begun().first(), (event < 13).then_some(&(event + 1)));
    }
}

#[test]
fn what_was_queued_before_the_suspension_is_not_sent_even_if_its_hint_is_lost() {
    let mut world = World::new(LIMITS);
    let org = world.org();
    world.endpoint(org, 1, settings());
    for event in 10..=17 {
        world.event(org, event, &[1]);
    }
    assert_eq!(world.events_begun(), [10, 11, 12, 13], "the others wait in the queue");
    world.unreliable = Some(Unreliable::deaf());
    suspend(&mut world, org, true);
    world.unreliable = None;
    world.accept((1, 10));
    assert_eq!(world.events_begun(), NOTHING);
    world.unreliable = Some(Unreliable::deaf());
    suspend(&mut world, org, false);
    world.unreliable = None;
    world.pass(60_000);
    assert_eq!(world.events_begun(), [14], "the scan finds them");
}
