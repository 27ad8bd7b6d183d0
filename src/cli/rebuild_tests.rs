//! Which numbers organizations keep when the making of some was lost.

use super::*;
use crate::journal::Damage;

fn lost(from: u64, to: u64) -> Lost {
    let damage = Damage { file: "x.seg".into(), offset: 0, reason: "rotten".into() };
    Lost { damage, bytes: to - from, from: Position(from), to: Position(to) }
}

fn made(position: u64, id: u128) -> (Position, Numbered) {
    (Position(position), Numbered::Org(OrgId(id)))
}

fn counts(notes: Result<Vec<Note>, Failure>) -> Result<Vec<(u64, u8)>, String> {
    let notes = notes.map_err(|failure| failure.message)?;
    Ok(notes.iter().map(|note| (note.at.0, note.body[0])).collect())
}

#[test]
fn an_organization_behind_the_damage_keeps_the_number_that_the_state_knows() {
    let known = BTreeMap::from([(OrgId(10), OrgNo(0)), (OrgId(12), OrgNo(3)), (OrgId(13), OrgNo(4))]);
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
    let refused = counts(skipped_orgs(&holes, &numbering, &BTreeMap::new(), false)).unwrap_err();
    assert!(refused.contains("--assume-no-organization-lost") && refused.contains(&OrgId(12).to_string()), "{refused}");
    assert_eq!(counts(skipped_orgs(&holes, &numbering, &BTreeMap::new(), true)), Ok(vec![]));
    let foreign = BTreeMap::from([(OrgId(12), OrgNo(0))]);
    assert!(counts(skipped_orgs(&holes, &numbering, &foreign, true)).unwrap_err().contains("do not belong together"));
}
