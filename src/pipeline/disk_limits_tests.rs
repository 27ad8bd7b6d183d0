//! Tests of the limits of disk space, and of their turns.

use super::*;
use crate::config::Config;

const MIB: u64 = 1 << 20;

fn limits(toml: &str) -> DiskLimits {
    DiskLimits::of(&Config::from_toml(toml).unwrap().retention)
}

#[test]
fn the_limit_is_half_of_the_filesystem_or_as_configured() {
    let default = limits("");
    assert_eq!(default.limit(Some(64 * MIB)), Some(32 * MIB));
    assert_eq!(default.limit(None), None);
    assert_eq!(limits("[retention]\nbytes = 5").limit(None), Some(5));
}

#[test]
fn a_share_of_the_filesystem_is_kept_free_and_more_than_the_reserve_or_nothing() {
    let default = limits("");
    assert_eq!(default.keep_free(Some(1_000 * MIB), 20 * MIB), 100 * MIB);
    assert_eq!(default.keep_free(Some(64 * MIB), 16 * MIB), 20 * MIB);
    assert_eq!(default.keep_free(None, 16 * MIB), 0);
    assert_eq!(limits("[retention]\nkeep_free_share = 0").keep_free(Some(MIB), MIB), 0);
    assert_eq!(limits("[retention]\nkeep_free_share = 1").keep_free(Some(MIB), 0), MIB);
}

#[test]
fn a_pass_takes_no_events_that_only_an_earlier_turn_was_allowed_to_take() {
    let times = [3, 2, 1].map(Timestamp);
    assert_eq!(allowed(times, true, true), times);
    assert_eq!(allowed(times, true, false), [3, 2, 0].map(Timestamp));
    assert_eq!(allowed(times, false, true), [3, 0, 0].map(Timestamp));
}

fn widened(kind: Leaving, is_for_disk: bool) -> Decision {
    Decision { widened: Some(kind), is_for_disk, ..Decision::default() }
}

#[test]
fn a_turn_begins_with_the_first_early_expiry_and_ends_when_there_is_plenty() {
    let measured = Measured { limit: Some(1_000), keep_free: 100, ..Measured::default() };
    let mut turn = Turn::default();
    turn.decided(&Decision::default(), &measured);
    assert_eq!(turn.pressure, Pressure::None);
    turn.decided(&widened(Leaving::Finished, false), &measured);
    assert_eq!(turn.pressure, Pressure::Bytes);
    turn.ended(Some(0), &Measured { journal: 1_000, unneeded: 249, ..measured });
    assert_eq!(turn.pressure, Pressure::Bytes);
    turn.decided(&widened(Leaving::Dead, true), &measured);
    turn.decided(&widened(Leaving::Finished, false), &measured);
    assert_eq!((turn.pressure, turn.deepest), (Pressure::Disk, Some(Leaving::Dead)));
    turn.ended(Some(124), &measured);
    assert_eq!(turn.pressure, Pressure::Disk);
    turn.ended(Some(125), &measured);
    assert_eq!((turn.pressure, turn.deepest), (Pressure::None, None));
    turn.decided(&widened(Leaving::Finished, false), &measured);
    turn.ended(Some(0), &Measured { journal: 1_000, unneeded: 250, ..measured });
    assert_eq!(turn.pressure, Pressure::None);
}

#[test]
fn a_disk_for_which_nothing_can_leave_is_a_turn_too() {
    let mut turn = Turn::default();
    let decision = Decision { is_for_disk: true, is_exhausted: true, ..Decision::default() };
    turn.decided(&decision, &Measured { keep_free: 100, ..Measured::default() });
    assert!(turn.pressure == Pressure::Disk && turn.is_exhausted);
}
