//! New keys: their requested properties, their making, and the answer that shows them.

use std::sync::Arc;

use actix_web::http::StatusCode;
use serde::Serialize;
use utoipa::ToSchema;

use crate::base::random;
use crate::commands::CreateKey;
use crate::http::edge::audit;
use crate::http::edge::call::{Answer, Call, json};
use crate::http::edge::verify::Hashed;
use crate::http::error::{Code, Faults, Problem};
use crate::http::input::declare::body;
use crate::http::input::kinds::{self, list_of, parsed};
use crate::http::input::presence::optional;
use crate::http::openapi::operation::Reply;
use crate::http::openapi::schemas::schema_of;
use crate::model::id::{KeyId, OrgId, OrgNo};
use crate::model::key::{Key, KeyText, NamedScopes, Scope, Scopes};
use crate::model::org::NAME_CHARS_MAX;
use crate::model::time::Timestamp;
use crate::store::{Authenticated, KEYS_PER_ORG_MAX, KeyAdded};

/// The name of a key that was created without a name.
const NAME_DEFAULT: &str = "default";

body! {
    /// The properties of a key that its maker chooses.
    pub(super) struct KeySettings {
        /// The name of the key, for people.
        name: Option<String> = optional("name", kinds::name(NAME_CHARS_MAX));
        /// The rights of the key: scopes, and sets of scopes.
        scopes: Option<Vec<NamedScopes>> = optional("scopes", list_of(1..=NamedScopes::COUNT));
        /// The time at which the key ends.
        expires_at: Option<Timestamp> = optional("expires_at", parsed());
    }
}

/// The answers of the routes that make a key.
pub(super) const REPLIES: &[Reply] =
    &[Reply::json(201, "The key in clear, shown this once.", schema_of::<Generated<'static>>)];

impl KeySettings {
    /// Returns the scopes, and notes the fault of an end that is not in the future.
    pub(super) fn checked(&self, now: Timestamp, faults: &mut Faults) -> Option<Scopes> {
        if self.expires_at.is_some_and(|time| time <= now) {
            faults.add("/expires_at", "must be in the future");
        }
        let named = self.scopes.as_ref()?.iter();
        Some(named.fold(Scopes::none(), |all, NamedScopes(more)| all.with(*more)))
    }

    /// Returns the key to make.
    pub(super) fn request(self, now: Timestamp, faults: &mut Faults) -> KeyRequest {
        let scopes = self.checked(now, faults);
        KeyRequest {
            name: self.name.unwrap_or_else(|| NAME_DEFAULT.to_owned()),
            scopes: scopes.unwrap_or_else(Scopes::all),
            expires_at: self.expires_at,
        }
    }
}

/// The requested properties of a new key.
pub(super) struct KeyRequest {
    pub(super) name: String,
    pub(super) scopes: Scopes,
    pub(super) expires_at: Option<Timestamp>,
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
