"""The clients: they carry out the steps of `_core` and `_flows` over httpx2."""

from __future__ import annotations

import asyncio
import contextvars
import inspect
import os
import re
import time
from collections.abc import AsyncIterator, Awaitable, Callable, Iterable, Iterator
from concurrent import futures
from contextlib import suppress
from threading import Thread
from typing import Any, Generic, TypeVar, cast

import httpx2
from typing_extensions import Self

from . import _core, _flows
from ._core import HttpAnswer, HttpRequest, ListOperation, Operation, P, Sleep, Step, Steps, T
from ._flows import ConsumeOptions, Consumer
from .errors import ConnectionFailedError
from .types import BatchResult, Event, PostedEvent, Receipt

Handler = Callable[[Event], object]
AsyncHandler = Callable[[Event], Awaitable[object]]
H = TypeVar("H")
#: The seconds between two looks at whether a request or a pause is to stop.
LOOK = 0.2


def looks(seconds: float, stop: Callable[[], bool]) -> Iterator[float]:
    """Yields the parts of a wait, until it is over or is to stop."""
    end = time.monotonic() + seconds
    while not stop() and (left := end - time.monotonic()) > 0:
        yield min(left, LOOK) if stop is not _core.never else left


def parts_of(request: HttpRequest) -> dict[str, Any]:
    return {name: value for name, value in vars(request).items() if name != "stop"}


def answer_of(response: httpx2.Response) -> HttpAnswer:
    return HttpAnswer(response.status_code, response.headers, response.content)


def opens(response: httpx2.Response, operation: Operation[Any]) -> bool:
    return _core.opens_stream(response.status_code, response.headers, operation)


def no_answer(error: httpx2.RequestError, request: HttpRequest) -> ConnectionFailedError:
    why = f"{type(error).__name__}: {error}".rstrip(": ")
    failure = ConnectionFailedError(f"no answer to {request.method} {request.url}: {why}")
    unsent = (httpx2.ConnectError, httpx2.ConnectTimeout, httpx2.PoolTimeout)
    failure.is_unsent = isinstance(error, unsent)
    return failure


def given_up(request: HttpRequest) -> ConnectionFailedError:
    why = "it was stopped" if request.stop() else f"it took more than {request.timeout} seconds"
    return ConnectionFailedError(f"no answer to {request.method} {request.url}: {why}")


def server_url(text: str) -> str:
    """Returns the URL of the server. As on the command line, `http://` can be left out."""
    url = text.strip()
    url = (url if "://" in url else f"http://{url}").rstrip("/")
    with suppress(httpx2.InvalidURL):
        parsed = httpx2.URL(url)
        if parsed.scheme in ("http", "https") and parsed.host and not parsed.userinfo:
            return url
    raise ValueError("the URL of the server is not like http://127.0.0.1:8080")


def server_key(text: str) -> str:
    """Returns the key without space around it. An error never shows the key."""
    key = text.strip()
    if not re.fullmatch("[!-~]*", key):
        raise ValueError("the key has a character that no key of triggerd has")
    return key


def broken(operation: Operation[Any], why: str) -> ConnectionFailedError:
    error = ConnectionFailedError(f"the stream {operation.path} broke off: {why}")
    error.operation = operation
    return error


class _Base(Generic[H]):
    """Without `url` and `key`, the environment's `TRIGGERD_URL` and `TRIGGERD_API_KEY` count."""

    _http_type: type[H]

    def __init__(
        self,
        url: str | None = None,
        key: str | None = None,
        *,
        timeout: float = 30,
        retries: int = 5,
        http: H | None = None,
    ) -> None:
        url = url or os.environ.get("TRIGGERD_URL") or "http://127.0.0.1:8080"
        key = key or os.environ.get("TRIGGERD_API_KEY", "")
        self._settings = _core.Settings(server_url(url), server_key(key), timeout, retries)
        self._http = http or self._http_type()

    def _stream_request(self, operation: Operation[Any]) -> dict[str, Any]:
        request = parts_of(self._settings.request(operation))
        return {**request, "timeout": max(self._settings.timeout, _core.STREAM_SILENCE)}


class Client(_Base[httpx2.Client]):
    """A client that blocks. Threads can share it."""

    _http_type = httpx2.Client

    def __enter__(self) -> Self:
        return self

    def __exit__(self, *_: object) -> None:
        self.close()

    def close(self) -> None:
        self._http.close()

    def send(self, event: PostedEvent) -> Receipt:
        """Sends an event. Without a `dedup_id` it gets one, so that retries are safe."""
        return self._run(_flows.send(self._settings, event))

    def send_batch(self, events: Iterable[PostedEvent]) -> list[BatchResult]:
        """Sends at most 1,000 events. Look at each result: an item can be `rejected`."""
        return self._run(_flows.send_batch(self._settings, events))

    def request(self, operation: Operation[T]) -> T:
        """Sends any request of `triggerd.operations`."""
        return self._run(_core.exchange(self._settings, operation))

    def items(self, operation: ListOperation[T, P]) -> Iterator[T]:
        """Iterates over the items of a list, page by page."""
        following: ListOperation[T, P] | None = operation
        while following:
            page: Any = self.request(following)
            yield from page["data"]
            following = _core.next_page(following, page)

    def stream(self, operation: _core.StreamOperation[T]) -> Iterator[T]:
        """Iterates over the items of a stream as they come, until the server ends it.

        A stream that breaks off raises `ConnectionFailedError` and is not opened again: the items
        in between would be missing silently.
        """
        reader = _core.StreamReader()
        try:
            with self._http.stream(**self._stream_request(operation)) as response:
                if not opens(response, operation):
                    response.read()
                    raise _core.problem_of(answer_of(response), operation)
                for line in response.iter_lines():
                    if item := reader.item(line):
                        yield item
        except httpx2.RequestError as error:
            raise broken(operation, str(error)) from error
        if reader.event != "end":
            raise broken(operation, "it has no end")

    def consume(self, handler: Handler, how: ConsumeOptions = ConsumeOptions()) -> None:
        """Gives each event of the inbox to the handler, and acknowledges it when that returns.

        If the handler raises, the event stays in the inbox and comes again after a pause.
        """
        self._run(Consumer(self._settings, how).steps(), handler)

    def _run(self, steps: Steps[T], handler: Handler | None = None) -> T:
        result: object = None
        try:
            while True:
                result = self._take(steps.send(result), handler)
        except StopIteration as end:
            return cast(T, end.value)

    def _take(self, step: Step, handler: Handler | None) -> object:
        if isinstance(step, Sleep):
            for part in looks(step.seconds, step.stop):
                time.sleep(part)
        elif isinstance(step, HttpRequest):
            return self._exchange(step)
        elif handler:
            try:
                handler(step.event)
            except Exception as error:
                return error
        return None

    def _exchange(self, request: HttpRequest) -> HttpAnswer | ConnectionFailedError:
        """Requests on a thread of its own.

        The timeouts of a blocking connection count for each read. So a server that sends a byte now
        and then, or a name that is slow to resolve, would hold the caller for longer.
        """
        answer: futures.Future[HttpAnswer] = futures.Future()

        def run() -> None:
            try:
                answer.set_result(answer_of(self._http.request(**parts_of(request))))
            except BaseException as error:
                answer.set_exception(error)

        Thread(target=contextvars.copy_context().run, args=(run,), daemon=True).start()
        for part in looks(request.timeout, request.stop):
            if futures.wait([answer], part).done:
                try:
                    return answer.result()
                except httpx2.RequestError as error:
                    return no_answer(error, request)
        return given_up(request)


class AsyncClient(_Base[httpx2.AsyncClient]):
    """The client for asyncio, with the methods of `Client`."""

    _http_type = httpx2.AsyncClient

    async def __aenter__(self) -> Self:
        return self

    async def __aexit__(self, *_: object) -> None:
        await self.close()

    async def close(self) -> None:
        await self._http.aclose()

    async def send(self, event: PostedEvent) -> Receipt:
        return await self._run(_flows.send(self._settings, event))

    async def send_batch(self, events: Iterable[PostedEvent]) -> list[BatchResult]:
        return await self._run(_flows.send_batch(self._settings, events))

    async def request(self, operation: Operation[T]) -> T:
        return await self._run(_core.exchange(self._settings, operation))

    async def items(self, operation: ListOperation[T, P]) -> AsyncIterator[T]:
        following: ListOperation[T, P] | None = operation
        while following:
            page: Any = await self.request(following)
            for item in page["data"]:
                yield item
            following = _core.next_page(following, page)

    async def stream(self, operation: _core.StreamOperation[T]) -> AsyncIterator[T]:
        reader = _core.StreamReader()
        try:
            async with self._http.stream(**self._stream_request(operation)) as response:
                if not opens(response, operation):
                    await response.aread()
                    raise _core.problem_of(answer_of(response), operation)
                async for line in response.aiter_lines():
                    if item := reader.item(line):
                        yield item
        except httpx2.RequestError as error:
            raise broken(operation, str(error)) from error
        if reader.event != "end":
            raise broken(operation, "it has no end")

    async def consume(
        self, handler: Handler | AsyncHandler, how: ConsumeOptions = ConsumeOptions()
    ) -> None:
        """Consumes like `Client.consume`. The handler can be a coroutine function."""
        await self._run(Consumer(self._settings, how).steps(), handler)

    async def _run(self, steps: Steps[T], handler: Handler | None = None) -> T:
        result: object = None
        try:
            while True:
                result = await self._take(steps.send(result), handler)
        except StopIteration as end:
            return cast(T, end.value)

    async def _take(self, step: Step, handler: Handler | None) -> object:
        if isinstance(step, Sleep):
            for part in looks(step.seconds, step.stop):
                await asyncio.sleep(part)
        elif isinstance(step, HttpRequest):
            return await self._exchange(step)
        elif handler:
            try:
                result = handler(step.event)
                if inspect.isawaitable(result):
                    await result
            except Exception as error:
                return error
        return None

    async def _exchange(self, request: HttpRequest) -> HttpAnswer | ConnectionFailedError:
        answer = asyncio.ensure_future(self._http.request(**parts_of(request)))
        try:
            for part in looks(request.timeout, request.stop):
                if (await asyncio.wait([answer], timeout=part))[0]:
                    return answer_of(answer.result())
        except httpx2.RequestError as error:
            return no_answer(error, request)
        finally:
            answer.cancel()
        return given_up(request)
