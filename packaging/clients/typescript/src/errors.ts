import type { components } from "./schema.js";

type Problem = components["schemas"]["Problem"];

/** A request as it was sent, with its `dedup_id`: `client.repeat(error)` sends it again. */
export interface SentRequest {
  readonly route: string;
  readonly method: string;
  readonly target: string;
  readonly body: string | undefined;
  readonly headers: Record<string, string>;
  readonly isRepeatable: boolean;
  /** The milliseconds that the server may wait before it answers. */
  readonly waitMs: number;
}

/** The codes of `fetch` in Node when there is no connection. */
const UNSENT = ["ECONNREFUSED", "ENOTFOUND", "EAI_AGAIN", "UND_ERR_CONNECT_TIMEOUT"];

/** A request failed. */
export class TriggerdError extends Error {
  override readonly name: string = "TriggerdError";
  readonly request: SentRequest;

  constructor(text: string, request: SentRequest, options?: ErrorOptions) {
    super(text, options);
    this.request = request;
  }
}

/** No answer came. So the outcome of the request is unknown, unless it `isUnsent`. */
export class ConnectionFailedError extends TriggerdError {
  override readonly name: string = "ConnectionFailedError";
  /** True if there was no connection, so that certainly nothing was done. */
  readonly isUnsent: boolean;

  constructor(text: string, request: SentRequest, options?: ErrorOptions) {
    super(text, request, options);
    const { code } = (options?.cause as { cause?: { code?: unknown } } | undefined)?.cause ?? {};
    this.isUnsent = UNSENT.includes(String(code));
  }
}

/** The server answered with a problem. Its class, such as `NotFoundError`, follows its code. */
export class ProblemError extends TriggerdError {
  override readonly name: string = "ProblemError";
  /** A `ProblemCode`, a code of a later version, or `not_from_triggerd`. */
  readonly code: string;
  readonly status: number;
  readonly detail: string;
  readonly requestId: string | undefined;
  readonly errors: NonNullable<Problem["errors"]>;
  readonly problem: Problem;
  readonly retryAfterMs: number | undefined;

  constructor(problem: Problem, request: SentRequest, retryAfterMs?: number) {
    const errors = problem.errors ?? [];
    // The detail already names a fault that is the only one.
    const named = errors.length > 1 ? errors : [];
    const faults = named.map(({ pointer, detail }) => `; ${pointer} ${detail}`).join("");
    const requestId = problem.request_id ?? undefined;
    super(`${problem.code}: ${problem.detail}${faults} (request ${requestId})`, request);
    this.code = problem.code;
    this.status = problem.status;
    this.detail = problem.detail;
    this.requestId = requestId;
    this.errors = errors;
    this.problem = problem;
    this.retryAfterMs = retryAfterMs;
  }
}
