"""Made by generate.py from docs/openapi.json."""

from .errors import ProblemError


class MalformedJsonError(ProblemError):
    """The problem `malformed_json`, which `docs/problems.md` explains."""


class ConflictingDedupIdError(ProblemError):
    """The problem `conflicting_dedup_id`, which `docs/problems.md` explains."""


class InvalidRequestError(ProblemError):
    """The problem `invalid_request`, which `docs/problems.md` explains."""


class UnauthorizedError(ProblemError):
    """The problem `unauthorized`, which `docs/problems.md` explains."""


class ForbiddenError(ProblemError):
    """The problem `forbidden`, which `docs/problems.md` explains."""


class OrganizationSuspendedError(ProblemError):
    """The problem `organization_suspended`, which `docs/problems.md` explains."""


class NotFoundError(ProblemError):
    """The problem `not_found`, which `docs/problems.md` explains."""


class MethodNotAllowedError(ProblemError):
    """The problem `method_not_allowed`, which `docs/problems.md` explains."""


class RequestTimeoutError(ProblemError):
    """The problem `request_timeout`, which `docs/problems.md` explains."""


class EventErasedError(ProblemError):
    """The problem `event_erased`, which `docs/problems.md` explains."""


class OrganizationExistsError(ProblemError):
    """The problem `organization_exists`, which `docs/problems.md` explains."""


class PayloadTooLargeError(ProblemError):
    """The problem `payload_too_large`, which `docs/problems.md` explains."""


class UnsupportedMediaTypeError(ProblemError):
    """The problem `unsupported_media_type`, which `docs/problems.md` explains."""


class ValidationFailedError(ProblemError):
    """The problem `validation_failed`, which `docs/problems.md` explains."""


class DedupMismatchError(ProblemError):
    """The problem `dedup_mismatch`, which `docs/problems.md` explains."""


class EgressBlockedError(ProblemError):
    """The problem `egress_blocked`, which `docs/problems.md` explains."""


class LimitReachedError(ProblemError):
    """The problem `limit_reached`, which `docs/problems.md` explains."""


class RateLimitedError(ProblemError):
    """The problem `rate_limited`, which `docs/problems.md` explains."""


class HeadTooLargeError(ProblemError):
    """The problem `head_too_large`, which `docs/problems.md` explains."""


class InternalError(ProblemError):
    """The problem `internal`, which `docs/problems.md` explains."""


class OverloadedError(ProblemError):
    """The problem `overloaded`, which `docs/problems.md` explains."""


class ShuttingDownError(ProblemError):
    """The problem `shutting_down`, which `docs/problems.md` explains."""


class DiskFullError(ProblemError):
    """The problem `disk_full`, which `docs/problems.md` explains."""


BY_CODE: dict[str, type[ProblemError]] = {
    "malformed_json": MalformedJsonError,
    "conflicting_dedup_id": ConflictingDedupIdError,
    "invalid_request": InvalidRequestError,
    "unauthorized": UnauthorizedError,
    "forbidden": ForbiddenError,
    "organization_suspended": OrganizationSuspendedError,
    "not_found": NotFoundError,
    "method_not_allowed": MethodNotAllowedError,
    "request_timeout": RequestTimeoutError,
    "event_erased": EventErasedError,
    "organization_exists": OrganizationExistsError,
    "payload_too_large": PayloadTooLargeError,
    "unsupported_media_type": UnsupportedMediaTypeError,
    "validation_failed": ValidationFailedError,
    "dedup_mismatch": DedupMismatchError,
    "egress_blocked": EgressBlockedError,
    "limit_reached": LimitReachedError,
    "rate_limited": RateLimitedError,
    "head_too_large": HeadTooLargeError,
    "internal": InternalError,
    "overloaded": OverloadedError,
    "shutting_down": ShuttingDownError,
    "disk_full": DiskFullError,
}
