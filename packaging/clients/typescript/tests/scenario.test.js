// Plays `scenario.json`, which the client in Python plays, too.
import assert from "node:assert/strict";
import { after, before, test } from "node:test";
import { byCode, Client, ConnectionFailedError } from "triggerd";
import { isOperational, verify, WebhookVerificationError } from "triggerd/webhooks";
import { scenario, startBreakingProxy, startReceiver, startServer } from "./world.js";

let server;
before(async () => {
  server = await startServer();
});
after(() => server.stop());

test("the scenario loses and doubles nothing", async () => {
  await play(server.url, false);
});

test("the scenario loses and doubles nothing over connections that break", async () => {
  const proxy = await startBreakingProxy(server.url);
  await play(proxy.url, true);
  proxy.stop();
  assert.ok(proxy.broken > 20);
});

async function play(url, isBroken) {
  const keys = {};
  for (const tier of ["free", "pro"]) {
    const body = { organization: `${tier} ${isBroken}`, tier };
    keys[tier] = (await server.admin.request("POST /api/keys/generate", { body })).key;
  }
  for (const step of scenario.steps) {
    const client = new Client({ url, key: step.key ?? keys[step.tier ?? "pro"] });
    const direct = new Client({ url: server.url, key: keys.pro });
    const played = steps[step.do](client, step, isBroken, direct);
    if (step.problem) {
      await assert.rejects(played, (error) => {
        assert.ok(error instanceof byCode[step.problem.code], error.stack);
        assertPart(step.problem, error);
        assert.ok(error.requestId && error.message.includes(error.requestId));
        return true;
      });
      continue;
    }
    const answer = await played;
    assertPart(step.answer, answer);
    if (!isBroken) assertPart(step.unless_broken, answer);
  }
}

const steps = {
  send: (client, { event }) => client.send(event),

  async send_each(client, step) {
    for (const event of eventsOf(step)) await client.send(event);
  },

  async send_batch(client, step) {
    const results = await client.sendBatch(step.events ?? eventsOf(step));
    if (step.events) {
      const isRepeated = results[0].status === "duplicate";
      return isRepeated ? [{ ...results[0], status: "accepted" }, ...results.slice(1)] : results;
    }
    assert.equal(results.length, step.to - step.from);
    assert.ok(results.every(({ status }) => status === "accepted" || status === "duplicate"));
  },

  async items(client, { route, query, count }) {
    const ids = [];
    for await (const { id } of client.items(route, { query })) ids.push(id);
    assert.equal(ids.length, count);
    assert.equal(new Set(ids).size, count);
  },

  request: (client, { route, path, query, body, may_break }, isBroken) =>
    tries(may_break && isBroken, () => client.request(route, { path, query, body })),

  async watch(client, { route, query, first, event, second }, _isBroken, direct) {
    // The proxy reads an answer to its end before it passes the answer on.
    const items = direct.stream(route, { query });
    assertPart(first, (await items.next()).value);
    await client.send(event);
    assertPart(second, (await items.next()).value);
    await items.return();
  },

  async consume(client, { type, numbers, fails_once_each }) {
    const handled = new Map();
    const failed = new Set();
    const told = [];
    const stop = new AbortController();
    const handle = ({ payload: { n } }) => {
      if (n % fails_once_each === 0 && !failed.has(n)) {
        failed.add(n);
        throw new Error("fails once");
      }
      handled.set(n, (handled.get(n) ?? 0) + 1);
      if (handled.size === numbers) stop.abort();
    };
    const onFailure = ({ id }) => told.push(id);
    const signal = AbortSignal.any([stop.signal, AbortSignal.timeout(180_000)]);
    await client.consume(handle, { type, pauseMs: 100, wait: 1, signal, onFailure });
    assert.equal(handled.size, numbers);
    assert.ok([...handled].every(([n, times]) => n < numbers && times === 1));
    assert.equal(told.length, numbers / fails_once_each);
  },

  async receive(client, { endpoint, refusing, event, received, operational }, isBroken) {
    const receiver = await startReceiver();
    const create = (url, members) =>
      tries(isBroken, () => client.request("POST /api/endpoints", { body: { url, ...members } }));
    const { secret } = await create(receiver.url, endpoint);
    if (refusing) await create(`${receiver.url}/refuse`, refusing);
    await client.send(event);
    const { headers, body } = await receiver.received;
    receiver.stop();
    const verified = verify(secret, headers, body);
    assertPart(received, verified);
    assertPart(received, verify(secret, new Headers(headers), body.toString()));
    assert.equal(isOperational(verified), operational);
    for (const [forged, bytes] of [
      [headers, Buffer.concat([body, Buffer.from(" ")])],
      [headers, Buffer.from([0xff])],
      [{ ...headers, "webhook-signature": "v1" }, body],
      [{ ...headers, "webhook-timestamp": "1" }, body],
      [{}, body],
    ]) {
      assert.throws(() => verify(secret, forged, bytes), WebhookVerificationError);
    }
  },
};

/** Tries again what the client leaves to its user, because it is not safe to repeat. */
async function tries(isBroken, request) {
  for (let left = isBroken ? 10 : 1; ; left -= 1) {
    try {
      return await request();
    } catch (error) {
      if (left === 1 || !(error instanceof ConnectionFailedError)) throw error;
    }
  }
}

function eventsOf({ type, from, to }) {
  return Array.from({ length: to - from }, (_, at) => ({ type, payload: { n: from + at } }));
}

/** Asserts that the whole has each member of the part. */
function assertPart(part, whole) {
  if (typeof part !== "object" || part === null) {
    if (part !== undefined) assert.equal(whole, part);
    return;
  }
  if (Array.isArray(part)) assert.equal(whole.length, part.length);
  for (const [name, value] of Object.entries(part)) assertPart(value, whole[name]);
}
