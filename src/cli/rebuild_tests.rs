//! Tests of the notes of a salvage, and of keys that work again after the salvage.

use super::consequences::revived;
use super::notes::{ORG_RECORD_BYTES_MIN, lost_keys};
use super::*;
use crate::commands::Command;
use crate::journal::Damage;
use crate::model::id::KeyId;
use crate::model::key::Key;

fn lost(from: u64, to: u64) -> Lost {
    let damage = Damage { file: "x.seg".into(), offset: 0, reason: "rotten".into() };
    Lost { damage, bytes: to - from, from: Position(from), to: Position(to), is_open: false }
}

#[test]
fn each_lost_key_is_noted_before_it_is_needed_as_far_as_there_is_room() {
    let named: Vec<_> = [(100, 1), (600, 2), (950, 3), (2_000, 4), (9_000, 5)]
        .map(|(at, id)| (Position(at), KeyId(id)))
        .into();
    let mut unmade = named.iter().peekable();
    // Room for two keys, for none, and for all.
    let holes = [lost(500, 600), lost(1_000, 1_070), lost(1_500, 1_900)];
    let noted = holes.map(|hole| lost_keys(&hole, &mut unmade));
    assert_eq!(noted, [vec![KeyId(2), KeyId(3)], vec![], vec![KeyId(4), KeyId(5)]]);
}

#[test]
fn a_note_fits_where_the_makings_were_that_it_names() {
    let many: Vec<_> = (0..50).map(|id| (Position(9_000), KeyId(u128::MAX - id))).collect();
    for keys in 1..=many.len() {
        let bytes = ORG_RECORD_BYTES_MIN * keys as u64;
        let noted = notes(&[lost(500, 500 + bytes)], u32::MAX, &many, Position(u64::MAX)).unwrap();
        let Ok(Command::NoteLoss(note)) = Command::of_raw(&noted[0]) else { panic!() };
        // The headers of the note and of the hole behind it need room too.
        assert!(
            note.lost_keys.len() >= keys && noted[0].body.len() as u64 + 2 * 18 <= bytes,
            "{keys}: {note:?}"
        );
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
    assert!(
        revived(&ended, &leaves).is_some_and(|told| told.contains("was no longer valid")),
        "for its grace"
    );
    assert!(revived(&leaves, &works).is_some_and(|told| told.contains("was rotated")));
    for (before, now) in [
        (&works, &works),
        (&works, &ended),
        (&leaves, &leaves),
        (&leaves, &ended),
        (&ended, &ended),
    ] {
        assert_eq!(revived(before, now), None);
    }
}
