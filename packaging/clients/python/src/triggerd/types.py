"""Made by generate.py from docs/openapi.json."""

from __future__ import annotations

from typing import Any, Literal, TypeAlias

from typing_extensions import NotRequired, TypedDict

Action: TypeAlias = Literal[
    "organization.created",
    "organization.changed",
    "key.created",
    "key.changed",
    "key.rotated",
    "key.revoked",
    "endpoint.created",
    "endpoint.changed",
    "endpoint.deleted",
    "event.erased",
    "replay.started",
    "replay.canceled",
    "configuration.reloaded",
    "administration.refused",
    "delivery.retried",
    "dead_letters.replayed",
    "dead_letters.dropped",
    "backup.requested",
    "drill.requested",
    "archive.requested",
    "organization.deleted",
]
"""
A kind of change in the audit log.
"""


AttemptId: TypeAlias = str
"""
The id of an attempt.
"""


class Change(TypedDict):
    """
    A property before and after the change.
    """

    after: str | None
    before: str | None
    field: str


class Subject(TypedDict):
    """
    The changed thing.
    """

    id: str | None
    type: str


BatchStatus: TypeAlias = Literal["accepted", "duplicate", "rejected"]
"""
The outcome of an item of a batch in a word.
"""


BodyForm: TypeAlias = Literal["envelope", "payload", "cloudevents"]
"""
The form of the body of an endpoint's requests.
"""


BreakerState: TypeAlias = Literal["closed", "open", "half_open"]
"""
The state of a circuit breaker.
"""


class Caller1(TypedDict):
    """
    The caller: the operator, or a key with its organization.
    """

    admin: bool


class CloudEvent(TypedDict):
    """
    A CloudEvent 1.0 in the JSON format. Further members are its other attributes: texts, whole numbers of 32 bits, `true` and `false`.
    """

    data: NotRequired[Any]
    """
    Any JSON.
    """
    data_base64: NotRequired[str | None]
    """
    Bytes, in place of `data`.
    """
    id: str
    source: str
    specversion: Literal["1.0"]
    type: str


DataKind: TypeAlias = Literal["json", "base64", "none"]
"""
The part of a CloudEvent's data that the payload holds.
"""


DeadReason: TypeAlias = Literal["attempts_exhausted", "gone"]
"""
The reason why a delivery became a dead letter.
"""


DeliveryId: TypeAlias = str
"""
The id of a delivery.
"""


DeliveryStatus: TypeAlias = Literal["pending", "retrying", "delivered", "dead", "canceled"]
"""
The state of a delivery.
"""


DeliveryWait: TypeAlias = Literal[
    "organization_suspended", "endpoint_disabled", "circuit_breaker", "disk_full"
]
"""
The reason why a delivery waits although its time has come.
"""


DisabledReason: TypeAlias = Literal["by_owner", "gone", "failing", "secret_lost"]
"""
The reason why an endpoint is disabled.
"""


class DiskReport(TypedDict):
    """
    The payload of `triggerd.disk.low`.
    """

    free_bytes: int
    reserve_bytes: int
    """
    Events are refused while less than this is free.
    """


class DrillOrder(TypedDict, closed=True):
    """
    A drill, which has no settings.
    """


DrillOutcome: TypeAlias = Literal["passed", "failed", "skipped"]
"""
The result of a drill.
"""


RetryScheduleItem: TypeAlias = int


EndpointId: TypeAlias = str
"""
The id of an endpoint.
"""


EntryOrder: TypeAlias = Literal["newest", "oldest"]
"""
The order of the entries of the audit log.
"""


ErrorCode: TypeAlias = Literal[
    "timeout", "connect", "tls", "dns", "egress_blocked", "http_status", "redirect", "protocol"
]
"""
The kind of an attempt's failure.
"""


EventId: TypeAlias = str
"""
The id of an event.
"""


EventStatus: TypeAlias = Literal["accepted", "delivered", "acknowledged", "dead"]
"""
The status of an event.
"""


EventType: TypeAlias = str
"""
A type of events.
"""


class Fault(TypedDict):
    """
    A fault of a request: its location, and the broken rule.
    """

    detail: str
    pointer: str
    """
    A JSON pointer into the body (RFC 6901), `?name` for a query parameter, or the name of a header.
    """


class HealthArchive(TypedDict):
    """
    The archive of expired events.
    """

    directory: str | None
    """
    `null` if events expire without an archive.
    """
    has_failed: bool
    """
    True while events do not expire because they cannot be archived.
    """


class HealthChecks(TypedDict):
    """
    A word for each part of the server; `ok` means healthy.
    """

    data_dir: str
    """
    `lost` if the data directory is no longer in its place, `incomplete` if a file is lost that the next start needs.
    """
    disk: str
    """
    The kind of shortage, if there is no room for events.
    """
    intake: str
    """
    `full` if the queue of changes has no room.
    """
    journal: str
    """
    `damaged` if bytes read from the journal differed from the bytes written.
    """
    server: str
    """
    The phase of the server, if the server is not ready.
    """
    state: str
    """
    `unreadable` if the state cannot be read.
    """


class HealthWord(TypedDict):
    """
    A phase of the server.
    """

    status: str


InboxMode: TypeAlias = Literal["auto", "ack_only"]
"""
The rule by which an event leaves the inbox.
"""


JobId: TypeAlias = str
"""
The id of a job of the server.
"""


JobKind: TypeAlias = Literal["backup", "drill"]
"""
The kind of a job.
"""


JobState: TypeAlias = Literal["running", "done", "failed"]
"""
The state of a job.
"""


KeyId: TypeAlias = str
"""
The id of an API key.
"""


Moment: TypeAlias = str
"""
A time of RFC 3339, or a duration back from now: `90s`, `15m`, `1d12h`, `2w`.
"""


NamedScopes: TypeAlias = Literal[
    "events:write",
    "inbox:read",
    "inbox:write",
    "endpoints:read",
    "endpoints:write",
    "keys:read",
    "keys:write",
    "events:read",
    "deliveries:read",
    "deliveries:write",
    "audit:read",
    "producer",
    "consumer",
    "operator",
    "read_only",
]
"""
A scope, or a set of scopes by its name.
"""


Ordering: TypeAlias = Literal["none", "strict"]
"""
The order in which an endpoint gets its events.
"""


OrgId: TypeAlias = str
"""
The id of an organization.
"""


OrgName: TypeAlias = str
"""
The name of an organization, without spaces around it. It cannot begin like an id.
"""


Place: TypeAlias = str
"""
A directory of backups, or a place in a bucket.
"""


PostedType: TypeAlias = str
"""
The type of a posted event; those of triggerd itself are reserved.
"""


Pressure: TypeAlias = Literal["none", "bytes", "disk"]
"""
The reason why events expire before their time.
"""


ProblemCode: TypeAlias = Literal[
    "malformed_json",
    "conflicting_dedup_id",
    "invalid_request",
    "unauthorized",
    "forbidden",
    "organization_suspended",
    "not_found",
    "method_not_allowed",
    "request_timeout",
    "event_erased",
    "organization_exists",
    "payload_too_large",
    "unsupported_media_type",
    "validation_failed",
    "dedup_mismatch",
    "egress_blocked",
    "limit_reached",
    "rate_limited",
    "head_too_large",
    "internal",
    "overloaded",
    "shutting_down",
    "disk_full",
]
"""
The kind of a problem. It is stable.
"""


ReplayId: TypeAlias = str
"""
The id of a replay.
"""


ReplayOnly: TypeAlias = Literal["failed", "missing", "all"]
"""
The deliveries that a replay repeats.
"""


ReplayState: TypeAlias = Literal["running", "finished", "canceled"]
"""
The state of a replay.
"""


ReplayWait: TypeAlias = Literal["endpoint_disabled", "endpoint_busy", "routing", "disk_full"]
"""
The reason why a replay waits.
"""


class Rotation(TypedDict, closed=True):
    """
    The rotation of the calling key.
    """

    grace_seconds: NotRequired[int | None]
    """
    How long the old key keeps working; with 0 it ends at once.
    """


RouteReason: TypeAlias = Literal[
    "type_wanted",
    "type_not_wanted",
    "disabled",
    "made_later",
    "not_routed_yet",
    "routing_failed",
    "erased",
    "replayed",
]
"""
The reason why an endpoint receives an event, or does not.
"""


Scope: TypeAlias = Literal[
    "events:write",
    "inbox:read",
    "inbox:write",
    "endpoints:read",
    "endpoints:write",
    "keys:read",
    "keys:write",
    "events:read",
    "deliveries:read",
    "deliveries:write",
    "audit:read",
]
"""
A right of a key.
"""


class SecretRotation(TypedDict, closed=True):
    """
    The rotation of a signing secret.
    """

    overlap_seconds: NotRequired[int | None]
    """
    How long the old secret signs beside the new one.
    """


class Subscribed(TypedDict):
    """
    A new subscription.
    """

    event: str | None
    id: EndpointId
    target_url: str


class TailEnd(TypedDict):
    """
    The last item of a stream.
    """

    reason: str


class TailMissed(TypedDict):
    """
    Items that a slow reader missed.
    """

    count: int


class TailStart(TypedDict):
    """
    The first item of each stream: all later activity is shown.
    """

    attempts: bool
    """
    True if the stream shows attempts.
    """


Tier: TypeAlias = Literal["free", "pro", "enterprise"]
"""
What an organization may use.
"""


Timestamp: TypeAlias = str
"""
A time of RFC 3339. Answers have UTC with milliseconds.
"""


class Timing(TypedDict):
    """
    The durations of an attempt's parts, in milliseconds. A part is absent if it did not happen or did not end: an attempt over a kept connection has none of the first three.
    """

    connect_ms: int | None
    """
    The opening of the TCP connection.
    """
    dns_ms: int | None
    """
    The lookup of the host name.
    """
    first_byte_ms: int | None
    """
    The wait for the head of the answer, from the moment at which the connection is there.
    """
    tls_ms: int | None
    """
    The duration of the TLS handshake.
    """


Trigger: TypeAlias = Literal["schedule", "retry", "replay", "test"]
"""
The cause of an attempt.
"""


TypeFilter: TypeAlias = str
"""
Event types or patterns, separated by commas: `order.*,!order.test`.
"""


TypePattern: TypeAlias = str
"""
An event type, or every type below some words: `order.created`, `order.*`.
"""


class Acknowledgement(TypedDict):
    """
    An acknowledged event.
    """

    acknowledged_at: Timestamp
    id: EventId
    status: EventStatus


class AttemptError(TypedDict):
    """
    The reason why an attempt failed, as a code and as a sentence.
    """

    code: ErrorCode
    """
    The kind of the failure.
    """
    detail: str
    """
    The sentence for people. It names the address, the status or the rule.
    """


class Actor(TypedDict):
    """
    The party that made the change.
    """

    id: KeyId | None
    type: str
    """
    `admin`, `key` or `unknown`.
    """


class AuditEntry(TypedDict):
    """
    An entry of the audit log.
    """

    action: Action
    actor: Actor
    """
    The party that made the change.
    """
    address: str | None
    """
    The address of the client.
    """
    at: Timestamp
    changes: list[Change]
    organization_id: OrgId | None
    request_id: str | None
    subject: Subject
    """
    The changed thing.
    """


class AuditEntryPage(TypedDict):
    """
    A page of a list.
    """

    data: list[AuditEntry]
    has_more: bool
    """
    True if there is a next page now.
    """
    next_cursor: str
    """
    The cursor of the next page, also on the last page.
    """


class BackupOrder(TypedDict, closed=True):
    """
    The place of a backup.
    """

    directory: NotRequired[Place | None]
    """
    A directory of backups on the server's machine by an absolute path, or a place in a bucket, `s3://BUCKET/PREFIX`. Without this member it is `[backup] directory`. It must be left out with `Accept: application/zstd`.
    """


class Key(TypedDict):
    expires_at: Timestamp | None
    id: KeyId
    name: str
    scopes: list[Scope]


class Organization(TypedDict):
    id: OrgId
    name: str
    suspended: bool
    tier: Tier


class Caller2(TypedDict):
    """
    The caller: the operator, or a key with its organization.
    """

    key: Key
    organization: Organization


Caller: TypeAlias = Caller1 | Caller2
"""
The caller: the operator, or a key with its organization.
"""


class DeadLetters(TypedDict, closed=True):
    """
    Chooses dead letters: `ids`, or at least one of the other members.
    """

    endpoint_id: NotRequired[EndpointId | None]
    """
    Only dead letters of this endpoint.
    """
    ids: NotRequired[list[DeliveryId] | None]
    """
    The ids of deliveries.
    """
    since: NotRequired[Moment | None]
    """
    The beginning of the time, inclusive.
    """
    until: NotRequired[Moment | None]
    """
    The end of the time, exclusive.
    """


class DeadLettersDropped(TypedDict):
    dropped: int
    has_more: bool
    """
    True if more dead letters match than one request takes.
    """
    next_since: Timestamp | None


class DeadLettersReplayed(TypedDict):
    has_more: bool
    """
    True if more dead letters match than one request takes.
    """
    next_since: Timestamp | None
    replayed: int


class DefaultEndpoint(TypedDict, closed=True):
    """
    The default endpoint. Members that are left out get their defaults.
    """

    enabled: NotRequired[bool | None]
    """
    False if nothing is pushed.
    """
    event_types: NotRequired[list[TypePattern] | None]
    """
    The types that are pushed; the empty list means everything that producers post.
    """
    url: str
    """
    `http` or `https`, without user and password. It must lead to a public address.
    """


class Delivery(TypedDict):
    """
    A delivery.
    """

    attempt_count: int
    dead_at: Timestamp | None
    endpoint_id: EndpointId
    event_id: EventId
    id: DeliveryId
    next_attempt_at: Timestamp | None
    reason: DeadReason | None
    state: DeliveryStatus


class DeliveryPage(TypedDict):
    """
    A page of a list of deliveries.
    """

    data: list[Delivery]
    has_more: bool
    next_cursor: str


class DiskLowEvent(TypedDict):
    """
    The disk of the server has little free space
    """

    data: DiskReport
    id: EventId
    """
    The id of the event, the same at every attempt.
    """
    labels: NotRequired[dict[str, str]]
    """
    The labels of the event, if there are any.
    """
    timestamp: Timestamp
    """
    When the event occurred, or when it was received if the producer gave no time.
    """
    type: Literal["triggerd.disk.low"]


class Endpoint(TypedDict):
    """
    An endpoint. The secret is present only when new.
    """

    body: BodyForm
    created_at: Timestamp
    description: str
    disabled_reason: DisabledReason | None
    enabled: bool
    event_types: list[TypePattern]
    headers: dict[str, str]
    """
    The names of headers; `(set)` stands for each value.
    """
    headers_dropped: NotRequired[list[str]]
    """
    Names of headers removed because their values were meant for the former origin of the URL.
    """
    id: EndpointId
    max_in_flight: int | None
    metadata: dict[str, str]
    ordering: Ordering
    rate_per_second: int | None
    retry_schedule: list[int] | None
    """
    Seconds before each further attempt; `null` means the configuration.
    """
    secret: NotRequired[str | None]
    timeout_ms: int | None
    updated_at: Timestamp
    url: str


class EndpointChange(TypedDict, closed=True):
    """
    The settings of an endpoint. A change keeps the members that it does not name.
    """

    body: NotRequired[BodyForm | None]
    """
    The form of the body.
    """
    description: NotRequired[str | None]
    """
    A text for people.
    """
    enabled: NotRequired[bool | None]
    """
    False if nothing is pushed.
    """
    event_types: NotRequired[list[TypePattern] | None]
    """
    The types that are pushed; the empty list means everything that producers post.
    """
    headers: NotRequired[dict[str, str]]
    """
    Headers of each request. An answer shows `(set)` in place of a value, and `(set)` in a request keeps the value.
    """
    max_in_flight: NotRequired[int | None]
    """
    Maximum number of attempts at one time; `null` means the configuration.
    """
    metadata: NotRequired[dict[str, str]]
    """
    Names and values for programs of the owner.
    """
    ordering: NotRequired[Ordering | None]
    """
    The order in which events are pushed.
    """
    rate_per_second: NotRequired[int | None]
    """
    Maximum number of attempts begun in a second; `null` means no limit.
    """
    retry_schedule: NotRequired[list[RetryScheduleItem] | None]
    """
    Seconds before each further attempt; `[]` means one attempt, and `null` the configuration.
    """
    timeout_ms: NotRequired[int | None]
    """
    Maximum duration of an attempt; `null` means the configuration.
    """
    url: NotRequired[str | None]
    """
    `http` or `https`, without user and password. It must lead to a public address.
    """


class EndpointChanged(TypedDict):
    """
    The answer to a change by a key that may not read endpoints: it repeats no setting that the key did not write.
    """

    disabled_reason: DisabledReason | None
    enabled: bool
    headers_dropped: NotRequired[list[str]]
    id: EndpointId
    secret: NotRequired[str | None]
    updated_at: Timestamp


class EndpointMatch(TypedDict):
    """
    An endpoint, and the recorded result of matching the event.
    """

    breaker: NotRequired[BreakerState | None]
    breaker_until: NotRequired[Timestamp | None]
    delivery: NotRequired[Delivery | None]
    endpoint_id: EndpointId
    matched: bool
    reason: RouteReason
    """
    The reason why the event matched or did not.
    """
    url: str
    """
    Without its query if the key may not read endpoints.
    """


class EndpointPage(TypedDict):
    """
    A page of a list.
    """

    data: list[Endpoint]
    has_more: bool
    """
    True if there is a next page now.
    """
    next_cursor: str
    """
    The cursor of the next page, also on the last page.
    """


class EndpointReport(TypedDict):
    """
    The payload; its members have the same names as in the API. The payload of an operational event about an endpoint.
    """

    attempts: int
    """
    Number of attempts of this delivery so far.
    """
    delivery_id: DeliveryId
    """
    The delivery whose attempt caused the event.
    """
    endpoint_id: EndpointId
    error: NotRequired[AttemptError | None]
    event_id: EventId
    event_type: str
    failing_since: Timestamp | None
    reason: NotRequired[str | None]
    """
    Why the endpoint is disabled or the delivery dead.
    """
    url: str
    """
    The endpoint's URL without its query.
    """


class EndpointStats(TypedDict):
    """
    Counters of an endpoint.
    """

    attempts_accepted: int
    attempts_failed: int
    dead_letters: int
    failing_since: Timestamp | None
    id: EndpointId
    last_accepted_at: Timestamp | None
    last_failed_at: Timestamp | None
    waiting: int


class Envelope(TypedDict):
    """
    An event as it is pushed by default.
    """

    data: Any
    """
    The payload of the event, byte for byte.
    """
    id: EventId
    """
    The id of the event, the same at every attempt.
    """
    labels: NotRequired[dict[str, str]]
    """
    The labels of the event, if there are any.
    """
    timestamp: Timestamp
    """
    When the event occurred, or when it was received if the producer gave no time.
    """
    type: str
    """
    The type of the event.
    """


class Erasure(TypedDict):
    """
    An erased event.
    """

    erased_at: Timestamp
    gone_by: Timestamp
    """
    The time from which no file of a server that runs has the bytes.
    """
    id: EventId


class Event(TypedDict):
    """
    A stored event.
    """

    cloudevent: NotRequired[dict[str, Any] | None]
    """
    The attributes of the CloudEvent, unchanged; absent for other events.
    """
    dedup_id: str | None
    """
    The deduplication id that the producer gave.
    """
    erased_at: NotRequired[Timestamp | None]
    id: EventId
    labels: dict[str, str]
    lease_count: int
    """
    Always 0.
    """
    occurred_at: Timestamp | None
    payload: Any
    """
    Any JSON; `null` after the event was erased.
    """
    payload_kind: NotRequired[DataKind | None]
    received_at: Timestamp
    status: EventStatus
    type: str


class EventPage(TypedDict):
    """
    A page of a list.
    """

    data: list[Event]
    has_more: bool
    """
    True if there is a next page now.
    """
    next_cursor: str
    """
    The cursor of the next page, also on the last page.
    """


class EventWithHistory(TypedDict):
    """
    An event, and its state at each endpoint.
    """

    cloudevent: NotRequired[dict[str, Any] | None]
    """
    The attributes of the CloudEvent, unchanged; absent for other events.
    """
    dedup_id: str | None
    """
    The deduplication id that the producer gave.
    """
    deliveries: NotRequired[list[Delivery] | None]
    """
    Deliveries of the event, also to deleted endpoints. Absent if the key may not read deliveries.
    """
    deliveries_complete: NotRequired[bool | None]
    """
    False if deliveries may be left out.
    """
    endpoints: list[EndpointMatch]
    """
    All existing endpoints of the organization.
    """
    erased_at: NotRequired[Timestamp | None]
    id: EventId
    in_inbox: bool
    labels: dict[str, str]
    lease_count: int
    """
    Always 0.
    """
    occurred_at: Timestamp | None
    organization_suspended: bool
    """
    Deliveries of a suspended organization wait until the operator ends the suspension.
    """
    payload: Any
    """
    Any JSON; `null` after the event was erased.
    """
    payload_kind: NotRequired[DataKind | None]
    received_at: Timestamp
    status: EventStatus
    type: str


class ExpiryReport(TypedDict):
    """
    The payload of `triggerd.inbox.expired`.
    """

    by_type: dict[str, int]
    """
    The number of events of each type; at most the 100 most frequent types.
    """
    events: int
    """
    The number of unfinished events.
    """
    first_received_at: Timestamp
    last_received_at: Timestamp
    open_seconds: int
    """
    The age at which such events expire.
    """
    other_types: int
    """
    The number of events whose types are not in `by_type`.
    """
    reason: str
    """
    `age`, or `disk` if the events had to leave before.
    """


class HealthBackup(TypedDict):
    """
    The newest backup of this server in its directory of backups.
    """

    every_seconds: int
    """
    The time between two backups; 0 if the server makes none by itself.
    """
    has_failed: bool
    """
    True if the last backup failed.
    """
    newest_at: Timestamp | None


class HealthDisk(TypedDict):
    """
    The disk space of the data in bytes, as the retention measured it last.
    """

    backup_bytes: int
    """
    Space of the same filesystem that only the backups in `[backup] directory` take.
    """
    days_until_full: NotRequired[float | None]
    """
    Absent while unknown.
    """
    journal_bytes: int
    keep_free_bytes: int
    """
    Free space below which events expire before their time.
    """
    pressure: Pressure
    """
    `bytes` or `disk` while events expire before their time for this reason, else `none`.
    """
    reserve_bytes: int
    """
    Free space below which new events are refused: the configured reserve, or more if the next snapshots need more.
    """
    snapshot_bytes: int
    state_bytes: int
    unneeded_bytes: int
    """
    The part that comes back once no copy can need it.
    """


class HealthDrill(TypedDict):
    """
    The last drill.
    """

    ended_at: Timestamp | None
    every_seconds: int
    """
    The time between two drills; 0 if the server carries out none by itself.
    """
    outcome: DrillOutcome | None
    passed_at: Timestamp | None
    skipped_because: str | None
    """
    Why the last drill was skipped; `null` if it was not.
    """


class InboxExpiredEvent(TypedDict):
    """
    Unfinished events have expired
    """

    data: ExpiryReport
    id: EventId
    """
    The id of the event, the same at every attempt.
    """
    labels: NotRequired[dict[str, str]]
    """
    The labels of the event, if there are any.
    """
    timestamp: Timestamp
    """
    When the event occurred, or when it was received if the producer gave no time.
    """
    type: Literal["triggerd.inbox.expired"]


class Job(TypedDict):
    """
    A job of the server.
    """

    backup: str | None
    """
    The directory of the backup that was made, or that passed the drill.
    """
    bytes: int
    bytes_read: int
    directory: str
    error: str | None
    """
    The reason why the job failed.
    """
    finished_at: Timestamp | None
    id: JobId
    kind: JobKind
    started_at: Timestamp
    state: JobState


class Jobs(TypedDict):
    data: list[Job]


class Key1(TypedDict):
    """
    A key in the list, without its secret.
    """

    created_at: Timestamp
    current: bool
    """
    True for the key that made the request.
    """
    expires_at: Timestamp | None
    id: KeyId
    last_used_at: Timestamp | None
    name: str
    prefix: str
    scopes: list[Scope]


class KeyOrder(TypedDict, closed=True):
    """
    A new key, and for the operator its organization.
    """

    expires_at: NotRequired[Timestamp | None]
    """
    The time at which the key ends.
    """
    name: NotRequired[str | None]
    """
    The name of the key, for people.
    """
    organization: NotRequired[str | None]
    """
    The name of a new organization or the id of an existing one. Only for the admin token, which needs it.
    """
    scopes: NotRequired[list[NamedScopes] | None]
    """
    The rights of the key: scopes, and sets of scopes.
    """
    tier: NotRequired[Tier | None]
    """
    The tier of a new organization, `free` without this member. Only for the admin token.
    """


class KeyPage(TypedDict):
    """
    A page of a list.
    """

    data: list[Key1]
    has_more: bool
    """
    True if there is a next page now.
    """
    next_cursor: str
    """
    The cursor of the next page, also on the last page.
    """


class KeyReport(TypedDict):
    """
    The payload; times have the same form as in the API.
    """

    expires_at: Timestamp
    key_id: KeyId
    name: str


class KeySettings(TypedDict, closed=True):
    """
    The properties of a key that its maker chooses.
    """

    expires_at: NotRequired[Timestamp | None]
    """
    The time at which the key ends.
    """
    name: NotRequired[str | None]
    """
    The name of the key, for people.
    """
    scopes: NotRequired[list[NamedScopes] | None]
    """
    The rights of the key: scopes, and sets of scopes.
    """


class NewEndpoint(TypedDict, closed=True):
    """
    The settings of an endpoint. A change keeps the members that it does not name.
    """

    body: NotRequired[BodyForm | None]
    """
    The form of the body.
    """
    description: NotRequired[str | None]
    """
    A text for people.
    """
    enabled: NotRequired[bool | None]
    """
    False if nothing is pushed.
    """
    event_types: NotRequired[list[TypePattern] | None]
    """
    The types that are pushed; the empty list means everything that producers post.
    """
    headers: NotRequired[dict[str, str]]
    """
    Headers of each request. An answer shows `(set)` in place of a value, and `(set)` in a request keeps the value.
    """
    max_in_flight: NotRequired[int | None]
    """
    Maximum number of attempts at one time; `null` means the configuration.
    """
    metadata: NotRequired[dict[str, str]]
    """
    Names and values for programs of the owner.
    """
    ordering: NotRequired[Ordering | None]
    """
    The order in which events are pushed.
    """
    rate_per_second: NotRequired[int | None]
    """
    Maximum number of attempts begun in a second; `null` means no limit.
    """
    retry_schedule: NotRequired[list[RetryScheduleItem] | None]
    """
    Seconds before each further attempt; `[]` means one attempt, and `null` the configuration.
    """
    timeout_ms: NotRequired[int | None]
    """
    Maximum duration of an attempt; `null` means the configuration.
    """
    url: str | None
    """
    `http` or `https`, without user and password. It must lead to a public address.
    """


class NewKey(TypedDict):
    """
    The answer with a new key; no other answer shows the key's text.
    """

    created_at: Timestamp
    expires_at: Timestamp | None
    key: str
    key_id: KeyId
    name: str
    organization_id: OrgId
    scopes: list[Scope]


class NewOrganization(TypedDict, closed=True):
    """
    The settings of an organization.
    """

    inbox_mode: NotRequired[InboxMode | None]
    """
    The rule by which an event leaves the inbox. That of a new organization is `auto` without this member.
    """
    name: OrgName | None
    """
    The name, which no other organization has.
    """
    tier: NotRequired[Tier | None]
    """
    The tier. That of a new organization is `free` without this member.
    """


class NewOrganizationKey(TypedDict, closed=True):
    """
    The properties of a key that its maker chooses.
    """

    expires_at: NotRequired[Timestamp | None]
    """
    The time at which the key ends.
    """
    name: str | None
    """
    The name of the key, for people.
    """
    scopes: NotRequired[list[NamedScopes] | None]
    """
    The rights of the key: scopes, and sets of scopes.
    """


class OrgChange(TypedDict, closed=True):
    """
    A change of an organization.
    """

    inbox_mode: NotRequired[InboxMode | None]
    """
    The rule by which an event leaves the inbox. That of a new organization is `auto` without this member.
    """
    name: NotRequired[OrgName | None]
    """
    The name, which no other organization has.
    """
    suspended: NotRequired[bool | None]
    """
    `true` suspends the organization, and `false` ends the suspension.
    """
    tier: NotRequired[Tier | None]
    """
    The tier. That of a new organization is `free` without this member.
    """


class OrganizationDeletion(TypedDict):
    """
    The progress of the deletion of an organization.
    """

    events: int
    """
    The number of events that the organization had then.
    """
    events_left: int
    """
    The number of events that it still has.
    """
    requested_at: Timestamp
    """
    The time of the first request for it.
    """


class PostedEvent(TypedDict, closed=True):
    """
    An event as a producer posts it.
    """

    dedup_id: NotRequired[str | None]
    """
    The same id in the deduplication window is the same event. The header `Idempotency-Key` means the same.
    """
    deliver_after: NotRequired[Timestamp | None]
    """
    The event is not pushed before this time, which is at most 90 days ahead.
    """
    labels: NotRequired[dict[str, str]]
    """
    Names and values for consumers.
    """
    occurred_at: NotRequired[Timestamp | None]
    """
    The time at which the event happened.
    """
    payload: Any
    """
    Any JSON. Its bytes are kept as they came.
    """
    type: PostedType
    """
    The type of the event: words that `.`, `/` or `:` separate. Types that begin with `triggerd.`, `triggerd/` or `triggerd:` are reserved.
    """


class Problem(TypedDict):
    """
    A problem document (RFC 9457).
    """

    code: ProblemCode
    detail: str
    """
    The meaning for this request.
    """
    errors: NotRequired[list[Fault] | None]
    """
    Every fault of the request, with `validation_failed` and `invalid_request`.
    """
    event_id: NotRequired[EventId | None]
    organization_id: NotRequired[OrgId | None]
    request_id: NotRequired[str | None]
    """
    The id of the request, also in the header `X-Request-Id`. An item of a batch has none.
    """
    status: int
    title: str
    """
    A description in a few words.
    """
    type: str
    """
    The place of the code's documentation.
    """


class Receipt(TypedDict):
    """
    The receipt of a stored event.
    """

    duplicate: bool
    """
    True if the event was posted before.
    """
    id: EventId
    received_at: Timestamp
    status: EventStatus


class Replay(TypedDict):
    """
    A replay.
    """

    created_at: Timestamp
    endpoint_id: EndpointId | None
    event_types: list[TypePattern]
    examined: int
    finished_at: Timestamp | None
    id: ReplayId
    only: ReplayOnly
    progress: float
    queued: int
    reason: str | None
    """
    The reason why the replay was canceled.
    """
    since: Timestamp | None
    skipped_endpoint_ids: list[EndpointId]
    """
    Disabled endpoints that a replay to all endpoints passes over.
    """
    state: ReplayState
    until: Timestamp
    """
    The requested end, or the time of creation if the request had none.
    """
    waits_for: ReplayWait | None


class ReplayCanceled(TypedDict):
    """
    The answer to a key that may not read replays.
    """

    finished_at: Timestamp | None
    id: ReplayId
    reason: str | None
    state: ReplayState


class ReplayOrder(TypedDict, closed=True):
    """
    A replay to start.
    """

    endpoint_id: NotRequired[EndpointId | None]
    """
    The endpoint. Every enabled endpoint of the organization without this member.
    """
    event_types: NotRequired[list[TypePattern] | None]
    """
    Only events of these types.
    """
    only: ReplayOnly
    """
    `failed`: dead letters. `missing`: events that the endpoint wants now but never had a delivery of. `all`: all events that the endpoint wants now.
    """
    since: NotRequired[Moment | None]
    """
    The beginning of the time, inclusive.
    """
    until: NotRequired[Moment | None]
    """
    The end of the time, exclusive.
    """


class ReplayPage(TypedDict):
    """
    A page of a list.
    """

    data: list[Replay]
    has_more: bool
    """
    True if there is a next page now.
    """
    next_cursor: str
    """
    The cursor of the next page, also on the last page.
    """


class Subscription(TypedDict, closed=True):
    """
    A subscription.
    """

    event: NotRequired[TypePattern | None]
    """
    The event type, or all types below a prefix (`order.*`). Everything without this member.
    """
    hookUrl: NotRequired[str | None]
    """
    Another name for `target_url`.
    """
    target_url: NotRequired[str | None]
    """
    The URL that events are pushed to.
    """


class TailAttempt(TypedDict):
    """
    An attempt that ended.
    """

    delivery_id: DeliveryId
    duration_ms: int
    endpoint_disabled_reason: DisabledReason | None
    endpoint_id: EndpointId
    error: AttemptError | None
    event_id: EventId
    event_type: EventType
    next_attempt_at: Timestamp | None
    number: int
    reason: DeadReason | None
    started_at: Timestamp
    state: DeliveryStatus
    """
    The state of the delivery after the attempt.
    """
    status: int | None


class TailEvent(TypedDict):
    """
    An event that was accepted.
    """

    id: EventId
    received_at: Timestamp
    type: EventType


class Attempt(TypedDict):
    """
    An attempt, in a delivery or as the result of testing an endpoint.
    """

    address: str | None
    """
    The address that the attempt reached, or tried to reach.
    """
    duration_ms: int
    error: AttemptError | None
    id: AttemptId
    number: int
    response_body: str | None
    """
    The beginning of a refusal's body, unless the event is erased.
    """
    response_headers: dict[str, str]
    retry_after_ms: int | None
    """
    The wait demanded by the receiver, in milliseconds.
    """
    started_at: Timestamp
    status: int | None
    """
    The HTTP status of the answer.
    """
    timing: Timing
    trigger: Trigger


class Batch(TypedDict, closed=True):
    """
    A batch of events.
    """

    events: list[PostedEvent]
    """
    At most 1,000 events, unless `[intake] batch_events_max` says otherwise. Each item stands alone.
    """


class BatchResult(TypedDict):
    """
    The outcome of an item of a batch.
    """

    error: NotRequired[Problem | None]
    id: NotRequired[EventId | None]
    index: int
    """
    The place of the item in the batch, from 0.
    """
    received_at: NotRequired[Timestamp | None]
    status: BatchStatus


class BatchResults(TypedDict):
    """
    The outcome of each item of a batch.
    """

    results: list[BatchResult]


class DeliveryDeadEvent(TypedDict):
    """
    A delivery became a dead letter
    """

    data: EndpointReport
    id: EventId
    """
    The id of the event, the same at every attempt.
    """
    labels: NotRequired[dict[str, str]]
    """
    The labels of the event, if there are any.
    """
    timestamp: Timestamp
    """
    When the event occurred, or when it was received if the producer gave no time.
    """
    type: Literal["triggerd.delivery.dead"]


class DeliveryWithAttempts(Delivery):
    """
    A delivery with its attempts.
    """

    attempts: list[Attempt]
    """
    The newest 100 attempts, the newest first.
    """
    endpoint_disabled_reason: str | None
    """
    `deleted` if the endpoint does not exist any more.
    """
    endpoint_enabled: bool
    """
    A delivery to a disabled endpoint waits until the endpoint is enabled.
    """
    organization_suspended: bool
    """
    A delivery of a suspended organization waits until the operator ends the suspension.
    """
    waits_for: DeliveryWait | None


class EndpointDisabledEvent(TypedDict):
    """
    triggerd stopped pushing to an endpoint
    """

    data: EndpointReport
    id: EventId
    """
    The id of the event, the same at every attempt.
    """
    labels: NotRequired[dict[str, str]]
    """
    The labels of the event, if there are any.
    """
    timestamp: Timestamp
    """
    When the event occurred, or when it was received if the producer gave no time.
    """
    type: Literal["triggerd.endpoint.disabled"]


class EndpointFailingEvent(TypedDict):
    """
    An endpoint failed at every attempt for a while
    """

    data: EndpointReport
    id: EventId
    """
    The id of the event, the same at every attempt.
    """
    labels: NotRequired[dict[str, str]]
    """
    The labels of the event, if there are any.
    """
    timestamp: Timestamp
    """
    When the event occurred, or when it was received if the producer gave no time.
    """
    type: Literal["triggerd.endpoint.failing"]


class EndpointRecoveredEvent(TypedDict):
    """
    An endpoint that was failing accepted a delivery again
    """

    data: EndpointReport
    id: EventId
    """
    The id of the event, the same at every attempt.
    """
    labels: NotRequired[dict[str, str]]
    """
    The labels of the event, if there are any.
    """
    timestamp: Timestamp
    """
    When the event occurred, or when it was received if the producer gave no time.
    """
    type: Literal["triggerd.endpoint.recovered"]


class EndpointTest(Attempt):
    """
    The result of testing an endpoint: an attempt, and the event in the header `webhook-id`.
    """

    event_id: EventId


class Health(TypedDict):
    """
    The condition of the server.
    """

    archive: HealthArchive
    backup: HealthBackup
    checks: HealthChecks
    data_dir: str
    """
    The data directory on the server's machine.
    """
    delivers: bool
    """
    False if the server makes no deliveries.
    """
    disk: HealthDisk
    drill: HealthDrill
    is_held: bool
    """
    True if it makes none because its data directory was restored.
    """
    retention: dict[str, Any]
    """
    The ages at which events expire, unless their tier has its own.
    """
    status: str
    uptime_seconds: int
    version: str


class KeyExpiringEvent(TypedDict):
    """
    A key ends in a week
    """

    data: KeyReport
    id: EventId
    """
    The id of the event, the same at every attempt.
    """
    labels: NotRequired[dict[str, str]]
    """
    The labels of the event, if there are any.
    """
    timestamp: Timestamp
    """
    When the event occurred, or when it was received if the producer gave no time.
    """
    type: Literal["triggerd.key.expiring"]


class Organization1(TypedDict):
    """
    An organization.
    """

    bytes: int
    """
    The size of these events as they came, in bytes.
    """
    created_at: Timestamp
    dead: int
    """
    Dead letters.
    """
    deletion: OrganizationDeletion | None
    endpoints: int
    events: int
    """
    Stored events, also erased ones.
    """
    id: OrgId
    inbox_mode: InboxMode
    keys: int
    """
    Valid keys.
    """
    name: str
    open: int
    """
    Events in the inbox.
    """
    suspended: bool
    suspended_at: Timestamp | None
    tier: Tier
    waiting: int
    """
    Deliveries that wait for an attempt.
    """


class OrganizationPage(TypedDict):
    """
    A page of a list.
    """

    data: list[Organization1]
    has_more: bool
    """
    True if there is a next page now.
    """
    next_cursor: str
    """
    The cursor of the next page, also on the last page.
    """


class WatchActivityItemAttempt(TypedDict):
    event: Literal["attempt"]
    data: TailAttempt


class WatchActivityItemEnd(TypedDict):
    event: Literal["end"]
    data: TailEnd


class WatchActivityItemEvent(TypedDict):
    event: Literal["event"]
    data: TailEvent


class WatchActivityItemMissed(TypedDict):
    event: Literal["missed"]
    data: TailMissed


class WatchActivityItemStart(TypedDict):
    event: Literal["start"]
    data: TailStart


WatchActivityItem: TypeAlias = (
    WatchActivityItemAttempt
    | WatchActivityItemEnd
    | WatchActivityItemEvent
    | WatchActivityItemMissed
    | WatchActivityItemStart
)
"""
An item of a stream.
"""


OperationalEvent: TypeAlias = (
    DeliveryDeadEvent
    | DiskLowEvent
    | EndpointDisabledEvent
    | EndpointFailingEvent
    | EndpointRecoveredEvent
    | InboxExpiredEvent
    | KeyExpiringEvent
)
"""
An event of triggerd itself, as an endpoint receives it.
"""
