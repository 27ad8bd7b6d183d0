//! `POST /api/events` and `POST /api/events/batch`: takes events from producers.

use actix_web::http::StatusCode;
use actix_web::http::header::HeaderMap;
use serde::Serialize;
use serde_json::json;
use serde_json::value::RawValue;
use utoipa::ToSchema;

use crate::commands::{EventDraft, SubmitOutcome};
use crate::http::edge::call::{Answer, Call, json};
use crate::http::error::{Code, Document, Problem, ProblemDocument};
use crate::http::input::body::{Media, content_length, unsupported};
use crate::http::input::cloudevents;
use crate::http::input::declare::{Body as _, body, body_schema};
use crate::http::input::fields::{array, text_of};
use crate::http::input::kinds::raw_array;
use crate::http::input::presence::required;
use crate::http::input::wire::{
    PostedEvent, Rules, cloud_event_body_bytes_max, event_body_bytes_max,
};
use crate::http::openapi::operation::{Content, Operation, Reply, RequestHeader, Tag};
use crate::http::openapi::schemas::schema_of;
use crate::http::openapi::webhooks::cloud_event;
use crate::model::event::{EventStatus, NewEvent};
use crate::model::id::{EventId, OrgNo};
use crate::model::time::{Now, Timestamp};

/// Larger bodies are parsed on a blocking thread.
const INLINE_BYTES_MAX: usize = 64 << 10;
/// Bytes of a stored item in the answer to a batch, at most.
const STORED_ITEM_BYTES: usize = 160;
/// Bytes of a rejected item beside its problem.
const REJECTED_ITEM_BYTES: usize = 64;
const IDEMPOTENCY_KEY: &str = "idempotency-key";

/// The form of a single event.
#[derive(Clone, Copy)]
enum Form {
    Own,
    CloudEvent,
    /// A CloudEvent with the attributes in headers.
    Binary,
}

/// The form of the events in a batch.
#[derive(Clone, Copy)]
enum BatchForm {
    Own,
    CloudEvents,
}

body! {
    /// A batch of events.
    struct Batch<'a> {
        /// At most 1,000 events, unless `[intake] batch_events_max` says otherwise. Each item
        /// stands alone.
        events: Option<&'a RawValue> = required("events", raw_array(body_schema::<PostedEvent>));
    }
}

const CLOUD_EVENT_EXAMPLE: &str = r#"{"specversion": "1.0", "id": "1017", "source": "/shop",
    "type": "order.created", "data": {"order": 1017}}"#;
const CLOUD_EVENTS_EXAMPLE: &str = r#"[{"specversion": "1.0", "id": "1017", "source": "/shop",
    "type": "order.created", "data": {"order": 1017}}]"#;

pub(in crate::http) static POST: Operation = Operation::new(
    "postEvent",
    Tag::Events,
    "Post an event",
    &[
        Reply::json(202, "The event is on stable storage.", schema_of::<Receipt>).example(
            r#"{"id": "evt_01m8ehsmgrfwtbwf4mabgv0000", "status": "accepted", "duplicate": false,
                "received_at": "2026-11-27T13:05:57.784Z"}"#,
        ),
        Reply::json(
            200,
            "The same `dedup_id` was posted before, with the same type and payload: the receipt of \
             the first event.",
            schema_of::<Receipt>,
        ),
    ],
)
.about(
    "The event is stored durably before the answer. With any `ce-` header, the request is a \
     CloudEvent in binary mode: `ce-specversion`, `ce-id`, `ce-source` and `ce-type` are required, \
     further `ce-` headers are attributes, and the body of any content type is the data.",
)
.headers(&[RequestHeader {
    name: "Idempotency-Key",
    words: "Means the same as `dedup_id`: 1 to 255 printable characters.",
}])
.body(&[
    Content::json::<PostedEvent>(
        r#"{"type": "order.created", "payload": {"order": 1017}, "dedup_id": "order-1017"}"#,
    ),
    Content::of("application/cloudevents+json", cloud_event, CLOUD_EVENT_EXAMPLE),
])
.refuses(&[Code::ConflictingDedupId, Code::DedupMismatch, Code::NotFound]);

pub(in crate::http) static POST_BATCH: Operation = Operation::new(
    "postEvents",
    Tag::Events,
    "Post several events",
    &[Reply::json(200, "The outcome of each item, in their order.", |schemas| {
        schemas.component("BatchResults", |schemas| {
            let item = schemas.of::<BatchResult>();
            json!({
                "type": "object",
                "description": "The outcome of each item of a batch.",
                "properties": {"results": {"type": "array", "items": item}},
                "required": ["results"],
            })
        })
    })],
)
.about("At most 1,000 events and 8 MiB, unless `[intake]` says otherwise.")
.body(&[
    Content::json::<Batch<'static>>(
        r#"{"events": [{"type": "order.created", "payload": {"order": 1017}}]}"#,
    ),
    Content::of(
        "application/cloudevents-batch+json",
        |schemas| json!({"type": "array", "items": cloud_event(schemas)}),
        CLOUD_EVENTS_EXAMPLE,
    ),
])
.refuses(&[Code::NotFound]);

/// The receipt of a stored event.
#[derive(Serialize, ToSchema)]
struct Receipt {
    id: EventId,
    #[schema(value_type = EventStatus)]
    status: &'static str,
    /// True if the event was posted before.
    duplicate: bool,
    received_at: Timestamp,
}

/// `POST /api/events`: takes a single event.
pub(in crate::http) async fn post(call: &mut Call) -> Answer {
    let form = form(call)?;
    let payload_bytes_max = call.api.config.intake.event_bytes_max;
    let bytes_max = match form {
        Form::Own | Form::Binary => event_body_bytes_max(payload_bytes_max),
        Form::CloudEvent => cloud_event_body_bytes_max(payload_bytes_max),
    };
    let body = call.body(bytes_max).await?;
    let rules = Rules { idempotency_key: idempotency_key(call)?, ..rules(call)? };
    let org = rules.org;
    let event = if body.len() <= INLINE_BYTES_MAX {
        read_event(&rules, form, call.request.headers(), &body)?
    } else {
        let headers = call.request.headers().clone();
        call.run(move || read_event(&rules, form, &headers, &body)).await?
    };
    let outcome = call.commit(EventDraft::new(org, event)).await?;
    match outcome {
        SubmitOutcome::Accepted { id, received_at } => json(
            StatusCode::ACCEPTED,
            &Receipt { id, status: "accepted", duplicate: false, received_at },
        ),
        SubmitOutcome::Duplicate { id, received_at } => {
            json(StatusCode::OK, &Receipt { id, status: "accepted", duplicate: true, received_at })
        }
        SubmitOutcome::Mismatch { id } => Err(Problem::dedup_mismatch(id)),
        SubmitOutcome::NotFound => Err(no_organization()),
    }
}

fn no_organization() -> Problem {
    Problem::not_found("the organization of this key was deleted")
}

fn read_event(
    rules: &Rules,
    form: Form,
    headers: &HeaderMap,
    body: &[u8],
) -> Result<NewEvent, Problem> {
    match form {
        Form::Own => rules.event(text_of(body)?),
        Form::CloudEvent => cloudevents::structured(rules, text_of(body)?),
        Form::Binary => cloudevents::binary(rules, headers, body),
    }
}

fn form(call: &Call) -> Result<Form, Problem> {
    let headers = call.request.headers();
    match Media::of(headers) {
        Some(Media::CloudEvent) => Ok(Form::CloudEvent),
        Some(Media::CloudEventBatch) => {
            let detail = "this route takes a single event, and the Content-Type announces a batch; \
                send a batch to POST /api/events/batch";
            Err(Problem::new(Code::UnsupportedMediaType, detail))
        }
        Some(Media::Json) | None
            if cloudevents::binary_header(headers).is_some()
                && !Media::is_other_cloud_event(headers) =>
        {
            Ok(Form::Binary)
        }
        Some(Media::Json) => Ok(Form::Own),
        None => Err(unsupported(headers, "application/json or application/cloudevents+json")),
    }
}

fn rules(call: &Call) -> Result<Rules, Problem> {
    Ok(Rules {
        org: call.org()?,
        now: Now::new(call.now, call.api.steady()),
        dedup_window_ms: call.dedup_window_ms(),
        payload_bytes_max: call.api.config.intake.event_bytes_max,
        idempotency_key: None,
    })
}

/// Returns the value of `Idempotency-Key`, which may be written as a structured field's string
/// (draft-ietf-httpapi-idempotency-key-header).
fn idempotency_key(call: &Call) -> Result<Option<String>, Problem> {
    let mut given = call.request.headers().get_all(IDEMPOTENCY_KEY);
    let Some(value) = given.next() else { return Ok(None) };
    if given.next().is_some() {
        let detail = "appears more than once; send the header once";
        return Err(Problem::fault(Code::InvalidRequest, "Idempotency-Key", detail));
    }
    let text = str::from_utf8(value.as_bytes());
    let text = text.map_err(|_not_text| {
        let detail = "must be UTF-8 text";
        Problem::fault(Code::InvalidRequest, "Idempotency-Key", detail)
    })?;
    let unquoted = text.strip_prefix('"').and_then(|text| text.strip_suffix('"'));
    let plain = unquoted.filter(|text| !text.contains(['"', '\\']));
    Ok(Some(plain.unwrap_or(text).to_owned()))
}

/// `POST /api/events/batch`: takes several events, each stored or refused by itself.
pub(in crate::http) async fn post_batch(call: &mut Call) -> Answer {
    let form = batch_form(call.request.headers())?;
    let intake = &call.api.config.intake;
    let (bytes_max, events_max) = (intake.batch_bytes_max, intake.batch_events_max);
    let begun = least_events(call, form);
    call.charge(begun)?;
    let body = call.body(bytes_max).await?;
    let rules = rules(call)?;
    let org = rules.org;
    let items = if body.len() <= INLINE_BYTES_MAX {
        read_batch(&rules, form, &body, events_max)
    } else {
        call.run(move || Ok(read_batch(&rules, form, &body, events_max))).await?
    };
    let items = items?;
    call.charge_rest((items.len() as u64).saturating_sub(begun))?;
    store_batch(call, org, items).await
}

/// Returns the form of the events in a batch. Headers that belong to a single event are refused,
/// because no event of the batch would get their values.
fn batch_form(headers: &HeaderMap) -> Result<BatchForm, Problem> {
    let form = match Media::of(headers) {
        Some(Media::CloudEvent) => {
            let detail = "this route takes a batch, and the Content-Type announces a single \
                CloudEvent; send it to POST /api/events, or send an array of CloudEvents as \
                application/cloudevents-batch+json";
            return Err(Problem::new(Code::UnsupportedMediaType, detail));
        }
        Some(Media::CloudEventBatch) => BatchForm::CloudEvents,
        media => {
            if let Some(name) = cloudevents::binary_header(headers) {
                let detail = "belongs to a single CloudEvent in binary mode; send it to POST \
                    /api/events, or send an array of CloudEvents as \
                    application/cloudevents-batch+json";
                return Err(Problem::fault(Code::InvalidRequest, name, detail));
            }
            if media.is_none() {
                let wanted = "application/json or application/cloudevents-batch+json";
                return Err(unsupported(headers, wanted));
            }
            BatchForm::Own
        }
    };
    if headers.contains_key(IDEMPOTENCY_KEY) {
        let detail = "is for a single event; give each item of the batch its own dedup_id";
        return Err(Problem::fault(Code::InvalidRequest, "Idempotency-Key", detail));
    }
    Ok(form)
}

/// Returns the minimum number of events in a batch of the announced length, if each has maximum
/// size. This number is charged before the body is read, so that reading has a price for the
/// caller.
fn least_events(call: &Call, form: BatchForm) -> u64 {
    let length = content_length(call.request.headers()).unwrap_or(0);
    let payload_bytes_max = call.api.config.intake.event_bytes_max;
    let largest = match form {
        BatchForm::Own => event_body_bytes_max(payload_bytes_max),
        BatchForm::CloudEvents => cloud_event_body_bytes_max(payload_bytes_max),
    };
    (length / largest.max(1)).max(1) as u64
}

/// Reads the items of a batch, each checked by itself.
fn read_batch(
    rules: &Rules,
    form: BatchForm,
    body: &[u8],
    events_max: usize,
) -> Result<Vec<Result<NewEvent, Problem>>, Problem> {
    let text = text_of(body)?;
    let text = match form {
        BatchForm::CloudEvents => text,
        BatchForm::Own => {
            let Batch { events } = Batch::read(text)?;
            events.map_or("[]", RawValue::get)
        }
    };
    let items = array(text, events_max)?;
    if items.len() > events_max {
        let pointer = match form {
            BatchForm::Own => "/events",
            BatchForm::CloudEvents => "",
        };
        let detail = format!("must have at most {events_max} items");
        return Err(Problem::fault(Code::ValidationFailed, pointer, detail));
    }
    let read = |item: &RawValue| match form {
        BatchForm::Own => rules.event(item.get()),
        BatchForm::CloudEvents => cloudevents::structured(rules, item.get()),
    };
    Ok(items.into_iter().map(|item| read(item).map_err(Problem::of_item)).collect())
}

/// Stores all valid items together, and answers with the outcome of each item.
async fn store_batch(call: &Call, org: OrgNo, items: Vec<Result<NewEvent, Problem>>) -> Answer {
    let mut drafts = Vec::with_capacity(items.len());
    // A valid item leaves a `None`, which its outcome replaces.
    let mut results = Vec::with_capacity(items.len());
    for item in items {
        results.push(match item {
            Ok(event) => {
                drafts.push(EventDraft::new(org, event));
                None
            }
            Err(problem) => Some(Item::Rejected(problem)),
        });
    }
    let answer_bytes = drafts.len() * STORED_ITEM_BYTES
        + results.iter().flatten().map(Item::rejected_bytes).sum::<usize>();
    let room = call.api.bounds.answers.reserve(call.principal(), answer_bytes)?;
    let mut outcomes = call.commit_all(drafts, None).await?.into_iter();
    let mut item_results = Vec::with_capacity(results.len());
    for result in results {
        let item = match result {
            Some(item) => item,
            None => Item::of(
                outcomes.next().ok_or_else(|| Problem::internal(&"an event without an outcome"))?,
            )?,
        };
        item.count(call);
        item_results.push(item);
    }
    let shown = item_results.iter().enumerate().map(|(index, item)| BatchResult::of(index, item));
    let mut response = json(StatusCode::OK, &Results { results: shown.collect() })?;
    if let Some(room) = room {
        response.extensions_mut().insert(room);
    }
    Ok(response)
}

/// The outcome of an item of a batch.
enum Item {
    Accepted(EventId, Timestamp),
    Duplicate(EventId, Timestamp),
    Rejected(Problem),
}

impl Item {
    fn of(outcome: SubmitOutcome) -> Result<Self, Problem> {
        match outcome {
            SubmitOutcome::Accepted { id, received_at } => Ok(Self::Accepted(id, received_at)),
            SubmitOutcome::Duplicate { id, received_at } => Ok(Self::Duplicate(id, received_at)),
            SubmitOutcome::Mismatch { id } => Ok(Self::Rejected(Problem::dedup_mismatch(id))),
            SubmitOutcome::NotFound => Err(no_organization()),
        }
    }

    /// Returns about how long a rejected item is in the answer.
    fn rejected_bytes(&self) -> usize {
        match self {
            Self::Accepted(..) | Self::Duplicate(..) => STORED_ITEM_BYTES,
            Self::Rejected(problem) => serde_json::to_vec(&problem.document(None))
                .map_or(0, |document| document.len() + REJECTED_ITEM_BYTES),
        }
    }

    /// Counts a rejected item. Other items are counted when stored.
    fn count(&self, call: &Call) {
        if let Self::Rejected(problem) = self
            && let Some(reason) = problem.code().rejection()
        {
            call.api.engine.metrics.events_rejected.of(reason).inc();
        }
    }
}

#[derive(Serialize)]
struct Results<'a> {
    results: Vec<BatchResult<'a>>,
}

/// The outcome of an item of a batch.
#[derive(Serialize, ToSchema)]
struct BatchResult<'a> {
    /// The place of the item in the batch, from 0.
    index: usize,
    status: BatchStatus,
    /// The event of an item that is not rejected.
    #[serde(skip_serializing_if = "Option::is_none")]
    id: Option<EventId>,
    #[serde(skip_serializing_if = "Option::is_none")]
    received_at: Option<Timestamp>,
    /// The reason of a rejection.
    #[serde(skip_serializing_if = "Option::is_none")]
    #[schema(value_type = Option<ProblemDocument>)]
    error: Option<Document<'a>>,
}

/// The outcome of an item of a batch in a word.
#[derive(Serialize, ToSchema)]
#[serde(rename_all = "snake_case")]
enum BatchStatus {
    Accepted,
    Duplicate,
    Rejected,
}

impl<'a> BatchResult<'a> {
    fn of(index: usize, item: &'a Item) -> Self {
        let (status, stored, error) = match item {
            Item::Accepted(id, received_at) => {
                (BatchStatus::Accepted, Some((*id, *received_at)), None)
            }
            Item::Duplicate(id, received_at) => {
                (BatchStatus::Duplicate, Some((*id, *received_at)), None)
            }
            Item::Rejected(problem) => (BatchStatus::Rejected, None, Some(problem.document(None))),
        };
        let (id, received_at) = stored.unzip();
        Self { index, status, id, received_at, error }
    }
}
