// Runs the app with Zapier's own library against a running server: TRIGGERD_URL and TRIGGERD_API_KEY say which.
'use strict';

const assert = require('node:assert');
const http = require('node:http');
const { after, test } = require('node:test');
const zapier = require('zapier-platform-core');

const App = require('../index');

const appTester = zapier.createAppTester(App);
const { performSubscribe, performUnsubscribe, perform, performList } = App.triggers.event.operation;
const authData = { url: process.env.TRIGGERD_URL, api_key: process.env.TRIGGERD_API_KEY };
const call = async (method, path, body) => {
  const headers = { 'X-API-Key': authData.api_key, 'Content-Type': 'application/json' };
  const response = await fetch(authData.url + path, { method, headers, body: body && JSON.stringify(body) });
  assert.ok(response.ok, `${method} ${path}: ${response.status}`);
  return response.json();
};
const send = async (type, payload) => (await call('POST', '/api/events', { type, payload })).id;

// Where Zapier would be: keeps what is posted, and lets the test wait for it.
class Target {
  static async start() {
    const target = new Target();
    target.requests = [];
    target.waiting = [];
    target.server = http.createServer(async (request, response) => {
      let content = '';
      for await (const chunk of request.setEncoding('utf8')) content += chunk;
      target.requests.push({ method: request.method, headers: request.headers, content });
      response.end('{}');
      target.waiting.splice(0).forEach((wake) => wake());
    });
    await new Promise((ready) => target.server.listen(0, '127.0.0.1', ready));
    target.url = `http://127.0.0.1:${target.server.address().port}/hooks/standard/1/`;
    after(() => {
      target.server.close();
      target.server.closeAllConnections();
    });
    return target;
  }

  async waitFor(count) {
    while (this.requests.length < count) await new Promise((wake) => this.waiting.push(wake));
    return this.requests;
  }
}

test('the app is one that Zapier would take', async () => {
  const { results } = await zapier.createAppHandler(App)({ command: 'validate' });
  assert.deepStrictEqual(results, []);
});

test('a Zap is set up with samples, turned on, run and turned off', { timeout: 60000 }, async () => {
  const inputData = { event: 'order.*' };
  assert.deepStrictEqual(await appTester(performList, { authData, inputData }), [], 'nothing has happened yet');
  const before = [await send('order.created', { order: 1 }), await send('invoice.paid', {}), await send('order.paid', { order: 1 })];
  const samples = await appTester(performList, { authData, inputData });
  assert.deepStrictEqual(samples.map((sample) => sample.id), [before[2], before[0]], 'the newest first, of the type alone');

  const [target, control] = [await Target.start(), await Target.start()];
  const turnOn = async ({ url: targetUrl }) => {
    const subscribeData = await appTester(performSubscribe, { authData, inputData, targetUrl });
    assert.match(subscribeData.id, /^ep_[0-9a-z]{26}$/);
    return { authData, inputData, targetUrl, subscribeData };
  };
  const [on] = [await turnOn(target), await turnOn(control)];

  await send('invoice.paid', {});
  const id = await send('order.created', { order: 2, customer: { name: 'Ada' } });
  const [{ method, headers, content }] = await target.waitFor(1);
  assert.deepStrictEqual([method, headers['content-type'], headers['webhook-id']], ['POST', 'application/json', id]);
  const rawRequest = { method, headers, content, querystring: '' };
  const triggered = await appTester(perform, { ...on, rawRequest, cleanedRequest: JSON.parse(content) });
  assert.strictEqual(triggered.length, 1);
  assert.deepStrictEqual([triggered[0].id, triggered[0].data], [id, { order: 2, customer: { name: 'Ada' } }]);
  const [sample] = await appTester(performList, { authData, inputData });
  assert.deepStrictEqual(triggered[0], sample, 'what arrives looks like the sample');
  await control.waitFor(1);

  assert.deepStrictEqual(await appTester(performUnsubscribe, on), { status: 204 });
  const last = await send('order.created', { order: 3 });
  await control.waitFor(2);
  const { deliveries } = await call('GET', `/api/events/${last}`);
  assert.strictEqual(deliveries.length, 1, 'for the other one');
  assert.strictEqual(target.requests.length, 1, 'nothing comes any more');
});

test('a wrong key is told to whoever sets up the Zap', async () => {
  const wrong = { authData: { ...authData, api_key: 'nonsense' }, inputData: { event: 'a' } };
  await assert.rejects(appTester(performList, wrong), (error) => /401/.test(error.message) && /unauthorized/.test(error.message));
});
