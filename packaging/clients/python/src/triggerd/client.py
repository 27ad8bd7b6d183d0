"""The clients: they carry out the steps of `_core` and `_flows` over httpx2."""

from __future__ import annotations

import asyncio
import inspect
import os
import re
import time
from collections.abc import AsyncIterator, Awaitable, Callable, Iterable, Iterator
from contextlib import suppress
from typing import Any, Generic, TypeVar, cast

import httpx2
from typing_extensions import Self

from . import _core, _flows
from ._core import HttpRequest, ListOperation, Operation, P, Sleep, Step, Steps, T
from ._flows import ConsumeOptions, Consumer
from .errors import ConnectionFailedError
from .types import BatchResult, Event, PostedEvent, Receipt

Handler = Callable[[Event], object]
AsyncHandler = Callable[[Event], Awaitable[object]]
H = TypeVar("H")


def answer_of(response: httpx2.Response) -> _core.HttpAnswer:
    return _core.HttpAnswer(response.status_code, response.headers, response.content)


def opens(response: httpx2.Response, operation: Operation[Any]) -> bool:
    return _core.opens_stream(response.status_code, response.headers, operation)


def no_answer(error: httpx2.RequestError, request: HttpRequest) -> ConnectionFailedError:
    why = f"{type(error).__name__}: {error}".rstrip(": ")
    failure = ConnectionFailedError(f"no answer to {request.method} {request.url}: {why}")
    unsent = (httpx2.ConnectError, httpx2.ConnectTimeout, httpx2.PoolTimeout)
    failure.is_unsent = isinstance(error, unsent)
    return failure


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
        request = vars(self._settings.request(operation))
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
            time.sleep(step.seconds)
        elif isinstance(step, HttpRequest):
            try:
                return answer_of(self._http.request(**vars(step)))
            except httpx2.RequestError as error:
                return no_answer(error, step)
        elif handler:
            try:
                handler(step.event)
            except Exception as error:
                return error
        return None


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
            await asyncio.sleep(step.seconds)
        elif isinstance(step, HttpRequest):
            try:
                return answer_of(await self._http.request(**vars(step)))
            except httpx2.RequestError as error:
                return no_answer(error, step)
        elif handler:
            try:
                result = handler(step.event)
                if inspect.isawaitable(result):
                    await result
            except Exception as error:
                return error
        return None
