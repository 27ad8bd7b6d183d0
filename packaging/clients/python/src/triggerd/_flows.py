"""Sending and consuming as steps; `_core` says how they are carried out."""

from __future__ import annotations

import logging
import math
import time
import uuid
from collections.abc import Callable, Iterable
from contextlib import suppress
from dataclasses import dataclass, replace

from . import operations
from ._core import (
    Handle,
    Operation,
    Settings,
    Sleep,
    Steps,
    T,
    exchange,
    may_repeat,
    never,
    pause,
)
from .errors import ConnectionFailedError, ProblemError, TriggerdError
from .problems import EventErasedError, NotFoundError, OrganizationSuspendedError
from .types import BatchResult, Event, PostedEvent, Receipt

logger = logging.getLogger("triggerd")
#: The seconds between the tries of a consumer whose server is away.
PAUSE_AWAY = 5.0
#: An id that no event has. Its acknowledgement shows whether an event can be acknowledged.
NO_EVENT = "evt_00000000000000000000000000"


def identified(event: PostedEvent) -> PostedEvent:
    """Returns the event with a `dedup_id`, which makes it safe to send it again."""
    if event.get("dedup_id") is not None:
        return event
    return {**event, "dedup_id": str(uuid.uuid4())}


def send(settings: Settings, event: PostedEvent) -> Steps[Receipt]:
    operation = operations.post_event(identified(event))
    return (yield from exchange(settings, replace(operation, repeatable=True)))


def send_batch(settings: Settings, events: Iterable[PostedEvent]) -> Steps[list[BatchResult]]:
    operation = operations.post_events({"events": [identified(event) for event in events]})
    return (yield from exchange(settings, replace(operation, repeatable=True)))["results"]


def log_failure(event: Event, error: Exception) -> None:
    logger.error("the handler failed for the event %s", event["id"], exc_info=error)


@dataclass(frozen=True)
class ConsumeOptions:
    """How events are consumed."""

    #: Only these event types, as in the parameter `type` of lists.
    type: str | None = None
    #: The maximum number of events on a page.
    limit: int = 50
    #: The seconds that a request waits for an event, 1 to 30.
    wait: int = 20
    #: The seconds before a handler that failed gets its event again; twice as long each time.
    pause: float = 1
    #: The longest such pause.
    pause_max: float = 300
    #: Called between events, and often while nothing comes; true ends the consumer.
    stop: Callable[[], bool] = never
    #: Called when a handler failed.
    on_failure: Callable[[Event, Exception], None] = log_failure


class Consumer:
    """Reads the inbox from its beginning to its end, then waits behind the end.

    An event whose handler failed stays in the inbox. When it is due again, the inbox is read from
    its beginning.
    """

    def __init__(self, settings: Settings, how: ConsumeOptions) -> None:
        self.settings = settings
        self.how = how
        #: The number of failures of an event, and the time when it is due again.
        self.failures: dict[str, tuple[int, float]] = {}

    def steps(self) -> Steps[None]:
        how = self.how
        cursor: str | None = None
        yield from self.acknowledge(NO_EVENT)
        began = time.monotonic()
        while not how.stop():
            wait = min(how.wait, self.seconds_to_due())
            inbox = operations.list_inbox(limit=how.limit, cursor=cursor, wait=wait, type=how.type)
            try:
                page = yield from self.patiently(inbox, how.stop)
            except ConnectionFailedError:
                if how.stop():
                    return
                raise
            for event in page["data"]:
                if how.stop():
                    return
                yield from self.take(event)
            cursor = page["next_cursor"]
            if page["has_more"]:
                continue
            # What was due before this reading and was not met has left the inbox.
            self.failures = {of: it for of, it in self.failures.items() if it[1] >= began}
            if self.failures and self.seconds_to_due() == 0:
                cursor, began = None, time.monotonic()

    def patiently(self, operation: Operation[T], stop: Callable[[], bool] = never) -> Steps[T]:
        """Sends the request until it has an answer, or until `stop`.

        A consumer waits for a server that is away, and for the end of a suspension.
        """
        while True:
            try:
                return (yield from exchange(self.settings, operation, stop))
            except TriggerdError as error:
                is_final = isinstance(error, ProblemError) and not may_repeat(error)
                is_final = is_final and not isinstance(error, OrganizationSuspendedError)
                if is_final or self.how.stop():
                    raise
                logger.warning("the consumer waits for the server: %s", error)
            yield Sleep(PAUSE_AWAY, self.how.stop)

    def take(self, event: Event) -> Steps[None]:
        times, due = self.failures.get(event["id"], (0, 0))
        if due > time.monotonic():
            return
        error: Exception | None = yield Handle(event)
        if error:
            due = time.monotonic() + pause(times, self.how.pause, self.how.pause_max)
            self.failures[event["id"]] = (times + 1, due)
            self.how.on_failure(event, error)
            return
        self.failures.pop(event["id"], None)
        yield from self.acknowledge(event["id"])

    def acknowledge(self, event_id: str) -> Steps[None]:
        operation = replace(operations.acknowledge_event(event_id), repeatable=True)
        with suppress(NotFoundError, EventErasedError):  # Such an event has left the inbox, too.
            yield from self.patiently(operation)

    def seconds_to_due(self) -> int:
        """Returns the whole seconds until a handler gets an event again."""
        dues = [due - time.monotonic() for _, due in self.failures.values()]
        return max(0, math.ceil(min(dues, default=self.how.wait)))
