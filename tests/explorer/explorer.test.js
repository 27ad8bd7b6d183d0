// The explorer of `/docs/api` with the OpenAPI document, in a document that has just what its script
// uses.
'use strict';

const assert = require('node:assert/strict');
const { readFileSync } = require('node:fs');
const { join } = require('node:path');
const { test } = require('node:test');
const vm = require('node:vm');

const ROOT = process.env.TRIGGERD_SOURCE;
const SCRIPT = readFileSync(join(ROOT, 'src/http/api/docs/explorer.js'), 'utf8');
const API = readFileSync(join(ROOT, 'docs/openapi.json'), 'utf8');

/** An element with its children and listeners. */
class Element {
  constructor(name) {
    Object.assign(this, { tagName: name.toUpperCase(), children: [], listeners: {}, scrolled: false });
    if (name !== 'select') this.value = '';
  }
  append(...children) { this.children.push(...children); }
  replaceChildren(...children) { this.children = children; }
  addEventListener(name, listener) { this.listeners[name] = listener; }
  scrollIntoView() { this.scrolled = true; }
  set textContent(text) { this.children = [text]; }
  get textContent() { return this.children.map((child) => child.textContent ?? child).join(''); }
  /** All elements of a name below this one. */
  all(name) {
    const below = this.children.filter((child) => child instanceof Element);
    return below.flatMap((child) => [...(child.tagName === name ? [child] : []), ...child.all(name)]);
  }
  /** Clicks a button as a browser does: the form is submitted unless a listener prevents this. */
  click(detail = 1) {
    let isPrevented = false;
    this.listeners.click?.({ detail, preventDefault() { isPrevented = true; } });
    return isPrevented;
  }
}
Object.defineProperty(Element.prototype, 'value', {
  configurable: true,
  get() { return this.written ?? this.children[0]?.textContent; },
  set(text) { this.written = text; },
});

/** Loads the explorer, whose requests `answer` answers. */
async function loaded(answer, hash = '') {
  const root = new Element('div');
  const fetch = async (target, options) =>
    (target === '/openapi.json' ? new Response(API) : answer(target, options));
  vm.runInNewContext(SCRIPT, {
    AbortController, Headers, TextDecoderStream, URLSearchParams, fetch, performance,
    addEventListener() {},
    history: { replaceState() {} },
    location: { hash },
    document: {
      createElement: (name) => new Element(name),
      getElementById: (id) => (id === 'operations' ? root : root.all('DETAILS').find((one) => one.id === id)),
    },
  });
  await until(() => root.all('DETAILS').length > 0);
  const opened = (id) => {
    const section = root.all('DETAILS').find((one) => one.id === id);
    section.listeners.toggle();
    const [form] = section.all('FORM');
    const [send, stop] = form.all('BUTTON');
    const submit = () => form.listeners.submit({ preventDefault() {} });
    return { section, form, send, stop, submit };
  };
  return { root, opened };
}

/** Lets other work go on until the condition holds. */
async function until(condition) {
  for (let turn = 0; !condition(); turn += 1) {
    assert.ok(turn < 10_000, 'the condition does not come true');
    await new Promise((resolve) => { setImmediate(resolve); });
  }
}

const JSON_HEAD = { headers: { 'Content-Type': 'application/json' } };

test('an answer keeps each number as it came', async () => {
  const text = '{"n":12345678901234567890,"x":[1.0,{}],"text":"a \\" {,}"}';
  const { opened } = await loaded(() => new Response(text, JSON_HEAD));
  const { section, submit } = opened('showCaller');
  await submit();
  const shown = section.all('PRE')[0].textContent;
  const wanted = '{\n  "n": 12345678901234567890,\n  "x": [\n    1.0,\n    {}\n  ],\n  "text": "a \\" {,}"\n}';
  assert.ok(shown.endsWith(`\n\n${wanted}`), shown);
});

test('the first body of an event is plain JSON, and backticks enclose code', async () => {
  const { root, opened } = await loaded();
  for (const id of ['postEvent', 'postEvents']) {
    const { form } = opened(id);
    assert.equal(form.all('SELECT')[0].value, 'application/json');
    assert.ok(form.all('TEXTAREA')[0].value.includes('"payload"'));
  }
  assert.ok(!root.textContent.includes('`'), 'no backtick is shown');
});

test('a stream is shown as it comes and can be stopped', async () => {
  let stream;
  const { opened } = await loaded((target, { signal }) => {
    const body = new ReadableStream({ start(controller) { stream = controller; } });
    signal.addEventListener('abort', () => stream.error(signal.reason));
    return new Response(body, { headers: { 'Content-Type': 'text/event-stream' } });
  });
  const { section, stop, submit } = opened('watchActivity');
  assert.ok(stop.hidden, 'nothing runs yet');
  const ended = submit();
  await until(() => stream);
  stream.enqueue(new TextEncoder().encode('data: first\n\n'));
  await until(() => section.textContent.includes('data: first'));
  assert.ok(!stop.hidden);
  stop.click();
  await ended;
  assert.ok(stop.hidden && section.textContent.endsWith('Stopped.'));
  assert.ok(section.textContent.includes('data: first'), 'what came stays');
});

test('a deletion, a change and a rotation need a second click', async () => {
  const { opened } = await loaded();
  for (const id of ['revokeKey', 'changeOrganization', 'changeKey', 'dropDeadLetters', 'rotateKey']) {
    const { send } = opened(id);
    assert.deepEqual([send.click(), send.click(2), send.click()], [true, true, false], id);
    assert.ok(send.click(), 'the next request asks again');
    send.listeners.blur();
    assert.equal(send.textContent, 'Send');
  }
  assert.ok(!opened('listKeys').send.click(), 'a list needs one click');
});

test('the address of the page opens a section', async () => {
  const { root } = await loaded(undefined, '#postEvent');
  const named = root.all('DETAILS').find((one) => one.id === 'postEvent');
  await until(() => named.open && named.scrolled);
});
