//! Tests of organizations and endpoints: names, numbers, and the enabled state.

use super::*;
use crate::model::authority::Authority;
use crate::store::OrgQuery;

#[test]
fn the_numbers_of_lost_organizations_are_given_to_nobody() {
    let mut state = Fixture::new();
    assert_eq!(
        state.apply(&create_org(InboxMode::Auto, 100)),
        Applied::CreateOrg(CreateOrgOutcome::Created(OrgNo(0)))
    );
    for next_org in [3, 1] {
        let loss = NoteLoss { next_org, judged_before: Position::FIRST, lost_keys: vec![] };
        assert_eq!(state.apply(&loss.into()), Applied::NoteLoss(()));
    }
    assert_eq!(
        state.apply(&create_org(InboxMode::Auto, 200)),
        Applied::CreateOrg(CreateOrgOutcome::Created(OrgNo(3)))
    );
    assert_eq!(state.store.contradictions(9).unwrap(), Vec::<String>::new());
}

#[test]
fn a_name_is_one_organizations_alone_also_over_a_restart() {
    let mut state = Fixture::new();
    assert_eq!(
        state.apply(&create_org(InboxMode::Auto, 100)),
        Applied::CreateOrg(CreateOrgOutcome::Created(OrgNo(0)))
    );
    let named = |name: &str, id| {
        let Command::CreateOrg(mut make) = create_org(InboxMode::Auto, id) else { unreachable!() };
        make.org.name = name.to_owned();
        Command::CreateOrg(make)
    };
    assert_eq!(
        state.apply(&named("Acme 100", 200)),
        Applied::CreateOrg(CreateOrgOutcome::NameTaken(OrgId(100)))
    );
    assert_eq!(
        state.apply(&named("acme 100", 300)),
        Applied::CreateOrg(CreateOrgOutcome::Created(OrgNo(2))),
        "numbers may have gaps"
    );
    assert_eq!(state.store.key(KeyId(201)).unwrap().map(|_| ()), None, "and has no key");
    assert_eq!(
        (state.store.org_named("Acme 100"), state.store.org_named("other")),
        (Some(OrgId(100)), None)
    );
    assert_eq!(state.store.contradictions(9).unwrap(), Vec::<String>::new());
}

/// A change of the first organization, that changes nothing yet.
fn change_org() -> ChangeOrg {
    let at = Timestamp(70);
    ChangeOrg { org: ORG, name: None, tier: None, inbox_mode: None, suspended: None, at }
}

#[test]
fn a_changed_organization_has_its_new_name_alone_and_the_old_one_is_free() {
    let mut state = Fixture::new();
    state.apply(&create_org(InboxMode::Auto, 100));
    state.apply(&create_org(InboxMode::Auto, 200));
    let renamed = |name: &str| ChangeOrg { name: Some(name.to_owned()), ..change_org() };
    let outcome = |state: &mut Fixture, change: ChangeOrg| match state.apply(&change.into()) {
        Applied::ChangeOrg(outcome) => outcome,
        other => panic!("{other:?}"),
    };
    let taken = ChangeOrgOutcome::NameTaken(OrgId(200));
    let mixed = ChangeOrg { tier: Some(Tier::Enterprise), ..renamed("Acme 200") };
    assert_eq!(outcome(&mut state, mixed), taken, "nothing is changed");
    let (_, before) = state.store.org_by_id(OrgId(100)).unwrap().unwrap();
    assert_eq!((before.name.as_str(), before.tier), ("Acme 100", Tier::Free));
    assert_eq!(outcome(&mut state, renamed("Acme 100")), ChangeOrgOutcome::Changed, "its own");
    let (tier, inbox_mode) = (Some(Tier::Pro), Some(InboxMode::AckOnly));
    let all = ChangeOrg { tier, inbox_mode, ..renamed("New") };
    assert_eq!(outcome(&mut state, all), ChangeOrgOutcome::Changed);
    let nobody = ChangeOrg { org: OrgNo(9), ..change_org() };
    assert_eq!(outcome(&mut state, nobody), ChangeOrgOutcome::NotFound);
    for _ in 0..2 {
        let named = |name: &str| state.store.org_named(name);
        assert_eq!((named("New"), named("Acme 100")), (Some(OrgId(100)), None));
        let (_, org) = state.store.org_by_id(OrgId(100)).unwrap().unwrap();
        assert_eq!((org.tier, org.inbox_mode), (Tier::Pro, InboxMode::AckOnly));
        state.reopen();
    }
}

#[test]
fn a_new_inbox_mode_judges_what_is_settled_later_only() {
    let mut state = Fixture::new();
    state.apply(&create_org(InboxMode::AckOnly, 100));
    state.apply(&put_endpoint(50));
    for event in 1..=2 {
        state.apply(&submit(event, 1, None));
        state.apply(&route(event, &[50], AT_ONCE));
    }
    state.apply(&settle(1, 50, 1, Verdict::Delivered));
    let change = |mode| Command::from(ChangeOrg { inbox_mode: Some(mode), ..change_org() });
    state.apply(&change(InboxMode::Auto));
    let delivered = (EventId(1), EventStatus::Delivered);
    assert_eq!(state.inbox(ORG), [delivered, (EventId(2), EventStatus::Accepted)]);
    state.apply(&settle(2, 50, 1, Verdict::Delivered));
    assert_eq!(state.inbox(ORG), [delivered]);
    // A check of the state knows what an earlier mode has left in the inbox, and what it took out.
    for mode in [InboxMode::Auto, InboxMode::AckOnly] {
        state.apply(&change(mode));
        assert_eq!(state.store.contradictions(9).unwrap(), [""; 0], "{mode:?}");
    }
}

#[test]
fn a_suspended_organization_takes_no_change_of_its_keys_and_learns_of_no_duplicate() {
    let mut state = Fixture::new();
    state.apply(&create_org(InboxMode::Auto, 100));
    let (key, other) = (KeyId(101), create_org(InboxMode::Auto, 200));
    state.apply(&other);
    let by_key = |id: u128| {
        let Command::SubmitEvent(mut event) = submit(id, 20, Some(("d", 1))) else { panic!() };
        event.by = Some(key);
        Command::SubmitEvent(event)
    };
    let authority = Authority { key: Some(key), needs: Scopes::none(), at: Timestamp(20).into() };
    let put = put_endpoint(50).requested(authority);
    assert!(state.became(&by_key(1)).is_ok() && state.became(&put).is_ok());
    let suspend = |suspended, at| {
        let (suspended, at) = (Some(suspended), Timestamp(at));
        Command::from(ChangeOrg { suspended, at, ..change_org() })
    };
    state.apply(&suspend(true, 71));
    state.apply(&suspend(true, 72));
    let dedup = match by_key(2) {
        Command::SubmitEvent(event) => event.event.dedup.unwrap(),
        _ => unreachable!(),
    };
    let known = |state: &Fixture, by| {
        let events = std::iter::once(Some((by, &dedup)));
        state.store.known_duplicates(events, Timestamp(20)).unwrap().remove(0).is_some()
    };
    for _ in 0..2 {
        for command in [by_key(2), put.clone()] {
            assert_eq!(state.became(&command), Err(Refusal::Suspended), "{command:?}");
        }
        assert!(!known(&state, Some(key)) && known(&state, None));
        let overview = state.store.org_overview(OrgId(100), Timestamp(20).into()).unwrap().unwrap();
        assert_eq!(overview.suspended_at, Some(Timestamp(71)), "the first suspension counts");
        state.reopen();
    }
    assert!(state.became(&put_endpoint(51)).is_ok(), "the operator and the server go on");
    state.apply(&suspend(false, 80));
    assert!(state.became(&put).is_ok() && known(&state, Some(key)));
}

#[test]
fn organizations_are_listed_in_the_order_of_creation_with_their_counts() {
    let mut state = Fixture::new();
    for id in [100, 200, 300] {
        state.apply(&create_org(InboxMode::Auto, id));
    }
    let Command::CreateOrg(mut without_key) = create_org(InboxMode::Auto, 400) else { panic!() };
    (without_key.key, without_key.org.name) = (None, "Other".to_owned());
    state.apply(&without_key.into());
    state.apply(&put_endpoint(50));
    for event in 1..=3 {
        state.apply(&submit(event, 1, None));
        state.apply(&route(event, &[50], AT_ONCE));
    }
    state.apply(&settle(1, 50, 1, Verdict::Delivered));
    state.apply(&settle(2, 50, 1, Verdict::Dead(DeadReason::Gone)));
    let list = |after: Option<u32>, name: Option<&str>, prefix: &str, limit| {
        let (after, name, prefix) = (after.map(OrgNo), name.map(String::from), prefix.to_owned());
        let query = OrgQuery { after, name, prefix, limit };
        let found = state.store.orgs(&query, Timestamp(20).into()).unwrap();
        found.iter().map(|found| found.org.id.0).collect::<Vec<_>>()
    };
    assert_eq!(list(None, None, "", 9), [100, 200, 300, 400]);
    assert_eq!(list(Some(0), None, "", 2), [200, 300]);
    assert_eq!(list(None, Some("Acme 200"), "", 9), [200]);
    assert_eq!(list(Some(1), None, "Acme", 9), [300]);
    assert_eq!(list(Some(3), None, "", 9), [] as [u128; 0]);
    let found = |id| state.store.org_overview(OrgId(id), Timestamp(20).into()).unwrap().unwrap();
    let first = found(100);
    let counts = (first.events, first.bytes, first.open, first.waiting, first.dead);
    assert_eq!(counts, (3, 6, 2, 1, 1));
    assert_eq!((first.endpoints, first.keys), (1, 1));
    assert_eq!((found(400).keys, found(400).events), (0, 0));
    assert_eq!(state.store.contradictions(5).unwrap(), Vec::<String>::new());
}

#[test]
fn only_a_change_that_says_so_enables_what_a_receiver_disabled_and_then_failures_count_from_zero() {
    let mut state = Fixture::new();
    state.apply(&create_org(InboxMode::Auto, 100));
    state.apply(&put_endpoint(50));
    state.apply(&submit(1, 1, None));
    state.apply(&route(1, &[50], AT_ONCE));
    let Command::SettleAttempt(mut gone) = settle(1, 50, 1, Verdict::Dead(DeadReason::Gone)) else {
        unreachable!()
    };
    gone.outcome.error = Some(AttemptError { code: ErrorCode::HttpStatus, detail: "410".into() });
    state.apply(&Command::SettleAttempt(gone));
    let Command::PutEndpoint(mut put) = put_endpoint(50) else { unreachable!() };
    put.sets_enabled = false;
    // This command was made from an earlier state of the endpoint.
    state.apply(&Command::PutEndpoint(put));
    let (endpoint, health) = state.store.endpoint_of(ORG, EndpointId(50)).unwrap().unwrap();
    assert_eq!(
        (endpoint.disabled, health.failing_since),
        (Some(DisabledReason::Gone), Some(Timestamp(20)))
    );
    state.apply(&put_endpoint(50));
    let (endpoint, health) = state.store.endpoint_of(ORG, EndpointId(50)).unwrap().unwrap();
    assert_eq!((endpoint.disabled, health.failing_since), (None, None));
}

#[test]
fn a_deleted_endpoint_gets_nothing_and_what_waited_for_it_is_canceled() {
    let mut state = Fixture::new();
    state.apply(&create_org(InboxMode::Auto, 100));
    state.apply(&put_endpoint(50));
    state.apply(&submit(1, 1, None));
    state.apply(&submit(2, 2, None));
    state.apply(&route(1, &[50], AT_ONCE));
    state.apply(&Command::DeleteEndpoint(DeleteEndpoint { org: ORG, endpoint: EndpointId(50) }));
    state.apply(&route(2, &[50], AT_ONCE));
    let events = vec![EventId(1), EventId(2)];
    state.apply(&Command::CancelDeliveries(CancelDeliveries {
        org: ORG,
        endpoint: EndpointId(50),
        events,
    }));
    assert_eq!(state.store.next_waiting_endpoint(None).unwrap(), None);
    assert_eq!(
        state.inbox(ORG),
        [(EventId(1), EventStatus::Accepted), (EventId(2), EventStatus::Accepted)]
    );
    assert_eq!(state.store.counts().unwrap().waiting, 0);
}

#[test]
fn endpoints_have_numbers_of_their_own_that_are_given_again_only_when_they_are_used_up() {
    let mut state = Fixture::new();
    state.apply(&create_org(InboxMode::Auto, 100));
    let number = |state: &Fixture, id: u128| {
        let mut effects = Effects::default();
        let mut batch = state.store.begin(&mut effects);
        let endpoints = &batch.change(Position::FIRST).state.endpoints;
        endpoints.get(EndpointId(id)).unwrap().map_or(0, |row| row.number)
    };
    let delete =
        |id| Command::DeleteEndpoint(DeleteEndpoint { org: ORG, endpoint: EndpointId(id) });
    for (id, expected) in [(50, 1), (51, 2), (50, 1)] {
        assert_eq!(state.apply(&put_endpoint(id)), Applied::PutEndpoint(PutEndpointOutcome::Put));
        assert_eq!(number(&state, id), expected, "{id}");
    }
    state.apply(&delete(50));
    assert_eq!(
        state.apply(&put_endpoint(50)),
        Applied::PutEndpoint(PutEndpointOutcome::NotFound),
        "one that has ended stays ended"
    );
    state.apply(&put_endpoint(52));
    assert_eq!(number(&state, 52), 3, "not the one that was given before");
    let mut effects = Effects::default();
    let mut batch = state.store.begin(&mut effects);
    batch.change(Position::FIRST).state.orgs.edit(ORG).unwrap().unwrap().next_endpoint =
        ENDPOINT_NUMBER_MAX;
    drop(batch);
    for (id, expected) in [(53, ENDPOINT_NUMBER_MAX), (54, 1), (55, 4)] {
        assert_eq!(state.apply(&put_endpoint(id)), Applied::PutEndpoint(PutEndpointOutcome::Put));
        assert_eq!(number(&state, id), expected, "{id}");
    }
    assert_eq!(state.store.contradictions(5).unwrap(), Vec::<String>::new());
}
