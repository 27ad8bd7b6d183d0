"""Made by generate.py from docs/openapi.json."""

from typing import Any, Literal

from . import types
from ._core import ListOperation, Operation, StreamOperation, path


def acknowledge_event(event_id: str) -> Operation[types.Acknowledgement]:
    """Take an event out of the inbox."""
    return Operation("POST", path("/api/ack/{}", event_id), {200: ("application/json", "id")})


def archive_events(
    *, since: types.Moment | None = None, until: types.Moment | None = None
) -> Operation[str]:
    """Read all events of a time as lines of JSON."""
    return Operation(
        "POST",
        "/api/admin/archive",
        {200: ("application/jsonl",)},
        query={"since": since, "until": until},
    )


def make_backup(body: types.BackupOrder | None = None) -> Operation[str | types.Job]:
    """Back up the running server."""
    return Operation(
        "POST",
        "/api/admin/backup",
        {200: ("application/zstd",), 202: ("application/json", "id")},
        body=body,
    )


def start_drill(body: types.DrillOrder | None = None) -> Operation[types.Job]:
    """Restore and verify the newest backup."""
    return Operation("POST", "/api/admin/drill", {202: ("application/json", "id")}, body=body)


def list_jobs() -> Operation[types.Jobs]:
    """List the last jobs."""
    return Operation("GET", "/api/admin/jobs", {200: ("application/json", "data")})


def list_audit(
    *,
    limit: int | None = None,
    cursor: str | None = None,
    since: types.Moment | None = None,
    until: types.Moment | None = None,
    action: types.Action | None = None,
    order: types.EntryOrder | None = None,
    organization_id: types.OrgId | None = None,
) -> ListOperation[types.AuditEntry, types.AuditEntryPage]:
    """Show who changed what, when, and from where."""
    return ListOperation(
        "GET",
        "/api/audit",
        {200: ("application/json", "data", "has_more", "next_cursor")},
        query={
            "limit": limit,
            "cursor": cursor,
            "since": since,
            "until": until,
            "action": action,
            "order": order,
            "organization_id": organization_id,
        },
    )


def drop_dead_letters(body: types.DeadLetters) -> Operation[types.DeadLettersDropped]:
    """Drop dead letters."""
    return Operation(
        "DELETE", "/api/dead-letters", {200: ("application/json", "dropped")}, body=body
    )


def list_dead_letters(
    *,
    limit: int | None = None,
    cursor: str | None = None,
    endpoint_id: types.EndpointId | None = None,
    since: types.Moment | None = None,
    until: types.Moment | None = None,
) -> ListOperation[types.Delivery, types.DeliveryPage]:
    """List dead letters."""
    return ListOperation(
        "GET",
        "/api/dead-letters",
        {200: ("application/json", "data", "has_more", "next_cursor")},
        query={
            "limit": limit,
            "cursor": cursor,
            "endpoint_id": endpoint_id,
            "since": since,
            "until": until,
        },
    )


def replay_dead_letters(body: types.DeadLetters) -> Operation[types.DeadLettersReplayed]:
    """Deliver dead letters again."""
    return Operation(
        "POST", "/api/dead-letters/replay", {200: ("application/json", "replayed")}, body=body
    )


def list_deliveries(
    *,
    limit: int | None = None,
    cursor: str | None = None,
    state: types.DeliveryStatus | None = None,
    endpoint_id: types.EndpointId | None = None,
    event_id: types.EventId | None = None,
    since: types.Moment | None = None,
    until: types.Moment | None = None,
) -> ListOperation[types.Delivery, types.DeliveryPage]:
    """List deliveries."""
    return ListOperation(
        "GET",
        "/api/deliveries",
        {200: ("application/json", "data", "has_more", "next_cursor")},
        query={
            "limit": limit,
            "cursor": cursor,
            "state": state,
            "endpoint_id": endpoint_id,
            "event_id": event_id,
            "since": since,
            "until": until,
        },
    )


def show_delivery(delivery_id: str) -> Operation[types.DeliveryWithAttempts]:
    """Show a delivery with its attempts."""
    return Operation("GET", path("/api/deliveries/{}", delivery_id), {200: ("application/json",)})


def retry_delivery(delivery_id: str) -> Operation[types.DeliveryWithAttempts | types.Delivery]:
    """Attempt a delivery now."""
    return Operation(
        "POST", path("/api/deliveries/{}/retry", delivery_id), {202: ("application/json",)}
    )


def list_endpoints(
    *, limit: int | None = None, cursor: str | None = None
) -> ListOperation[types.Endpoint, types.EndpointPage]:
    """List endpoints."""
    return ListOperation(
        "GET",
        "/api/endpoints",
        {200: ("application/json", "data", "has_more", "next_cursor")},
        query={"limit": limit, "cursor": cursor},
    )


def create_endpoint(body: types.NewEndpoint) -> Operation[types.Endpoint]:
    """Create an endpoint."""
    return Operation("POST", "/api/endpoints", {201: ("application/json", "id")}, body=body)


def delete_endpoint(endpoint_id: str) -> Operation[None]:
    """Delete an endpoint."""
    return Operation("DELETE", path("/api/endpoints/{}", endpoint_id), {204: ()})


def show_endpoint(endpoint_id: str) -> Operation[types.Endpoint]:
    """Show an endpoint."""
    return Operation(
        "GET", path("/api/endpoints/{}", endpoint_id), {200: ("application/json", "id")}
    )


def change_endpoint(
    endpoint_id: str, body: types.EndpointChange
) -> Operation[types.Endpoint | types.EndpointChanged]:
    """Change an endpoint."""
    return Operation(
        "PATCH",
        path("/api/endpoints/{}", endpoint_id),
        {200: ("application/json", "id")},
        body=body,
    )


def enable_endpoint(endpoint_id: str) -> Operation[types.Endpoint | types.EndpointChanged]:
    """Enable an endpoint."""
    return Operation(
        "POST", path("/api/endpoints/{}/enable", endpoint_id), {200: ("application/json", "id")}
    )


def rotate_endpoint_secret(
    endpoint_id: str, body: types.SecretRotation | None = None
) -> Operation[types.Endpoint | types.EndpointChanged]:
    """Rotate a signing secret."""
    return Operation(
        "POST",
        path("/api/endpoints/{}/secret/rotate", endpoint_id),
        {200: ("application/json", "id")},
        body=body,
    )


def show_endpoint_stats(endpoint_id: str) -> Operation[types.EndpointStats]:
    """Show counters of an endpoint."""
    return Operation(
        "GET", path("/api/endpoints/{}/stats", endpoint_id), {200: ("application/json", "id")}
    )


def test_endpoint(endpoint_id: str) -> Operation[types.EndpointTest]:
    """Push a test event now."""
    return Operation(
        "POST", path("/api/endpoints/{}/test", endpoint_id), {200: ("application/json",)}
    )


def list_events(
    *,
    limit: int | None = None,
    cursor: str | None = None,
    type: types.TypeFilter | None = None,
    status: types.EventStatus | None = None,
    since: types.Moment | None = None,
    until: types.Moment | None = None,
) -> ListOperation[types.Event, types.EventPage]:
    """List events."""
    return ListOperation(
        "GET",
        "/api/events",
        {200: ("application/json", "data", "has_more", "next_cursor")},
        query={
            "limit": limit,
            "cursor": cursor,
            "type": type,
            "status": status,
            "since": since,
            "until": until,
        },
    )


def post_event(
    body: types.PostedEvent, *, idempotency_key: str | None = None
) -> Operation[types.Receipt]:
    """Post an event."""
    return Operation(
        "POST",
        "/api/events",
        {200: ("application/json", "id"), 202: ("application/json", "id")},
        body=body,
        headers={"Idempotency-Key": idempotency_key},
    )


def post_events(body: types.Batch) -> Operation[types.BatchResults]:
    """Post several events."""
    return Operation("POST", "/api/events/batch", {200: ("application/json", "results")}, body=body)


def erase_event(event_id: str) -> Operation[types.Erasure]:
    """Erase the payload of an event."""
    return Operation("DELETE", path("/api/events/{}", event_id), {200: ("application/json", "id")})


def show_event(event_id: str) -> Operation[types.EventWithHistory]:
    """Show an event with its deliveries."""
    return Operation("GET", path("/api/events/{}", event_id), {200: ("application/json", "id")})


def subscribe_hook(body: types.Subscription) -> Operation[types.Subscribed]:
    """Subscribe a URL."""
    return Operation("POST", "/api/hooks", {201: ("application/json", "id")}, body=body)


def list_hook_samples(
    *, event: types.TypePattern | None = None, limit: int | None = None
) -> Operation[list[types.Envelope]]:
    """Show bodies that would be pushed."""
    return Operation(
        "GET",
        "/api/hooks/samples",
        {200: ("application/json",)},
        query={"event": event, "limit": limit},
    )


def unsubscribe_hook(hook_id: str) -> Operation[None]:
    """End a subscription."""
    return Operation("DELETE", path("/api/hooks/{}", hook_id), {204: ()})


def list_inbox(
    *,
    limit: int | None = None,
    cursor: str | None = None,
    wait: int | None = None,
    type: types.TypeFilter | None = None,
    since: types.Moment | None = None,
) -> ListOperation[types.Event, types.EventPage]:
    """List the events that nobody has acknowledged."""
    return ListOperation(
        "GET",
        "/api/inbox",
        {200: ("application/json", "data", "has_more", "next_cursor")},
        query={"limit": limit, "cursor": cursor, "wait": wait, "type": type, "since": since},
    )


def list_keys(
    *, limit: int | None = None, cursor: str | None = None
) -> ListOperation[types.Key, types.KeyPage]:
    """List the valid keys."""
    return ListOperation(
        "GET",
        "/api/keys",
        {200: ("application/json", "data", "has_more", "next_cursor")},
        query={"limit": limit, "cursor": cursor},
    )


def generate_key(body: types.KeyOrder) -> Operation[types.NewKey]:
    """Make a key, or an organization with its first key."""
    return Operation(
        "POST", "/api/keys/generate", {201: ("application/json", "organization_id")}, body=body
    )


def rotate_key(body: types.Rotation | None = None) -> Operation[types.NewKey]:
    """Replace the calling key by a new one."""
    return Operation(
        "POST", "/api/keys/rotate", {201: ("application/json", "organization_id")}, body=body
    )


def revoke_key(key_id: str) -> Operation[None]:
    """Revoke a key."""
    return Operation("DELETE", path("/api/keys/{}", key_id), {204: ()})


def change_key(key_id: str, body: types.KeySettings) -> Operation[types.Key]:
    """Change the name of a key, take scopes away, or move its end."""
    return Operation(
        "PATCH", path("/api/keys/{}", key_id), {200: ("application/json", "id")}, body=body
    )


def list_organizations(
    *,
    limit: int | None = None,
    cursor: str | None = None,
    name: str | None = None,
    name_prefix: str | None = None,
) -> ListOperation[types.Organization, types.OrganizationPage]:
    """List organizations."""
    return ListOperation(
        "GET",
        "/api/orgs",
        {200: ("application/json", "data", "has_more", "next_cursor")},
        query={"limit": limit, "cursor": cursor, "name": name, "name_prefix": name_prefix},
    )


def create_organization(body: types.NewOrganization) -> Operation[types.Organization]:
    """Create an organization without a key."""
    return Operation("POST", "/api/orgs", {201: ("application/json", "id")}, body=body)


def delete_organization(org_id: str) -> Operation[types.Organization]:
    """Delete an organization with everything in it."""
    return Operation("DELETE", path("/api/orgs/{}", org_id), {202: ("application/json", "id")})


def show_organization(org_id: str) -> Operation[types.Organization]:
    """Show an organization."""
    return Operation("GET", path("/api/orgs/{}", org_id), {200: ("application/json", "id")})


def change_organization(org_id: str, body: types.OrgChange) -> Operation[types.Organization]:
    """Change or suspend an organization."""
    return Operation(
        "PATCH", path("/api/orgs/{}", org_id), {200: ("application/json", "id")}, body=body
    )


def create_organization_key(org_id: str, body: types.NewOrganizationKey) -> Operation[types.NewKey]:
    """Make a key for an organization."""
    return Operation(
        "POST",
        path("/api/orgs/{}/keys", org_id),
        {201: ("application/json", "organization_id")},
        body=body,
    )


def list_replays(
    *, limit: int | None = None, cursor: str | None = None
) -> ListOperation[types.Replay, types.ReplayPage]:
    """List replays."""
    return ListOperation(
        "GET",
        "/api/replays",
        {200: ("application/json", "data", "has_more", "next_cursor")},
        query={"limit": limit, "cursor": cursor},
    )


def start_replay(body: types.ReplayOrder) -> Operation[types.Replay]:
    """Deliver past events again, in the background."""
    return Operation("POST", "/api/replays", {202: ("application/json", "id")}, body=body)


def cancel_replay(replay_id: str) -> Operation[types.Replay | types.ReplayCanceled]:
    """Cancel a replay."""
    return Operation(
        "DELETE", path("/api/replays/{}", replay_id), {200: ("application/json", "id")}
    )


def show_replay(replay_id: str) -> Operation[types.Replay]:
    """Show a replay."""
    return Operation("GET", path("/api/replays/{}", replay_id), {200: ("application/json", "id")})


def watch_activity(
    *, type: types.TypeFilter | None = None, endpoint_id: types.EndpointId | None = None
) -> StreamOperation[types.WatchActivityItem]:
    """Watch new events and attempts."""
    return StreamOperation(
        "GET",
        "/api/tail",
        {200: ("text/event-stream",)},
        query={"type": type, "endpoint_id": endpoint_id},
    )


def delete_default_endpoint() -> Operation[None]:
    """Delete the default endpoint."""
    return Operation("DELETE", "/api/webhook/config", {204: ()})


def show_default_endpoint() -> Operation[types.Endpoint]:
    """Show the default endpoint."""
    return Operation("GET", "/api/webhook/config", {200: ("application/json", "id")})


def set_default_endpoint(
    body: types.DefaultEndpoint,
) -> Operation[types.Endpoint | types.EndpointChanged | types.Endpoint]:
    """Set the default endpoint, the short way for one URL."""
    return Operation(
        "POST",
        "/api/webhook/config",
        {200: ("application/json", "id"), 201: ("application/json", "id")},
        body=body,
    )


def show_caller() -> Operation[types.Caller]:
    """Show the calling key and its organization."""
    return Operation("GET", "/api/whoami", {200: ("application/json",)})


def show_manual() -> Operation[str]:
    """Show the manual."""
    return Operation("GET", "/docs", {200: ("text/html",)})


def show_manual_page(page: str) -> Operation[str]:
    """Show a page of the manual; `/docs/api` has an explorer of this document."""
    return Operation(
        "GET", path("/docs/{}", page), {200: ("image/svg+xml text/css text/html text/javascript",)}
    )


def show_health() -> Operation[types.Health]:
    """Show if the server is healthy."""
    return Operation(
        "GET", "/health", {200: ("application/json", "status"), 503: ("application/json", "status")}
    )


def show_liveness() -> Operation[types.HealthWord]:
    """Show if the process runs."""
    return Operation("GET", "/health/live", {200: ("application/json", "status")})


def show_readiness() -> Operation[types.HealthWord]:
    """Show if the server takes requests."""
    return Operation(
        "GET",
        "/health/ready",
        {200: ("application/json", "status"), 503: ("application/json", "status")},
    )


def show_metrics() -> Operation[str]:
    """Show the metrics."""
    return Operation("GET", "/metrics", {200: ("text/plain",)})


def show_openapi() -> Operation[dict[str, Any]]:
    """Show this document."""
    return Operation("GET", "/openapi.json", {200: ("application/json",)})
