//! `GET /api/whoami`: the caller as the server knows it.

use actix_web::http::StatusCode;
use serde::Serialize;
use utoipa::ToSchema;

use super::new_key::shown_end;
use crate::http::edge::auth::Caller;
use crate::http::edge::call::{Answer, Call, json};
use crate::http::openapi::operation::{Operation, Reply, Tag};
use crate::http::openapi::schemas::schema_of;
use crate::model::id::{KeyId, OrgId};
use crate::model::key::Scope;
use crate::model::org::Tier;
use crate::model::time::Timestamp;

pub(in crate::http) static SHOW: Operation = Operation::new(
    "showCaller",
    Tag::Keys,
    "Show the calling key and its organization",
    &[Reply::json(200, "The caller.", schema_of::<Shown<'static>>)],
);

/// The caller: the operator, or a key with its organization.
#[derive(Serialize, ToSchema)]
#[serde(untagged)]
#[schema(as = Caller)]
enum Shown<'a> {
    Admin {
        admin: bool,
    },
    Key {
        #[schema(inline)]
        organization: Organization<'a>,
        #[schema(inline)]
        key: Key<'a>,
    },
}

#[derive(Serialize, ToSchema)]
struct Organization<'a> {
    id: OrgId,
    name: &'a str,
    tier: Tier,
    suspended: bool,
}

#[derive(Serialize, ToSchema)]
struct Key<'a> {
    id: KeyId,
    name: &'a str,
    #[schema(value_type = Vec<Scope>)]
    scopes: Vec<&'static str>,
    #[schema(required)]
    expires_at: Option<Timestamp>,
}

/// `GET /api/whoami`: shows the calling key and its organization, or that the caller is the
/// operator.
pub(in crate::http) fn show(call: &Call) -> Answer {
    if let Caller::Admin = call.caller {
        return json(StatusCode::OK, &Shown::Admin { admin: true });
    }
    let found = call.key()?;
    let (org, key) = (found.org(), found.key());
    let organization = Organization {
        id: org.id,
        name: &org.name,
        tier: org.tier,
        suspended: found.is_suspended(),
    };
    let expires_at = shown_end(call, key);
    let key = Key { id: key.id, name: &key.name, scopes: key.scopes.names(), expires_at };
    json(StatusCode::OK, &Shown::Key { organization, key })
}
