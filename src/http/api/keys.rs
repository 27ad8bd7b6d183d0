//! `/api/keys`: creates, lists, changes, rotates and revokes keys. The operator also creates
//! organizations here.

use actix_web::HttpResponse;
use actix_web::http::StatusCode;
use serde::Serialize;
use serde_json::{Value, json};
use utoipa::ToSchema;

use super::new_key::{KeyRequest, KeySettings, REPLIES, add, make, reveal, shown_end, stored};
use super::orgs::new_org;
use crate::commands::{
    ChangeKey, ChangeKeyOutcome, CreateOrgOutcome, EndKey, EndKeyOutcome, OrgDraft, RotateKey,
};
use crate::http::edge::audit;
use crate::http::edge::auth::Caller;
use crate::http::edge::call::{Answer, Call, json, page};
use crate::http::error::{Code, Problem};
use crate::http::input::body::{Media, optional_json};
use crate::http::input::cursor::List;
use crate::http::input::declare::{
    Body as _, Draft, Parameters as _, body, members_of, present, query, schema_requiring,
};
use crate::http::input::fields::text_of;
use crate::http::input::kinds::{self, number, parsed};
use crate::http::input::lists::{Page, paging};
use crate::http::input::presence::optional;
use crate::http::openapi::operation::{Content, Operation, Reply, Tag};
use crate::http::openapi::schemas::{Schemas, page_of, schema_of};
use crate::model::id::{EventId, KeyId, OrgId};
use crate::model::key::{Key, MayNotEnd, Scope};
use crate::model::org::{NAME_CHARS_MAX, Tier, looks_like_id};
use crate::model::time::Timestamp;
use crate::store::Authenticated;

const BODY_BYTES_MAX: usize = 16 << 10;
/// Maximum grace period of a rotated key, in seconds: a week.
const GRACE_S_MAX: u64 = 604_800;
const GRACE_S_DEFAULT: u64 = 86_400;
body! {
    /// A new key, and for the operator its organization.
    struct KeyOrder {
        /// The name of a new organization or the id of an existing one. Only for the admin token,
        /// which needs it.
        organization: Option<String> = optional("organization", kinds::name(NAME_CHARS_MAX));
        /// The tier of a new organization, `free` without this member. Only for the admin token.
        tier: Option<Tier> = optional("tier", parsed());
        /// The properties of the key.
        key: KeySettings = members_of();
    }
}

fn order_schema(schemas: &mut Schemas) -> Value {
    schemas.component(KeyOrder::NAME, |schemas| {
        let mut schema = schema_requiring::<KeyOrder>(schemas, &[]);
        let choices = json!([
            present("organization"),
            {"allOf": [present("name"), present("scopes")]},
        ]);
        if let Some(schema) = schema.as_object_mut() {
            schema.insert("anyOf".to_owned(), choices);
        }
        schema
    })
}

body! {
    /// The rotation of the calling key.
    struct Rotation {
        /// How long the old key keeps working; with 0 it ends at once.
        grace_s: u64 = optional("grace_seconds", number(0..=GRACE_S_MAX)).or(GRACE_S_DEFAULT);
    }
}

query! {
    /// The parameters of the list of keys.
    struct KeysQuery {
        /// The page.
        page: Page<EventId> = paging(List::Keys).by();
    }
}

pub(in crate::http) static GENERATE: Operation = Operation::new(
    "generateKey",
    Tag::Keys,
    "Make a key, or an organization with its first key",
    REPLIES,
)
.about(
    "With the admin token, `organization` is the name of a new organization or the id of an \
     existing one; without `name` the name of the key is `default`, and without `scopes` it has \
     all of them. With a key, the new key is one of the same organization, needs `name` and \
     `scopes`, has no more scopes than its maker and does not outlive it.",
)
.body(&[Content::of(
    "application/json",
    order_schema,
    r#"{"organization": "Acme", "tier": "free"}"#,
)])
.refuses(&[Code::OrganizationExists, Code::LimitReached, Code::NotFound]);

pub(in crate::http) static ROTATE: Operation =
    Operation::new("rotateKey", Tag::Keys, "Replace the calling key by a new one", REPLIES)
        .optional_body(&[Content::json::<Rotation>(r#"{"grace_seconds": 86400}"#)])
        .refuses(&[Code::LimitReached, Code::NotFound]);

pub(in crate::http) static LIST: Operation = Operation::new(
    "listKeys",
    Tag::Keys,
    "List the valid keys",
    &[Reply::json(200, "A page of keys, in the order of their creation.", page_of::<Listed>)],
)
.query::<KeysQuery>();

pub(in crate::http) static CHANGE: Operation = Operation::new(
    "changeKey",
    Tag::Keys,
    "Change the name of a key, take scopes away, or move its end",
    &[Reply::json(200, "The key.", schema_of::<Listed>)],
)
.about("Only the admin token sets a later end.")
.body(&[Content::json::<KeySettings>(r#"{"scopes": ["read_only"]}"#)]);

pub(in crate::http) static END: Operation = Operation::new(
    "revokeKey",
    Tag::Keys,
    "Revoke a key",
    &[Reply::empty(204, "The key has ended.")],
);

/// `POST /api/keys/generate`. The operator creates an organization with its first key, or another
/// key of an existing organization (then `organization` is an id). A key creates another key of its
/// organization, with no more scopes and no later end.
pub(in crate::http) async fn generate(call: &mut Call) -> Answer {
    Media::require_json(call.request.headers())?;
    let body = call.body(BODY_BYTES_MAX).await?;
    let text = text_of(&body)?;
    match call.caller.clone() {
        Caller::Key(maker) => generate_by_key(call, &maker, text).await,
        Caller::Admin => generate_by_admin(call, text).await,
        Caller::Anyone => {
            Err(Problem::new(Code::Forbidden, "this route needs an API key or the admin token"))
        }
    }
}

async fn generate_by_key(call: &Call, maker: &Authenticated, text: &str) -> Answer {
    let Draft { body, fields, mut faults } = KeyOrder::draft(text, &["name", "scopes"])?;
    for (name, is_given) in
        [("organization", body.organization.is_some()), ("tier", body.tier.is_some())]
    {
        if is_given {
            faults.add(
                format!("/{name}"),
                "is for the admin token only; a key makes keys of its own organization, so leave \
                 it out",
            );
        }
    }
    let request = body.key.request(call.now, &mut faults);
    fields.finish(&mut faults);
    faults.into_result()?;
    let request = within(call, request, maker.key())?;
    add(call, maker.org_no(), maker.org().id, request).await
}

/// Checks that the key to make has no more scopes and no later end than the key that makes it. A
/// request without an end gets the expiry of this key; the command adds the end of a grace period.
fn within(call: &Call, mut request: KeyRequest, maker: &Key) -> Result<KeyRequest, Problem> {
    if !maker.scopes.covers(request.scopes) {
        let own = maker.scopes.names();
        let mut lacking = request.scopes.names();
        lacking.retain(|scope| !own.contains(scope));
        let detail = format!(
            "a key cannot make a key with more scopes than its own; leave out {}, or use a key \
             that has them",
            lacking.join(", ")
        );
        return Err(Problem::new(Code::Forbidden, detail));
    }
    if let Some(end) = shown_end(call, maker)
        && request.expires_at.is_some_and(|wished| wished > end)
    {
        let detail = format!(
            "a key cannot make a key that outlives it; expires_at can be {end} at the latest"
        );
        return Err(Problem::new(Code::Forbidden, detail));
    }
    request.expires_at = request.expires_at.or(maker.expires_at);
    Ok(request)
}

async fn generate_by_admin(call: &Call, text: &str) -> Answer {
    let (organization, tier, request) = read_by_admin(text, call.now)?;
    if !looks_like_id(&organization) {
        return create_organization(call, (organization, tier), request).await;
    }
    let id = organization.parse().ok();
    let found = id.map(|id| call.api.engine.store.org_by_id(id)).transpose()?.flatten();
    let (number, org) = found.ok_or_else(|| {
        Problem::not_found("there is no organization with this id; a name cannot begin with org_")
    })?;
    add(call, number, org.id, request).await
}

/// Creates an organization with its first key.
async fn create_organization(
    call: &Call,
    (name, tier): (String, Option<Tier>),
    request: KeyRequest,
) -> Answer {
    // The name is checked again when the command is applied; this check saves the hashing of a key.
    if let Some(existing) = call.api.engine.store.org_named(&name) {
        return Err(name_taken(existing));
    }
    let org = new_org(call, name.clone(), (tier, None));
    let organization = org.id;
    let (text, key) = make(call, request).await?;
    match call.commit(OrgDraft::new(org, Some(key.clone()))).await? {
        CreateOrgOutcome::Created(_) => {
            audit::organization_made(call, organization, &name);
            audit::key(call, organization, key.id, "created");
            reveal(call, organization, &text, key)
        }
        CreateOrgOutcome::NameTaken(existing) => Err(name_taken(existing)),
    }
}

fn name_taken(existing: OrgId) -> Problem {
    let advice = "to make another key for it, send its id instead of its name";
    Problem::organization_exists(existing, advice)
}

/// Reads the operator's request: the name or the id of the organization, its tier, and the key.
fn read_by_admin(
    text: &str,
    now: Timestamp,
) -> Result<(String, Option<Tier>, KeyRequest), Problem> {
    let Draft { mut body, fields, mut faults } = KeyOrder::draft(text, &["organization"])?;
    let organization = body.organization.take().map(|name| name.trim().to_owned());
    let tier = body.tier;
    if organization.as_deref() == Some("") {
        faults.add("/organization", "must not be blank");
    }
    if organization.as_deref().is_some_and(looks_like_id) && tier.is_some() {
        faults.add("/tier", "cannot be set for an existing organization");
    }
    let request = body.key.request(now, &mut faults);
    fields.finish(&mut faults);
    faults.into_result()?;
    Ok((organization.unwrap_or_default(), tier, request))
}

/// `POST /api/keys/rotate`: creates a key with the name, scopes and end of the calling key, which
/// works until the grace period is over. A key in its grace period can be rotated again; the new
/// key then ends with this grace period. The new key takes the place of the old key, so the limit
/// of keys cannot refuse it.
pub(in crate::http) async fn rotate(call: &mut Call) -> Answer {
    let old = call.key()?.clone();
    let body = call.body(BODY_BYTES_MAX).await?;
    let Rotation { grace_s } = Rotation::read(optional_json(call.request.headers(), &body)?)?;
    let Key { id, name, scopes, expires_at, .. } = old.key().clone();
    let (text, new) = make(call, KeyRequest { name, scopes, expires_at }).await?;
    // Without a grace period, the old key ends whatever the clock says.
    let old_ends_at =
        if grace_s == 0 { Key::ENDED_FOR_GOOD } else { call.api.steady().plus_ms(grace_s * 1_000) };
    let rotated = RotateKey { org: old.org_no(), old: id, old_ends_at, new: new.clone() };
    stored(call.commit(rotated).await?)?;
    audit::key(call, old.org().id, id, "rotated");
    audit::key(call, old.org().id, new.id, "created by rotation");
    reveal(call, old.org().id, &text, new)
}

/// A key in the list, without its secret.
#[derive(Serialize, ToSchema)]
#[schema(as = Key)]
struct Listed {
    id: KeyId,
    name: String,
    prefix: String,
    #[schema(value_type = Vec<Scope>)]
    scopes: Vec<&'static str>,
    created_at: Timestamp,
    #[schema(required)]
    expires_at: Option<Timestamp>,
    #[schema(required)]
    last_used_at: Option<Timestamp>,
    /// True for the key that made the request.
    current: bool,
}

impl Listed {
    /// Shows a key; `current` is the key that made the request.
    fn of(found: &Authenticated, current: Option<KeyId>, call: &Call) -> Self {
        let key = found.key();
        let is_current = Some(key.id) == current;
        Self {
            id: key.id,
            name: key.name.clone(),
            prefix: key.prefix(),
            scopes: key.scopes.names(),
            created_at: key.created_at,
            expires_at: shown_end(call, key),
            last_used_at: if is_current { Some(call.now) } else { found.last_used_at() },
            current: is_current,
        }
    }
}

/// `GET /api/keys`: lists the organization's valid keys in the order of their creation.
pub(in crate::http) fn list(call: &Call) -> Answer {
    let caller = call.key()?;
    let current = Some(caller.key().id);
    let Page { limit, after } = KeysQuery::read(call.request.query_string())?.page;
    let after = after.unwrap_or_default();
    let mut keys = call.api.engine.store.keys_of(caller.org_no())?;
    let now = call.api.engine.now();
    keys.sort_unstable_by_key(|found| found.key().id);
    let behind = keys
        .iter()
        .filter(|found| found.key().is_valid(now) && found.key().id.0 > after.0)
        .map(|found| {
            (List::Keys.cursor(EventId(found.key().id.0)), Listed::of(found, current, call))
        });
    page((limit, List::Keys.cursor(after)), behind)
}

fn absent() -> Problem {
    Problem::not_found("there is no valid key with this id; it may have ended already")
}

/// Returns the valid key named in the path. A key finds only those of its own organization.
fn named(call: &Call) -> Result<Authenticated, Problem> {
    let key: KeyId = call.path("key_id").parse().map_err(|_malformed| absent())?;
    let found = call.api.engine.store.key(key)?;
    let found = found.filter(|found| found.key().is_valid(call.api.engine.now()));
    let found = found.ok_or_else(absent)?;
    match &call.caller {
        Caller::Key(by) if by.org_no() != found.org_no() => Err(absent()),
        Caller::Key(_) | Caller::Admin | Caller::Anyone => Ok(found),
    }
}

/// Refuses a key that may not `verb` (such as `revoke`) the other key. The operator may do it to
/// any key.
fn require_power(call: &Call, other: &Key, verb: &'static str) -> Result<(), Problem> {
    let Caller::Key(by) = &call.caller else { return Ok(()) };
    let Some(why) = by.key().why_not_end(other) else { return Ok(()) };
    let detail = match why {
        MayNotEnd::IsLeaving => format!(
            "a key in its grace period can {verb} no key but itself; use its successor or the \
             admin token"
        ),
        MayNotEnd::MoreScopes => format!(
            "a key cannot {verb} a key with more scopes than its own; use a key that has these \
             scopes, or the admin token"
        ),
        MayNotEnd::LaterEnd => format!(
            "a key cannot {verb} a key that outlives it; use a key with a later end, or the admin \
             token"
        ),
    };
    Err(Problem::new(Code::Forbidden, detail))
}

/// `DELETE /api/keys/{key_id}`: revokes a key. A key cannot revoke a key with more scopes or a
/// later end, and in its grace period none but itself; the operator can revoke any key.
pub(in crate::http) async fn end(call: &mut Call) -> Answer {
    let found = named(call)?;
    require_power(call, found.key(), "revoke")?;
    let (org, key) = (found.org_no(), found.key().id);
    match call.commit(EndKey { org, key, at: call.api.engine.now() }).await? {
        EndKeyOutcome::Ended => {
            audit::key(call, found.org().id, key, "revoked");
            Ok(HttpResponse::NoContent().finish())
        }
        EndKeyOutcome::NotFound => Err(absent()),
    }
}

/// `PATCH /api/keys/{key_id}`: changes the name of a key, takes scopes away, or sets an earlier
/// end. Only the operator sets a later end. The rules of revoking hold.
pub(in crate::http) async fn change(call: &mut Call) -> Answer {
    Media::require_json(call.request.headers())?;
    let body = call.body(BODY_BYTES_MAX).await?;
    let found = named(call)?;
    let mut draft = KeySettings::draft(text_of(&body)?, &[])?;
    let scopes = draft.body.checked(call.now, &mut draft.faults);
    let KeySettings { name, expires_at, .. } = draft.finish()?;
    require_power(call, found.key(), "change")?;
    if name.is_some() || scopes.is_some() || expires_at.is_some() {
        let (org, key, at) = (found.org_no(), found.key().id, call.api.engine.now());
        let change = ChangeKey { org, key, name, scopes, expires_at, at };
        changed(call.commit(change).await?)?;
        audit::key(call, found.org().id, key, "changed");
    }
    let found = call.api.engine.store.key(found.key().id)?.ok_or_else(absent)?;
    let current = call.key().ok().map(|caller| caller.key().id);
    json(StatusCode::OK, &Listed::of(&found, current, call))
}

fn changed(outcome: ChangeKeyOutcome) -> Result<(), Problem> {
    let fault = |pointer, detail| Err(Problem::fault(Code::ValidationFailed, pointer, detail));
    match outcome {
        ChangeKeyOutcome::Changed => Ok(()),
        ChangeKeyOutcome::NotFound => Err(absent()),
        ChangeKeyOutcome::MoreScopes => fault(
            "/scopes",
            "has scopes that the key does not have; a key can only lose scopes, so make a new key",
        ),
        ChangeKeyOutcome::LaterEnd => fault(
            "/expires_at",
            "is later than the end of the key; only the admin token can do this",
        ),
    }
}
