"""Plays `scenario.json`, which the client in TypeScript plays, too."""

from __future__ import annotations

import asyncio
import contextlib
import inspect
import itertools
import re
import time
from collections import Counter
from collections.abc import AsyncGenerator
from typing import Any

import pytest
from world import PATIENCE, SCENARIO, BreakingProxy, Receiver, Server

import triggerd
from triggerd import AsyncClient, Client, ConsumeOptions, operations, problems, webhooks
from triggerd.types import Event

names = itertools.count()


class Player:
    """Plays steps with one kind of client."""

    def __init__(self, server: Server, url: str, kind: type[Client | AsyncClient]) -> None:
        self.url, self.direct_url, self.kind = url, server.url, kind
        self.is_broken = url != server.url
        admin = Client(server.url, server.admin_token)
        name = f"organization {next(names)}"
        self.keys = {
            tier: admin.request(
                operations.generate_key({"organization": f"{name} {tier}", "tier": tier})
            )["key"]
            for tier in ("free", "pro")
        }

    async def play(self, step: dict[str, Any]) -> None:
        client: Any = self.kind(self.url, step.get("key") or self.keys[step.get("tier", "pro")])
        try:
            played = getattr(self, step["do"])(client, step)
            if problem := step.get("problem"):
                with pytest.raises(problems.BY_CODE[problem["code"]]) as raised:
                    await played
                error = raised.value
                assert_part(problem, vars(error))
                assert error.request_id
                assert str(error.request_id) in str(error)
                return
            answer = await played
            assert_part(step.get("answer"), answer)
            if not self.is_broken:
                assert_part(step.get("unless_broken"), answer)
        finally:
            await result(client.close())

    async def send(self, client: Any, step: dict[str, Any]) -> Any:
        return await result(client.send(step["event"]))

    async def send_each(self, client: Any, step: dict[str, Any]) -> None:
        for event in events_of(step):
            await result(client.send(event))

    async def send_batch(self, client: Any, step: dict[str, Any]) -> Any:
        results = await result(client.send_batch(step.get("events") or events_of(step)))
        if "events" not in step:
            assert {it["status"] for it in results} <= {"accepted", "duplicate"}
            assert len(results) == step["to"] - step["from"]
            return None
        is_repeated = results[0]["status"] == "duplicate"
        return [{**results[0], "status": "accepted"}, *results[1:]] if is_repeated else results

    async def items(self, client: Any, step: dict[str, Any]) -> None:
        items = [it async for it in iterate(client.items(operation_of(step)))]
        assert len({it["id"] for it in items}) == len(items) == step["count"]

    async def request(self, client: Any, step: dict[str, Any]) -> Any:
        attempts = 10 if step.get("may_break") and self.is_broken else 1
        for _ in range(attempts):
            try:
                return await result(client.request(operation_of(step)))
            except triggerd.ConnectionFailedError:
                # This request is not safe to repeat, so the client leaves it to its user.
                assert attempts > 1
        raise AssertionError("every connection breaks")

    async def watch(self, client: Any, step: dict[str, Any]) -> None:
        # The proxy reads an answer to its end before it passes the answer on.
        direct = self.kind(self.direct_url, self.keys["pro"])
        items = iterate(direct.stream(operation_of(step)))
        assert_part(step["first"], await items.__anext__())
        await result(client.send(step["event"]))
        assert_part(step["second"], await items.__anext__())
        await items.aclose()
        await result(direct.close())

    async def consume(self, client: Any, step: dict[str, Any]) -> None:
        handled: Counter[int] = Counter()
        failed: set[int] = set()
        told: list[str] = []
        end = time.monotonic() + PATIENCE

        def handle(event: Event) -> None:
            number = event["payload"]["n"]
            if number % step["fails_once_each"] == 0 and number not in failed:
                failed.add(number)
                raise ValueError("fails once")
            handled[number] += 1

        how = ConsumeOptions(
            type=step["type"],
            pause=0.1,
            wait=1,
            stop=lambda: len(handled) == step["numbers"] or time.monotonic() > end,
            on_failure=lambda event, _error: told.append(event["id"]),
        )
        await result(client.consume(handle, how))
        assert handled == Counter(range(step["numbers"]))
        assert len(told) == len(failed) == step["numbers"] / step["fails_once_each"]

    async def receive(self, _: Any, step: dict[str, Any]) -> None:
        direct = Client(self.url, self.keys["pro"], retries=20)
        with Receiver() as receiver:
            made = self.endpoint(direct, receiver.url, step["endpoint"])
            if refusing := step.get("refusing"):
                self.endpoint(direct, f"{receiver.url}/refuse", refusing)
            direct.send(step["event"])
            headers, body = receiver.requests.get(timeout=PATIENCE)
        event = webhooks.verify(made["secret"], headers, body)
        assert_part(step["received"], event)
        assert webhooks.is_operational(event) == step["operational"]
        forgeries = [
            (headers, body + b" "),
            (headers, b"\xff"),
            ({**headers, "Webhook-Signature": "v1"}, body),
            ({**headers, "webhook-signature": "v1"}, body),
            ({**headers, "webhook-timestamp": "1"}, body),
            ({}, body),
        ]
        for forged in forgeries:
            with pytest.raises(webhooks.WebhookVerificationError):
                webhooks.verify(made["secret"], *forged)

    def endpoint(self, client: Client, url: str, members: dict[str, Any]) -> Any:
        """Makes an endpoint. One whose answer was lost gets what the other one gets, too."""
        for _ in range(10):
            with contextlib.suppress(triggerd.ConnectionFailedError):
                return client.request(operations.create_endpoint({"url": url, **members}))  # type: ignore[typeddict-item]
        raise AssertionError("every connection breaks")


async def iterate(items: Any) -> AsyncGenerator[Any, None]:
    """Iterates over the items of either kind of client."""
    if hasattr(items, "__aiter__"):
        async for item in items:
            yield item
    else:
        for item in items:
            yield item


async def result(value: Any) -> Any:
    return await value if inspect.isawaitable(value) else value


def events_of(step: dict[str, Any]) -> list[Any]:
    return [{"type": step["type"], "payload": {"n": n}} for n in range(step["from"], step["to"])]


def operation_of(step: dict[str, Any]) -> Any:
    name = re.sub("([A-Z])", lambda m: f"_{m[1].lower()}", step["operation"])
    arguments = {**step.get("path", {}), **step.get("query", {})}
    if "body" in step:
        arguments["body"] = step["body"]
    operation = getattr(operations, name)(**arguments)
    method, route = step["route"].split()
    assert operation.method == method
    assert operation.path.split("/")[:3] == route.split("/")[:3]
    return operation


def assert_part(part: Any, whole: Any) -> None:
    """Asserts that the whole has each member of the part."""
    if isinstance(part, dict):
        for name, value in part.items():
            assert_part(value, whole[name])
    elif isinstance(part, list):
        assert len(part) == len(whole)
        for one, other in zip(part, whole, strict=True):
            assert_part(one, other)
    elif part is not None:
        assert part == whole


@pytest.mark.parametrize(
    ("kind", "broken"),
    [
        pytest.param(Client, False, id="direct"),
        pytest.param(AsyncClient, True, id="async-broken"),
        pytest.param(AsyncClient, False, id="async-direct", marks=pytest.mark.slow),
        pytest.param(Client, True, id="broken", marks=pytest.mark.slow),
    ],
)
def test_the_scenario_loses_and_doubles_nothing(
    server: Server, kind: type[Client | AsyncClient], broken: bool
) -> None:
    async def play(url: str) -> None:
        player = Player(server, url, kind)
        for step in SCENARIO["steps"]:
            await player.play(step)

    if not broken:
        asyncio.run(play(server.url))
        return
    with BreakingProxy(server.url) as proxy:
        asyncio.run(play(proxy.url))
        assert proxy.broken > 20
