//! `/api/endpoints`: the URLs to which an organization's events are pushed.

use std::sync::Arc;

use actix_web::HttpResponse;
use actix_web::http::StatusCode;
use serde::Serialize;
use serde_json::{Value, json};
use utoipa::ToSchema;

use crate::base::pairs::as_map;
use crate::base::random;
use crate::base::shares::Exhausted;
use crate::commands::{
    DeleteEndpoint, DeleteEndpointOutcome, ENDPOINTS_PER_ORG_MAX, Less, PutEndpoint,
    PutEndpointOutcome,
};
use crate::delivery::envelope::Body;
use crate::delivery::lookups::NoLookup;
use crate::delivery::secrets;
use crate::delivery::sender::Request;
use crate::delivery::subject::Subject;
use crate::http::api::deliveries::Attempt;
use crate::http::api::endpoint_settings::{EndpointChange, MASK, Reading, Said};
use crate::http::edge::audit;
use crate::http::edge::call::{Answer, Call, json, page};
use crate::http::error::{Code, Problem};
use crate::http::input::body::{Media, optional_json};
use crate::http::input::cursor::List;
use crate::http::input::declare::{Body as _, Parameters as _, body, query};
use crate::http::input::fields::{CHAR_BYTES_MAX, text_of};
use crate::http::input::kinds::number;
use crate::http::input::lists::{Page, paging};
use crate::http::input::presence::optional;
use crate::http::openapi::schemas::Schemas;
use crate::model::delivery::{AttemptOutcome, Trigger};
use crate::model::endpoint::{
    BodyForm, DESCRIPTION_CHARS_MAX, DisabledReason, Endpoint, EndpointSettings,
    HEADER_NAME_BYTES_MAX, HEADER_VALUE_BYTES_MAX, HEADERS_MAX, METADATA_CHARS_MAX, METADATA_MAX,
    Ordering, PATTERN_CHARS_MAX, PATTERNS_MAX, SealedSecret, Secret, TypePattern, URL_BYTES_MAX,
};
use crate::model::event::NewEvent;
use crate::model::id::{AttemptId, EndpointId, EventId, OrgNo};
use crate::model::key::Scope;
use crate::model::time::{Now, Timestamp};
use crate::store::EndpointHealth;

/// Maximum size of a body in bytes: all members at their limits with every character escaped (six
/// bytes for ASCII), and room for names and spaces.
pub(in crate::http) const BODY_BYTES_MAX: usize = 6
    * (URL_BYTES_MAX + HEADERS_MAX * (HEADER_NAME_BYTES_MAX + HEADER_VALUE_BYTES_MAX))
    + CHAR_BYTES_MAX
        * (DESCRIPTION_CHARS_MAX
            + PATTERNS_MAX * PATTERN_CHARS_MAX
            + METADATA_MAX * 2 * METADATA_CHARS_MAX)
    + (8 << 10);
/// Maximum time for which an old secret signs beside its successor, in seconds: a week.
const OVERLAP_S_MAX: u64 = 604_800;
const OVERLAP_S_DEFAULT: u64 = 86_400;
/// The type of the event that tests an endpoint.
const TEST_TYPE: &str = "triggerd.test";

pub(in crate::http) mod operations;

body! {
    /// The rotation of a signing secret.
    struct SecretRotation {
        /// How long the old secret signs beside the new one.
        overlap_s: u64 =
            optional("overlap_seconds", number(0..=OVERLAP_S_MAX)).or(OVERLAP_S_DEFAULT);
    }
}

query! {
    /// The wanted endpoints.
    struct EndpointsQuery {
        /// The page.
        page: Page<EventId> = paging(List::Endpoints).by();
    }
}

/// Returns the schema of the answer to a change.
pub(in crate::http) fn changed_schema(schemas: &mut Schemas) -> Value {
    let all = [schemas.of::<Shown<'static>>(), schemas.of::<Changed<'static>>()];
    json!({ "anyOf": all })
}

/// An endpoint. The secret is present only when new.
#[derive(Serialize, ToSchema)]
#[schema(as = Endpoint)]
pub(in crate::http) struct Shown<'a> {
    id: EndpointId,
    url: &'a str,
    description: &'a str,
    #[schema(value_type = Vec<TypePattern>)]
    event_types: Vec<&'a str>,
    /// The names of headers; `(set)` stands for each value.
    #[serde(serialize_with = "as_map")]
    #[schema(value_type = HashMap<String, String>)]
    headers: Vec<(&'a str, &'static str)>,
    /// Names of headers removed because their values were meant for the former origin of the URL.
    #[serde(skip_serializing_if = "Vec::is_empty")]
    #[schema(required = false)]
    headers_dropped: Vec<String>,
    #[schema(value_type = BodyForm)]
    body: &'static str,
    enabled: bool,
    #[schema(required, value_type = Option<DisabledReason>)]
    disabled_reason: Option<&'static str>,
    /// Seconds before each further attempt; `null` means the configuration.
    #[schema(required, value_type = Option<Vec<u32>>)]
    retry_schedule: Option<&'a [u32]>,
    #[schema(required)]
    timeout_ms: Option<u32>,
    #[schema(required)]
    max_in_flight: Option<u16>,
    #[schema(required)]
    rate_per_second: Option<u16>,
    #[schema(value_type = Ordering)]
    ordering: &'static str,
    #[serde(serialize_with = "as_map")]
    #[schema(value_type = HashMap<String, String>)]
    metadata: Vec<(&'a str, &'a str)>,
    created_at: Timestamp,
    updated_at: Timestamp,
    #[serde(skip_serializing_if = "Option::is_none")]
    secret: Option<String>,
}

/// The answer to a change by a key that may not read endpoints: it repeats no setting that the key
/// did not write.
#[derive(Serialize, ToSchema)]
#[schema(as = EndpointChanged)]
struct Changed<'a> {
    id: EndpointId,
    #[serde(skip_serializing_if = "<[String]>::is_empty")]
    #[schema(required = false, value_type = Vec<String>)]
    headers_dropped: &'a [String],
    enabled: bool,
    #[schema(required, value_type = Option<DisabledReason>)]
    disabled_reason: Option<&'static str>,
    updated_at: Timestamp,
    #[serde(skip_serializing_if = "Option::is_none")]
    secret: Option<&'a str>,
}

/// Answers a change of an endpoint that existed before: with the whole endpoint if the key may read
/// endpoints.
pub(in crate::http) fn changed(call: &Call, shown: &Shown<'_>) -> Answer {
    if call.may(Scope::EndpointsRead) {
        return json(StatusCode::OK, shown);
    }
    let Shown { id, enabled, disabled_reason, updated_at, .. } = *shown;
    let (headers_dropped, secret) = (shown.headers_dropped.as_slice(), shown.secret.as_deref());
    json(
        StatusCode::OK,
        &Changed { id, headers_dropped, enabled, disabled_reason, updated_at, secret },
    )
}

fn pairs(members: &[(String, String)]) -> Vec<(&str, &str)> {
    members.iter().map(|(name, value)| (name.as_str(), value.as_str())).collect()
}

impl<'a> Shown<'a> {
    pub(in crate::http) fn of(endpoint: &'a Endpoint, secret: Option<String>) -> Self {
        let settings = &endpoint.settings;
        Self {
            id: endpoint.id,
            url: &settings.url,
            description: &settings.description,
            event_types: settings.event_types.iter().map(TypePattern::as_str).collect(),
            headers: settings.headers.iter().map(|(name, _)| (name.as_str(), MASK)).collect(),
            headers_dropped: Vec::new(),
            body: settings.body.name(),
            enabled: endpoint.is_enabled(),
            disabled_reason: endpoint.disabled.map(DisabledReason::name),
            retry_schedule: settings.retry_schedule_s.as_deref(),
            timeout_ms: settings.timeout_ms,
            max_in_flight: settings.max_in_flight,
            rate_per_second: settings.rate_per_second,
            ordering: settings.ordering.name(),
            metadata: pairs(&settings.metadata),
            created_at: endpoint.created_at,
            updated_at: endpoint.updated_at,
            secret,
        }
    }

    pub(in crate::http) fn without(mut self, headers_dropped: Vec<String>) -> Self {
        self.headers_dropped = headers_dropped;
        self
    }
}

fn absent() -> Problem {
    Problem::not_found("this organization has no endpoint with this id")
}

/// Returns the endpoint named in the path.
fn named(call: &Call) -> Result<(OrgNo, Arc<Endpoint>, EndpointHealth), Problem> {
    let org = call.org()?;
    let id: EndpointId = call.path("endpoint_id").parse().map_err(|_malformed| absent())?;
    let (endpoint, health) = call.api.engine.store.endpoint_of(org, id)?.ok_or_else(absent)?;
    Ok((org, endpoint, health))
}

/// Stores the endpoint. `sets_enabled` says if `enabled` is stored, too.
pub(in crate::http) async fn put(
    call: &Call,
    org: OrgNo,
    endpoint: &Endpoint,
    sets_enabled: bool,
) -> Result<(), Problem> {
    let command = PutEndpoint { org, endpoint: endpoint.clone(), sets_enabled };
    let before = call.api.engine.store.endpoint_of(org, endpoint.id)?;
    let outcome = if before.is_some_and(|(before, _)| endpoint.is_less_than(&before)) {
        call.commit(Less(command)).await?
    } else {
        call.commit(command).await?
    };
    match outcome {
        PutEndpointOutcome::Put => Ok(()),
        // The endpoint was deleted meanwhile.
        PutEndpointOutcome::NotFound => Err(absent()),
        PutEndpointOutcome::LimitReached => {
            let detail = format!(
                "an organization can have at most {ENDPOINTS_PER_ORG_MAX} endpoints; delete an \
                 endpoint first"
            );
            Err(Problem::new(Code::LimitReached, detail))
        }
    }
}

/// Makes a secret. Returns the sealed secret to store, and the text that is shown to the owner
/// once.
fn new_secret(call: &Call, id: EndpointId) -> Result<(SealedSecret, String), Problem> {
    let secret = Secret::new(random::bytes());
    let sealed = secrets::seal(&call.api.engine.vault, id, &secret);
    let sealed = sealed.ok_or_else(|| Problem::internal(&"a secret could not be encrypted"))?;
    Ok((sealed, secret.reveal()))
}

/// Makes an endpoint without settings. Returns the endpoint and its secret.
pub(in crate::http) fn blank(call: &Call) -> Result<(Endpoint, String), Problem> {
    let id = EndpointId(call.api.new_id());
    let (sealed, secret) = new_secret(call, id)?;
    Ok((Endpoint::new(id, EndpointSettings::default(), sealed, call.now), secret))
}

/// `POST`: creates an endpoint. The answer is 201 with the secret, which is not shown again.
pub(in crate::http) async fn create(call: &mut Call) -> Answer {
    let org = call.org()?;
    Media::require_json(call.request.headers())?;
    let body = call.body(BODY_BYTES_MAX).await?;
    let (mut endpoint, secret) = blank(call)?;
    let live = call.api.settings.get();
    let draft = EndpointChange::draft(text_of(&body)?, &["url"])?;
    let (mut reading, body) = Reading::of(draft, &live.egress);
    reading.apply(body, &mut endpoint, &call.api.engine.vault);
    reading.finish(&endpoint.settings)?;
    put(call, org, &endpoint, true).await?;
    audit::endpoint(call, &endpoint, "created");
    json(StatusCode::CREATED, &Shown::of(&endpoint, Some(secret)))
}

/// `GET`: lists endpoints in the order of their creation.
pub(in crate::http) fn list(call: &Call) -> Answer {
    let org = call.org()?;
    let Page { limit, after } = EndpointsQuery::read(call.request.query_string())?.page;
    let after = after.map_or(EndpointId(0), |EventId(after)| EndpointId(after));
    let mut endpoints = call.api.engine.store.endpoints_of(org)?;
    endpoints.sort_unstable_by_key(|endpoint| endpoint.id);
    let behind = endpoints.iter().filter(|endpoint| endpoint.id > after);
    let shown = behind.map(|endpoint| {
        (List::Endpoints.cursor(EventId(endpoint.id.0)), Shown::of(endpoint, None))
    });
    page((limit, List::Endpoints.cursor(EventId(after.0))), shown)
}

/// `GET /{id}`: returns the settings of an endpoint.
pub(in crate::http) fn show(call: &Call) -> Answer {
    json(StatusCode::OK, &Shown::of(&named(call)?.1, None))
}

/// `PATCH /{id}`: changes settings from the next attempt on. Absent members keep their values, and
/// an earlier answer can be sent back. A URL of another origin does not keep the values of headers.
pub(in crate::http) async fn change(call: &mut Call) -> Answer {
    let org = call.org()?;
    Media::require_json(call.request.headers())?;
    let body = call.body(BODY_BYTES_MAX).await?;
    let _apart = call.settings_lock(org).await?;
    let before = named(call)?.1;
    let mut endpoint = Endpoint::clone(&before);
    let live = call.api.settings.get();
    let draft = EndpointChange::draft(text_of(&body)?, &[])?;
    let (mut reading, body) = Reading::of(draft, &live.egress);
    reading.apply(body, &mut endpoint, &call.api.engine.vault);
    reading.unchanged(&Shown::of(&before, None))?;
    let Said { sets_enabled, headers_dropped } = reading.finish(&endpoint.settings)?;
    if endpoint != *before {
        endpoint.updated_at = call.now;
        put(call, org, &endpoint, sets_enabled).await?;
        audit::endpoint(call, &endpoint, "changed");
    }
    changed(call, &Shown::of(&endpoint, None).without(headers_dropped))
}

/// `DELETE /{id}`: deletes an endpoint. Nothing more is pushed there, and waiting deliveries are
/// canceled.
pub(in crate::http) async fn delete(call: &mut Call) -> Answer {
    let _apart = call.settings_lock(call.org()?).await?;
    let (org, endpoint, _) = named(call)?;
    match call.commit(DeleteEndpoint { org, endpoint: endpoint.id }).await? {
        DeleteEndpointOutcome::Deleted => {
            audit::endpoint_deleted(call, endpoint.id);
            Ok(HttpResponse::NoContent().finish())
        }
        DeleteEndpointOutcome::NotFound => Err(absent()),
    }
}

/// `POST /{id}/enable`: enables an endpoint, for whatever reason it was disabled. Waiting
/// deliveries go on.
pub(in crate::http) async fn enable(call: &mut Call) -> Answer {
    let _apart = call.settings_lock(call.org()?).await?;
    let (org, endpoint, _) = named(call)?;
    let mut endpoint = Endpoint::clone(&endpoint);
    if !endpoint.is_enabled() {
        (endpoint.disabled, endpoint.updated_at) = (None, call.now);
        put(call, org, &endpoint, true).await?;
        audit::endpoint(call, &endpoint, "enabled");
    }
    changed(call, &Shown::of(&endpoint, None))
}

/// `POST /{id}/secret/rotate`: makes a new secret, shown only in this answer. The old secret signs
/// beside the new secret until the overlap ends.
pub(in crate::http) async fn rotate_secret(call: &mut Call) -> Answer {
    let body = call.body(BODY_BYTES_MAX).await?;
    let text = optional_json(call.request.headers(), &body)?;
    let SecretRotation { overlap_s } = SecretRotation::read(text)?;
    let _apart = call.settings_lock(call.org()?).await?;
    let (org, endpoint, _) = named(call)?;
    let mut endpoint = Endpoint::clone(&endpoint);
    let (sealed, secret) = new_secret(call, endpoint.id)?;
    let now = Now::new(call.now, call.api.steady());
    endpoint.rotate(sealed, now, overlap_s * 1_000);
    put(call, org, &endpoint, false).await?;
    audit::endpoint(call, &endpoint, "given a new secret");
    changed(call, &Shown::of(&endpoint, Some(secret)))
}

/// Counters of an endpoint.
#[derive(Serialize, ToSchema)]
#[schema(as = EndpointStats)]
struct Stats {
    id: EndpointId,
    waiting: u64,
    dead_letters: u64,
    attempts_accepted: u64,
    attempts_failed: u64,
    #[schema(required)]
    failing_since: Option<Timestamp>,
    #[schema(required)]
    last_accepted_at: Option<Timestamp>,
    #[schema(required)]
    last_failed_at: Option<Timestamp>,
}

/// `GET /{id}/stats`: returns counters of the endpoint's deliveries and attempts.
pub(in crate::http) fn stats(call: &Call) -> Answer {
    let (_, endpoint, health) = named(call)?;
    let stats = Stats {
        id: endpoint.id,
        waiting: health.waiting,
        dead_letters: health.dead,
        attempts_accepted: health.accepted,
        attempts_failed: health.failed,
        failing_since: health.failing_since,
        last_accepted_at: health.accepted_at,
        last_failed_at: health.failed_at,
    };
    json(StatusCode::OK, &stats)
}

/// The result of testing an endpoint: an attempt, and the event in the header `webhook-id`.
#[derive(Serialize, ToSchema)]
#[schema(as = EndpointTest)]
struct Tested {
    event_id: EventId,
    #[serde(flatten)]
    attempt: Attempt,
}

/// Makes the body of a test in this form.
fn test_body(form: BodyForm, id: EventId, now: Timestamp) -> Result<Body, Problem> {
    let event = NewEvent {
        event_type: TEST_TYPE.parse().map_err(|rule| Problem::internal(&rule))?,
        dedup: None,
        labels: Vec::new(),
        occurred_at: None,
        deliver_after: None,
        payload: br#"{"test":true}"#.as_slice().into(),
        cloudevent: None,
    };
    Body::of(form, id, now, event).map_err(|error| Problem::internal(&error))
}

/// The secrets of an endpoint and its headers, in clear.
type Opened = (Vec<Secret>, Vec<(String, String)>);

fn open(call: &Call, endpoint: &Endpoint) -> Result<Opened, Problem> {
    let vault = &call.api.engine.vault;
    let secrets = secrets::open(vault, endpoint, call.api.steady())
        .ok_or_else(|| Problem::internal(&"the secret was encrypted with another key"))?;
    let headers = secrets::open_headers(vault, endpoint)
        .ok_or_else(|| Problem::internal(&"the headers were encrypted with another key"))?;
    Ok((secrets, headers))
}

/// The problem for a test whose endpoint's name could not be looked up for want of a thread.
fn no_lookup(exhausted: Exhausted) -> Problem {
    let of_one = "too many names of this organization's endpoints are being looked up, because name \
                  servers do not answer; try again later";
    let in_all = "too many names of endpoints are being looked up on this server, because name \
                  servers do not answer; try again later";
    Problem::exhausted(exhausted, of_one, in_all)
}

/// `POST /{id}/test`: pushes an event of the type `triggerd.test` once, and returns the result.
/// Nothing is stored, and a disabled endpoint is tested too.
pub(in crate::http) async fn test(call: &mut Call) -> Answer {
    let (org, endpoint, _) = named(call)?;
    let _one_of_few = call.api.bounds.tests.take(org, 1).map_err(|exhausted| {
        let of_one =
            "too many tests of this organization's endpoints are running; wait for one to finish";
        Problem::exhausted(
            exhausted,
            of_one,
            "too many tests of endpoints are running on this server; try again later",
        )
    })?;
    let event_id = EventId(call.api.new_id());
    let settings = &endpoint.settings;
    let body = test_body(settings.body, event_id, call.now)?;
    let (secrets, headers) = open(call, &endpoint)?;
    let organization = call.key().ok().map(|key| key.org().id);
    let request = Request {
        org,
        url: &settings.url,
        subject: Subject::of_test(organization, endpoint.id, event_id),
        content_type: body.content_type,
        body: body.bytes.into(),
        headers: &headers,
        secrets: &secrets,
        timeout: settings.timeout_ms.map(|ms| std::time::Duration::from_millis(ms.into())),
        now: call.now,
    };
    let live = call.api.settings.get();
    // A caller who has left frees the slot at once, though the endpoint may take minutes.
    let sent: Result<AttemptOutcome, NoLookup> = tokio::select! {
        sent = call.while_allowed(live.sender.send(request)) => sent?,
        () = call.left() => {
            let detail = "the test was given up, because the caller closed its side of the \
                connection or sent further requests before the endpoint answered; keep the \
                connection open until the answer comes";
            return Err(Problem::new(Code::InvalidRequest, detail));
        }
    };
    let outcome = sent.map_err(|NoLookup(exhausted)| no_lookup(exhausted))?;
    let attempt = Attempt::new(AttemptId(call.api.new_id()), (1, Trigger::Test), outcome);
    json(StatusCode::OK, &Tested { event_id, attempt })
}
