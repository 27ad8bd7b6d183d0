"""The rules of retries and of the consumer, as steps without a server."""

from __future__ import annotations

import asyncio
import inspect
import json
import time
from contextlib import suppress
from dataclasses import replace
from http.server import BaseHTTPRequestHandler
from typing import Any

import httpx2
import pytest
from world import HttpServer

from triggerd import AsyncClient, Client, ConsumeOptions, operations, problems, webhooks
from triggerd._core import (
    JSON,
    Handle,
    HttpAnswer,
    HttpRequest,
    Operation,
    Settings,
    Sleep,
    StreamReader,
    exchange,
)
from triggerd._flows import PAUSE_AWAY, Consumer, send
from triggerd.errors import ConnectionFailedError, ProblemError

SETTINGS = Settings("http://127.0.0.1:1/", "key", timeout=9, retries=2)
LOST = "lost"
GET = operations.list_events()
POST: Operation[Any] = operations.create_endpoint({"url": "https://example.com/"})
SEND: Operation[Any] = replace(operations.post_event({"type": "a", "payload": 1}), repeatable=True)
DELETE: Operation[Any] = operations.delete_endpoint("ep_1")
DROP: Operation[Any] = operations.drop_dead_letters({"endpoint_id": "ep_1"})


def answer(status: int, value: object = None, **headers: str) -> HttpAnswer:
    headers = {name.replace("_", "-"): text for name, text in headers.items()}
    content = b"" if value is None else json.dumps(value).encode()
    return HttpAnswer(status, {"content-type": "application/problem+json", **headers}, content)


def problem(status: int, code: str, **headers: str) -> HttpAnswer:
    value = {"type": "", "title": "", "status": status, "detail": "why", "code": code}
    return answer(status, {**value, "request_id": "r1"}, **headers)


BUSY = problem(503, "overloaded", retry_after="3")
LIMITED = problem(429, "rate_limited", retry_after="1")
INTERNAL = problem(500, "internal")
GATEWAY = HttpAnswer(503, {"content-type": "text/html"}, b"<html>")


def done(operation: Operation[Any]) -> HttpAnswer:
    """Returns the answer of a request that succeeded."""
    status, form = next(iter(operation.answers.items()))
    value = dict.fromkeys(form[1:], "done")
    return HttpAnswer(status, {"content-type": JSON}, json.dumps(value).encode() if form else b"")


def page_of(page: object) -> HttpAnswer:
    return answer(200, page, content_type=JSON)


def play(operation: Operation[Any], *script: HttpAnswer | str) -> tuple[Any, list[float]]:
    """Gives the answers of the script. Returns the result or the error, and the pauses."""
    answers, pauses = iter(script), list[float]()
    steps, given = exchange(SETTINGS, operation), None
    while True:
        try:
            step = steps.send(given)
        except StopIteration as end:
            assert next(answers, None) is None
            return end.value, pauses
        except Exception as error:
            assert next(answers, None) is None
            return error, pauses
        given = None
        if isinstance(step, Sleep):
            pauses.append(step.seconds)
        else:
            scripted = next(answers)
            given = ConnectionFailedError("lost") if isinstance(scripted, str) else scripted


@pytest.mark.parametrize("operation", [GET, SEND, DELETE])
@pytest.mark.parametrize("passing", [LOST, INTERNAL, GATEWAY, BUSY, LIMITED])
def test_what_is_safe_is_repeated(operation: Operation[Any], passing: HttpAnswer | str) -> None:
    result, pauses = play(operation, passing, passing, done(operation))
    assert result == play(operation, done(operation))[0]
    assert len(pauses) == 2


@pytest.mark.parametrize("operation", [POST, DROP])
@pytest.mark.parametrize("unclear", [LOST, INTERNAL, GATEWAY])
def test_what_may_have_been_done_is_not_repeated(
    operation: Operation[Any], unclear: HttpAnswer | str
) -> None:
    error, pauses = play(operation, unclear)
    assert isinstance(error, ConnectionFailedError if unclear == LOST else ProblemError)
    assert error.operation == operation
    assert pauses == []


@pytest.mark.parametrize("operation", [POST, DROP, GET])
def test_a_refusal_with_retry_after_is_waited_for(operation: Operation[Any]) -> None:
    result, pauses = play(operation, BUSY, LIMITED, done(operation))
    assert (result, pauses) == (play(operation, done(operation))[0], [3.0, 1.0])


def test_the_last_error_is_raised_and_long_waits_are_left_to_the_caller() -> None:
    error, pauses = play(GET, LOST, INTERNAL, BUSY)
    assert isinstance(error, problems.OverloadedError)
    assert (error.code, error.status, error.request_id) == ("overloaded", 503, "r1")
    assert 0 < pauses[0] <= 0.2 < pauses[1] * 2 <= 0.8
    error, pauses = play(GET, problem(503, "overloaded", retry_after="3600"))
    assert (error.retry_after, pauses) == (3600, [])


def test_errors_of_the_caller_are_not_repeated_and_foreign_answers_are_errors() -> None:
    for refused in (problem(404, "not_found"), problem(422, "validation_failed")):
        error, pauses = play(GET, refused)
        assert isinstance(error, ProblemError)
        assert pauses == []
    error, _ = play(GET, problem(418, "a_code_of_a_later_version"))
    assert (type(error), error.code) == (ProblemError, "a_code_of_a_later_version")
    error, _ = play(POST, GATEWAY)
    assert (type(error), error.code, error.status) == (ProblemError, "not_from_triggerd", 503)


@pytest.mark.parametrize("operation", [GET, SEND, POST, DELETE, DROP])
@pytest.mark.parametrize("status", [200, 201, 202, 204, 301])
@pytest.mark.parametrize(
    ("kind", "content"),
    [("text/html", "<html>"), ("text/html", ""), (JSON, '{"message": "hello"}'), (JSON, "[]")],
)
def test_a_success_of_another_server_is_an_error(
    operation: Operation[Any], status: int, kind: str, content: str
) -> None:
    if operation is DELETE and (status, content) == (204, ""):
        return
    error, _ = play(operation, HttpAnswer(status, {"content-type": kind}, content.encode()))
    assert (type(error), error.code) == (ProblemError, "not_from_triggerd")
    assert (error.status, error.operation) == (status, operation)


def test_the_health_of_an_unhealthy_server_is_an_answer() -> None:
    health = HttpAnswer(503, {"content-type": JSON}, b'{"status": "failing"}')
    assert play(operations.show_health(), health) == ({"status": "failing"}, [])
    assert play(operations.show_readiness(), health) == ({"status": "failing"}, [])
    error, _ = play(operations.show_health(), GATEWAY, GATEWAY, GATEWAY)
    assert error.code == "not_from_triggerd"


def test_an_answer_that_breaks_off_is_a_lost_one() -> None:
    broken = HttpAnswer(200, {"content-type": JSON}, b'{"data": [')
    assert play(GET, broken, done(GET))[0] == play(GET, done(GET))[0]
    error, _ = play(DROP, broken)
    assert isinstance(error, ConnectionFailedError)
    assert error.operation == DROP


def test_a_lone_surrogate_is_sent_as_its_escape() -> None:
    request = SETTINGS.request(operations.post_event({"type": "a", "payload": "ä\ud800"}))
    assert request.content == '{"type": "a", "payload": "ä\\ud800"}'.encode()


def test_a_deletion_whose_answer_was_lost_is_done_when_nothing_is_there() -> None:
    assert play(DELETE, LOST, problem(404, "not_found"))[0] is None
    assert isinstance(play(DELETE, problem(404, "not_found"))[0], problems.NotFoundError)
    assert isinstance(play(DELETE, LIMITED, problem(404, "not_found"))[0], problems.NotFoundError)


def test_requests_have_the_key_the_query_and_a_dedup_id_that_stays() -> None:
    request = SETTINGS.request(operations.list_inbox(wait=20, type="a.*,!b"))
    assert request.url == "http://127.0.0.1:1/api/inbox?wait=20&type=a.%2A%2C%21b"
    assert request.timeout == 29
    assert request.headers["Authorization"] == "Bearer key"
    steps = send(SETTINGS, {"type": "a", "payload": None})
    first = next(steps)
    assert isinstance(steps.send(ConnectionFailedError("lost")), Sleep)
    assert first == steps.send(None)
    assert isinstance(first, HttpRequest)
    assert len(json.loads(first.content or b"")["dedup_id"]) == 36
    with pytest.raises(ValueError, match="JSON compliant"):
        next(send(SETTINGS, {"type": "a", "payload": float("nan")}))


@pytest.mark.parametrize("key", ["trg_live_\nsecret", "trg_live_secretä", "trg live secret"])
def test_a_key_is_checked_at_once_and_never_shown(key: str) -> None:
    with pytest.raises(ValueError, match="the key has a character") as raised:
        Client(key=key)
    assert "secret" not in str(raised.value)


def test_space_around_a_key_and_a_missing_scheme_do_no_harm() -> None:
    request = Client(" localhost:8080/\n", "key\n")._settings.request(GET)
    assert request.url == "http://localhost:8080/api/events"
    assert request.headers["Authorization"] == "Bearer key"


@pytest.mark.parametrize(
    "url", ["ftp://a/", "http://", "http://a:b/", "http://u:p@a/", "http://\0/"]
)
def test_a_url_that_is_none_is_refused_at_once(url: str) -> None:
    with pytest.raises(ValueError, match="URL of the server"):
        Client(url, "key")


@pytest.mark.parametrize("value", ["", ".", "..", None])
def test_an_id_that_changes_the_route_is_refused(value: Any) -> None:
    with pytest.raises(ValueError, match="needs an id"):
        operations.show_event(value)


def test_a_refused_connection_is_tried_again_by_every_request() -> None:
    for error, tries in ((httpx2.ConnectError, 3), (httpx2.ReadError, 1)):
        requests: list[Any] = []

        def fail(request: httpx2.Request, error: Any = error, requests: Any = requests) -> Any:
            requests.append(request)
            raise error("no", request=request)

        http = httpx2.Client(transport=httpx2.MockTransport(fail))
        with pytest.raises(ConnectionFailedError) as raised:
            Client("http://a", retries=2, http=http).request(POST)
        assert (len(requests), raised.value.is_unsent) == (tries, tries == 3)


def test_a_stream_has_items_and_an_end() -> None:
    reader = StreamReader()
    text = ': nothing new\n\nevent: event\ndata: {"id": "evt_1"}\n\n'
    text += 'event: end\ndata: {"reason": "r"}\n\n'
    items = [item for line in text.split("\n") if (item := reader.item(line))]
    assert items == [
        {"event": "event", "data": {"id": "evt_1"}},
        {"event": "end", "data": {"reason": "r"}},
    ]
    assert reader.event == "end"


def test_a_stream_that_breaks_off_or_is_refused_raises() -> None:
    def open_stream(answer: httpx2.Response) -> list[Any]:
        http = httpx2.Client(transport=httpx2.MockTransport(lambda _: answer))
        return list(Client("http://a/", "k", http=http).stream(operations.watch_activity()))

    def text(text: str) -> httpx2.Response:
        return httpx2.Response(200, headers={"content-type": "text/event-stream"}, text=text)

    with pytest.raises(ConnectionFailedError, match="no end"):
        open_stream(text('event: start\ndata: {"attempts": true}\n\n'))
    ended = open_stream(text('event: end\ndata: {"reason": "r"}\n\n'))
    with pytest.raises(ProblemError, match="not_from_triggerd"):
        open_stream(httpx2.Response(200, html="<html>"))
    assert [item["data"] for item in ended] == [{"reason": "r"}]
    with pytest.raises(problems.OverloadedError):
        open_stream(httpx2.Response(503, content=BUSY.content, headers=dict(BUSY.headers)))


def consuming(settings: Settings, how: ConsumeOptions) -> Any:
    """Returns the steps of a consumer that has learned that it can acknowledge events."""
    steps = Consumer(settings, how).steps()
    probe = next(steps)
    assert isinstance(probe, HttpRequest)
    assert probe.url.endswith("/api/ack/evt_00000000000000000000000000")
    inbox = steps.send(problem(404, "not_found"))
    assert isinstance(inbox, HttpRequest)
    assert inbox.url.endswith("/api/inbox?limit=50&wait=20")
    return steps


def test_a_consumer_gives_out_no_event_that_it_cannot_acknowledge() -> None:
    steps = Consumer(SETTINGS, ConsumeOptions()).steps()
    next(steps)
    with pytest.raises(problems.ForbiddenError):
        steps.send(problem(403, "forbidden"))
    steps = Consumer(SETTINGS, ConsumeOptions()).steps()
    probe, suspended = next(steps), problem(403, "organization_suspended")
    assert steps.send(suspended).seconds == PAUSE_AWAY  # type: ignore[union-attr]
    assert steps.send(None) == probe
    steps = consuming(SETTINGS, ConsumeOptions())
    page = {"data": [{"id": "evt_1"}, {"id": "evt_2"}], "has_more": False, "next_cursor": "c"}
    assert isinstance(steps.send(page_of(page)), Handle)
    acknowledge = steps.send(None)
    assert steps.send(suspended).seconds == PAUSE_AWAY
    assert steps.send(None) == acknowledge


def test_a_consumer_waits_for_its_server_and_ends_when_its_key_does() -> None:
    steps = consuming(replace(SETTINGS, retries=0), ConsumeOptions())
    for passing in (ConnectionFailedError("lost"), INTERNAL, BUSY):
        assert isinstance(steps.send(passing), Sleep)
        assert isinstance(steps.send(None), HttpRequest)
    event = {"id": "evt_1", "type": "a", "payload": None}
    page = {"data": [event], "has_more": False, "next_cursor": "c"}
    assert steps.send(page_of(page)) == Handle(event)  # type: ignore[arg-type]
    acknowledge = steps.send(None)
    assert isinstance(acknowledge, HttpRequest)
    assert acknowledge.url.endswith("/api/ack/evt_1")
    following = steps.send(problem(404, "not_found"))
    assert isinstance(following, HttpRequest)
    assert following.url.endswith("/api/inbox?limit=50&cursor=c&wait=20")
    with pytest.raises(problems.UnauthorizedError):
        steps.send(problem(401, "unauthorized"))


def test_an_event_that_failed_is_read_again_from_the_beginning_when_it_is_due() -> None:
    told: list[str] = []
    how = ConsumeOptions(pause=0, on_failure=lambda event, error: told.append(f"{error}"))
    steps = consuming(SETTINGS, how)
    page = {"data": [{"id": "evt_1"}], "has_more": False, "next_cursor": "c"}
    assert isinstance(steps.send(page_of(page)), Handle)
    again = steps.send(ValueError("no"))
    assert isinstance(again, HttpRequest)
    assert (told, again.url.endswith("/api/inbox?limit=50&wait=0")) == (["no"], True)
    following = steps.send(page_of({**page, "data": []}))
    assert isinstance(following, HttpRequest)
    assert following.url.endswith("cursor=c&wait=20"), "an event that left is forgotten"


class Dripping(HttpServer):
    """Answers a byte now and then, or nothing."""

    silent = False

    def serve(self, request: BaseHTTPRequestHandler, _: bytes) -> None:
        with suppress(OSError):
            if "/api/ack/" in request.path:
                request.send_response(404)
                request.send_header("content-type", "application/problem+json")
                request.end_headers()
                request.wfile.write(problem(404, "not_found").content)
                return
            for _byte in range(100):
                request.wfile.write(b"" if self.silent else b"H")
                time.sleep(0.1)


@pytest.mark.parametrize("kind", [Client, AsyncClient])
def test_a_try_ends_in_time_although_bytes_come(kind: type[Client | AsyncClient]) -> None:
    with Dripping() as server:
        client: Any = kind(server.url, timeout=0.5, retries=0)
        began = time.monotonic()
        with pytest.raises(ConnectionFailedError, match=r"more than 0\.5 seconds"):
            run(client.request, GET)
        assert time.monotonic() - began < 5


@pytest.mark.parametrize("kind", [Client, AsyncClient])
def test_a_consumer_stops_while_it_waits_for_an_event(kind: type[Client | AsyncClient]) -> None:
    with Dripping() as server:
        server.silent = True
        began = time.monotonic()
        how = ConsumeOptions(stop=lambda: time.monotonic() - began > 1)
        run(kind(server.url).consume, print, how)
        assert 1 < time.monotonic() - began < 5


def run(method: Any, *arguments: Any) -> Any:
    """Calls a method of either kind of client."""
    if inspect.iscoroutinefunction(method):
        return asyncio.run(method(*arguments))
    return method(*arguments)


SECRET = "whsec_MfKQ9r8GKYqrTwjUPD8ILPZIo2LaLaSw"


@pytest.mark.parametrize("secret", ["whsec_!!!", "", "whsec_", "whsec_a b", None])
def test_a_wrong_secret_is_a_mistake_of_the_receiver(secret: Any) -> None:
    with pytest.raises(ValueError, match="the secret is not one of an endpoint"):
        webhooks.verify(secret, {}, b"{}")


@pytest.mark.parametrize("body", [{"type": "a"}, "{}", None])
def test_a_body_that_was_read_already_is_a_mistake_of_the_receiver(body: Any) -> None:
    with pytest.raises(TypeError, match="bytes of the body as they arrived"):
        webhooks.verify(SECRET, {}, body)


def test_an_error_names_its_only_fault_once() -> None:
    faults = [{"pointer": "/a", "detail": "is no A"}, {"pointer": "/b", "detail": "is no B"}]
    text = "validation_failed: why (request r1)"
    value = json.loads(problem(422, "validation_failed").content)
    for errors, expected in (
        (faults[:1], text),
        (faults, text.replace("why", "why; /a is no A; /b is no B")),
    ):
        error, _ = play(GET, answer(422, {**value, "errors": errors}))
        assert (str(error), error.errors) == (expected, errors)


def test_timeouts_are_lost_answers_for_both_clients() -> None:
    def late(request: httpx2.Request) -> httpx2.Response:
        raise httpx2.ReadTimeout("late", request=request)

    transport = httpx2.MockTransport(late)
    client = Client("http://a", retries=1, http=httpx2.Client(transport=transport))
    with pytest.raises(ConnectionFailedError, match="GET http://a/api/events: ReadTimeout: late"):
        client.request(GET)
    http = httpx2.AsyncClient(transport=transport)
    with pytest.raises(ConnectionFailedError, match="ReadTimeout: late") as raised:
        asyncio.run(AsyncClient("http://a", retries=1, http=http).request(GET))
    assert raised.value.operation == GET
