//! Tests of keys: allowed commands and expiry.

use super::*;
use crate::journal::Position;
use crate::model::authority::Authority;
use crate::model::key::Scope;
use crate::store::{GRACE_KEYS_PER_FAMILY, KEYS_PER_ORG_MAX};

#[path = "keys_change_tests.rs"]
mod change;

/// The first key, made by [`create_org`].
const FIRST: KeyId = KeyId(101);
const NOW: Timestamp = Timestamp(1_000);

fn fixture() -> Fixture {
    let mut fixture = Fixture::new();
    fixture.apply(&create_org(InboxMode::Auto, 100));
    fixture
}

fn key(id: u128, scopes: Scopes, expires_at: Option<Timestamp>) -> Key {
    let (name, hash, check, created_at, ended_at) = ("k".into(), "$".into(), [0; 8], NOW, None);
    Key { id: KeyId(id), name, hash, check, scopes, created_at, expires_at, ended_at }
}

fn create(id: u128, scopes: Scopes, expires_at: Option<Timestamp>) -> Command {
    Command::CreateKey(CreateKey { org: ORG, key: key(id, scopes, expires_at) })
}

fn rotate(old: KeyId, new: u128, old_ends_at: Timestamp) -> Command {
    Command::RotateKey(RotateKey { org: ORG, old, old_ends_at, new: key(new, Scopes::all(), None) })
}

fn end(key: KeyId) -> Command {
    Command::EndKey(EndKey { org: ORG, key, at: NOW.into() })
}

fn by(key: KeyId, needs: impl Into<Scopes>, at: Timestamp, command: Command) -> Command {
    command.requested(Authority { key: Some(key), needs: needs.into(), at: at.into() })
}

/// The note of a salvage that lost the creation of these keys.
fn lost(judged_before: Position, keys: &[u128]) -> Command {
    let lost_keys = keys.iter().copied().map(KeyId).collect();
    Command::NoteLoss(NoteLoss { next_org: 0, judged_before, lost_keys })
}

impl Fixture {
    fn key(&self, id: KeyId) -> Key {
        self.store.key(id).unwrap().expect("it is there").key().clone()
    }
}

#[test]
fn what_an_ended_key_asks_for_has_no_effect_whatever_it_is() {
    let mut fixture = fixture();
    fixture.apply(&create(7, Scopes::all(), Some(Timestamp(2_000))));
    let asked = [
        create(8, Scopes::all(), None),
        rotate(KeyId(7), 9, Timestamp(9_000)),
        end(FIRST),
        put_endpoint(50),
        submit(3, 2_000, None),
    ];
    let before = fixture.store.dump().unwrap();
    for command in &asked {
        let unknown = by(KeyId(77), Scopes::none(), NOW, command.clone());
        assert_eq!(fixture.became(&unknown), Err(Refusal::NotAuthorized), "{command:?}");
    }
    assert_ne!(fixture.store.dump().unwrap(), before, "the event's id is used up, and");
    let counts = |fixture: &Fixture| {
        (fixture.store.counts().unwrap().events, fixture.store.keys_of(ORG).unwrap().len())
    };
    assert_eq!(counts(&fixture), (0, 2), "nothing else");
    for command in &asked {
        let late = by(KeyId(7), Scopes::none(), Timestamp(2_000), command.clone());
        assert_eq!(fixture.became(&late), Err(Refusal::NotAuthorized), "{command:?}");
    }
    assert_eq!(counts(&fixture), (0, 2));
    assert!(!fixture.key(FIRST).has_ended());
    // The end of the key was recorded, so no clock revives the key.
    assert!(fixture.key(KeyId(7)).has_ended());
    let early = by(KeyId(7), Scope::EndpointsWrite, NOW, put_endpoint(50));
    assert_eq!(fixture.became(&early), Err(Refusal::NotAuthorized));
    let early = by(FIRST, Scope::EndpointsWrite, NOW, put_endpoint(50));
    assert_eq!(fixture.became(&early), Ok(Applied::PutEndpoint(PutEndpointOutcome::Put)));
    assert_eq!(
        fixture.became(&by(FIRST, Scope::EventsWrite, NOW, submit(4, 1_000, None))),
        Ok(Applied::SubmitEvent(SubmitOutcome::Accepted {
            id: crate::model::id::EventId(4),
            received_at: NOW
        }))
    );
}

#[test]
fn what_a_key_asked_for_before_damage_took_its_making_is_not_lost_with_it() {
    let mut fixture = fixture();
    fixture.apply(&lost(Position(350), &[77]));
    // The commands are at the positions 201, 301 and 401.
    let asked = |event| by(KeyId(77), Scope::EventsWrite, NOW, submit(event, 1_000, None));
    assert!(matches!(
        fixture.became(&asked(3)),
        Ok(Applied::SubmitEvent(SubmitOutcome::Accepted { .. }))
    ));
    assert_eq!(
        fixture.became(&by(KeyId(77), Scope::EndpointsWrite, NOW, put_endpoint(50))),
        Ok(Applied::PutEndpoint(PutEndpointOutcome::Put))
    );
    assert_eq!(
        fixture.became(&asked(4)),
        Err(Refusal::NotAuthorized),
        "taken in after the salvage"
    );
    assert_eq!(fixture.store.counts().unwrap().events, 1);
}

#[test]
fn a_key_asks_for_its_own_organization_alone_and_for_what_its_scopes_say() {
    let mut fixture = fixture();
    fixture.apply(&create_org(InboxMode::Auto, 200));
    let foreign = by(KeyId(201), Scopes::none(), NOW, put_endpoint(50));
    assert_eq!(fixture.became(&foreign), Err(Refusal::NotAuthorized));
    let foreign = by(KeyId(201), Scopes::none(), NOW, submit(3, 1_000, None));
    assert_eq!(fixture.became(&foreign), Err(Refusal::NotAuthorized));
    fixture.apply(&create(7, Scope::InboxRead.into(), None));
    assert_eq!(
        fixture.became(&by(KeyId(7), Scope::EndpointsWrite, NOW, put_endpoint(50))),
        Err(Refusal::Forbidden)
    );
    assert_eq!(
        fixture.became(&by(KeyId(7), Scope::EventsWrite, NOW, submit(4, 1_000, None))),
        Err(Refusal::Forbidden)
    );
    assert_eq!(fixture.store.counts().unwrap().events, 0);
}

#[test]
fn a_key_makes_none_that_may_more_or_for_longer() {
    let mut fixture = fixture();
    let maker: Scopes = [Scope::KeysWrite, Scope::InboxRead].into_iter().collect();
    fixture.apply(&create(7, maker, Some(Timestamp(2_000))));
    let make =
        |scopes, expires_at| by(KeyId(7), Scope::KeysWrite, NOW, create(8, scopes, expires_at));
    assert_eq!(fixture.became(&make(Scopes::all(), None)), Err(Refusal::Forbidden));
    assert_eq!(
        fixture.became(&make(Scope::InboxRead.into(), None)),
        Ok(Applied::CreateKey(KeyAdded::Added))
    );
    assert_eq!(fixture.key(KeyId(8)).expires_at, Some(Timestamp(2_000)));
    assert_eq!(
        fixture.became(&make(maker, Some(Timestamp(1_500)))),
        Ok(Applied::CreateKey(KeyAdded::Added))
    );
    assert_eq!(fixture.key(KeyId(8)).expires_at, Some(Timestamp(1_500)));
}

#[test]
fn nobody_ends_a_key_that_may_more_but_the_operator() {
    let mut fixture = fixture();
    fixture.apply(&create(7, Scope::KeysWrite.into(), None));
    fixture.apply(&create(8, Scope::KeysWrite.into(), None));
    assert_eq!(
        fixture.became(&by(KeyId(7), Scope::KeysWrite, NOW, end(FIRST))),
        Err(Refusal::Forbidden)
    );
    assert!(!fixture.key(FIRST).has_ended());
    assert_eq!(
        fixture.became(&by(KeyId(7), Scope::KeysWrite, NOW, end(KeyId(8)))),
        Ok(Applied::EndKey(EndKeyOutcome::Ended))
    );
    assert_eq!(
        fixture.became(&by(KeyId(7), Scope::KeysWrite, NOW, end(KeyId(8)))),
        Ok(Applied::EndKey(EndKeyOutcome::NotFound))
    );
    let operator = Authority { key: None, needs: Scope::KeysWrite.into(), at: NOW.into() };
    assert_eq!(
        fixture.became(&end(FIRST).requested(operator)),
        Ok(Applied::EndKey(EndKeyOutcome::Ended))
    );
    assert!(fixture.key(FIRST).has_ended());
}

#[test]
fn a_key_ends_none_that_outlives_it() {
    let mut fixture = fixture();
    fixture.apply(&create(7, Scopes::all(), Some(Timestamp(5_000))));
    fixture.apply(&create(8, Scopes::all(), Some(Timestamp(5_001))));
    fixture.apply(&create(9, Scopes::all(), Some(Timestamp(5_000))));
    fixture.apply(&create(10, Scopes::all(), Some(Timestamp(1_500))));
    let mut ends = |by_key: u128, other: KeyId| {
        fixture.became(&by(KeyId(by_key), Scope::KeysWrite, NOW, end(other)))
    };
    assert_eq!([ends(7, FIRST), ends(7, KeyId(8))], [const { Err(Refusal::Forbidden) }; 2]);
    assert_eq!(ends(7, KeyId(9)), Ok(Applied::EndKey(EndKeyOutcome::Ended)));
    // In its grace period a key ends itself alone, whenever the other key ends.
    fixture.apply(&rotate(KeyId(7), 11, Timestamp(2_000)));
    let mut ends = |by_key: u128, other: KeyId| {
        fixture.became(&by(KeyId(by_key), Scope::KeysWrite, NOW, end(other)))
    };
    assert_eq!(
        [FIRST, KeyId(11), KeyId(10)].map(|other| ends(7, other)),
        [const { Err(Refusal::Forbidden) }; 3]
    );
    assert_eq!(ends(7, KeyId(7)), Ok(Applied::EndKey(EndKeyOutcome::Ended)));
}

#[test]
fn no_rotation_outlives_the_grace_or_the_end_of_the_first_key() {
    let mut fixture = fixture();
    fixture.apply(&create(7, Scope::InboxRead.into(), Some(Timestamp(5_000))));
    assert_eq!(
        fixture.became(&rotate(KeyId(7), 8, Timestamp(2_000))),
        Ok(Applied::RotateKey(KeyAdded::Added))
    );
    let made = fixture.key(KeyId(8));
    assert_eq!((made.scopes, made.ends_at()), (Scope::InboxRead.into(), Some(Timestamp(5_000))));
    for (old, new) in [(7, 9), (9, 10), (7, 11)] {
        assert_eq!(
            fixture.became(&rotate(KeyId(old), new, Timestamp(9_000))),
            Ok(Applied::RotateKey(KeyAdded::Added))
        );
        assert_eq!(
            fixture.key(KeyId(new)).ends_at(),
            Some(Timestamp(2_000)),
            "from the grace of {old}"
        );
        assert_eq!(fixture.key(KeyId(old)).ends_at(), Some(Timestamp(2_000)));
    }
    let has_ended = |fixture: &Fixture, key: u128| {
        let found = fixture.store.key(KeyId(key)).unwrap();
        found.is_none_or(|found| !found.key().is_valid(Timestamp(1)))
    };
    // Without a grace period the key ends at once, even if the clock is set back.
    assert_eq!(fixture.became(&rotate(KeyId(8), 12, NOW)), Ok(Applied::RotateKey(KeyAdded::Added)));
    assert!(has_ended(&fixture, 8));
    assert_eq!(
        fixture.became(&rotate(KeyId(12), 13, Timestamp(0))),
        Ok(Applied::RotateKey(KeyAdded::Added))
    );
    assert!(has_ended(&fixture, 12));
}

#[test]
fn a_rotation_has_room_however_many_keys_there_are_and_those_in_their_grace_are_bounded() {
    let mut fixture = fixture();
    let mut made = 0;
    while fixture.became(&create(1_000 + made, Scopes::all(), None))
        == Ok(Applied::CreateKey(KeyAdded::Added))
    {
        made += 1;
    }
    assert_eq!(made + 1, KEYS_PER_ORG_MAX as u128, "with the first one");
    let mut current = FIRST;
    for turn in 0..250u64 {
        let new = 2_000 + u128::from(turn);
        assert_eq!(
            fixture.became(&rotate(current, new, Timestamp(100_000 + turn))),
            Ok(Applied::RotateKey(KeyAdded::Added))
        );
        assert!(fixture.key(current).is_valid(NOW), "the one that was replaced has its grace");
        // A key in its grace period can be rotated too.
        assert_eq!(
            fixture.became(&rotate(current, 5_000 + u128::from(turn), Timestamp(200_000))),
            Ok(Applied::RotateKey(KeyAdded::Added))
        );
        current = KeyId(new);
        assert!(
            fixture.store.keys_of(ORG).unwrap().len() <= KEYS_PER_ORG_MAX + GRACE_KEYS_PER_FAMILY
        );
    }
    assert!(fixture.key(current).is_valid(NOW) && !fixture.key(current).is_leaving());
    assert_eq!(
        fixture.became(&create(9, Scopes::all(), None)),
        Ok(Applied::CreateKey(KeyAdded::LimitReached))
    );
    let staying =
        (0..made).filter(|n| fixture.store.key(KeyId(1_000 + n)).unwrap().is_some()).count();
    assert_eq!(staying as u128, made, "none of the others made room");
}

#[test]
fn no_rotation_ends_a_key_that_does_not_come_from_the_same_key() {
    let mut fixture = fixture();
    fixture.apply(&create(7, Scope::EventsRead.into(), None));
    fixture.apply(&rotate(FIRST, 8, Timestamp(9_000)));
    let mut narrow = KeyId(7);
    for turn in 0..300u64 {
        let new = 1_000 + u128::from(turn);
        assert_eq!(
            fixture.became(&rotate(narrow, new, Timestamp(100_000 + turn))),
            Ok(Applied::RotateKey(KeyAdded::Added))
        );
        narrow = KeyId(new);
        assert!(
            fixture.store.key(FIRST).unwrap().is_some_and(|found| found.key().is_valid(NOW)),
            "at {turn}"
        );
    }
    let kept = fixture.store.keys_of(ORG).unwrap();
    assert_eq!(
        kept.len(),
        2 + 1 + GRACE_KEYS_PER_FAMILY,
        "of two families, one with a single rotation"
    );
    let oldest = KeyId(1_299 - GRACE_KEYS_PER_FAMILY as u128);
    assert!(fixture.key(oldest).is_valid(NOW) && fixture.key(narrow).is_valid(NOW));
}

#[test]
fn a_rotation_in_the_grace_period_ends_the_key_itself_before_one_that_may_more() {
    let mut fixture = fixture();
    // The first key has a long grace, and its successor a short one.
    fixture.apply(&rotate(FIRST, 8, Timestamp(9_000)));
    fixture.apply(&rotate(KeyId(8), 9, Timestamp(2_000)));
    let mut made = Vec::new();
    for new in 20..30 {
        let rotated = fixture.became(&rotate(FIRST, new, Timestamp(9_000)));
        match rotated {
            Ok(Applied::RotateKey(KeyAdded::Added)) => made.push(KeyId(new)),
            Ok(Applied::RotateKey(KeyAdded::NotFound)) => break,
            other => panic!("{other:?}"),
        }
    }
    assert_eq!(made.len() + 1, GRACE_KEYS_PER_FAMILY, "the last of them ended the first key");
    let is_valid = |id| fixture.store.key(id).unwrap().is_some_and(|row| row.key().is_valid(NOW));
    assert!(!is_valid(FIRST) && is_valid(KeyId(8)) && is_valid(KeyId(9)));
    assert!(made.iter().all(|id| is_valid(*id)));
}

#[test]
fn keys_whose_successors_are_revoked_stay_bounded() {
    let mut fixture = fixture();
    let mut made = 0u128;
    for turn in 0..300 {
        let (new, successor) = (1_000 + turn, 5_000 + turn);
        if fixture.became(&create(new, Scopes::all(), None))
            == Ok(Applied::CreateKey(KeyAdded::Added))
        {
            made += 1;
            fixture.apply(&rotate(KeyId(new), successor, Timestamp(9_000)));
            fixture.apply(&end(KeyId(successor)));
        }
    }
    assert_eq!(made + 1, 2 * KEYS_PER_ORG_MAX as u128, "with the line of the first key");
    fixture.apply(&end(KeyId(1_000)));
    assert_eq!(
        fixture.became(&create(9, Scopes::all(), None)),
        Ok(Applied::CreateKey(KeyAdded::Added))
    );
}

#[test]
fn a_key_whose_time_has_come_is_found_once_and_stays_ended() {
    let mut fixture = fixture();
    for id in 7..17 {
        fixture.apply(&create(id, Scopes::all(), Some(Timestamp(2_000))));
    }
    let past_end = |fixture: &Fixture, at: u64, after, limit| {
        let at = Timestamp(at);
        let found = fixture.store.ending_keys((at, Timestamp(0)), after, limit).unwrap();
        (found.past_end, found.next)
    };
    assert_eq!(past_end(&fixture, 1_999, None, 500), (vec![], None));
    let (first, next) = past_end(&fixture, 2_000, None, 4);
    assert_eq!((first.clone(), next), ((7..11).map(KeyId).collect(), Some(KeyId(10))));
    let (rest, next) = past_end(&fixture, 2_000, next, 500);
    assert_eq!((rest, next), ((11..17).map(KeyId).collect(), None));
    let expire =
        |at: Timestamp| Command::ExpireKeys(ExpireKeys { keys: first.clone(), at: at.into() });
    fixture.apply(&expire(Timestamp(1_999)));
    assert!(fixture.key(KeyId(7)).is_valid(NOW), "its time has not come");
    fixture.apply(&expire(Timestamp(2_000)));
    assert!(fixture.key(KeyId(7)).has_ended() && !fixture.key(KeyId(7)).is_valid(NOW));
    assert!(!fixture.key(KeyId(11)).has_ended());
    assert_eq!(past_end(&fixture, 2_000, None, 500).0.len(), 6);
}

#[test]
fn a_key_that_was_dropped_is_none_whose_making_was_lost() {
    let mut fixture = fixture();
    fixture.apply(&create(7, Scopes::all(), None));
    fixture.apply(&end(KeyId(7)));
    fixture.apply(&create(8, Scopes::all(), None));
    assert!(fixture.store.key(KeyId(7)).unwrap().is_none(), "it is dropped");
    fixture.apply(&lost(Position::MAX, &[77]));
    for command in [submit(3, 1_000, None), put_endpoint(50), create(9, Scopes::all(), None)] {
        assert_eq!(
            fixture.became(&by(KeyId(7), Scopes::none(), NOW, command)),
            Err(Refusal::NotAuthorized)
        );
    }
}

#[test]
fn the_end_of_a_key_whose_making_was_lost_counts_and_the_key_that_took_its_place_is_valid() {
    let mut fixture = fixture();
    fixture.apply(&lost(Position::MAX, &[7, 17, 27, 37]));
    let mut takes = |id: u128| {
        let asked = by(KeyId(id), Scope::EndpointsWrite, NOW, put_endpoint(50 + id));
        fixture.became(&asked) == Ok(Applied::PutEndpoint(PutEndpointOutcome::Put))
    };
    assert_eq!(
        [7, 8, 17, 27, 28, 37, 47].map(&mut takes),
        [true, false, true, true, false, true, false]
    );
    fixture.apply(&rotate(KeyId(7), 8, Timestamp(9_000)));
    fixture.apply(&rotate(KeyId(17), 18, Timestamp(0)));
    fixture.apply(&end(KeyId(27)));
    fixture.apply(&Command::ExpireKeys(ExpireKeys { keys: vec![KeyId(37)], at: NOW.into() }));
    let mut takes = |id: u128| {
        let asked = by(KeyId(id), Scope::EndpointsWrite, NOW, put_endpoint(50 + id));
        fixture.became(&asked) == Ok(Applied::PutEndpoint(PutEndpointOutcome::Put))
    };
    assert_eq!([7, 8, 17, 18, 27, 37].map(&mut takes), [true, true, false, true, false, false]);
}

#[test]
fn two_states_differ_by_name_in_whether_a_key_works_is_leaving_or_has_ended() {
    let states =
        [None, Some(rotate(KeyId(7), 8, Timestamp(9_000))), Some(end(KeyId(7)))].map(|change| {
            let mut fixture = fixture();
            fixture.apply(&create(7, Scope::InboxRead.into(), None));
            change.map(|change| fixture.apply(&change));
            fixture
        });
    let said = |here: &Fixture, other: &Fixture| {
        let mut said = Vec::new();
        let mut each = |named: crate::store::Named| {
            said.extend((named.id == KeyId(7).to_string()).then_some(named));
        };
        here.store.name_differences(&other.store, &mut each).unwrap();
        said.into_iter()
            .flat_map(|named| [named.here, named.other])
            .map(|text| text.unwrap())
            .collect::<Vec<_>>()
    };
    let words = |word: &str| format!("{word}, scopes inbox:read");
    let [working, leaving, ended] = &states;
    assert_eq!(said(leaving, working), [words("leaving"), words("valid")]);
    assert_eq!(said(leaving, ended), [words("leaving"), words("ended")]);
}

#[test]
fn a_grace_period_that_is_over_by_the_time_in_a_new_id_is_over_although_the_clock_was_set_back() {
    let mut fixture = fixture();
    fixture.apply(&rotate(FIRST, 7, Timestamp(2_000)));
    // Like all keys here, these were made at NOW by the wall clock.
    let late = 2_000 << 80;
    let rotated = fixture.became(&rotate(FIRST, late + 8, Timestamp(9_000)));
    assert_eq!(rotated, Ok(Applied::RotateKey(KeyAdded::NotFound)));
    fixture.apply(&create(late + 9, Scopes::all(), None));
    assert!(fixture.store.key(FIRST).unwrap().is_none(), "it counts no longer");
}
