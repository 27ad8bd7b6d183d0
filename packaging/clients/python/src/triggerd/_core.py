"""Requests, answers and retries without any input or output.

A generator yields each step that needs the world (a request, a pause, a handler), and gets its
result. `Client` and `AsyncClient` only carry out these steps.
"""

from __future__ import annotations

import json
import random
from collections.abc import Callable, Generator, Mapping
from dataclasses import dataclass, field, replace
from typing import Any, Generic, TypeVar
from urllib.parse import quote, urlencode

from . import problems
from .errors import ConnectionFailedError, ProblemError
from .types import Event

__version__ = "0.1.0"

T = TypeVar("T")
P = TypeVar("P")
#: A stream that is silent for longer is broken: the server writes something every 15 seconds.
STREAM_SILENCE = 45.0
JSON = "application/json"
#: The waits of a retry in seconds: the first one, and the longest, also by `Retry-After`.
PAUSE_MIN, PAUSE_MAX = 0.2, 60.0


@dataclass(frozen=True)
class Operation(Generic[T]):
    """A request of the API with an answer of the type `T`. `triggerd.operations` makes them."""

    method: str
    path: str
    #: The answers by their status: the media types, and the members of the JSON object. An answer
    #: without content has none of both.
    answers: Mapping[int, tuple[str, ...]]
    query: Mapping[str, str | int | None] = field(default_factory=dict)
    headers: Mapping[str, str | None] = field(default_factory=dict)
    body: object = None
    #: Whether a `POST` may be sent again although an earlier one may have been carried out.
    repeatable: bool = False

    @property
    def is_repeatable(self) -> bool:
        # A `DELETE` with a body chooses what it deletes, so a second one can delete more.
        is_plain_delete = self.method == "DELETE" and self.body is None
        return self.repeatable or is_plain_delete or self.method in ("GET", "PUT")


@dataclass(frozen=True)
class ListOperation(Operation[P], Generic[T, P]):
    """An operation with pages of the type `P` as answers, and items of the type `T` in them."""


@dataclass(frozen=True)
class StreamOperation(Operation[T]):
    """An operation with a stream of items of the type `T` as its answer."""


def path(template: str, *values: str) -> str:
    """Returns the path with its parameters. One that changes the route is refused."""
    for value in values:
        if not isinstance(value, str) or value in ("", ".", ".."):
            raise ValueError(f"{template} needs an id, not {value!r}")
    return template.format(*(quote(value, safe="") for value in values))


def next_page(operation: ListOperation[T, P], page: dict[str, Any]) -> ListOperation[T, P] | None:
    """Returns the operation for the page behind this one, or `None` if the list ends."""
    if not page["has_more"]:
        return None
    return replace(operation, query={**operation.query, "cursor": page["next_cursor"]})


def never() -> bool:
    return False


@dataclass(frozen=True)
class HttpRequest:
    method: str
    url: str
    headers: dict[str, str]
    content: bytes | None
    #: The seconds from the beginning of the request to the end of its answer.
    timeout: float
    #: True ends the waiting for the answer.
    stop: Callable[[], bool] = never


@dataclass(frozen=True)
class HttpAnswer:
    status: int
    headers: Mapping[str, str]
    content: bytes


@dataclass(frozen=True)
class Value(Generic[T]):
    """The answer of a request that succeeded."""

    value: T


@dataclass(frozen=True)
class Sleep:
    seconds: float
    #: True ends the pause.
    stop: Callable[[], bool] = never


@dataclass(frozen=True)
class Handle:
    """Give the event to the handler. The result is its exception, or `None`."""

    event: Event


Step = HttpRequest | Sleep | Handle
Steps = Generator[Step, Any, T]


@dataclass(frozen=True)
class Settings:
    url: str
    key: str
    timeout: float
    retries: int

    def request(self, operation: Operation[Any]) -> HttpRequest:
        query = {name: value for name, value in operation.query.items() if value is not None}
        headers = {name: value for name, value in operation.headers.items() if value is not None}
        headers["User-Agent"] = f"triggerd-python/{__version__}"
        if self.key:
            headers["Authorization"] = f"Bearer {self.key}"
        content = None
        if operation.body is not None:
            headers["Content-Type"] = "application/json"
            # A lone surrogate has no UTF-8, but its escape in Python is also the one of JSON.
            text = json.dumps(operation.body, ensure_ascii=False, allow_nan=False)
            content = text.encode(errors="backslashreplace")
        target = operation.path + (f"?{urlencode(query)}" if query else "")
        wait = int(query.get("wait", 0))
        url = self.url.rstrip("/") + target
        return HttpRequest(operation.method, url, headers, content, self.timeout + wait)


def exchange(
    settings: Settings, operation: Operation[T], stop: Callable[[], bool] = never
) -> Steps[T]:
    """Sends the request until it has an answer, where sending it again is safe."""
    request = replace(settings.request(operation), stop=stop)
    is_unknown = False
    attempt = 0
    while True:
        is_last = attempt >= settings.retries
        least: float = 0
        answer: HttpAnswer | ConnectionFailedError = yield request
        read = answer if isinstance(answer, ConnectionFailedError) else read_of(answer, operation)
        if isinstance(read, Value):
            return read.value
        if isinstance(read, ConnectionFailedError):
            read.operation = operation
            if is_last or stop() or not (read.is_unsent or operation.is_repeatable):
                raise read
            is_unknown = is_unknown or not read.is_unsent
        else:
            if read.status == 404 and is_unknown and operation.method == "DELETE":
                # An earlier request without an answer deleted it.
                return None  # type: ignore[return-value]
            least = read.retry_after or 0
            if is_last or least > PAUSE_MAX or not may_repeat(read):
                raise read
            is_unknown = is_unknown or read.status >= 500
        yield Sleep(max(least, pause(attempt, PAUSE_MIN, PAUSE_MAX)), stop)
        attempt += 1


class StreamReader:
    """Makes items of the lines of a stream of server-sent events."""

    #: The name of the last item; `end` comes last.
    event = ""

    def item(self, line: str) -> Any:
        """Takes the next line. Returns the item that it completes, or `None`."""
        name, _, value = line.partition(": ")
        if name == "event":
            self.event = value
        return {"event": self.event, "data": json.loads(value)} if name == "data" else None


def may_repeat(problem: ProblemError) -> bool:
    """Returns true if the request can be sent again after this answer."""
    if problem.status in (429, 503) and problem.retry_after is not None:
        # The server refused the request before it did anything.
        return True
    is_passing = problem.status in (408, 429) or problem.status >= 500
    return is_passing and problem.operation.is_repeatable


def pause(attempt: int, least: float, most: float) -> float:
    """Returns the wait after an attempt: twice as long each time, with a random share."""
    longest: float = min(most, least * 2 ** min(attempt, 30))
    return longest * random.uniform(0.5, 1)


def media_type(headers: Mapping[str, str]) -> str:
    return headers.get("content-type", "").split(";")[0].strip().lower()


def opens_stream(status: int, headers: Mapping[str, str], operation: Operation[Any]) -> bool:
    return media_type(headers) in operation.answers.get(status, ())


def read_of(
    answer: HttpAnswer, operation: Operation[T]
) -> Value[T] | ProblemError | ConnectionFailedError:
    """Reads the answer. Anything but an answer that the operation has is an error."""
    kind = media_type(answer.headers)
    types, *members = operation.answers.get(answer.status, ("",)) or (None,)
    value: Any = None
    if types is None:
        return foreign(answer, operation) if answer.content else Value(value)
    if kind not in types.split():
        return problem_of(answer, operation)
    if kind != JSON:
        value = answer.content.decode(errors="replace")
        return Value(value)
    try:
        value = json.loads(answer.content)
    except ValueError as error:
        where = f"{operation.method} {operation.path}"
        return ConnectionFailedError(f"the answer to {where} breaks off: {error}")
    if members and not (isinstance(value, dict) and value.keys() >= set(members)):
        return foreign(answer, operation)
    return Value(value)


def problem_of(answer: HttpAnswer, operation: Operation[Any]) -> ProblemError:
    if answer.status < 400:
        return foreign(answer, operation)
    try:
        problem = json.loads(answer.content)
        kind = problems.BY_CODE.get(problem["code"], ProblemError)
        return kind(problem, operation, retry_after_of(answer))
    except (ValueError, KeyError, TypeError):
        return foreign(answer, operation)


def foreign(answer: HttpAnswer, operation: Operation[Any]) -> ProblemError:
    """Returns the error for an answer that triggerd does not give: another server gave it."""
    text = answer.content[:200].decode(errors="replace")
    problem: Any = {
        "code": "not_from_triggerd",
        "status": answer.status,
        "detail": f"triggerd does not give this answer {answer.status} to this request: {text}",
        "request_id": answer.headers.get("x-request-id"),
    }
    return ProblemError(problem, operation, retry_after_of(answer))


def retry_after_of(answer: HttpAnswer) -> float | None:
    try:
        return float(answer.headers["retry-after"])
    except (KeyError, ValueError):
        return None
