"""Verifies the requests that triggerd makes to an endpoint."""

import json
import re
from collections.abc import Mapping
from typing import cast

from standardwebhooks import Webhook, WebhookVerificationError
from typing_extensions import TypeIs

from .types import Envelope, OperationalEvent

__all__ = ["Envelope", "OperationalEvent", "WebhookVerificationError", "is_operational", "verify"]


def verify(secret: str, headers: Mapping[str, str], body: bytes) -> Envelope | OperationalEvent:
    """Returns the event, or raises `WebhookVerificationError` if triggerd did not send it.

    `body` is the bytes as they arrived. For an endpoint whose `body` is not `envelope`, the result
    is the JSON of that form.
    """
    if not isinstance(body, (bytes, bytearray)):
        raise TypeError("verify needs the bytes of the body as they arrived, and not parsed")
    if not isinstance(secret, str) or not re.fullmatch("(whsec_)?[A-Za-z0-9+/]+={0,2}", secret):
        raise ValueError("the secret is not one of an endpoint: whsec_ and Base64")
    webhook = Webhook(secret)
    try:
        webhook.verify(bytes(body), dict(headers), json_parse=False)
    except WebhookVerificationError:
        raise
    except ValueError as error:
        # The library takes some malformed signatures and bodies for programming errors.
        raise WebhookVerificationError(f"Malformed request: {error}") from error
    return cast(Envelope, json.loads(body))


def is_operational(event: Envelope | OperationalEvent) -> TypeIs[OperationalEvent]:
    """Returns true for an event of triggerd itself; `event["type"]` then says which one it is."""
    return event["type"].startswith("triggerd.")
