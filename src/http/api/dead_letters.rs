//! `/api/dead-letters`: lists dead letters, retries them, or drops them.

use actix_web::http::StatusCode;
use actix_web::web;
use serde::Serialize;

use crate::commands::{
    Drafted, DropDead, DropOutcome, Kind, RetryDelivery, RetryOutcome, Submitted,
};
use crate::http::api::deliveries::{List, Shown};
use crate::http::edge::call::{Answer, Call, json};
use crate::http::error::{Faults, Problem};
use crate::http::input::body::Media;
use crate::http::input::cursor::{self, List as Lists};
use crate::http::input::fields::{Fields, text_of};
use crate::http::input::query::Query;
use crate::http::shared::Api;
use crate::model::delivery::Trigger;
use crate::model::id::{DeliveryId, EndpointId, EventId, OrgNo};
use crate::model::time::Timestamp;
use crate::store::{DeadQuery, Delivery, DeliverySituation};

/// Maximum number of ids in a request.
const IDS_MAX: usize = 500;
/// Maximum number of dead letters selected by a request with a filter.
const CHOSEN_MAX: usize = 1_000;
/// Maximum size of a body in bytes: enough for `IDS_MAX` ids, with every character escaped.
const BODY_BYTES_MAX: usize = 128 << 10;

/// `GET`: lists dead letters, the latest first.
pub(in crate::http) async fn list(call: &mut Call) -> Answer {
    let org = call.org()?;
    let mut query = Query::read(call.request.query_string());
    let limit = query.limit();
    let (after, endpoint) = (query.cursor(Lists::DeadLetters), query.take("endpoint_id"));
    let (since, until) = query.times(call.now);
    query.finish()?;
    let wanted =
        DeadQuery { endpoint, since, until, after, limit, oldest_first: false, with_deleted: true };
    let api = web::Data::clone(&call.api);
    let page = call.run(move || Ok(api.engine.store.dead_letters(org, &wanted)?)).await?;
    let last = page.items.last().and_then(|last| match last.situation {
        DeliverySituation::Dead(_, at) => Some((at, last.event, last.endpoint)),
        DeliverySituation::Pending(_)
        | DeliverySituation::Retrying(_)
        | DeliverySituation::Delivered
        | DeliverySituation::Canceled => None,
    });
    let next_cursor =
        Lists::DeadLetters.cursor(page.next.or(last).or(after).unwrap_or(cursor::NEWEST_DEAD));
    let data = page.items.iter().map(|found| Shown::of(found, &call.api.engine.clock)).collect();
    json(StatusCode::OK, &List { data, has_more: page.next.is_some(), next_cursor })
}

/// Number of commands that are stored together.
const COMMANDS_AT_ONCE: usize = 64;

/// The dead letters that a request selects.
enum Which {
    Ids(Vec<DeliveryId>),
    Filter(DeadQuery),
}

impl Which {
    async fn read(call: &mut Call) -> Result<Self, Problem> {
        Media::require_json(call.request.headers())?;
        let body = call.body(BODY_BYTES_MAX).await?;
        let (mut fields, mut faults) = (Fields::read(text_of(&body)?)?, Faults::default());
        let ids = fields.take("ids", &mut faults);
        let has_ids = ids.is_some();
        let ids = ids.and_then(|field| field.list::<DeliveryId>(IDS_MAX, &mut faults));
        let has_filter = ["endpoint_id", "since", "until"].iter().any(|name| fields.has(name));
        let endpoint =
            fields.take("endpoint_id", &mut faults).and_then(|field| field.parse(&mut faults));
        let (since, until) = fields.times(call.now, &mut faults);
        fields.finish(&mut faults);
        match (has_ids, has_filter) {
            (true, true) => {
                faults.add(
                    "/ids",
                    "cannot be combined with endpoint_id, since or until; send one or the other",
                );
            }
            (false, false) if faults.is_empty() => {
                let detail = "must choose dead letters: send ids, or at least one of endpoint_id, \
                    since and until";
                faults.add("", detail);
            }
            _ => {}
        }
        faults.into_result()?;
        let (after, limit) = (None, CHOSEN_MAX);
        let filter = DeadQuery {
            endpoint,
            since,
            until,
            after,
            limit,
            oldest_first: true,
            with_deleted: false,
        };
        Ok(ids.map_or(Self::Filter(filter), Self::Ids))
    }
}

/// The selected deliveries, and the `since` for the next request: no remaining dead letter is
/// older.
struct Chosen {
    deliveries: Vec<(EndpointId, EventId)>,
    next_since: Option<Timestamp>,
}

fn choose(api: &Api, org: OrgNo, which: Which) -> Result<Chosen, Problem> {
    match which {
        Which::Ids(ids) => {
            let found = ids
                .iter()
                .map(|id| api.engine.store.delivery(org, id.event(), id.endpoint_number()));
            let found: Vec<_> = found.collect::<Result<_, _>>()?;
            // A command for any other delivery would change nothing, and cost the same.
            let is_dead =
                |delivery: &Delivery| matches!(delivery.situation, DeliverySituation::Dead(..));
            let found = found.into_iter().flatten().map(|found| found.delivery);
            let deliveries =
                found.filter(is_dead).map(|delivery| (delivery.endpoint, delivery.event));
            Ok(Chosen { deliveries: deliveries.collect(), next_since: None })
        }
        Which::Filter(query) => {
            let page = api.engine.store.dead_letters(org, &query)?;
            let deliveries = page.items.iter().map(|found| (found.endpoint, found.event)).collect();
            Ok(Chosen { deliveries, next_since: page.next.map(|(at, _, _)| at) })
        }
    }
}

/// Commits a command for each selected delivery. Returns how many had the outcome `wanted`, and the
/// `since` for the next request.
async fn each<D: Drafted<Kind: Submitted<Outcome: PartialEq>>>(
    call: &mut Call,
    also_of_deleted: bool,
    command: impl Fn(EndpointId, EventId) -> D,
    wanted: <D::Kind as Kind>::Outcome,
) -> Result<(usize, Option<Timestamp>), Problem> {
    let org = call.org()?;
    let mut which = Which::read(call).await?;
    if let Which::Filter(query) = &mut which {
        query.with_deleted = also_of_deleted;
    }
    let api = web::Data::clone(&call.api);
    let chosen = call.run(move || choose(&api, org, which)).await?;
    // One such request of an organization at a time, in small parts: changes of others are stored
    // between them.
    let _turn = call.in_line(call.api.dead_letter_turn(org)).await?;
    let mut count = 0;
    for part in chosen.deliveries.chunks(COMMANDS_AT_ONCE) {
        let commands = part.iter().map(|(endpoint, event)| command(*endpoint, *event));
        let outcomes = call.commit_all(commands.collect::<Vec<D>>()).await?;
        count += outcomes.iter().filter(|outcome| **outcome == wanted).count();
    }
    Ok((count, chosen.next_since))
}

#[derive(Serialize)]
struct ReplayAnswer {
    replayed: usize,
    has_more: bool,
    next_since: Option<Timestamp>,
}

/// `POST /replay`: retries the selected dead letters now, each with its schedule from the
/// beginning. A delivery is not counted if the dead letter is gone, or if its endpoint was deleted.
pub(in crate::http) async fn replay(call: &mut Call) -> Answer {
    let (org, at) = (call.org()?, call.api.steady());
    let trigger = Trigger::Replay;
    let retry =
        |endpoint, event| RetryDelivery { org, endpoint, event, at, only_dead: true, trigger };
    let (replayed, next_since) = each(call, false, retry, RetryOutcome::Queued).await?;
    json(StatusCode::OK, &ReplayAnswer { replayed, has_more: next_since.is_some(), next_since })
}

#[derive(Serialize)]
struct DropAnswer {
    dropped: usize,
    has_more: bool,
    next_since: Option<Timestamp>,
}

/// `DELETE`: cancels the selected dead letters.
pub(in crate::http) async fn discard(call: &mut Call) -> Answer {
    let org = call.org()?;
    let drop = |endpoint, event| DropDead { org, endpoint, event };
    let (dropped, next_since) = each(call, true, drop, DropOutcome::Dropped).await?;
    json(StatusCode::OK, &DropAnswer { dropped, has_more: next_since.is_some(), next_since })
}
