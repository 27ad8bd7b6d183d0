//! `GET /api/audit`: who changed what, when, and from where.

use std::net::IpAddr;

use actix_web::http::StatusCode;
use actix_web::web;
use serde::Serialize;
use utoipa::ToSchema;

use crate::http::edge::auth::Caller;
use crate::http::edge::call::{Answer, Call, PAGE_BYTES_MAX, json_bytes, page_body};
use crate::http::error::Problem;
use crate::http::input::cursor::{AUDIT_BEGINS, List};
use crate::http::input::declare::{Parameters as _, query};
use crate::http::input::kinds::parsed;
use crate::http::input::lists::{Page, Span, paging, since_until};
use crate::http::input::presence::optional;
use crate::http::input::query::Query;
use crate::http::openapi::operation::{Operation, Reply, Tag};
use crate::http::openapi::schemas::page_of;
use crate::model::audit::{Action, Actor, AuditEntry, EntryOrder};
use crate::model::id::{KeyId, OrgId, OrgNo};
use crate::model::time::Timestamp;
use crate::store::{AuditPlace, AuditQuery};

query! {
    /// The wanted entries.
    struct EntriesQuery {
        /// The page.
        page: Page<AuditPlace> = paging(List::Audit).by();
        /// The time of the changes.
        time: Span = since_until();
        /// Only changes of this kind.
        action: Option<Action> = optional("action", parsed());
        /// The order of the entries; the newest comes first without it.
        order: Option<EntryOrder> = optional("order", parsed());
        /// Only entries of this organization; for the admin token.
        organization: Option<OrgId> = optional("organization_id", parsed());
    }
}

pub(in crate::http) static LIST: Operation = Operation::new(
    "listAudit",
    Tag::Audit,
    "Show who changed what, when, and from where",
    &[Reply::json(200, "A page of the audit log.", page_of::<Shown<'static>>)],
)
.about(
    "A key sees the entries of its organization, and the admin token sees all. Secrets, the values \
     of headers and the queries of URLs are never shown.",
)
.query::<EntriesQuery>();

/// An entry of the audit log.
#[derive(Serialize, ToSchema)]
#[schema(as = AuditEntry)]
struct Shown<'a> {
    at: Timestamp,
    #[schema(value_type = Action)]
    action: &'static str,
    #[schema(inline)]
    actor: ShownActor,
    /// The organization of the changed thing; `null` for the server as a whole.
    #[schema(required)]
    organization_id: Option<OrgId>,
    #[schema(inline)]
    subject: ShownSubject,
    #[schema(inline)]
    changes: Vec<ShownChange<'a>>,
    /// The address of the client.
    #[schema(required, value_type = Option<String>)]
    address: Option<IpAddr>,
    #[schema(required)]
    request_id: Option<&'a str>,
}

/// The party that made the change.
#[derive(Serialize, ToSchema)]
struct ShownActor {
    /// `admin`, `key` or `unknown`.
    #[serde(rename = "type")]
    kind: &'static str,
    #[schema(required)]
    id: Option<KeyId>,
}

/// The changed thing.
#[derive(Serialize, ToSchema)]
struct ShownSubject {
    #[serde(rename = "type")]
    kind: &'static str,
    #[schema(required)]
    id: Option<String>,
}

/// A property before and after the change.
#[derive(Serialize, ToSchema)]
struct ShownChange<'a> {
    field: &'a str,
    #[schema(required)]
    before: Option<&'a str>,
    #[schema(required)]
    after: Option<&'a str>,
}

impl<'a> Shown<'a> {
    fn of(entry: &'a AuditEntry) -> Self {
        let (kind, id) = entry.note.subject.parts();
        let actor = match entry.actor {
            Actor::Operator => ShownActor { kind: "admin", id: None },
            Actor::Key(id) => ShownActor { kind: "key", id: Some(id) },
            Actor::Unknown => ShownActor { kind: "unknown", id: None },
        };
        let changes = entry.note.changes.iter().map(|changed| ShownChange {
            field: &changed.field,
            before: changed.before.as_deref(),
            after: changed.after.as_deref(),
        });
        Self {
            at: entry.at,
            action: entry.note.action.name(),
            actor,
            organization_id: entry.organization,
            subject: ShownSubject { kind, id },
            changes: changes.collect(),
            address: entry.origin.as_ref().and_then(|origin| origin.address),
            request_id: entry.origin.as_ref().map(|origin| origin.request_id.as_str()),
        }
    }
}

/// Returns the organization whose entries are wanted: that of a key, or the one that the operator
/// names.
fn org_of(
    call: &Call,
    (named, query): (Option<OrgId>, &mut Query<'_>),
) -> Result<Option<OrgNo>, Problem> {
    if let Caller::Key(key) = &call.caller {
        if named.is_some() {
            query.fault("organization_id", "is for the admin token only; leave it out");
        }
        return Ok(Some(key.org_no()));
    }
    let Some(id) = named else { return Ok(None) };
    let found = call.api.engine.store.org_by_id(id)?;
    if found.is_none() {
        query.fault("organization_id", "is the id of no organization");
    }
    Ok(found.map(|(number, _)| number))
}

/// `GET`: lists the entries: those of the organization for a key, all of them for the operator.
pub(in crate::http) async fn list(call: &mut Call) -> Answer {
    let (EntriesQuery { page, time, action, order, organization }, mut query) =
        EntriesQuery::draft(call.request.query_string());
    let (since, until) = time.of_query(call.now, &mut query);
    let org = org_of(call, (organization, &mut query))?;
    query.finish()?;
    let Page { limit, after } = page;
    let oldest_first = order == Some(EntryOrder::Oldest);
    let wanted = AuditQuery { org, since, until, action, after, limit, oldest_first };
    let api = web::Data::clone(&call.api);
    let body = call
        .run_for_answer(move || {
            let page = api.engine.store.audit(&wanted)?;
            let (mut data, mut next, mut has_more) = (Vec::new(), page.next, page.has_more);
            for (place, entry) in &page.entries {
                if !data.is_empty() {
                    data.push(b',');
                }
                serde_json::to_writer(&mut data, &Shown::of(entry))
                    .map_err(|error| Problem::internal(&error))?;
                if data.len() >= PAGE_BYTES_MAX && Some(*place) != next {
                    // The page ends here, and the next one shows the entries behind this one.
                    (has_more, next) = (true, Some(*place));
                    break;
                }
            }
            page_body(&data, has_more, &List::Audit.cursor(next.unwrap_or(AUDIT_BEGINS)))
        })
        .await?;
    Ok(json_bytes(StatusCode::OK, body))
}
