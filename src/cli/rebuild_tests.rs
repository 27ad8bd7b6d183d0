//! Which numbers organizations keep when the making of some was lost.

use super::notes::{ORG_FRAME_BYTES_MIN, lost_keys};
use super::*;
use crate::cli::audit::Numbered;
use crate::journal::Damage;
use crate::model::id::OrgId;

fn lost(from: u64, to: u64) -> Lost {
    let damage = Damage { file: "x.seg".into(), offset: 0, reason: "rotten".into() };
    Lost { damage, bytes: to - from, from: Position(from), to: Position(to) }
}

fn made(position: u64, id: u128) -> (Position, Numbered) {
    (Position(position), Numbered::Org(OrgId(id)))
}

fn known(numbers: &[(u128, u32)]) -> Known {
    let numbers = numbers.iter().map(|(id, number)| (OrgId(*id), OrgNo(*number))).collect();
    Known { numbers, applied: 0 }
}

fn counts(skipped: Result<Vec<(Position, u32)>, Failure>) -> Result<Vec<(u64, u32)>, String> {
    let skipped = skipped.map_err(|failure| failure.message)?;
    Ok(skipped.into_iter().map(|(at, count)| (at.0, count)).collect())
}

#[test]
fn an_organization_behind_the_damage_keeps_the_number_that_the_state_knows() {
    let known = known(&[(10, 0), (12, 3), (13, 4)]);
    let numbering = [made(1, 10), made(2_000, 12), made(3_000, 13)];
    let holes = [lost(500, 900), lost(1_000, 1_900)];
    assert_eq!(counts(skipped_orgs(&holes, &numbering, &known, false)), Ok(vec![(500, 2)]));
    // Two were given up by an earlier salvage.
    let numbering = [made(1, 10), (Position(100), Numbered::Skipped(2)), made(2_000, 12)];
    assert_eq!(counts(skipped_orgs(&holes, &numbering, &known, false)), Ok(vec![]));
    // A hole too short for one, or behind all of them, says nothing.
    let numbering = [made(1, 10), made(2_000, 99)];
    assert_eq!(counts(skipped_orgs(&[lost(500, 540), lost(3_000, 9_000)], &numbering, &known, false)), Ok(vec![]));
}

#[test]
fn without_proof_nobody_gets_a_number_unless_it_is_said() {
    let numbering = [made(1, 10), made(2_000, 12)];
    let holes = [lost(500, 900)];
    let refused = counts(skipped_orgs(&holes, &numbering, &known(&[]), false)).unwrap_err();
    assert!(refused.contains("--assume-no-organization-lost") && refused.contains(&OrgId(12).to_string()), "{refused}");
    assert_eq!(counts(skipped_orgs(&holes, &numbering, &known(&[]), true)), Ok(vec![]));
    let foreign = known(&[(12, 0)]);
    assert!(
        counts(skipped_orgs(&holes, &numbering, &foreign, true))
            .unwrap_err()
            .contains("does not belong to this journal")
    );
}

#[test]
fn an_organization_that_was_refused_has_a_number_all_the_same() {
    let numbering = [made(1, 10), made(2_000, 11), made(3_000, 13)];
    let holes = [lost(500, 900)];
    // The state went beyond 11 and does not have it: it was refused, as number 3; so 1 and 2 were lost.
    let known = |applied| Known { applied, ..known(&[(10, 0), (13, 4)]) };
    assert_eq!(counts(skipped_orgs(&holes, &numbering, &known(9_000), false)), Ok(vec![(500, 2)]));
    let refused = counts(skipped_orgs(&holes, &numbering, &known(1_000), false)).unwrap_err();
    assert!(refused.contains(&OrgId(11).to_string()), "the state was behind: {refused}");
    let refused = counts(skipped_orgs(&holes, &numbering[..2], &known(9_000), false)).unwrap_err();
    assert!(refused.contains(&OrgId(11).to_string()), "nothing behind it tells: {refused}");
}

#[test]
fn each_lost_key_is_noted_before_it_is_needed_as_far_as_there_is_room() {
    let named: Vec<_> =
        [(100, 1), (600, 2), (950, 3), (2_000, 4), (9_000, 5)].map(|(at, id)| (Position(at), KeyId(id))).into();
    let mut unmade = named.iter().peekable();
    // Room for two, for none, and for all.
    let holes = [lost(500, 600), lost(1_000, 1_070), lost(1_500, 1_900)];
    let noted = holes.map(|hole| lost_keys(&hole, &mut unmade));
    assert_eq!(noted, [vec![KeyId(2), KeyId(3)], vec![], vec![KeyId(4), KeyId(5)]]);
}

#[test]
fn a_note_fits_where_the_makings_were_that_it_names() {
    let many: Vec<_> = (0..50).map(|id| (Position(9_000), KeyId(u128::MAX - id))).collect();
    for keys in 1..=many.len() {
        let bytes = ORG_FRAME_BYTES_MIN * keys as u64;
        let noted = notes(&[lost(500, 500 + bytes)], &[(Position(500), u32::MAX)], &many, Position(u64::MAX)).unwrap();
        let Ok(Command::SkipOrgs(skip)) = Command::read(noted[0].kind, noted[0].version, &noted[0].body) else {
            panic!()
        };
        // Behind a note there is a hole of a frame's header, or nothing.
        assert!(skip.lost_keys.len() >= keys && noted[0].body.len() as u64 + 2 * 18 <= bytes, "{keys}: {skip:?}");
    }
}

#[test]
fn a_key_that_works_longer_than_it_did_is_told_of_and_a_grace_is_no_end() {
    let key = |ended_at| Key {
        id: KeyId(1),
        name: String::new(),
        hash: "$".into(),
        check: [0; 8],
        scopes: crate::model::key::Scopes::none(),
        created_at: Timestamp(1),
        expires_at: None,
        ended_at,
    };
    let [works, leaves, ended] = [key(None), key(Some(Timestamp(9))), key(Some(Timestamp(0)))];
    assert!(revived(&ended, &works).is_some_and(|told| told.contains("was no longer valid")));
    assert!(revived(&ended, &leaves).is_some_and(|told| told.contains("was no longer valid")), "for its grace");
    assert!(revived(&leaves, &works).is_some_and(|told| told.contains("was rotated")));
    for (before, now) in [(&works, &works), (&works, &ended), (&leaves, &leaves), (&leaves, &ended), (&ended, &ended)] {
        assert_eq!(revived(before, now), None);
    }
}
