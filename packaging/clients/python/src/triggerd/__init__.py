"""The client of triggerd.

`Client` and `AsyncClient` send and consume; `operations` makes every other request of the API,
`problems` has an error class for each code, and `webhooks` verifies signatures.
"""

from . import operations, problems, types, webhooks
from ._core import ListOperation, Operation, StreamOperation, __version__
from ._flows import ConsumeOptions
from .client import AsyncClient, Client
from .errors import ConnectionFailedError, ProblemError, TriggerdError

__all__ = [
    "AsyncClient",
    "Client",
    "ConnectionFailedError",
    "ConsumeOptions",
    "ListOperation",
    "Operation",
    "ProblemError",
    "StreamOperation",
    "TriggerdError",
    "__version__",
    "operations",
    "problems",
    "types",
    "webhooks",
]
