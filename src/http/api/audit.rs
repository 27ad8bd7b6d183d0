//! `GET /api/audit`: who changed what, when, and from where.

use std::net::IpAddr;

use actix_web::http::StatusCode;
use actix_web::web;
use serde::Serialize;

use crate::http::edge::auth::Caller;
use crate::http::edge::call::{Answer, Call, PAGE_BYTES_MAX, json_bytes, page_body};
use crate::http::error::Problem;
use crate::http::input::cursor::{List, NEWEST_AUDIT};
use crate::http::input::query::Query;
use crate::model::audit::{Action, Actor, AuditEntry};
use crate::model::id::{KeyId, OrgId};
use crate::model::time::Timestamp;
use crate::store::AuditQuery;

/// An entry as the API shows it.
#[derive(Serialize)]
struct Shown<'a> {
    at: Timestamp,
    action: &'static str,
    actor: ShownActor,
    organization_id: Option<OrgId>,
    subject: ShownSubject,
    changes: Vec<ShownChange<'a>>,
    address: Option<IpAddr>,
    request_id: Option<&'a str>,
}

#[derive(Serialize)]
struct ShownActor {
    #[serde(rename = "type")]
    kind: &'static str,
    id: Option<KeyId>,
}

#[derive(Serialize)]
struct ShownSubject {
    #[serde(rename = "type")]
    kind: &'static str,
    id: Option<String>,
}

#[derive(Serialize)]
struct ShownChange<'a> {
    field: &'a str,
    before: Option<&'a str>,
    after: Option<&'a str>,
}

impl<'a> Shown<'a> {
    fn of(entry: &'a AuditEntry) -> Self {
        let (kind, id) = entry.subject.parts();
        let actor = match entry.actor {
            Actor::Operator => ShownActor { kind: "admin", id: None },
            Actor::Key(id) => ShownActor { kind: "key", id: Some(id) },
            Actor::Unknown => ShownActor { kind: "unknown", id: None },
        };
        let changes = entry.changes.iter().map(|changed| ShownChange {
            field: &changed.field,
            before: changed.before.as_deref(),
            after: changed.after.as_deref(),
        });
        Self {
            at: entry.at,
            action: entry.action.name(),
            actor,
            organization_id: entry.organization,
            subject: ShownSubject { kind, id },
            changes: changes.collect(),
            address: entry.origin.as_ref().and_then(|origin| origin.address),
            request_id: entry.origin.as_ref().map(|origin| origin.request_id.as_str()),
        }
    }
}

/// `GET`: lists the entries, the newest first: those of the organization for a key, all of them for
/// the operator.
pub(in crate::http) async fn list(call: &mut Call) -> Answer {
    let org = match &call.caller {
        Caller::Key(key) => Some(key.org_no()),
        Caller::Admin => None,
        Caller::Anyone => return Err(Problem::internal(&"an audit log without a caller")),
    };
    let mut query = Query::read(call.request.query_string());
    let limit = query.limit();
    let before = query.cursor(List::Audit).unwrap_or(NEWEST_AUDIT);
    let (since, until) = query.times(call.now);
    let action = query.take::<Action>("action");
    query.finish()?;
    let wanted = AuditQuery { org, since, until, action };
    let api = web::Data::clone(&call.api);
    let body = call
        .run_for_answer(move || {
            let page = api.engine.store.audit(&wanted, before, limit)?;
            let (mut data, mut next, mut has_more) = (Vec::new(), page.next, page.has_more);
            for (place, entry) in &page.entries {
                if !data.is_empty() {
                    data.push(b',');
                }
                serde_json::to_writer(&mut data, &Shown::of(entry))
                    .map_err(|error| Problem::internal(&error))?;
                if data.len() >= PAGE_BYTES_MAX {
                    // The page ends here, and the next one shows the entries behind this one.
                    (has_more, next) = (true, *place);
                    break;
                }
            }
            page_body(&data, has_more, &List::Audit.cursor(next))
        })
        .await?;
    Ok(json_bytes(StatusCode::OK, body))
}
