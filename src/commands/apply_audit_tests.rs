//! Tests of the audit log: what becomes an entry, and which entries leave.

use super::*;
use crate::model::audit::{Action, Actor, AuditEntry, Note, Origin, Subject};
use crate::model::authority::Authority;
use crate::model::time::Now;
use crate::store::{AuditPlace, AuditQuery};

fn origin(request_id: &str) -> Origin {
    Origin { address: Some([192, 0, 2, 1].into()), request_id: request_id.to_owned() }
}

/// A change of the organization's name, as the operator asks for it at this time.
fn rename(org: OrgNo, name: &str, at: u64) -> Command {
    let change = ChangeOrg {
        org,
        name: Some(name.to_owned()),
        tier: None,
        inbox_mode: None,
        suspended: None,
        at: Timestamp(at),
    };
    requested(change, (None, at), None)
}

fn requested(
    command: impl Into<Command>,
    (key, at): (Option<KeyId>, u64),
    note: Option<Note>,
) -> Command {
    let authority = Authority { key, needs: Scopes::none(), at: Timestamp(at).into() };
    command.into().requested_from(authority, (Some(origin("r")), note))
}

impl Fixture {
    fn audit(&self, query: &AuditQuery) -> Vec<AuditEntry> {
        let query = AuditQuery { limit: 500, ..query.clone() };
        let page = self.store.audit(&query).unwrap();
        assert_eq!(self.store.contradictions(9).unwrap(), Vec::<String>::new());
        page.entries.into_iter().map(|(_, entry)| entry).collect()
    }

    fn actions(&self, org: Option<OrgNo>) -> Vec<&'static str> {
        let entries = self.audit(&AuditQuery { org, ..AuditQuery::default() });
        entries.iter().map(|entry| entry.note.action.name()).collect()
    }

    /// The names that organizations have got, the newest first.
    fn names(&self, query: &AuditQuery) -> Vec<String> {
        let entries = self.audit(query).into_iter();
        entries.filter_map(|entry| entry.note.changes.first()?.after.clone()).collect()
    }
}

#[test]
fn a_change_is_recorded_with_its_actor_and_origin_and_what_changes_nothing_is_not() {
    let mut state = Fixture::new();
    state.apply(&requested(create_org(InboxMode::Auto, 100), (None, 7), None));
    state.apply(&rename(ORG, "Beta", 8));
    state.apply(&rename(ORG, "Beta", 9));
    state.apply(&requested(put_endpoint(50), (Some(KeyId(101)), 10), None));
    state.apply(&requested(submit(1, 2, None), (Some(KeyId(101)), 11), None));
    let foreign = requested(put_endpoint(51), (Some(KeyId(3)), 12), None);
    assert_eq!(state.became(&foreign), Err(Refusal::NotAuthorized));
    state.apply(&put_endpoint(52));
    let entries = state.audit(&AuditQuery::default());
    let actions =
        ["endpoint.created", "organization.changed", "key.created", "organization.created"];
    assert_eq!(state.actions(None), actions);
    assert_eq!(state.actions(Some(ORG)), actions);
    let [endpoint, renamed, ..] = entries.as_slice() else { unreachable!() };
    assert_eq!((endpoint.at, endpoint.actor), (Timestamp(10), Actor::Key(KeyId(101))));
    assert_eq!((&renamed.origin, renamed.actor), (&Some(origin("r")), Actor::Operator));
    assert_eq!(renamed.note.subject, Subject::Organization(OrgId(100)));
    let [changed] = renamed.note.changes.as_slice() else { panic!("{renamed:?}") };
    let names = (changed.before.as_deref(), changed.after.as_deref());
    assert_eq!((changed.field.as_str(), names), ("name", (Some("Acme 100"), Some("Beta"))));
}

#[test]
fn a_note_is_an_entry_of_its_own_of_a_request_that_is_allowed() {
    let mut state = Fixture::new();
    state.apply(&create_org(InboxMode::Auto, 100));
    let note = || Note {
        action: Action::DeadLettersDropped,
        subject: Subject::DeadLetters,
        changes: Vec::new(),
    };
    let drop = DropDead { org: ORG, endpoint: EndpointId(50), event: EventId(1) };
    let asks = |key| requested(drop.clone(), (Some(KeyId(key)), 5), Some(note()));
    assert_eq!(state.became(&asks(3)), Err(Refusal::NotAuthorized));
    assert_eq!(state.actions(None), [] as [&str; 0]);
    state.apply(&asks(101));
    assert_eq!(state.actions(Some(ORG)), ["dead_letters.dropped"]);
}

#[test]
fn an_organization_keeps_a_bounded_number_of_entries_and_takes_no_room_from_others() {
    let mut state = Fixture::new();
    state.apply(&create_org(InboxMode::Auto, 100));
    let Command::CreateOrg(mut make) = create_org(InboxMode::Auto, 200) else { unreachable!() };
    make.number = OrgNo(1);
    state.apply(&requested(make, (None, 1), None));
    for number in 0..50 {
        state.apply(&rename(ORG, &format!("name {number}"), 2));
    }
    let of = |org| AuditQuery { org: Some(OrgNo(org)), ..AuditQuery::default() };
    let kept: Vec<_> = (30..50).rev().map(|number| format!("name {number}")).collect();
    assert_eq!(state.names(&of(0)), kept);
    assert_eq!(state.actions(Some(OrgNo(1))), ["key.created", "organization.created"]);
    state.reopen();
    assert_eq!(state.names(&of(0)), kept);
}

#[test]
fn entries_expire_by_the_steady_time_in_bounded_steps() {
    let mut state = Fixture::new();
    state.apply(&create_org(InboxMode::Auto, 100));
    let entry = |steady| {
        let note = Note {
            action: Action::ConfigurationReloaded,
            subject: Subject::Configuration,
            changes: Vec::new(),
        };
        let (actor, at) = (Actor::Operator, Timestamp(1));
        let entry = AuditEntry { at, actor, origin: None, organization: None, note };
        NoteAudit { entry, at: Now::new(at, Timestamp(steady)) }.into()
    };
    for steady in 0..300 {
        state.apply(&entry(steady));
    }
    state.apply(&rename(ORG, "Beta", 400));
    let count = |state: &Fixture| state.audit(&AuditQuery::default()).len();
    let before = |before| ExpireAudit { before: Timestamp(before) }.into();
    for (expired, left) in [(0, 301), (10, 291), (10, 291), (290, 35), (290, 11), (9_999, 0)] {
        assert_eq!(
            state.store.has_expired_audit(Timestamp(expired)).unwrap(),
            left != count(&state)
        );
        state.apply(&before(expired));
        assert_eq!(count(&state), left, "{expired}");
    }
    assert_eq!(state.actions(Some(ORG)), [] as [&str; 0]);
}

#[test]
fn a_list_has_each_entry_once_in_both_orders_and_ends_at_its_times() {
    let mut state = Fixture::new();
    state.apply(&create_org(InboxMode::Auto, 100));
    let names: Vec<_> = (0..9).map(|number| format!("name {number}")).collect();
    for (name, at) in names.iter().zip(10..) {
        state.apply(&rename(ORG, name, at));
    }
    for (org, oldest_first) in [(None, true), (None, false), (Some(ORG), true), (Some(ORG), false)]
    {
        let (mut found, mut after): (Vec<String>, Option<AuditPlace>) = (Vec::new(), None);
        loop {
            let query = AuditQuery { org, after, limit: 2, oldest_first, ..AuditQuery::default() };
            let page = state.store.audit(&query).unwrap();
            found.extend(
                page.entries.iter().filter_map(|(_, it)| it.note.changes.first()?.after.clone()),
            );
            after = page.next;
            if !page.has_more {
                break;
            }
        }
        let mut expected = names.clone();
        if !oldest_first {
            expected.reverse();
        }
        assert_eq!(found, expected, "{org:?} {oldest_first}");
    }
    let (since, until) = (Some(Timestamp(12)), Some(Timestamp(15)));
    let query = AuditQuery { since, until, ..AuditQuery::default() };
    assert_eq!(state.names(&query), ["name 4", "name 3", "name 2"]);
    let action = Some(Action::KeyCreated);
    assert_eq!(state.names(&AuditQuery { action, ..AuditQuery::default() }), [] as [&str; 0]);
}
