//! Tests of organizations that are deleted, until nothing of them is left.

use super::*;
use crate::model::authority::Authority;
use crate::model::id::ReplayId;
use crate::model::replay::{ReplayOnly, ReplayRequest};
use crate::model::retention::Cutoffs;
use crate::store::{AuditQuery, Expiring};

fn delete() -> Command {
    DeleteOrg { org: ORG, at: Timestamp(70) }.into()
}

fn forget(state: &mut Fixture) -> ForgetOrgOutcome {
    let Applied::ForgetOrg(outcome) = state.apply(&ForgetOrg { org: ORG }.into()) else {
        unreachable!()
    };
    outcome
}

/// A state with rows in every table for the organization, and with another organization.
fn filled() -> Fixture {
    let mut state = Fixture::new();
    fill(&state.store);
    state.position = Position(100_000);
    let (since, until, event_types) = (None, None, Vec::new());
    let request =
        ReplayRequest { endpoint: None, since, until, event_types, only: ReplayOnly::All };
    let (replay, at) = (ReplayId(1_000_010), Timestamp(1));
    state.apply(&StartReplay { org: ORG, replay, request, at }.into());
    state.apply(&DeleteEndpoint { org: ORG, endpoint: EndpointId(51) }.into());
    state.apply(&create_org(InboxMode::Auto, 2_000_000));
    state
}

/// Lets all events expire, as the sweeper does. Returns the number of commands.
fn expire(state: &mut Fixture) -> usize {
    for commands in 0.. {
        let found = state.store.expiring(ORG, EventId(0), Cutoffs::ALL).unwrap();
        let Expiring { blocks, looked_at, .. } = found;
        if blocks.is_empty() {
            return commands;
        }
        let (cutoffs, report) = (Cutoffs::ALL, None);
        let command = ExpireEvents { org: ORG, blocks, cutoffs, looked_at, report };
        let outcome = state.apply(&command.into());
        let is_done = matches!(outcome, Applied::ExpireEvents(ExpireOutcome::Expired { .. }));
        assert!(is_done, "{outcome:?}");
    }
    unreachable!()
}

/// The rows that name the organization. Hashes of dedup ids name none.
fn rows(state: &Fixture) -> Vec<String> {
    let dump = state.store.dump().unwrap();
    let of = |line: &&str| line.contains("OrgNo(0)") || line.contains("EndpointId(5");
    dump.lines().filter(of).map(str::to_owned).collect()
}

#[test]
fn a_deleted_organization_leaves_no_row_and_takes_nothing_from_another_one() {
    let mut state = filled();
    assert!(rows(&state).len() > 20, "the control");
    let others = |state: &Fixture| {
        let dump = state.store.dump().unwrap();
        dump.lines().filter(|line| line.contains("OrgNo(1)")).collect::<Vec<_>>().join("\n")
    };
    let before = others(&state);
    assert_eq!(forget(&mut state), ForgetOrgOutcome::NotFound, "nobody asked for it");
    let deleting = Applied::DeleteOrg(DeleteOrgOutcome::Deleting);
    assert_eq!(state.apply(&delete()), deleting);
    assert_eq!(state.store.contradictions(9).unwrap(), Vec::<String>::new());
    assert_eq!(state.apply(&delete()), deleting, "again");
    assert_eq!(forget(&mut state), ForgetOrgOutcome::HasEvents);
    assert!(expire(&mut state) > 0);
    assert_eq!(forget(&mut state), ForgetOrgOutcome::More);
    assert!(!state.store.is_stale());
    assert_eq!(forget(&mut state), ForgetOrgOutcome::Forgotten);
    assert_eq!(rows(&state), Vec::<String>::new());
    assert_eq!(state.store.contradictions(9).unwrap(), Vec::<String>::new());
    assert_eq!(others(&state), before);
    let counts = state.store.counts().unwrap();
    assert_eq!((counts.events, counts.open, counts.waiting, counts.dead), (0, 0, 0, 0));
    assert_eq!(state.apply(&delete()), Applied::DeleteOrg(DeleteOrgOutcome::NotFound));
    assert_eq!(state.apply(&create_org(InboxMode::Auto, 1_000_000)), {
        Applied::CreateOrg(CreateOrgOutcome::Created(OrgNo(2)))
    });
}

#[test]
fn an_organization_that_is_being_deleted_is_refused_for_everything() {
    let mut state = filled();
    let key = KeyId(1_000_001);
    assert!(state.store.key(key).unwrap().is_some(), "the control");
    state.apply(&delete());
    assert!(state.store.key(key).unwrap().is_none());
    let authority = Authority { key: Some(key), needs: Scopes::none(), at: Timestamp(80).into() };
    let refused = Err(Refusal::NotAuthorized);
    assert_eq!(state.became(&put_endpoint(60).requested(authority)), refused);
    assert_eq!(state.became(&submit(900, 80, None).requested(authority)), refused);
    let own = state.apply(&submit(901, 80, None));
    assert_eq!(own, Applied::SubmitEvent(SubmitOutcome::NotFound));
    let put = state.apply(&put_endpoint(60));
    assert_eq!(put, Applied::PutEndpoint(PutEndpointOutcome::NotFound));
    let Command::CreateOrg(made) = create_org(InboxMode::Auto, 3_000_000) else { unreachable!() };
    let made = CreateKey { org: ORG, key: made.key.unwrap() };
    assert_eq!(state.apply(&made.into()), Applied::CreateKey(KeyAdded::NotFound));
    let (name, suspended) = (Some("new".to_owned()), Some(true));
    let (tier, inbox_mode, at) = (None, None, Timestamp(80));
    let change = ChangeOrg { org: ORG, name, tier, inbox_mode, suspended, at };
    assert_eq!(state.apply(&change.into()), Applied::ChangeOrg(ChangeOrgOutcome::NotFound));
    let taken = state.apply(&create_org(InboxMode::Auto, 1_000_000));
    let taken_by = Applied::CreateOrg(CreateOrgOutcome::NameTaken(OrgId(1_000_000)));
    assert_eq!(taken, taken_by, "the name is free when the deletion has ended");
    assert!(state.store.retained_org(ORG).unwrap().is_some_and(|org| org.number == OrgNo(1)));
}

#[test]
fn an_attempt_that_ends_after_its_organization_was_deleted_changes_nothing() {
    let mut state = filled();
    state.apply(&submit(200, 1, None));
    state.apply(&route(200, &[50], AT_ONCE));
    state.apply(&delete());
    let late = settle(200, 50, 1, Verdict::Delivered);
    let mut other = filled();
    other.apply(&submit(200, 1, None));
    other.apply(&route(200, &[50], AT_ONCE));
    other.apply(&delete());
    other.apply(&late);
    for mut state in [state, other] {
        expire(&mut state);
        while forget(&mut state) == ForgetOrgOutcome::More {}
        let (before, settled) = (state.store.dump().unwrap(), state.apply(&late));
        assert_eq!(settled, Applied::SettleAttempt(SettleOutcome::NoEffect));
        assert_eq!(rows(&state), Vec::<String>::new());
        assert_eq!(state.store.contradictions(9).unwrap(), Vec::<String>::new());
        assert_eq!(state.store.dump().unwrap().lines().count(), before.lines().count());
    }
}

#[test]
fn the_entry_of_a_deletion_is_the_operators_and_names_nothing_but_the_id() {
    let mut state = filled();
    let origin = crate::model::audit::Origin { address: None, request_id: "r".to_owned() };
    let by_operator =
        |at: u64| Authority { key: None, needs: Scopes::none(), at: Timestamp(at).into() };
    let renamed = ChangeOrg {
        org: ORG,
        name: Some("canary".to_owned()),
        tier: None,
        inbox_mode: None,
        suspended: None,
        at: Timestamp(60),
    };
    for (command, at) in [(renamed.into(), 60), (delete(), 70), (delete(), 71)] {
        state.apply(&Command::requested_from(
            command,
            by_operator(at),
            (Some(origin.clone()), None),
        ));
    }
    let entries = |org| {
        let query = AuditQuery { org, limit: 9, ..AuditQuery::default() };
        state.store.audit(&query).unwrap().entries
    };
    assert_eq!((entries(None).len(), entries(Some(ORG)).len()), (2, 1));
    expire(&mut state);
    while forget(&mut state) == ForgetOrgOutcome::More {}
    let left =
        state.store.audit(&AuditQuery { limit: 9, ..AuditQuery::default() }).unwrap().entries;
    let [(_, entry)] = left.as_slice() else { panic!("{left:?}") };
    assert_eq!(entry.note.action.name(), "organization.deleted");
    assert_eq!((entry.organization, &entry.note.changes), (Some(OrgId(1_000_000)), &Vec::new()));
    assert!(!state.store.dump().unwrap().contains("canary"));
}

/// The files of the state hold removed rows until they are renewed. Rows change meanwhile.
#[test]
fn renewed_files_have_the_same_rows_and_no_byte_of_a_forgotten_organization() {
    let mut state = filled();
    let Command::PutEndpoint(mut put) = put_endpoint(52) else { unreachable!() };
    put.endpoint.settings.url = "https://canary.example/".to_owned();
    state.apply(&put.into());
    state.store.write_back().unwrap();
    let holds_canary = |state: &Fixture| {
        let found = walkdir(state.dir.path());
        found.iter().any(|file| memchr::memmem::find(file, b"canary.example").is_some())
    };
    assert!(holds_canary(&state), "the control");
    state.apply(&delete());
    expire(&mut state);
    while forget(&mut state) == ForgetOrgOutcome::More {}
    state.store.write_back().unwrap();
    assert!(state.store.is_stale() && holds_canary(&state), "the row is gone, its bytes are not");
    let other = OrgNo(1);
    for round in 0..2 {
        state.store.begin_renewal().unwrap();
        assert!(state.store.is_renewing());
        let mut steps = 0;
        while state.store.renew_more().unwrap() {
            steps += 1;
            let Command::SubmitEvent(mut event) = submit(300 + 10 * round + steps, 1, None) else {
                unreachable!()
            };
            event.org = other;
            state.apply(&Command::SubmitEvent(event));
            state.store.write_back().unwrap();
        }
        assert!(!state.store.is_stale() && !state.store.is_renewing());
        // More rows, so that the next round has several chunks.
        for id in 400..480 {
            state.apply(&create_org(InboxMode::Auto, (round + 1) * 10_000_000 + id * 10));
        }
        state.store.write_back().unwrap();
    }
    assert!(!holds_canary(&state));
    let before = state.store.dump().unwrap();
    state.reopen();
    assert_eq!(state.store.dump().unwrap(), before);
    assert!(!state.store.is_stale(), "the directory remembers when it began");
    assert_eq!(state.store.contradictions(9).unwrap(), Vec::<String>::new());
}

#[test]
fn a_renewal_that_does_not_end_leaves_the_files_as_they_are() {
    let state = filled();
    state.store.begin_renewal().unwrap();
    assert!(state.store.renew_more().unwrap(), "there is more than one chunk");
    let before = state.store.dump().unwrap();
    let Fixture { store, dir, .. } = state;
    store.write_back().unwrap();
    drop(store);
    // As after a kill: nobody has removed the unfinished directory.
    assert_eq!(std::fs::read_dir(dir.path()).unwrap().count(), 2);
    let store = Store::open(dir.path(), NO_CACHE, Position::MAX).unwrap();
    assert_eq!((store.rebuild_reason(), store.dump().unwrap()), (None, before));
    assert_eq!(std::fs::read_dir(dir.path()).unwrap().count(), 1);
    store.begin_renewal().unwrap();
    store.give_up_renewal();
    assert_eq!(std::fs::read_dir(dir.path()).unwrap().count(), 1);
}

/// Returns the contents of the files below a directory.
fn walkdir(dir: &std::path::Path) -> Vec<Vec<u8>> {
    let paths = std::fs::read_dir(dir).unwrap().map(|entry| entry.unwrap().path());
    let read = |path: std::path::PathBuf| {
        if path.is_dir() { walkdir(&path) } else { vec![std::fs::read(path).unwrap()] }
    };
    paths.flat_map(read).collect()
}
