// The rules of retries and of the consumer, against answers from a script. The clock of timers is a
// mock, so nothing waits.
import assert from "node:assert/strict";
import { beforeEach, mock, test } from "node:test";
import {
  Client,
  ConnectionFailedError,
  ForbiddenError,
  NotFoundError,
  OverloadedError,
  ProblemError,
  UnauthorizedError,
} from "triggerd";
import { verify } from "triggerd/webhooks";
import { answers } from "../dist/answers.js";

const LOST = "lost";
const GET = (client) => client.request("GET /api/events");
const SEND = (client) => client.send({ type: "a", payload: null });
const POST = (client) => client.request("POST /api/endpoints", { body: { url: "https://a.b/" } });
const DELETE = (client) =>
  client.request("DELETE /api/endpoints/{endpoint_id}", { path: { endpoint_id: "ep_1" } });
const DROP = (client) =>
  client.request("DELETE /api/dead-letters", { body: { endpoint_id: "ep_1" } });

const answer = (status, value, headers = {}) => ({
  status,
  body: typeof value === "string" ? value : JSON.stringify(value),
  headers: { "content-type": "application/json", ...headers },
});
const problem = (status, code, headers) =>
  answer(status, { status, code, detail: "why", request_id: "r1" }, headers);
const BUSY = problem(503, "overloaded", { "retry-after": "3" });
const LIMITED = problem(429, "rate_limited", { "retry-after": "1" });
const INTERNAL = problem(500, "internal");
const GATEWAY = answer(503, "<html>", { "content-type": "text/html" });
const GONE = problem(404, "not_found");
const ROUTES = new Map([
  [GET, "GET /api/events"],
  [SEND, "POST /api/events"],
  [POST, "POST /api/endpoints"],
  [DELETE, "DELETE /api/endpoints/{endpoint_id}"],
  [DROP, "DELETE /api/dead-letters"],
]);
/** The answer of a request that succeeded, and its value. */
function done(operation) {
  const [[status, [kind, ...members]]] = Object.entries(answers[ROUTES.get(operation)]);
  if (!kind) return [{ status: Number(status), body: null, headers: {} }, undefined];
  const value = Object.fromEntries(members.map((name) => [name, "done"]));
  return [answer(Number(status), value), value];
}

let pauses;
beforeEach(() => {
  pauses = [];
  mock.restoreAll();
  mock.method(globalThis, "setTimeout", (done, ms) => {
    pauses.push(ms);
    return setImmediate(done);
  });
  mock.method(console, "warn", () => undefined);
});

/** A client with scripted answers. `sent` has its requests. */
function scripted(answers, options = {}) {
  const left = [...answers];
  const sent = [];
  const fetch = async (url, init) => {
    sent.push({ url, ...init });
    const next = left.shift();
    if (next === LOST) throw new TypeError("fetch failed");
    return new Response(next.body, next);
  };
  return {
    client: new Client({ url: "http://a/", key: "k", retries: 2, fetch, ...options }),
    sent,
  };
}

async function play(operation, ...answers) {
  const { client, sent } = scripted(answers);
  const result = await operation(client).catch((error) => error);
  assert.equal(sent.length, answers.length);
  return result;
}

test("what is safe is repeated", async () => {
  for (const operation of [GET, SEND, DELETE]) {
    for (const passing of [LOST, INTERNAL, GATEWAY, BUSY, LIMITED]) {
      const [answered, value] = done(operation);
      assert.deepEqual(await play(operation, passing, passing, answered), value);
    }
  }
});

test("what may have been done is not repeated", async () => {
  for (const operation of [POST, DROP]) {
    assert.ok((await play(operation, LOST)) instanceof ConnectionFailedError);
    for (const unclear of [INTERNAL, GATEWAY]) {
      assert.ok((await play(operation, unclear)) instanceof ProblemError);
    }
  }
  assert.deepEqual(pauses, []);
});

test("a refusal with Retry-After is waited for", async () => {
  for (const operation of [POST, DROP, GET]) {
    const [answered, value] = done(operation);
    assert.deepEqual(await play(operation, BUSY, LIMITED, answered), value);
    assert.deepEqual(pauses.splice(0), [3000, 1000]);
  }
});

test("the last error is thrown, and long waits are left to the caller", async () => {
  const error = await play(GET, LOST, INTERNAL, BUSY);
  assert.ok(error instanceof OverloadedError);
  assert.deepEqual([error.code, error.status, error.requestId], ["overloaded", 503, "r1"]);
  assert.ok(pauses[0] <= 200 && pauses[1] >= 200 && pauses[1] <= 400);
  await play(GET, problem(503, "overloaded", { "retry-after": "3600" }));
  assert.equal(pauses.length, 2);
});

test("errors of the caller are not repeated, and foreign answers are errors", async () => {
  assert.ok((await play(GET, GONE)) instanceof NotFoundError);
  const later = await play(GET, problem(418, "a_code_of_a_later_version"));
  assert.deepEqual([later.name, later.code], ["ProblemError", "a_code_of_a_later_version"]);
  const foreign = await play(POST, GATEWAY);
  assert.deepEqual([foreign.code, foreign.status], ["not_from_triggerd", 503]);
});

test("a success of another server is an error", async () => {
  const html = { "content-type": "text/html" };
  for (const operation of ROUTES.keys()) {
    for (const status of [200, 201, 202, 301]) {
      for (const foreign of [
        answer(status, "<html>", html),
        answer(status, "", html),
        answer(status, { message: "hello" }),
        answer(status, []),
        answer(status, null),
      ]) {
        const error = await play(operation, foreign);
        assert.ok(error instanceof ProblemError, `${ROUTES.get(operation)} ${status}: ${error}`);
        assert.deepEqual([error.code, error.status], ["not_from_triggerd", status]);
      }
    }
  }
  const nothing = await play(SEND, { status: 204, body: null, headers: {} });
  assert.equal(nothing.code, "not_from_triggerd");
  const batch = (client) => client.sendBatch([{ type: "a", payload: 1 }]);
  assert.equal((await play(batch, answer(200, {}))).code, "not_from_triggerd");
});

test("the health of an unhealthy server is an answer", async () => {
  const failing = answer(503, { status: "failing" });
  for (const route of ["GET /health", "GET /health/ready"]) {
    assert.deepEqual(await play((client) => client.request(route), failing), { status: "failing" });
  }
});

test("an answer that breaks off is a lost one", async () => {
  const [answered, value] = done(GET);
  assert.deepEqual(await play(GET, answer(200, '{"data": ['), answered), value);
  assert.ok((await play(DROP, answer(200, '{"dropped": '))) instanceof ConnectionFailedError);
});

test("a deletion whose answer was lost is done when nothing is there", async () => {
  assert.equal(await play(DELETE, LOST, GONE), undefined);
  assert.ok((await play(DELETE, GONE)) instanceof NotFoundError);
  assert.ok((await play(DELETE, LIMITED, GONE)) instanceof NotFoundError);
});

test("a stream has items and an end, and throws if it breaks off or is refused", async () => {
  const START = 'event: start\ndata: {"attempts":true}\n\n: nothing new\n\n';
  const END = 'event: end\ndata: {"reason":"shutting_down"}\n\n';
  const kind = { "content-type": "text/event-stream" };
  const items = async (body, status = 200, headers = kind) => {
    const { client } = scripted([{ status, headers, body }]);
    const all = [];
    for await (const item of client.stream("GET /api/tail")) all.push(item);
    return all;
  };
  const events = (await items(START + END)).map(({ event }) => event);
  assert.deepEqual(events, ["start", "end"]);
  await assert.rejects(items(START), ConnectionFailedError);
  await assert.rejects(items("<html>", 200, { "content-type": "text/html" }), /not_from_triggerd/);
  await assert.rejects(items(BUSY.body, 503, BUSY.headers), OverloadedError);
});

test("requests have the key, the query and a dedup_id that stays", async () => {
  const { client, sent } = scripted([done(GET)[0], LOST, LOST, LOST, done(SEND)[0]]);
  await client.request("GET /api/inbox", { query: { wait: 20, type: "a.*,!b" } });
  assert.equal(sent[0].url, "http://a/api/inbox?wait=20&type=a.*%2C%21b");
  assert.equal(sent[0].headers.get("authorization"), "Bearer k");
  const error = await SEND(client).catch((failure) => failure);
  assert.match(error.message, /no answer to POST http:\/\/a\/api\/events: TypeError: fetch failed/);
  await client.repeat(error);
  assert.equal(new Set(sent.slice(1).map(({ body }) => body)).size, 1);
  assert.equal(JSON.parse(sent[1].body).dedup_id.length, 36);
});

test("a request ends when it is late or its signal says so", async () => {
  const fetch = (_url, { signal }) =>
    new Promise((_, reject) => {
      signal.addEventListener("abort", () => reject(signal.reason));
    });
  const late = new Client({ url: "http://a", timeoutMs: 1, retries: 1, fetch });
  const alive = setInterval(() => undefined, 1000);
  await assert.rejects(GET(late), /ConnectionFailedError: .*TimeoutError/);
  clearInterval(alive);
  const stop = new AbortController();
  const waiting = new Client({ url: "http://a", fetch }).request(
    "GET /api/events",
    {},
    stop.signal,
  );
  stop.abort(new Error("enough"));
  await assert.rejects(waiting, /^Error: enough$/);
});

test("a consumer waits for its server, and ends when its key does", async () => {
  const page = { data: [{ id: "evt_1" }], has_more: false, next_cursor: "c" };
  const { client, sent } = scripted(
    [GONE, LOST, INTERNAL, BUSY, answer(200, page), GONE, problem(401, "unauthorized")],
    { retries: 0 },
  );
  const handled = [];
  await assert.rejects(
    client.consume(({ id }) => handled.push(id)),
    UnauthorizedError,
  );
  assert.deepEqual(handled, ["evt_1"]);
  assert.equal(sent[5].url, "http://a/api/ack/evt_1");
  assert.equal(sent[6].url, "http://a/api/inbox?limit=50&cursor=c&wait=20");
});

test("a consumer gives out no event that it cannot acknowledge", async () => {
  const page = { data: [{ id: "evt_1" }], has_more: false, next_cursor: "c" };
  const suspended = problem(403, "organization_suspended");
  const { client, sent } = scripted([
    suspended,
    GONE,
    answer(200, page),
    suspended,
    GONE,
    problem(403, "forbidden"),
    problem(403, "forbidden"),
  ]);
  const handled = [];
  const consume = () => client.consume(({ id }) => handled.push(id));
  await assert.rejects(consume(), ForbiddenError);
  await assert.rejects(consume(), ForbiddenError);
  assert.deepEqual(handled, ["evt_1"]);
  const paths = sent.map(({ url }) => url.slice("http://a/api/".length).split("?")[0]);
  const none = "ack/evt_00000000000000000000000000";
  const expected = [none, none, "inbox", "ack/evt_1", "ack/evt_1", "inbox", none];
  assert.deepEqual(paths, expected);
});

test("a key is checked at once and never shown", () => {
  for (const key of ["trg_live_\nsecret", "trg_live_secretä", "trg live secret"]) {
    assert.throws(
      () => new Client({ key }),
      ({ message }) => /the key has a character/.test(message) && !/secret/.test(message),
    );
  }
});

test("space around a key and a missing scheme do no harm", async () => {
  const { client, sent } = scripted([done(GET)[0]], { url: " localhost:8080/\n", key: "key\n" });
  await GET(client);
  assert.equal(sent[0].url, "http://localhost:8080/api/events");
  assert.equal(sent[0].headers.get("authorization"), "Bearer key");
});

test("mistakes of the caller are refused at once", async () => {
  for (const url of ["ftp://a/", "http://", "http://a:b/", "http://u:p@a/", "http://\0/"]) {
    assert.throws(() => new Client({ url }), /URL of the server/);
  }
  const { client, sent } = scripted([]);
  for (const event_id of ["", ".", "..", undefined]) {
    const show = client.request("GET /api/events/{event_id}", { path: { event_id } });
    await assert.rejects(show, /^TypeError: GET .* needs the id event_id/);
  }
  await assert.rejects(
    client.request("GET /api/events/{event_id}", { path: { id: "a" } }),
    TypeError,
  );
  await assert.rejects(client.request("/api/events"), /the API has no route \/api\/events/);
  assert.equal(sent.length, 0);
});

test("a refused connection is tried again by every request", async () => {
  for (const [code, tries] of [
    ["ECONNREFUSED", 3],
    ["ECONNRESET", 1],
  ]) {
    let count = 0;
    const fetch = async () => {
      count += 1;
      throw new TypeError("fetch failed", { cause: Object.assign(new Error("no"), { code }) });
    };
    const error = await POST(new Client({ url: "a", retries: 2, fetch })).catch((it) => it);
    assert.ok(error instanceof ConnectionFailedError);
    assert.deepEqual([count, error.isUnsent], [tries, tries === 3]);
  }
});

test("a wrong secret or a parsed body is a mistake of the receiver", () => {
  for (const secret of ["whsec_!!!", "", "whsec_", undefined]) {
    assert.throws(
      () => verify(secret, {}, "{}"),
      /^TypeError: the secret is not one of an endpoint/,
    );
  }
  for (const body of [{ type: "a" }, undefined, null]) {
    assert.throws(
      () => verify("whsec_MfKQ9r8GKYqrTwjUPD8ILPZIo2LaLaSw", {}, body),
      /^TypeError: verify needs the bytes of the body as they arrived/,
    );
  }
});

test("an error names its only fault once", async () => {
  const one = { pointer: "/a", detail: "is no A" };
  const value = JSON.parse(problem(422, "validation_failed").body);
  const text = async (errors) => (await play(GET, answer(422, { ...value, errors }))).message;
  assert.equal(await text([one]), "validation_failed: why (request r1)");
  const two = await text([one, { pointer: "/b", detail: "is no B" }]);
  assert.equal(two, "validation_failed: why; /a is no A; /b is no B (request r1)");
});

test("an event that failed is read again from the beginning when it is due", async () => {
  const page = { data: [{ id: "evt_1" }], has_more: false, next_cursor: "c" };
  const empty = { ...page, data: [] };
  const { client, sent } = scripted([GONE, ...[page, empty, empty].map((it) => answer(200, it))]);
  const told = [];
  const stop = new AbortController();
  const handle = () => {
    throw new Error("no");
  };
  const onFailure = (_event, error) => told.push(error.message);
  const consumed = client.consume(handle, { pauseMs: 0, onFailure, signal: stop.signal });
  while (sent.length < 4) await new Promise(setImmediate);
  stop.abort();
  await consumed.catch(() => undefined);
  assert.deepEqual(told, ["no"]);
  const queries = sent.map(({ url }) => url.split("?")[1]);
  assert.deepEqual(queries.slice(1, 4), [
    "limit=50&wait=20",
    "limit=50&wait=0",
    "limit=50&cursor=c&wait=20",
  ]);
});
