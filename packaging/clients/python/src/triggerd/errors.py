"""The errors that every call can raise. `triggerd.problems` has a class for each code."""

from __future__ import annotations

from typing import TYPE_CHECKING, Any

if TYPE_CHECKING:
    from ._core import Operation
    from .types import Fault, Problem


class TriggerdError(Exception):
    """A request failed.

    `operation` is the request itself, with its `dedup_id`. So `client.request(error.operation)`
    sends an event again, and stores it at most once.
    """

    operation: Operation[Any]


class ConnectionFailedError(TriggerdError):
    """No answer came. So the outcome of the request is unknown, unless it `is_unsent`."""

    #: True if there was no connection, so that certainly nothing was done.
    is_unsent = False


class ProblemError(TriggerdError):
    """The server answered with a problem. Its class, such as `NotFoundError`, follows its code."""

    def __init__(
        self, problem: Problem, operation: Operation[Any], retry_after: float | None
    ) -> None:
        self.code: str = problem["code"]
        self.status = problem["status"]
        self.detail = problem["detail"]
        self.request_id = problem.get("request_id")
        self.errors: list[Fault] = problem.get("errors") or []
        self.event_id = problem.get("event_id")
        self.organization_id = problem.get("organization_id")
        self.problem = problem
        self.retry_after = retry_after
        # The detail already names a fault that is the only one.
        named = self.errors if len(self.errors) > 1 else []
        faults = "".join(f"; {it['pointer']} {it['detail']}" for it in named)
        super().__init__(f"{self.code}: {self.detail}{faults} (request {self.request_id})")
        self.operation = operation
