//! `/api/keys`: creates, lists, changes, rotates and revokes keys. The operator also creates
//! organizations here.

use actix_web::HttpResponse;
use actix_web::http::StatusCode;
use serde::Serialize;

use super::new_key::{
    KeyRequest, add, end_of, key_request, make, reveal, scopes_of, shown_end, stored,
};
use super::orgs::new_org;
use crate::commands::{
    ChangeKey, ChangeKeyOutcome, CreateOrgOutcome, EndKey, EndKeyOutcome, OrgDraft, RotateKey,
};
use crate::http::edge::audit;
use crate::http::edge::auth::Caller;
use crate::http::edge::call::{Answer, Call, json, page};
use crate::http::error::{Code, Faults, Problem};
use crate::http::input::body::Media;
use crate::http::input::cursor::List;
use crate::http::input::fields::{Fields, text_of};
use crate::http::input::query::Query;
use crate::model::id::{EventId, KeyId, OrgId};
use crate::model::key::{Key, MayNotEnd};
use crate::model::org::{NAME_CHARS_MAX, Tier, looks_like_id};
use crate::model::time::Timestamp;
use crate::store::Authenticated;

const BODY_BYTES_MAX: usize = 16 << 10;
/// Maximum grace period of a rotated key, in seconds: a week.
const GRACE_S_MAX: u64 = 604_800;
const GRACE_S_DEFAULT: u64 = 86_400;

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
    let mut fields = Fields::read(text)?;
    let mut faults = Faults::default();
    for name in ["name", "scopes"] {
        if !fields.has(name) {
            faults.add(format!("/{name}"), "is required");
        }
    }
    for name in ["organization", "tier"] {
        if fields.take(name, &mut faults).is_some() {
            faults.add(
                format!("/{name}"),
                "is for the admin token only; a key makes keys of its own organization, so leave \
                 it out",
            );
        }
    }
    let request = key_request(&mut fields, call.now, &mut faults);
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
    let mut fields = Fields::read(text)?;
    let mut faults = Faults::default();
    let organization = fields.require("organization", &mut faults).and_then(|field| {
        field.name(NAME_CHARS_MAX, &mut faults).map(|name| name.trim().to_owned())
    });
    if organization.as_deref() == Some("") {
        faults.add("/organization", "must not be blank");
    }
    let tier: Option<Tier> =
        fields.take("tier", &mut faults).and_then(|field| field.parse(&mut faults));
    let request = key_request(&mut fields, now, &mut faults);
    fields.finish(&mut faults);
    if organization.as_deref().is_some_and(looks_like_id) && tier.is_some() {
        faults.add("/tier", "cannot be set for an existing organization");
    }
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
    let grace_s = if body.is_empty() {
        GRACE_S_DEFAULT
    } else {
        Media::require_json(call.request.headers())?;
        let mut fields = Fields::read(text_of(&body)?)?;
        let mut faults = Faults::default();
        let grace = fields
            .take("grace_seconds", &mut faults)
            .and_then(|field| field.number_in(0..=GRACE_S_MAX, &mut faults));
        fields.finish(&mut faults);
        faults.into_result()?;
        grace.unwrap_or(GRACE_S_DEFAULT)
    };
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
#[derive(Serialize)]
struct Listed {
    id: KeyId,
    name: String,
    prefix: String,
    scopes: Vec<&'static str>,
    created_at: Timestamp,
    expires_at: Option<Timestamp>,
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
    let mut query = Query::read(call.request.query_string());
    let (limit, after) = (query.limit(), query.cursor::<EventId>(List::Keys).unwrap_or_default());
    query.finish()?;
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
    let (mut fields, mut faults) = (Fields::read(text_of(&body)?)?, Faults::default());
    let name = fields
        .take("name", &mut faults)
        .and_then(|field| field.name(NAME_CHARS_MAX, &mut faults).map(String::from));
    let scopes =
        fields.take("scopes", &mut faults).and_then(|field| scopes_of(&field, &mut faults));
    let expires_at = fields
        .take("expires_at", &mut faults)
        .and_then(|field| end_of(&field, call.now, &mut faults));
    fields.finish(&mut faults);
    faults.into_result()?;
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
