//! `/api/keys`: creates, lists, rotates and revokes keys. The operator also creates organizations
//! here.

use std::sync::Arc;

use actix_web::HttpResponse;
use actix_web::http::StatusCode;
use serde::Serialize;
use serde_json::{Value, json};
use utoipa::ToSchema;

use crate::base::random;
use crate::commands::{CreateKey, CreateOrgOutcome, EndKey, EndKeyOutcome, OrgDraft, RotateKey};
use crate::http::edge::audit;
use crate::http::edge::auth::Caller;
use crate::http::edge::call::{Answer, Call, json, page};
use crate::http::edge::verify::Hashed;
use crate::http::error::{Code, Faults, Problem};
use crate::http::input::body::{Media, optional_json};
use crate::http::input::cursor::List;
use crate::http::input::declare::{
    Body as _, Draft, Parameters as _, body, present, query, schema_requiring,
};
use crate::http::input::fields::text_of;
use crate::http::input::kinds::{list_of, number, parsed, printable};
use crate::http::input::lists::{Page, paging};
use crate::http::input::presence::optional;
use crate::http::openapi::operation::{Content, Operation, Reply, Tag};
use crate::http::openapi::schemas::{Schemas, page_of, schema_of};
use crate::model::id::{EventId, KeyId, OrgId, OrgNo};
use crate::model::key::{Key, KeyText, MayNotEnd, Scope, Scopes};
use crate::model::org::{InboxMode, NAME_CHARS_MAX, Org, Tier, looks_like_id};
use crate::model::time::Timestamp;
use crate::store::{Authenticated, KEYS_PER_ORG_MAX, KeyAdded};

const BODY_BYTES_MAX: usize = 16 << 10;
/// Maximum grace period of a rotated key, in seconds: a week.
const GRACE_S_MAX: u64 = 604_800;
const GRACE_S_DEFAULT: u64 = 86_400;
/// The name of a key that was created without a name.
const NAME_DEFAULT: &str = "default";

body! {
    /// A new key, and for the operator its organization.
    struct KeyOrder {
        /// The name of a new organization or the id of an existing one. Only for the admin token,
        /// which needs it.
        organization: Option<String> = optional("organization", printable(NAME_CHARS_MAX));
        /// The tier of a new organization, `free` without this member. Only for the admin token.
        tier: Option<Tier> = optional("tier", parsed());
        /// A name for the key, `default` without this member. A key needs it to make another key.
        name: Option<String> = optional("name", printable(NAME_CHARS_MAX));
        /// The rights of the key, all of them without this member. A key needs it to make another
        /// key.
        scopes: Option<Vec<Scope>> = optional("scopes", list_of(1..=Scope::ALL.len()));
        /// The time at which the key ends.
        expires_at: Option<Timestamp> = optional("expires_at", parsed());
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
    &[Reply::json(201, "The key in clear, shown this once.", schema_of::<Generated<'static>>)],
)
.about(
    "With the admin token, `organization` is the name of a new organization or the id of an \
     existing one. With a key, the new key is one of the same organization, has no more scopes \
     than its maker and does not outlive it.",
)
.body(&[Content::of(
    "application/json",
    order_schema,
    r#"{"organization": "Acme", "tier": "free"}"#,
)])
.refuses(&[Code::OrganizationExists, Code::LimitReached, Code::NotFound]);

pub(in crate::http) static ROTATE: Operation = Operation::new(
    "rotateKey",
    Tag::Keys,
    "Replace the calling key by a new one",
    &[Reply::json(201, "The new key in clear, shown this once.", schema_of::<Generated<'static>>)],
)
.optional_body(&[Content::json::<Rotation>(r#"{"grace_seconds": 86400}"#)])
.refuses(&[Code::LimitReached, Code::NotFound]);

pub(in crate::http) static LIST: Operation = Operation::new(
    "listKeys",
    Tag::Keys,
    "List the valid keys",
    &[Reply::json(200, "A page of keys, in the order of their creation.", page_of::<Listed>)],
)
.query::<KeysQuery>();

pub(in crate::http) static END: Operation = Operation::new(
    "revokeKey",
    Tag::Keys,
    "Revoke a key",
    &[Reply::empty(204, "The key has ended.")],
);

/// The requested properties of a new key.
struct KeyRequest {
    name: String,
    scopes: Scopes,
    expires_at: Option<Timestamp>,
}

/// The answer with a new key; no other answer shows the key's text.
#[derive(Serialize, ToSchema)]
#[schema(as = NewKey)]
struct Generated<'a> {
    organization_id: OrgId,
    key_id: KeyId,
    key: &'a str,
    name: &'a str,
    #[schema(value_type = Vec<Scope>)]
    scopes: Vec<&'static str>,
    created_at: Timestamp,
    #[schema(required)]
    expires_at: Option<Timestamp>,
}

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
    let request = key_request(body, call.now, &mut faults);
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

/// Returns the end of a key by the wall clock.
fn shown_end(call: &Call, key: &Key) -> Option<Timestamp> {
    let ended_at = key.ended_at.map(|at| Timestamp(call.api.engine.clock.wall_ms_of(at.0)));
    [key.expires_at, ended_at].into_iter().flatten().min()
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
    let request = key_request(body, now, &mut faults);
    fields.finish(&mut faults);
    faults.into_result()?;
    Ok((organization.unwrap_or_default(), tier, request))
}

/// Creates an organization with its first key.
async fn create_organization(
    call: &Call,
    (name, tier): (String, Option<Tier>),
    request: KeyRequest,
) -> Answer {
    // The name is checked again when the command is applied; this check saves the hashing of a key.
    if let Some(existing) = call.api.engine.store.org_named(&name) {
        return Err(Problem::organization_exists(existing));
    }
    let org = Org {
        id: OrgId(call.api.new_id()),
        name: name.clone(),
        tier: tier.unwrap_or(Tier::Free),
        inbox_mode: InboxMode::Auto,
        created_at: call.now,
    };
    let organization = org.id;
    let (text, key) = make(call, request).await?;
    match call.commit(OrgDraft::new(org, key.clone())).await? {
        CreateOrgOutcome::Created(_) => {
            audit::organization_made(call, organization, &name);
            audit::key(call, organization, key.id, "created");
            reveal(call, organization, &text, key)
        }
        CreateOrgOutcome::NameTaken(existing) => Err(Problem::organization_exists(existing)),
    }
}

/// Returns the key that an order describes.
fn key_request(order: KeyOrder, now: Timestamp, faults: &mut Faults) -> KeyRequest {
    if order.expires_at.is_some_and(|time| time <= now) {
        faults.add("/expires_at", "must be in the future");
    }
    let scopes = order.scopes.map(|scopes| scopes.into_iter().collect());
    KeyRequest {
        name: order.name.unwrap_or_else(|| NAME_DEFAULT.to_owned()),
        scopes: scopes.unwrap_or_else(Scopes::all),
        expires_at: order.expires_at,
    }
}

/// Adds another key to an existing organization.
async fn add(call: &Call, org: OrgNo, organization: OrgId, request: KeyRequest) -> Answer {
    let (text, key) = make(call, request).await?;
    stored(call.commit(CreateKey { org, key: key.clone() }).await?)?;
    audit::key(call, organization, key.id, "created");
    reveal(call, organization, &text, key)
}

fn stored(added: KeyAdded) -> Result<(), Problem> {
    match added {
        KeyAdded::Added => Ok(()),
        KeyAdded::LimitReached => {
            let detail = format!(
                "the organization has {KEYS_PER_ORG_MAX} keys, or too many in their grace period; \
                 revoke a key first"
            );
            Err(Problem::new(Code::LimitReached, detail))
        }
        KeyAdded::NotFound => Err(Problem::not_found(
            "the organization or the calling key no longer exists; no key was made",
        )),
    }
}

/// Makes a new key: its text, and the key as the state stores it.
async fn make(call: &Call, request: KeyRequest) -> Result<(Arc<KeyText>, Key), Problem> {
    let id = KeyId(call.api.new_id());
    let text = Arc::new(KeyText::generate(id, || u8::from_be_bytes(random::bytes())));
    let org = call.key().ok().map(Authenticated::org_no);
    let Hashed { hash, check } = call.api.auth.hash(&text, org).await?;
    let KeyRequest { name, scopes, expires_at } = request;
    Ok((
        text,
        Key { id, name, hash, check, scopes, created_at: call.now, expires_at, ended_at: None },
    ))
}

/// Makes the only answer that shows the key in clear. The scopes and the end are those of the
/// stored key.
fn reveal(call: &Call, organization_id: OrgId, text: &KeyText, made: Key) -> Answer {
    call.api.auth.remember(text);
    let stored = call.api.engine.store.key(made.id)?;
    let key = stored.map_or(made, |stored| stored.key().clone());
    json(
        StatusCode::CREATED,
        &Generated {
            organization_id,
            key_id: key.id,
            key: text.reveal(),
            name: &key.name,
            scopes: key.scopes.names(),
            created_at: key.created_at,
            expires_at: shown_end(call, &key),
        },
    )
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
    fn of(found: &Authenticated, current: KeyId, call: &Call) -> Self {
        let key = found.key();
        let is_current = key.id == current;
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
    let current = caller.key().id;
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

fn may_not_end(why: MayNotEnd) -> &'static str {
    match why {
        MayNotEnd::IsLeaving => {
            "a key in its grace period can revoke no key but itself; use its successor or the \
             admin token"
        }
        MayNotEnd::MoreScopes => {
            "a key cannot revoke a key with more scopes than its own; use a key that has these \
             scopes, or the admin token"
        }
        MayNotEnd::LaterEnd => {
            "a key cannot revoke a key that outlives it; use a key with a later end, or the admin \
             token"
        }
    }
}

/// `DELETE /api/keys/{key_id}`: revokes a key. A key cannot revoke a key with more scopes or a
/// later end, and in its grace period none but itself; the operator can revoke any key.
pub(in crate::http) async fn end(call: &mut Call) -> Answer {
    let absent =
        || Problem::not_found("there is no valid key with this id; it may have ended already");
    let key: KeyId = call.path("key_id").parse().map_err(|_malformed| absent())?;
    let found = call
        .api
        .engine
        .store
        .key(key)?
        .filter(|found| found.key().is_valid(call.api.engine.now()))
        .ok_or_else(absent)?;
    let org = found.org_no();
    if let Caller::Key(by) = &call.caller {
        if by.org_no() != org {
            return Err(absent());
        }
        if let Some(why) = by.key().why_not_end(found.key()) {
            return Err(Problem::new(Code::Forbidden, may_not_end(why)));
        }
    }
    match call.commit(EndKey { org, key, at: call.api.engine.now() }).await? {
        EndKeyOutcome::Ended => {
            audit::key(call, found.org().id, key, "revoked");
            Ok(HttpResponse::NoContent().finish())
        }
        EndKeyOutcome::NotFound => Err(absent()),
    }
}
