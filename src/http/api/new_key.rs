//! New keys: their requested properties, their making, and the answer that shows them.

use std::sync::Arc;

use actix_web::http::StatusCode;
use serde::Serialize;

use crate::base::random;
use crate::commands::CreateKey;
use crate::http::edge::audit;
use crate::http::edge::call::{Answer, Call, json};
use crate::http::edge::verify::Hashed;
use crate::http::error::{Code, Faults, Problem};
use crate::http::input::fields::{Field, Fields};
use crate::model::id::{KeyId, OrgId, OrgNo};
use crate::model::key::{Key, KeyText, NamedScopes, Scopes};
use crate::model::org::NAME_CHARS_MAX;
use crate::model::time::Timestamp;
use crate::store::{Authenticated, KEYS_PER_ORG_MAX, KeyAdded};

/// The name of a key that was created without a name.
const NAME_DEFAULT: &str = "default";

/// The requested properties of a new key.
pub(super) struct KeyRequest {
    pub(super) name: String,
    pub(super) scopes: Scopes,
    pub(super) expires_at: Option<Timestamp>,
}

/// The answer with a new key; no other answer shows the key's text.
#[derive(Serialize)]
struct Generated<'a> {
    organization_id: OrgId,
    key_id: KeyId,
    key: &'a str,
    name: &'a str,
    scopes: Vec<&'static str>,
    created_at: Timestamp,
    expires_at: Option<Timestamp>,
}

/// Reads the members that both ways of creating a key share.
pub(super) fn key_request(
    fields: &mut Fields<'_>,
    now: Timestamp,
    faults: &mut Faults,
) -> KeyRequest {
    let name = fields
        .take("name", faults)
        .and_then(|field| field.name(NAME_CHARS_MAX, faults).map(String::from));
    let scopes = fields.take("scopes", faults).and_then(|field| scopes_of(&field, faults));
    let expires_at =
        fields.take("expires_at", faults).and_then(|field| end_of(&field, now, faults));
    KeyRequest {
        name: name.unwrap_or_else(|| NAME_DEFAULT.to_owned()),
        scopes: scopes.unwrap_or_else(Scopes::all),
        expires_at,
    }
}

/// Reads scopes and sets of scopes, at least one.
pub(super) fn scopes_of(field: &Field<'_>, faults: &mut Faults) -> Option<Scopes> {
    let named = field.list::<NamedScopes>(NamedScopes::COUNT, faults)?;
    if named.is_empty() {
        faults.add(field.pointer(), "must have at least one item");
    }
    Some(named.into_iter().fold(Scopes::none(), |all, NamedScopes(more)| all.with(more)))
}

/// Reads the end of a key, which is in the future.
pub(super) fn end_of(field: &Field<'_>, now: Timestamp, faults: &mut Faults) -> Option<Timestamp> {
    let time = field.time(faults)?;
    if time <= now {
        faults.add(field.pointer(), "must be in the future");
    }
    Some(time)
}

/// Returns the end of a key by the wall clock.
pub(super) fn shown_end(call: &Call, key: &Key) -> Option<Timestamp> {
    let ended_at = key.ended_at.map(|at| Timestamp(call.api.engine.clock.wall_ms_of(at.0)));
    [key.expires_at, ended_at].into_iter().flatten().min()
}

/// Adds another key to an existing organization.
pub(super) async fn add(
    call: &Call,
    org: OrgNo,
    organization: OrgId,
    request: KeyRequest,
) -> Answer {
    let (text, key) = make(call, request).await?;
    stored(call.commit(CreateKey { org, key: key.clone() }).await?)?;
    audit::key(call, organization, key.id, "created");
    reveal(call, organization, &text, key)
}

pub(super) fn stored(added: KeyAdded) -> Result<(), Problem> {
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
pub(super) async fn make(call: &Call, request: KeyRequest) -> Result<(Arc<KeyText>, Key), Problem> {
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
pub(super) fn reveal(call: &Call, organization_id: OrgId, text: &KeyText, made: Key) -> Answer {
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
