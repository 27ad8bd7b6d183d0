//! Tests of organizations and endpoints: names, numbers, and the enabled state.

use super::*;

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
