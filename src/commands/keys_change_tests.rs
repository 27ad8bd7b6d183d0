//! Tests of changes of keys, and of reports of their ends.

use super::*;

#[test]
fn a_key_only_loses_scopes_and_ends_earlier_unless_the_operator_says_so() {
    let mut fixture = fixture();
    let few: Scopes = [Scope::EventsRead, Scope::KeysWrite].into_iter().collect();
    fixture.apply(&create(7, few, Some(Timestamp(5_000))));
    fixture.apply(&create(8, Scopes::all(), None));
    let change = |id: u128, scopes: Option<Scopes>, expires_at: Option<u64>| {
        let (key, expires_at) = (KeyId(id), expires_at.map(Timestamp));
        let name = Some("renamed".to_owned());
        Command::from(ChangeKey { org: ORG, key, name, scopes, expires_at, at: NOW.into() })
    };
    let by_key = |id: u128, command: Command| by(KeyId(id), Scope::KeysWrite, NOW, command);
    let said = |fixture: &mut Fixture, command: Command| match fixture.became(&command) {
        Ok(Applied::ChangeKey(outcome)) => Ok(outcome),
        Ok(other) => panic!("{other:?}"),
        Err(refusal) => Err(refusal),
    };
    let (changed, later) = (Ok(ChangeKeyOutcome::Changed), Ok(ChangeKeyOutcome::LaterEnd));
    let more = Ok(ChangeKeyOutcome::MoreScopes);
    for (command, expected) in [
        (by_key(7, change(8, None, None)), Err(Refusal::Forbidden)),
        (by_key(8, change(7, None, Some(5_001))), later),
        (by_key(8, change(7, Some(Scopes::all()), None)), more),
        (change(7, Some(Scope::InboxRead.into()), None), more),
        (change(9, None, None), Ok(ChangeKeyOutcome::NotFound)),
    ] {
        assert_eq!(said(&mut fixture, command.clone()), expected, "{command:?}");
        assert_eq!((fixture.key(KeyId(7)).name.as_str(), fixture.key(KeyId(7)).scopes), ("k", few));
    }
    let narrow = by_key(7, change(7, Some(Scope::EventsRead.into()), Some(4_000)));
    assert_eq!(said(&mut fixture, narrow), changed);
    let key = fixture.key(KeyId(7));
    assert_eq!((key.name.as_str(), key.expires_at), ("renamed", Some(Timestamp(4_000))));
    assert_eq!(key.scopes, Scope::EventsRead.into());
    let again = by_key(7, change(7, None, None));
    assert_eq!(said(&mut fixture, again), Err(Refusal::Forbidden), "it lost the scope for it");
    assert_eq!(said(&mut fixture, change(7, None, Some(9_000))), changed);
    assert_eq!(fixture.key(KeyId(7)).expires_at, Some(Timestamp(9_000)));
}

#[test]
fn the_end_of_a_key_is_reported_once_and_a_new_end_again() {
    let mut fixture = fixture();
    for (id, end) in [(7, Some(5_000)), (8, Some(5_001)), (9, None), (10, Some(5_000))] {
        fixture.apply(&create(id, Scopes::all(), end.map(Timestamp)));
    }
    fixture.apply(&rotate(KeyId(10), 11, Timestamp(9_000)));
    let soon = |fixture: &Fixture| {
        let found = fixture.store.ending_keys((NOW, Timestamp(5_001)), None, 500).unwrap();
        found.soon.iter().map(|end| (end.key.0, end.expires_at.0)).collect::<Vec<_>>()
    };
    assert_eq!(soon(&fixture), [(7, 5_000), (11, 5_000)], "the successor, and not the key before");
    let report = |id: u128, end, event| {
        let (kind, payload) = (OperationalEventKind::KeyExpiring, Box::from(b"{}".as_slice()));
        let (id_of_event, received_at) = (EventId(event), NOW);
        let report =
            OperationalEvent { kind, failing_since: None, id: id_of_event, received_at, payload };
        Command::from(ReportKeyEnd { org: ORG, key: KeyId(id), expires_at: Timestamp(end), report })
    };
    let stored = |fixture: &mut Fixture, command| match fixture.apply(&command) {
        Applied::ReportKeyEnd(stored) => stored.map(|stored| stored.id.0),
        other => panic!("{other:?}"),
    };
    assert_eq!(stored(&mut fixture, report(7, 4_999, 20)), None, "it has another end");
    assert_eq!(stored(&mut fixture, report(7, 5_000, 21)), Some(21));
    assert_eq!(stored(&mut fixture, report(7, 5_000, 22)), None);
    fixture.reopen();
    assert_eq!(soon(&fixture), [(11, 5_000)]);
    let (key, expires_at) = (KeyId(7), Some(Timestamp(4_000)));
    let (name, scopes, at) = (None, None, NOW.into());
    fixture.apply(&ChangeKey { org: ORG, key, name, scopes, expires_at, at }.into());
    assert_eq!(soon(&fixture), [(7, 4_000), (11, 5_000)]);
    assert_eq!(stored(&mut fixture, report(7, 4_000, 23)), Some(23));
    assert!(fixture.inbox(ORG).is_empty(), "it is for subscribers");
    assert_eq!(fixture.store.counts().unwrap().events, 2);
}
