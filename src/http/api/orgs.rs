//! `/api/orgs`: the operator lists, creates, changes, suspends and deletes organizations, and makes
//! keys for them.

use std::str::FromStr;

use actix_web::http::StatusCode;
use actix_web::web;
use serde::Serialize;
use serde_json::Value;
use utoipa::ToSchema;

use super::new_key::{KeySettings, REPLIES, add};
use crate::commands::{
    ChangeOrg, ChangeOrgOutcome, CreateOrgOutcome, DeleteOrg, DeleteOrgOutcome, OrgDraft,
};
use crate::http::edge::audit;
use crate::http::edge::call::{Answer, Call, json, page};
use crate::http::error::{Code, Problem};
use crate::http::input::body::Media;
use crate::http::input::cursor::List;
use crate::http::input::declare::{
    Body as _, Draft, Parameters as _, body, members_of, query, schema_requiring,
};
use crate::http::input::fields::text_of;
use crate::http::input::kinds::{Rule, flag, name_is_shown, parsed, text};
use crate::http::input::lists::{Page, paging};
use crate::http::input::presence::optional;
use crate::http::openapi::operation::{Content, Operation, Reply, Tag};
use crate::http::openapi::schemas::{Schemas, VISIBLE, page_of, schema_of};
use crate::http::openapi::texts::{chars, texts};
use crate::model::id::{EventId, OrgId, OrgNo};
use crate::model::org::{InboxMode, NAME_CHARS_MAX, Org, OrgDeletion, Tier, looks_like_id};
use crate::model::time::Timestamp;
use crate::store::{OrgOverview, OrgQuery};

const BODY_BYTES_MAX: usize = 16 << 10;

query! {
    /// The wanted organizations.
    struct OrgsQuery {
        /// The page.
        page: Page<EventId> = paging(List::Organizations).by();
        /// Only the organization with this name.
        name: Option<String> = optional("name", text(NAME_CHARS_MAX));
        /// Only organizations whose names begin in this way.
        prefix: Option<String> = optional("name_prefix", text(NAME_CHARS_MAX));
    }
}

body! {
    /// The settings of an organization.
    struct OrgSettings {
        /// The name, which no other organization has.
        name: Option<OrgName> = optional("name", parsed());
        /// The tier. That of a new organization is `free` without this member.
        tier: Option<Tier> = optional("tier", parsed());
        /// The rule by which an event leaves the inbox. That of a new organization is `auto`
        /// without this member.
        inbox_mode: Option<InboxMode> = optional("inbox_mode", parsed());
    }
}

body! {
    /// A change of an organization.
    struct OrgChange {
        /// The settings.
        settings: OrgSettings = members_of();
        /// `true` suspends the organization, and `false` ends the suspension.
        suspended: Option<bool> = optional("suspended", flag());
    }
}

pub(in crate::http) static LIST: Operation = Operation::new(
    "listOrganizations",
    Tag::Organizations,
    "List organizations",
    &[Reply::json(
        200,
        "A page of organizations, in the order of their creation.",
        page_of::<Shown>,
    )],
)
.query::<OrgsQuery>();

pub(in crate::http) static CREATE: Operation = Operation::new(
    "createOrganization",
    Tag::Organizations,
    "Create an organization without a key",
    &[Reply::json(201, "The organization.", schema_of::<Shown>)],
)
.body(&[Content::of("application/json", named_org, r#"{"name": "Acme", "tier": "pro"}"#)])
.refuses(&[Code::OrganizationExists]);

pub(in crate::http) static SHOW: Operation = Operation::new(
    "showOrganization",
    Tag::Organizations,
    "Show an organization",
    &[Reply::json(200, "The organization.", schema_of::<Shown>)],
);

pub(in crate::http) static CHANGE: Operation = Operation::new(
    "changeOrganization",
    Tag::Organizations,
    "Change or suspend an organization",
    &[Reply::json(200, "The organization.", schema_of::<Shown>)],
)
.about(
    "The keys of a suspended organization read as before and change nothing, and its deliveries \
     wait until the suspension ends.",
)
.body(&[Content::json::<OrgChange>(r#"{"suspended": true}"#)])
.refuses(&[Code::OrganizationExists]);

pub(in crate::http) static DELETE: Operation = Operation::new(
    "deleteOrganization",
    Tag::Organizations,
    "Delete an organization with everything in it",
    &[Reply::json(
        202,
        "The deletion has begun; `deletion` shows its progress. When it has ended, the \
         organization does not exist any more.",
        schema_of::<Shown>,
    )],
)
.about(
    "This cannot be undone. From this answer on, the organization's keys are refused and nothing \
     is sent to its endpoints.",
);

pub(in crate::http) static MAKE_KEY: Operation = Operation::new(
    "createOrganizationKey",
    Tag::Organizations,
    "Make a key for an organization",
    REPLIES,
)
.about("Without `scopes` the key has all of them.")
.body(&[Content::of("application/json", named_key, r#"{"name": "shop", "scopes": ["producer"]}"#)])
.refuses(&[Code::LimitReached]);

fn named_org(schemas: &mut Schemas) -> Value {
    let make = |schemas: &mut Schemas| schema_requiring::<OrgSettings>(schemas, &["name"]);
    schemas.component("NewOrganization", make)
}

fn named_key(schemas: &mut Schemas) -> Value {
    let make = |schemas: &mut Schemas| schema_requiring::<KeySettings>(schemas, &["name"]);
    schemas.component("NewOrganizationKey", make)
}

/// The name of an organization, without spaces around it.
struct OrgName(String);

impl FromStr for OrgName {
    type Err = Rule;

    fn from_str(text: &str) -> Result<Self, Rule> {
        name_is_shown(text, NAME_CHARS_MAX)?;
        let name = text.trim();
        if name.is_empty() {
            Err("must not be blank".into())
        } else if looks_like_id(name) {
            Err("cannot begin with org_, which is the beginning of ids".into())
        } else {
            Ok(Self(name.to_owned()))
        }
    }
}

texts! {
    OrgName: "The name of an organization, without spaces around it. It cannot begin like an id." =
        chars(NAME_CHARS_MAX).pattern(Some(format!(
            r"^(?!\s*[oO][rR][gG]_)(?!\s*$){}",
            VISIBLE.trim_start_matches('^')
        )));
}

/// The progress of the deletion of an organization.
#[derive(Serialize, ToSchema)]
#[schema(as = OrganizationDeletion)]
struct Progress {
    /// The time of the first request for it.
    requested_at: Timestamp,
    /// The number of events that the organization had then.
    events: u64,
    /// The number of events that it still has.
    events_left: u64,
}

/// An organization.
#[derive(Serialize, ToSchema)]
#[schema(as = Organization)]
struct Shown {
    id: OrgId,
    name: String,
    tier: Tier,
    inbox_mode: InboxMode,
    suspended: bool,
    #[schema(required)]
    suspended_at: Option<Timestamp>,
    /// The deletion, while it is under way.
    #[schema(required)]
    deletion: Option<Progress>,
    created_at: Timestamp,
    /// Stored events, also erased ones.
    events: u64,
    /// The size of these events as they came, in bytes.
    bytes: u64,
    /// Events in the inbox.
    open: u64,
    /// Deliveries that wait for an attempt.
    waiting: u64,
    /// Dead letters.
    dead: u64,
    endpoints: usize,
    /// Valid keys.
    keys: usize,
}

impl Shown {
    fn of(found: OrgOverview) -> Self {
        let OrgOverview { org, suspended_at, events, bytes, open, waiting, dead, .. } = found;
        let Org { id, name, tier, inbox_mode, created_at } = org;
        let deletion = found.deletion.map(|OrgDeletion { at: requested_at, events: had }| {
            Progress { requested_at, events: had, events_left: events }
        });
        Self {
            deletion,
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
    let OrgsQuery { page: Page { limit, after }, name, prefix } =
        OrgsQuery::read(call.request.query_string())?;
    let prefix = prefix.unwrap_or_default();
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

/// Returns the organization named in the path, unless it is being deleted.
fn living(call: &Call) -> Result<OrgOverview, Problem> {
    let found = named(call)?;
    if found.deletion.is_some() { Err(deleted()) } else { Ok(found) }
}

fn deleted() -> Problem {
    Problem::not_found("the organization with this id is being deleted, or does not exist any more")
}

/// `GET /api/orgs/{org_id}`: shows an organization.
pub(in crate::http) fn show(call: &Call) -> Answer {
    json(StatusCode::OK, &Shown::of(named(call)?))
}

fn name_taken(existing: OrgId) -> Problem {
    Problem::organization_exists(existing, "choose another name")
}

/// `POST /api/orgs`: creates an organization without a key.
pub(in crate::http) async fn create(call: &mut Call) -> Answer {
    Media::require_json(call.request.headers())?;
    let body = call.body(BODY_BYTES_MAX).await?;
    let settings = OrgSettings::draft(text_of(&body)?, &["name"])?.finish()?;
    let OrgSettings { name, tier, inbox_mode } = settings;
    let name = name.map(|OrgName(name)| name).unwrap_or_default();
    let org = new_org(call, name, (tier, inbox_mode));
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
    let found = living(call)?;
    let OrgChange { settings, suspended } = OrgChange::read(text_of(&body)?)?;
    let OrgSettings { name, tier, inbox_mode } = settings;
    let name = name.map(|OrgName(name)| name);
    if name.is_some() || tier.is_some() || inbox_mode.is_some() || suspended.is_some() {
        let org = found.number;
        let change = ChangeOrg { org, name, tier, inbox_mode, suspended, at: call.now };
        match call.commit(change.clone()).await? {
            ChangeOrgOutcome::Changed => audit::organization_changed(call, found.org.id, &change),
            ChangeOrgOutcome::NameTaken(existing) => return Err(name_taken(existing)),
            ChangeOrgOutcome::NotFound => return Err(deleted()),
        }
    }
    json(StatusCode::OK, &Shown::of(named(call)?))
}

/// `DELETE /api/orgs/{org_id}`: begins the deletion of an organization. The answer to a repeated
/// request shows the progress.
pub(in crate::http) async fn delete(call: &mut Call) -> Answer {
    let found = named(call)?;
    if found.deletion.is_none() {
        match call.commit(DeleteOrg { org: found.number, at: call.now }).await? {
            DeleteOrgOutcome::Deleting => audit::organization_deleted(call, found.org.id),
            DeleteOrgOutcome::NotFound => return Err(absent()),
        }
    }
    // A small organization may be gone by now.
    let now = call.api.engine.now();
    let shown = call.api.engine.store.org_overview(found.org.id, now)?;
    json(StatusCode::ACCEPTED, &Shown::of(shown.unwrap_or(found)))
}

/// `POST /api/orgs/{org_id}/keys`: makes a key for an organization.
pub(in crate::http) async fn make_key(call: &mut Call) -> Answer {
    Media::require_json(call.request.headers())?;
    let body = call.body(BODY_BYTES_MAX).await?;
    let found = living(call)?;
    let Draft { body, fields, mut faults } = KeySettings::draft(text_of(&body)?, &["name"])?;
    let request = body.request(call.now, &mut faults);
    fields.finish(&mut faults);
    faults.into_result()?;
    add(call, found.number, found.org.id, request).await
}
