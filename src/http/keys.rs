//! `/api/keys`: making, listing, rotating and ending keys.

use actix_web::web::{Data, Path, Payload};
use actix_web::{HttpRequest, HttpResponse};
use serde_json::{Value, json};

use super::auth::Admitted;
use super::error::{Code, Problem};
use super::wire::{Reader, fault, members};
use super::{Api, body};
use crate::base::random;
use crate::model::command::{Command, CreateKey, CreateOrg, EndKey, RotateKey};
use crate::model::id::{KeyId, OrgId};
use crate::model::key::{Key, KeyText, Scope, Scopes};
use crate::model::org::{InboxMode, NAME_CHARS_MAX, Org, Tier};
use crate::model::time::Timestamp;
use crate::store::Outcome;

const BODY_BYTES_MAX: usize = 16 << 10;
const GRACE_DEFAULT_S: u64 = 86_400;
const GRACE_MAX_S: u64 = 604_800;

/// What a new key is to be.
struct Wanted {
    organization: Option<String>,
    tier: Option<Tier>,
    name: Option<String>,
    scopes: Option<Scopes>,
    expires_at: Option<Timestamp>,
}

/// With the admin token: an organization and its first key, or another key for one that is named by its id. With a key:
/// another key of its organization, with no more scopes than its own.
pub(super) async fn post_generate(
    api: Data<Api>,
    request: HttpRequest,
    payload: Payload,
) -> Result<HttpResponse, Problem> {
    if api.auth.is_admin(&request)? {
        let bytes = body::json(&api, &request, payload, BODY_BYTES_MAX).await?;
        return generate_as_admin(&api, read_wanted(&api, &bytes, true)?).await;
    }
    let caller = api.admit(&request, 1).await?;
    let bytes = body::json(&api, &request, payload, BODY_BYTES_MAX).await?;
    let wanted = read_wanted(&api, &bytes, false)?;
    let own = caller.key().scopes;
    let scopes = wanted.scopes.unwrap_or(own);
    if !own.covers(scopes) {
        return Err(Problem::new(Code::Forbidden, "a key cannot make one with more scopes than its own"));
    }
    let (key, text) = new_key(&api, wanted.name.unwrap_or_default(), scopes, wanted.expires_at).await?;
    let command = Command::CreateKey(CreateKey { org: caller.org_no(), key: key.clone() });
    made(&api, command, caller.org().id, &key, &text).await
}

async fn generate_as_admin(api: &Api, wanted: Wanted) -> Result<HttpResponse, Problem> {
    let organization = wanted.organization.unwrap_or_default();
    let scopes = wanted.scopes.unwrap_or_else(Scopes::all);
    let (key, text) =
        new_key(api, wanted.name.unwrap_or_else(|| "first".to_owned()), scopes, wanted.expires_at).await?;
    if let Ok(id) = organization.parse::<OrgId>() {
        let (number, org) = api.parts.store.org_by_id(id)?.ok_or_else(Problem::not_found)?;
        if wanted.tier.is_some_and(|tier| tier != org.tier) {
            let faults = vec![fault("/tier", format!("the organization is of tier {}; leave it out", org.tier))];
            return Err(Problem::validation(faults));
        }
        return made(api, Command::CreateKey(CreateKey { org: number, key: key.clone() }), id, &key, &text).await;
    }
    let id = OrgId(api.next_id());
    let tier = wanted.tier.unwrap_or(Tier::Free);
    let org = Org { id, name: organization, tier, inbox_mode: InboxMode::Auto, created_at: key.created_at };
    made(api, Command::CreateOrg(CreateOrg { org, key: key.clone() }), id, &key, &text).await
}

fn read_wanted(api: &Api, bytes: &[u8], is_admin: bool) -> Result<Wanted, Problem> {
    let mut reader = Reader::new(members(bytes)?);
    let (mut organization, mut tier) = (None, None);
    if is_admin {
        organization = reader.parse("organization", checked_name);
        organization = reader.require("organization", organization);
        tier = reader.parse("tier", str::parse);
    }
    let name = reader.parse("name", checked_name);
    let name = if is_admin { name } else { reader.require("name", name) };
    let texts: Option<Vec<String>> = reader.decode("scopes", "must be an array of texts");
    let scopes = texts.map(|texts| read_scopes(&mut reader, &texts));
    let expires_at: Option<Timestamp> = reader.parse("expires_at", str::parse);
    if expires_at.is_some_and(|end| end <= api.now()) {
        reader.faults.push(fault("/expires_at", "is over already"));
    }
    reader.finish(Some(Wanted { organization, tier, name, scopes, expires_at }))
}

fn read_scopes(reader: &mut Reader<'_>, texts: &[String]) -> Scopes {
    if texts.is_empty() {
        reader.faults.push(fault("/scopes", "must name one at least; leave it out for all of them"));
    }
    let mut scopes = Vec::new();
    for (place, text) in texts.iter().enumerate() {
        match text.parse::<Scope>() {
            Ok(scope) => scopes.push(scope),
            Err(detail) => reader.faults.push(fault(format!("/scopes/{place}"), detail)),
        }
    }
    scopes.into_iter().collect()
}

fn checked_name(text: &str) -> Result<String, String> {
    let fits = (1..=NAME_CHARS_MAX).contains(&text.chars().count()) && !text.chars().any(char::is_control);
    if fits { Ok(text.to_owned()) } else { Err(format!("must be 1 to {NAME_CHARS_MAX} printable characters")) }
}

async fn new_key(
    api: &Api,
    name: String,
    scopes: Scopes,
    expires_at: Option<Timestamp>,
) -> Result<(Key, KeyText), Problem> {
    let text = KeyText::generate(KeyId(api.next_id()), || u8::from_be_bytes(random::bytes()));
    let hash = api.auth.hash(&text).await?;
    Ok((Key { id: text.id(), name, hash, scopes, created_at: api.now(), expires_at }, text))
}

/// Stores a new key and shows it, this once.
async fn made(api: &Api, command: Command, org: OrgId, key: &Key, text: &KeyText) -> Result<HttpResponse, Problem> {
    match api.commit_one(command).await? {
        Outcome::Done | Outcome::OrgCreated(_) => {}
        Outcome::LimitReached => {
            return Err(Problem::new(
                Code::LimitReached,
                "the organization has as many keys as it may have; end one first",
            ));
        }
        Outcome::NotFound => return Err(Problem::not_found()),
        other => return Err(Problem::internal(format!("making a key came to {other:?}"))),
    }
    Ok(HttpResponse::Created().insert_header(("Cache-Control", "no-store")).json(json!({
        "organization_id": org,
        "key_id": key.id,
        "key": text.reveal(),
        "name": key.name,
        "scopes": key.scopes.names(),
        "created_at": key.created_at,
        "expires_at": key.expires_at,
    })))
}

/// The organization's keys; never a secret.
pub(super) async fn get_keys(api: Data<Api>, request: HttpRequest) -> Result<HttpResponse, Problem> {
    let caller = api.admit(&request, 1).await?;
    let now = api.now();
    let records = api.parts.store.keys_of(caller.org_no())?;
    let living = records.iter().filter(|record| record.key().is_valid(now));
    let data: Vec<Value> = living
        .map(|record| {
            let key = record.key();
            json!({
                "id": key.id,
                "name": key.name,
                "prefix": key.prefix(),
                "scopes": key.scopes.names(),
                "created_at": key.created_at,
                "expires_at": key.expires_at,
                "last_used_at": record.last_used_at(),
                "current": key.id == caller.key().id,
            })
        })
        .collect();
    Ok(HttpResponse::Ok().json(json!({ "data": data, "has_more": false, "next_cursor": null })))
}

/// A new key for the calling one, which works on until the grace ends.
pub(super) async fn post_rotate(
    api: Data<Api>,
    request: HttpRequest,
    payload: Payload,
) -> Result<HttpResponse, Problem> {
    let caller: Admitted = api.admit(&request, 1).await?;
    let bytes = body::read(&api, &request, payload, BODY_BYTES_MAX).await?;
    let grace_s = if bytes.is_empty() { GRACE_DEFAULT_S } else { read_grace(&bytes)? };
    let old = caller.key();
    let (key, text) = new_key(&api, old.name.clone(), old.scopes, old.expires_at).await?;
    let command = Command::RotateKey(RotateKey {
        org: caller.org_no(),
        old: old.id,
        old_ends_at: key.created_at.plus_ms(grace_s * 1_000),
        new: key.clone(),
    });
    made(&api, command, caller.org().id, &key, &text).await
}

fn read_grace(bytes: &[u8]) -> Result<u64, Problem> {
    let mut reader = Reader::new(members(bytes)?);
    let must = format!("must be a whole number of seconds from 0 to {GRACE_MAX_S}");
    let grace_s: Option<u64> = reader.decode("grace_seconds", &must);
    if grace_s.is_some_and(|grace_s| grace_s > GRACE_MAX_S) {
        reader.faults.push(fault("/grace_seconds", must));
    }
    reader.finish(Some(grace_s.unwrap_or(GRACE_DEFAULT_S)))
}

/// Ends a key now.
pub(super) async fn delete_key(
    api: Data<Api>,
    request: HttpRequest,
    id: Path<String>,
) -> Result<HttpResponse, Problem> {
    let caller = api.admit(&request, 1).await?;
    let key: KeyId = id.parse().map_err(|_no_id| Problem::not_found())?;
    match api.commit_one(Command::EndKey(EndKey { org: caller.org_no(), key, at: api.now() })).await? {
        Outcome::Done => Ok(HttpResponse::NoContent().finish()),
        _ => Err(Problem::not_found()),
    }
}
