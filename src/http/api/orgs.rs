//! `/api/orgs`: the operator lists, creates, changes and suspends organizations, and makes keys for
//! them.

use actix_web::http::StatusCode;
use actix_web::web;
use serde::Serialize;

use super::new_key::{add, key_request};
use crate::commands::{ChangeOrg, ChangeOrgOutcome, CreateOrgOutcome, OrgDraft};
use crate::http::edge::audit;
use crate::http::edge::call::{Answer, Call, json, page};
use crate::http::error::{Faults, Problem};
use crate::http::input::body::Media;
use crate::http::input::cursor::List;
use crate::http::input::fields::{Field, Fields, text_of};
use crate::http::input::query::Query;
use crate::model::id::{EventId, OrgId, OrgNo};
use crate::model::org::{InboxMode, NAME_CHARS_MAX, Org, Tier, looks_like_id};
use crate::model::time::Timestamp;
use crate::store::{OrgOverview, OrgQuery};

const BODY_BYTES_MAX: usize = 16 << 10;

/// An organization in an answer.
#[derive(Serialize)]
struct Shown {
    id: OrgId,
    name: String,
    tier: Tier,
    inbox_mode: InboxMode,
    suspended: bool,
    suspended_at: Option<Timestamp>,
    created_at: Timestamp,
    events: u64,
    bytes: u64,
    open: u64,
    waiting: u64,
    dead: u64,
    endpoints: usize,
    keys: usize,
}

impl Shown {
    fn of(found: OrgOverview) -> Self {
        let OrgOverview { org, suspended_at, events, bytes, open, waiting, dead, .. } = found;
        let Org { id, name, tier, inbox_mode, created_at } = org;
        Self {
            id,
            name,
            tier,
            inbox_mode,
            suspended: suspended_at.is_some(),
            suspended_at,
            created_at,
            events,
            bytes,
            open,
            waiting,
            dead,
            endpoints: found.endpoints,
            keys: found.keys,
        }
    }
}

/// Returns an organization that is to be created now.
pub(super) fn new_org(
    call: &Call,
    name: String,
    (tier, inbox_mode): (Option<Tier>, Option<InboxMode>),
) -> Org {
    Org {
        id: OrgId(call.api.new_id()),
        name,
        tier: tier.unwrap_or(Tier::Free),
        inbox_mode: inbox_mode.unwrap_or(InboxMode::Auto),
        created_at: call.now,
    }
}

/// `GET /api/orgs`: lists the organizations in the order of their creation, all of them or those
/// whose names the query wants.
pub(in crate::http) async fn list(call: &mut Call) -> Answer {
    let mut query = Query::read(call.request.query_string());
    let (limit, after) = (query.limit(), query.cursor::<EventId>(List::Organizations));
    let name = query.text("name").map(String::from);
    let prefix = query.text("name_prefix").map(String::from).unwrap_or_default();
    query.finish()?;
    let begins = after.unwrap_or_default();
    let after =
        begins.0.checked_sub(1).map(|after| OrgNo(u32::try_from(after).unwrap_or(u32::MAX)));
    // One more than the page shows whether the list goes on.
    let wanted = OrgQuery { after, name, prefix, limit: limit + 1 };
    let (api, now) = (web::Data::clone(&call.api), call.api.engine.now());
    let found = call.run(move || Ok(api.engine.store.orgs(&wanted, now)?)).await?;
    // The number 0 stands before the first organization.
    let cursor = |OrgNo(number)| List::Organizations.cursor(EventId(u128::from(number) + 1));
    let items = found.into_iter().map(|found| (cursor(found.number), Shown::of(found)));
    page((limit, List::Organizations.cursor(begins)), items)
}

fn absent() -> Problem {
    Problem::not_found("there is no organization with this id")
}

/// Returns the organization named in the path.
fn named(call: &Call) -> Result<OrgOverview, Problem> {
    let id = call.path("org_id").parse().map_err(|_malformed| absent())?;
    call.api.engine.store.org_overview(id, call.api.engine.now())?.ok_or_else(absent)
}

/// `GET /api/orgs/{org_id}`: shows an organization.
pub(in crate::http) fn show(call: &Call) -> Answer {
    json(StatusCode::OK, &Shown::of(named(call)?))
}

/// Reads the name of an organization.
fn name_of(field: &Field<'_>, faults: &mut Faults) -> Option<String> {
    let name = field.name(NAME_CHARS_MAX, faults)?.trim().to_owned();
    if name.is_empty() {
        faults.add(field.pointer(), "must not be blank");
    } else if looks_like_id(&name) {
        faults.add(field.pointer(), "cannot begin with org_, which is the beginning of ids");
    }
    Some(name)
}

fn name_taken(existing: OrgId) -> Problem {
    Problem::organization_exists(existing, "choose another name")
}

/// `POST /api/orgs`: creates an organization without a key.
pub(in crate::http) async fn create(call: &mut Call) -> Answer {
    Media::require_json(call.request.headers())?;
    let body = call.body(BODY_BYTES_MAX).await?;
    let (mut fields, mut faults) = (Fields::read(text_of(&body)?)?, Faults::default());
    let name = fields.require("name", &mut faults).and_then(|field| name_of(&field, &mut faults));
    let tier = fields.take("tier", &mut faults).and_then(|field| field.parse(&mut faults));
    let mode = fields.take("inbox_mode", &mut faults).and_then(|field| field.parse(&mut faults));
    fields.finish(&mut faults);
    faults.into_result()?;
    let org = new_org(call, name.unwrap_or_default(), (tier, mode));
    let (id, name) = (org.id, org.name.clone());
    match call.commit(OrgDraft::new(org, None)).await? {
        CreateOrgOutcome::Created(_) => audit::organization_made(call, id, &name),
        CreateOrgOutcome::NameTaken(existing) => return Err(name_taken(existing)),
    }
    let found = call.api.engine.store.org_overview(id, call.api.engine.now())?;
    json(StatusCode::CREATED, &Shown::of(found.ok_or_else(absent)?))
}

/// `PATCH /api/orgs/{org_id}`: changes an organization, suspends it, or ends its suspension.
pub(in crate::http) async fn change(call: &mut Call) -> Answer {
    Media::require_json(call.request.headers())?;
    let body = call.body(BODY_BYTES_MAX).await?;
    let found = named(call)?;
    let (mut fields, mut faults) = (Fields::read(text_of(&body)?)?, Faults::default());
    let change = ChangeOrg {
        org: found.number,
        name: fields.take("name", &mut faults).and_then(|field| name_of(&field, &mut faults)),
        tier: fields.take("tier", &mut faults).and_then(|field| field.parse(&mut faults)),
        inbox_mode: fields
            .take("inbox_mode", &mut faults)
            .and_then(|field| field.parse(&mut faults)),
        suspended: fields.take("suspended", &mut faults).and_then(|field| field.flag(&mut faults)),
        at: call.now,
    };
    fields.finish(&mut faults);
    faults.into_result()?;
    let ChangeOrg { name, tier, inbox_mode, suspended, .. } = &change;
    if name.is_some() || tier.is_some() || inbox_mode.is_some() || suspended.is_some() {
        match call.commit(change.clone()).await? {
            ChangeOrgOutcome::Changed => audit::organization_changed(call, found.org.id, &change),
            ChangeOrgOutcome::NameTaken(existing) => return Err(name_taken(existing)),
            ChangeOrgOutcome::NotFound => return Err(absent()),
        }
    }
    json(StatusCode::OK, &Shown::of(named(call)?))
}

/// `POST /api/orgs/{org_id}/keys`: makes a key for an organization.
pub(in crate::http) async fn make_key(call: &mut Call) -> Answer {
    Media::require_json(call.request.headers())?;
    let body = call.body(BODY_BYTES_MAX).await?;
    let found = named(call)?;
    let (mut fields, mut faults) = (Fields::read(text_of(&body)?)?, Faults::default());
    if !fields.has("name") {
        faults.add("/name", "is required");
    }
    let request = key_request(&mut fields, call.now, &mut faults);
    fields.finish(&mut faults);
    faults.into_result()?;
    add(call, found.number, found.org.id, request).await
}
