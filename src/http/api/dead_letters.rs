//! `/api/dead-letters`: lists dead letters, retries them, or drops them.

use actix_web::http::StatusCode;
use actix_web::web;
use serde::Serialize;
use serde_json::{Value, json};
use utoipa::ToSchema;

use crate::commands::{
    Drafted, DropDead, DropOutcome, Kind, RetryDelivery, RetryOutcome, Submitted,
};
use crate::http::api::deliveries::{List, Shown};
use crate::http::edge::call::{Answer, Call, json};
use crate::http::error::Problem;
use crate::http::input::body::Media;
use crate::http::input::cursor::{self, List as Lists};
use crate::http::input::declare::{
    Body as _, Parameters as _, body, present, query, schema_requiring,
};
use crate::http::input::fields::{Fields, text_of};
use crate::http::input::kinds::{list_of, parsed};
use crate::http::input::lists::{Page, Span, paging, since_until};
use crate::http::input::presence::optional;
use crate::http::openapi::operation::{Content, Operation, Reply, Tag};
use crate::http::openapi::schemas::{Schemas, schema_of};
use crate::http::shared::Api;
use crate::model::audit::{Action, Changed, Note, Subject};
use crate::model::delivery::Trigger;
use crate::model::id::{DeliveryId, EndpointId, EventId, OrgNo};
use crate::model::time::Timestamp;
use crate::store::{DeadPlace, DeadQuery, Delivery, DeliverySituation};

/// Maximum number of ids in a request.
const IDS_MAX: usize = 500;
/// Maximum number of dead letters selected by a request with a filter.
const CHOSEN_MAX: usize = 1_000;
/// Maximum size of a body in bytes: enough for `IDS_MAX` ids, with every character escaped.
const BODY_BYTES_MAX: usize = 128 << 10;

query! {
    /// The wanted dead letters.
    struct DeadLettersQuery {
        /// The page.
        page: Page<DeadPlace> = paging(Lists::DeadLetters).by();
        /// Only dead letters of this endpoint.
        endpoint: Option<EndpointId> = optional("endpoint_id", parsed());
        /// The time at which they were given up.
        time: Span = since_until();
    }
}

body! {
    /// Chooses dead letters: `ids`, or at least one of the other members.
    struct DeadLetters {
        /// The ids of deliveries.
        ids: Option<Vec<DeliveryId>> = optional("ids", list_of(0..=IDS_MAX));
        /// Only dead letters of this endpoint.
        endpoint: Option<EndpointId> = optional("endpoint_id", parsed());
        /// The time at which they were given up.
        time: Span = since_until();
    }
}

/// The members that stand in place of `ids`.
const FILTERS: [&str; 3] = ["endpoint_id", "since", "until"];

const CHOICE: &[Content] = &[Content::of(
    "application/json",
    choice,
    r#"{"endpoint_id": "ep_01h2xcejqtf2nbrexx3vqjhp41"}"#,
)];

fn choice(schemas: &mut Schemas) -> Value {
    schemas.component(DeadLetters::NAME, |schemas| {
        let mut schema = schema_requiring::<DeadLetters>(schemas, &[]);
        if let Some(schema) = schema.as_object_mut() {
            let filters = json!({"anyOf": FILTERS.map(present)});
            schema.insert("oneOf".to_owned(), json!([present("ids"), filters]));
        }
        schema
    })
}

pub(in crate::http) static LIST: Operation = Operation::new(
    "listDeadLetters",
    Tag::Deliveries,
    "List dead letters",
    &[Reply::json(200, "A page of dead letters, the latest first.", schema_of::<List>)],
)
.query::<DeadLettersQuery>();

pub(in crate::http) static DISCARD: Operation = Operation::new(
    "dropDeadLetters",
    Tag::Deliveries,
    "Drop dead letters",
    &[Reply::json(200, "The number of dead letters that were dropped.", schema_of::<DropAnswer>)],
)
.body(CHOICE);

pub(in crate::http) static REPLAY: Operation = Operation::new(
    "replayDeadLetters",
    Tag::Deliveries,
    "Deliver dead letters again",
    &[Reply::json(200, "The number of deliveries that start again.", schema_of::<ReplayAnswer>)],
)
.body(CHOICE);

/// `GET`: lists dead letters, the latest first.
pub(in crate::http) async fn list(call: &mut Call) -> Answer {
    let org = call.org()?;
    let (DeadLettersQuery { page, endpoint, time }, mut query) =
        DeadLettersQuery::draft(call.request.query_string());
    let (since, until) = time.of_query(call.now, &mut query);
    query.finish()?;
    let Page { limit, after } = page;
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
        let fields = Fields::read(text_of(&body)?)?;
        let has_ids = fields.has("ids");
        let has_filter = FILTERS.iter().any(|name| fields.has(name));
        let mut draft = DeadLetters::draft_of(fields, &[]);
        let (since, until) = draft.body.time.of_body(call.now, &mut draft.faults);
        let is_right = draft.faults.is_empty() && draft.fields.names().next().is_none();
        match (has_ids, has_filter) {
            (true, true) => draft.faults.add(
                "/ids",
                "cannot be combined with endpoint_id, since or until; send one or the other",
            ),
            (false, false) if is_right => {
                let detail = "must choose dead letters: send ids, or at least one of endpoint_id, \
                    since and until";
                draft.faults.add("", detail);
            }
            (true, false) | (false, true | false) => {}
        }
        let DeadLetters { ids, endpoint, .. } = draft.finish()?;
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
    (wanted, action): (<D::Kind as Kind>::Outcome, Action),
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
    let (mut count, mut note) = (0, Some(note(action, chosen.deliveries.len())));
    for part in chosen.deliveries.chunks(COMMANDS_AT_ONCE) {
        let commands = part.iter().map(|(endpoint, event)| command(*endpoint, *event));
        let outcomes = call.commit_all(commands.collect::<Vec<D>>(), note.take()).await?;
        count += outcomes.iter().filter(|outcome| **outcome == wanted).count();
    }
    Ok((count, chosen.next_since))
}

/// Makes the entry of the audit log, which is stored with the first of the changes.
fn note(action: Action, selected: usize) -> Note {
    let changes = vec![Changed::new("selected", &selected)];
    Note { action, subject: Subject::DeadLetters, changes }
}

#[derive(Serialize, ToSchema)]
#[schema(as = DeadLettersReplayed)]
struct ReplayAnswer {
    replayed: usize,
    /// True if more dead letters match than one request takes.
    has_more: bool,
    /// The `since` of the request that goes on.
    #[schema(required)]
    next_since: Option<Timestamp>,
}

/// `POST /replay`: retries the selected dead letters now, each with its schedule from the
/// beginning. A delivery is not counted if the dead letter is gone, or if its endpoint was deleted.
pub(in crate::http) async fn replay(call: &mut Call) -> Answer {
    let (org, at) = (call.org()?, call.api.steady());
    let trigger = Trigger::Replay;
    let retry =
        |endpoint, event| RetryDelivery { org, endpoint, event, at, only_dead: true, trigger };
    let (replayed, next_since) =
        each(call, false, retry, (RetryOutcome::Queued, Action::DeadLettersReplayed)).await?;
    json(StatusCode::OK, &ReplayAnswer { replayed, has_more: next_since.is_some(), next_since })
}

#[derive(Serialize, ToSchema)]
#[schema(as = DeadLettersDropped)]
struct DropAnswer {
    dropped: usize,
    /// True if more dead letters match than one request takes.
    has_more: bool,
    /// The `since` of the request that goes on.
    #[schema(required)]
    next_since: Option<Timestamp>,
}

/// `DELETE`: cancels the selected dead letters.
pub(in crate::http) async fn discard(call: &mut Call) -> Answer {
    let org = call.org()?;
    let drop = |endpoint, event| DropDead { org, endpoint, event };
    let (dropped, next_since) =
        each(call, true, drop, (DropOutcome::Dropped, Action::DeadLettersDropped)).await?;
    json(StatusCode::OK, &DropAnswer { dropped, has_more: next_since.is_some(), next_since })
}
