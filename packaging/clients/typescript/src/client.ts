import { answers } from "./answers.js";
import { ConnectionFailedError, ProblemError, type SentRequest, TriggerdError } from "./errors.js";
import { byCode, EventErasedError, NotFoundError, OrganizationSuspendedError } from "./problems.js";
import type {
  Answer,
  Input,
  Item,
  ListRoute,
  Route,
  Schemas,
  StreamItem,
  StreamRoute,
} from "./routes.js";

/** The waits of a retry in milliseconds: the first one, and the longest, also by `Retry-After`. */
const PAUSE_MIN_MS = 200;
const PAUSE_MAX_MS = 60_000;
/** The milliseconds between the tries of a consumer whose server is away. */
const PAUSE_AWAY_MS = 5_000;
/** An id that no event has. Its acknowledgement shows whether an event can be acknowledged. */
const NO_EVENT = "evt_00000000000000000000000000";

/** A stream that is silent for longer is broken: the server writes something every 15 seconds. */
const STREAM_SILENCE_MS = 45_000;

export interface ClientOptions {
  /** Without it, `TRIGGERD_URL` of the environment, or `http://127.0.0.1:8080`. */
  url?: string;
  /** An API key or the admin token; without it, `TRIGGERD_API_KEY` of the environment. */
  key?: string;
  /** The milliseconds that one try may take. */
  timeoutMs?: number;
  /** How often a request is sent again, where this is safe. */
  retries?: number;
  /** Used in the place of the global `fetch`. */
  fetch?: (url: string, init: RequestInit) => Promise<Response>;
}

export interface ConsumeOptions {
  /** Only these event types, as in the parameter `type` of lists. */
  type?: string;
  /** The maximum number of events on a page. */
  limit?: number;
  /** The seconds that a request waits for an event, 1 to 30. */
  wait?: number;
  /** Milliseconds before a handler that failed gets its event again; twice as long each time. */
  pauseMs?: number;
  /** The longest such pause. */
  pauseMaxMs?: number;
  /** Ends the consumer between events, and a request that waits for an event. */
  signal?: AbortSignal;
  /** Called when a handler failed; without it, the failure is written to the console. */
  onFailure?: (event: Schemas["Event"], error: unknown) => void;
}

interface Parts {
  path?: Record<string, string>;
  query?: Record<string, string | number | undefined>;
  header?: Record<string, string | undefined>;
  body?: unknown;
}

type Arguments<R extends Route | StreamRoute> =
  Record<never, never> extends Input<R>
    ? [input?: Input<R>, signal?: AbortSignal]
    : [input: Input<R>, signal?: AbortSignal];

export class Client {
  readonly #url: string;
  readonly #key: string;
  readonly #timeoutMs: number;
  readonly #retries: number;
  readonly #fetch: NonNullable<ClientOptions["fetch"]>;

  constructor(options: ClientOptions = {}) {
    const { process } = globalThis as { process?: { env?: Record<string, string | undefined> } };
    const url = options.url ?? process?.env?.TRIGGERD_URL ?? "http://127.0.0.1:8080";
    this.#url = serverUrl(url);
    this.#key = serverKey(options.key ?? process?.env?.TRIGGERD_API_KEY ?? "");
    this.#timeoutMs = options.timeoutMs ?? 30_000;
    this.#retries = options.retries ?? 5;
    this.#fetch = options.fetch ?? ((to, init) => fetch(to, init));
  }

  /** Sends an event. Without a `dedup_id` it gets one, so that retries are safe. */
  async send(event: Schemas["PostedEvent"]): Promise<Schemas["Receipt"]> {
    const body = identified(event);
    const sent = requestOf("POST /api/events", { body }, true);
    return (await this.#exchange(sent)) as Schemas["Receipt"];
  }

  /** Sends at most 1,000 events. Look at each result: an item can be `rejected`. */
  async sendBatch(events: Iterable<Schemas["PostedEvent"]>): Promise<Schemas["BatchResult"][]> {
    const body = { events: Array.from(events, identified) };
    const sent = requestOf("POST /api/events/batch", { body }, true);
    return ((await this.#exchange(sent)) as Schemas["BatchResults"]).results;
  }

  /** Sends any request of the API: `client.request("GET /api/events", { query: { limit: 5 } })`. */
  async request<R extends Route>(route: R, ...[input, signal]: Arguments<R>): Promise<Answer<R>> {
    return (await this.#exchange(requestOf(route, input as Parts), signal)) as Answer<R>;
  }

  /** Sends the request of an error again. */
  async repeat(error: TriggerdError, signal?: AbortSignal): Promise<unknown> {
    return this.#exchange(error.request, signal);
  }

  /** Iterates over the items of a list, page by page. */
  async *items<R extends ListRoute>(
    route: R,
    ...[input, signal]: Arguments<R>
  ): AsyncGenerator<Item<R>, void> {
    const parts: Parts = input ?? {};
    let cursor: string | undefined;
    do {
      const query = cursor === undefined ? parts.query : { ...parts.query, cursor };
      const page = (await this.#exchange(
        requestOf(route, { ...parts, ...(query && { query }) }),
        signal,
      )) as { data: Item<R>[]; has_more: boolean; next_cursor: string };
      yield* page.data;
      cursor = page.has_more ? page.next_cursor : undefined;
    } while (cursor !== undefined);
  }

  /**
   * Iterates over the items of a stream as they come, until the server ends it. A stream that
   * breaks off throws a `ConnectionFailedError` and is not opened again: the items in between would
   * be missing silently.
   */
  async *stream<R extends StreamRoute>(
    route: R,
    ...[input, signal]: Arguments<R>
  ): AsyncGenerator<StreamItem<R>, void> {
    const request = requestOf(route, input as Parts);
    const stop = new AbortController();
    let timer: ReturnType<typeof setTimeout> | undefined;
    const hear = () => {
      clearTimeout(timer);
      timer = setTimeout(() => stop.abort(new Error("it is silent")), STREAM_SILENCE_MS);
    };
    const broken = (why: unknown) =>
      new ConnectionFailedError(`the stream ${request.target} broke off: ${why}`, request);
    try {
      hear();
      const ends = signal ? AbortSignal.any([signal, stop.signal]) : stop.signal;
      const response = await this.#fetch(this.#url + request.target, this.#init(request, ends));
      if (!answers[request.route]?.[response.status]?.includes(mediaType(response))) {
        throw problemOf(response, await response.text(), request);
      }
      let text = "";
      const chunks = response.body?.pipeThrough(new TextDecoderStream()).getReader();
      for (let read = await chunks?.read(); read?.done === false; read = await chunks?.read()) {
        hear();
        const parts = (text + read.value).split("\n\n");
        text = parts.pop() ?? "";
        for (const part of parts) {
          const [, event, data] = /^event: (.*)\ndata: (.*)$/.exec(part) ?? [];
          if (data === undefined) continue;
          yield { event, data: JSON.parse(data) } as StreamItem<R>;
          if (event === "end") return;
        }
      }
      throw broken("it has no end");
    } catch (error) {
      signal?.throwIfAborted();
      throw error instanceof TriggerdError ? error : broken(error);
    } finally {
      clearTimeout(timer);
      stop.abort();
    }
  }

  /**
   * Gives each event of the inbox to the handler, and acknowledges it when that is done. If the
   * handler throws, the event stays in the inbox and comes again after a pause. `P` is the type of
   * the payload, which nothing checks.
   */
  async consume<P = unknown>(
    handler: (event: Schemas["Event"] & { payload: P }) => unknown,
    options: ConsumeOptions = {},
  ): Promise<void> {
    // Reads the inbox from its beginning to its end, then waits behind the end. When an event whose
    // handler failed is due again, the inbox is read from its beginning.
    const { limit = 50, wait = 20, pauseMs = 1_000, pauseMaxMs = 300_000, type, signal } = options;
    const onFailure = options.onFailure ?? logFailure;
    const failures = new Map<string, { times: number; due: number }>();
    const secondsToDue = () => {
      const due = Math.min(...Array.from(failures.values(), (failure) => failure.due));
      return Math.min(wait, Math.max(0, Math.ceil((due - performance.now()) / 1_000)));
    };
    let cursor: string | undefined;
    await this.#acknowledge(NO_EVENT, signal);
    let began = performance.now();
    while (!signal?.aborted) {
      const query = { limit, cursor, type, wait: secondsToDue() };
      const page = (await this.#patiently(
        requestOf("GET /api/inbox", { query }),
        signal,
        signal,
      )) as Schemas["EventPage"] | undefined;
      if (!page) return;
      for (const event of page.data as (Schemas["Event"] & { payload: P })[]) {
        if (signal?.aborted) return;
        const times = failures.get(event.id)?.times ?? 0;
        if ((failures.get(event.id)?.due ?? 0) > performance.now()) continue;
        try {
          await handler(event);
        } catch (error) {
          const due = performance.now() + pauseAfter(times, pauseMs, pauseMaxMs);
          failures.set(event.id, { times: times + 1, due });
          onFailure(event, error);
          continue;
        }
        failures.delete(event.id);
        await this.#acknowledge(event.id, signal);
      }
      cursor = page.next_cursor;
      if (page.has_more) continue;
      for (const [id, { due }] of failures) {
        // What was due before this reading and was not met has left the inbox.
        if (due < began) failures.delete(id);
      }
      if (failures.size > 0 && secondsToDue() === 0) {
        cursor = undefined;
        began = performance.now();
      }
    }
  }

  async #acknowledge(event_id: string, stop?: AbortSignal): Promise<void> {
    const request = requestOf("POST /api/ack/{event_id}", { path: { event_id } }, true);
    try {
      await this.#patiently(request, undefined, stop);
    } catch (error) {
      // An event that expired or was erased has left the inbox, too.
      if (!(error instanceof NotFoundError || error instanceof EventErasedError)) throw error;
    }
  }

  /**
   * Sends the request until it has an answer: a consumer waits for a server that is away, and for
   * the end of a suspension. `signal` breaks it off, and then there is no answer; `stop` only ends
   * the waiting.
   */
  async #patiently(
    request: SentRequest,
    signal: AbortSignal | undefined,
    stop: AbortSignal | undefined,
  ): Promise<unknown> {
    for (;;) {
      try {
        return await this.#exchange(request, signal);
      } catch (error) {
        if (signal?.aborted) return undefined;
        const isSuspended = error instanceof OrganizationSuspendedError;
        const isFinal = error instanceof ProblemError && !mayRepeat(error) && !isSuspended;
        if (isFinal || !(error instanceof TriggerdError) || stop?.aborted) throw error;
        console.warn(`the consumer waits for the server: ${error.message}`);
      }
      await sleep(PAUSE_AWAY_MS, stop).catch(() => undefined);
    }
  }

  /** Sends the request until it has an answer, where sending it again is safe. */
  async #exchange(request: SentRequest, signal?: AbortSignal): Promise<unknown> {
    let isUnknown = false;
    for (let attempt = 0; ; attempt += 1) {
      const isLast = attempt >= this.#retries;
      let leastMs = 0;
      const answer = await this.#attempt(request, signal);
      if (answer instanceof ConnectionFailedError) {
        if (isLast || !(answer.isUnsent || request.isRepeatable)) throw answer;
        isUnknown ||= !answer.isUnsent;
      } else if (!(answer instanceof ProblemError)) {
        return answer.value;
      } else if (answer.status === 404 && isUnknown && request.method === "DELETE") {
        // An earlier request without an answer deleted it.
        return undefined;
      } else {
        leastMs = answer.retryAfterMs ?? 0;
        if (isLast || leastMs > PAUSE_MAX_MS || !mayRepeat(answer)) throw answer;
        isUnknown ||= answer.status >= 500;
      }
      await sleep(Math.max(leastMs, pauseAfter(attempt, PAUSE_MIN_MS, PAUSE_MAX_MS)), signal);
    }
  }

  #init({ method, headers, body }: SentRequest, signal: AbortSignal): RequestInit {
    const all = new Headers(headers);
    if (this.#key) all.set("authorization", `Bearer ${this.#key}`);
    const init: RequestInit = { method, headers: all, redirect: "manual", signal };
    if (body !== undefined) init.body = body;
    return init;
  }

  async #attempt(
    request: SentRequest,
    signal?: AbortSignal,
  ): Promise<{ value: unknown } | ProblemError | ConnectionFailedError> {
    const { method, target } = request;
    const late = AbortSignal.timeout(this.#timeoutMs + request.waitMs);
    const init = this.#init(request, signal ? AbortSignal.any([signal, late]) : late);
    try {
      const response = await this.#fetch(this.#url + target, init);
      const text = await response.text();
      return readOf(response, text, request);
    } catch (cause) {
      signal?.throwIfAborted();
      const why = cause instanceof Error ? (cause.cause ?? cause) : cause;
      const text = `no answer to ${method} ${this.#url}${target}: ${why}`;
      return new ConnectionFailedError(text, request, { cause });
    }
  }
}

/** Returns the URL of the server. As on the command line, `http://` can be left out. */
function serverUrl(text: string): string {
  const given = text.trim();
  const url = (given.includes("://") ? given : `http://${given}`).replace(/\/+$/, "");
  const { protocol, username } = URL.canParse(url) ? new URL(url) : { protocol: "", username: "" };
  if (/^https?:$/.test(protocol) && username === "") return url;
  throw new TypeError("the URL of the server is not like http://127.0.0.1:8080");
}

/** Returns the key without space around it. An error never shows the key. */
function serverKey(text: string): string {
  const key = text.trim();
  if (/^[!-~]*$/.test(key)) return key;
  throw new TypeError("the key has a character that no key of triggerd has");
}

function identified(event: Schemas["PostedEvent"]): Schemas["PostedEvent"] {
  return { ...event, dedup_id: event.dedup_id ?? crypto.randomUUID() };
}

function requestOf(route: Route | StreamRoute, input: Parts = {}, isSafe = false): SentRequest {
  if (!answers[route]) throw new TypeError(`the API has no route ${route}`);
  const [method = "", template = ""] = route.split(" ");
  const query = new URLSearchParams();
  for (const [name, value] of Object.entries(input.query ?? {})) {
    if (value !== undefined && value !== null) query.set(name, String(value));
  }
  const path = template.replace(/\{(\w+)\}/g, (_, name: string) => {
    const value = input.path?.[name];
    // Such a value changes the route.
    if (typeof value !== "string" || /^\.{0,2}$/.test(value)) {
      throw new TypeError(`${route} needs the id ${name}, not ${JSON.stringify(value)}`);
    }
    return encodeURIComponent(value);
  });
  const headers: Record<string, string> = {};
  for (const [name, value] of Object.entries(input.header ?? {})) {
    if (value !== undefined) headers[name] = value;
  }
  const body = input.body === undefined ? undefined : JSON.stringify(input.body);
  if (body !== undefined) headers["content-type"] = "application/json";
  // A `DELETE` with a body chooses what it deletes, so a second one can delete more.
  const isPlainDelete = method === "DELETE" && body === undefined;
  return {
    route,
    method,
    target: query.size > 0 ? `${path}?${query}` : path,
    body,
    headers,
    isRepeatable: isSafe || isPlainDelete || method === "GET" || method === "PUT",
    waitMs: Number(input.query?.wait ?? 0) * 1_000,
  };
}

/** Returns true if the request can be sent again after this answer. */
function mayRepeat({ status, retryAfterMs, request }: ProblemError): boolean {
  // The server refused the request before it did anything.
  if ((status === 429 || status === 503) && retryAfterMs !== undefined) return true;
  return (status === 408 || status === 429 || status >= 500) && request.isRepeatable;
}

function mediaType(response: Response): string {
  return (response.headers.get("content-type") ?? "").replace(/;.*/, "").trim().toLowerCase();
}

/** Reads the answer. Anything but an answer that the route has is an error. */
function readOf(
  response: Response,
  text: string,
  request: SentRequest,
): { value: unknown } | ProblemError {
  const form = answers[request.route]?.[response.status];
  if (form?.length === 0)
    return text === "" ? { value: undefined } : foreign(response, text, request);
  const [kinds = "", ...members] = form ?? [];
  const kind = mediaType(response);
  if (kind === "" || !kinds.split(" ").includes(kind)) return problemOf(response, text, request);
  if (kind !== "application/json") return { value: text };
  const value = JSON.parse(text);
  const isWhole = members.length === 0 || (typeof value === "object" && value !== null);
  if (!isWhole || !members.every((name) => name in value)) return foreign(response, text, request);
  return { value };
}

function problemOf(response: Response, text: string, request: SentRequest): ProblemError {
  if (response.status < 400) return foreign(response, text, request);
  try {
    const problem = JSON.parse(text) as Schemas["Problem"];
    if (typeof problem.code !== "string") throw new TypeError("there is no code");
    return new (byCode[problem.code] ?? ProblemError)(problem, request, retryAfterOf(response));
  } catch {
    return foreign(response, text, request);
  }
}

/** Returns the error for an answer that triggerd does not give: another server gave it. */
function foreign({ status, headers }: Response, text: string, request: SentRequest): ProblemError {
  const start = text.slice(0, 200);
  const detail = `triggerd does not give this answer ${status} to this request: ${start}`;
  const request_id = headers.get("x-request-id");
  const problem = { code: "not_from_triggerd", status, detail, request_id };
  return new ProblemError(
    problem as unknown as Schemas["Problem"],
    request,
    retryAfterOf({ headers }),
  );
}

function retryAfterOf({ headers }: Pick<Response, "headers">): number | undefined {
  const after = Number(headers.get("retry-after") ?? Number.NaN);
  return Number.isNaN(after) ? undefined : after * 1_000;
}

/** Returns the wait after an attempt: twice as long each time, with a random share. */
function pauseAfter(attempt: number, leastMs: number, mostMs: number): number {
  return Math.min(mostMs, leastMs * 2 ** attempt) * (0.5 + Math.random() / 2);
}

async function sleep(ms: number, signal?: AbortSignal): Promise<void> {
  signal?.throwIfAborted();
  await new Promise<void>((resolve, reject) => {
    const stop = () => {
      clearTimeout(timer);
      reject(signal?.reason);
    };
    const timer = setTimeout(() => {
      signal?.removeEventListener("abort", stop);
      resolve();
    }, ms);
    signal?.addEventListener("abort", stop, { once: true });
  });
}

function logFailure(event: Schemas["Event"], error: unknown): void {
  console.error(`the handler failed for the event ${event.id}`, error);
}
