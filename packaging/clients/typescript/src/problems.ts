// Made by generate.js from docs/openapi.json.

import { ProblemError } from "./errors.js";

/** The problem `malformed_json`, which `docs/problems.md` explains. */
export class MalformedJsonError extends ProblemError {
  override readonly name: string = "MalformedJsonError";
}

/** The problem `conflicting_dedup_id`, which `docs/problems.md` explains. */
export class ConflictingDedupIdError extends ProblemError {
  override readonly name: string = "ConflictingDedupIdError";
}

/** The problem `invalid_request`, which `docs/problems.md` explains. */
export class InvalidRequestError extends ProblemError {
  override readonly name: string = "InvalidRequestError";
}

/** The problem `unauthorized`, which `docs/problems.md` explains. */
export class UnauthorizedError extends ProblemError {
  override readonly name: string = "UnauthorizedError";
}

/** The problem `forbidden`, which `docs/problems.md` explains. */
export class ForbiddenError extends ProblemError {
  override readonly name: string = "ForbiddenError";
}

/** The problem `organization_suspended`, which `docs/problems.md` explains. */
export class OrganizationSuspendedError extends ProblemError {
  override readonly name: string = "OrganizationSuspendedError";
}

/** The problem `not_found`, which `docs/problems.md` explains. */
export class NotFoundError extends ProblemError {
  override readonly name: string = "NotFoundError";
}

/** The problem `method_not_allowed`, which `docs/problems.md` explains. */
export class MethodNotAllowedError extends ProblemError {
  override readonly name: string = "MethodNotAllowedError";
}

/** The problem `request_timeout`, which `docs/problems.md` explains. */
export class RequestTimeoutError extends ProblemError {
  override readonly name: string = "RequestTimeoutError";
}

/** The problem `event_erased`, which `docs/problems.md` explains. */
export class EventErasedError extends ProblemError {
  override readonly name: string = "EventErasedError";
}

/** The problem `organization_exists`, which `docs/problems.md` explains. */
export class OrganizationExistsError extends ProblemError {
  override readonly name: string = "OrganizationExistsError";
}

/** The problem `payload_too_large`, which `docs/problems.md` explains. */
export class PayloadTooLargeError extends ProblemError {
  override readonly name: string = "PayloadTooLargeError";
}

/** The problem `unsupported_media_type`, which `docs/problems.md` explains. */
export class UnsupportedMediaTypeError extends ProblemError {
  override readonly name: string = "UnsupportedMediaTypeError";
}

/** The problem `validation_failed`, which `docs/problems.md` explains. */
export class ValidationFailedError extends ProblemError {
  override readonly name: string = "ValidationFailedError";
}

/** The problem `dedup_mismatch`, which `docs/problems.md` explains. */
export class DedupMismatchError extends ProblemError {
  override readonly name: string = "DedupMismatchError";
}

/** The problem `egress_blocked`, which `docs/problems.md` explains. */
export class EgressBlockedError extends ProblemError {
  override readonly name: string = "EgressBlockedError";
}

/** The problem `limit_reached`, which `docs/problems.md` explains. */
export class LimitReachedError extends ProblemError {
  override readonly name: string = "LimitReachedError";
}

/** The problem `rate_limited`, which `docs/problems.md` explains. */
export class RateLimitedError extends ProblemError {
  override readonly name: string = "RateLimitedError";
}

/** The problem `head_too_large`, which `docs/problems.md` explains. */
export class HeadTooLargeError extends ProblemError {
  override readonly name: string = "HeadTooLargeError";
}

/** The problem `internal`, which `docs/problems.md` explains. */
export class InternalError extends ProblemError {
  override readonly name: string = "InternalError";
}

/** The problem `overloaded`, which `docs/problems.md` explains. */
export class OverloadedError extends ProblemError {
  override readonly name: string = "OverloadedError";
}

/** The problem `shutting_down`, which `docs/problems.md` explains. */
export class ShuttingDownError extends ProblemError {
  override readonly name: string = "ShuttingDownError";
}

/** The problem `disk_full`, which `docs/problems.md` explains. */
export class DiskFullError extends ProblemError {
  override readonly name: string = "DiskFullError";
}

export const byCode: Record<string, typeof ProblemError> = {
  malformed_json: MalformedJsonError,
  conflicting_dedup_id: ConflictingDedupIdError,
  invalid_request: InvalidRequestError,
  unauthorized: UnauthorizedError,
  forbidden: ForbiddenError,
  organization_suspended: OrganizationSuspendedError,
  not_found: NotFoundError,
  method_not_allowed: MethodNotAllowedError,
  request_timeout: RequestTimeoutError,
  event_erased: EventErasedError,
  organization_exists: OrganizationExistsError,
  payload_too_large: PayloadTooLargeError,
  unsupported_media_type: UnsupportedMediaTypeError,
  validation_failed: ValidationFailedError,
  dedup_mismatch: DedupMismatchError,
  egress_blocked: EgressBlockedError,
  limit_reached: LimitReachedError,
  rate_limited: RateLimitedError,
  head_too_large: HeadTooLargeError,
  internal: InternalError,
  overloaded: OverloadedError,
  shutting_down: ShuttingDownError,
  disk_full: DiskFullError,
};
