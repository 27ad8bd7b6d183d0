// The explorer: a form for each operation of the OpenAPI document. Everything is set as text, so
// nothing that a server answers becomes markup.
'use strict';

/** Makes an element with these properties and children. */
function element(name, properties = {}, ...children) {
  const made = Object.assign(document.createElement(name), properties);
  made.append(...children);
  return made;
}

/** Returns the schema behind a reference. */
function resolved(api, schema) {
  const path = schema?.$ref?.slice(2).split('/');
  return path ? path.reduce((value, name) => value[name], api) : schema ?? {};
}

/** Describes the values of a schema in a few words. */
function words(api, given) {
  const schema = resolved(api, given);
  const parts = [];
  if (schema.enum) parts.push(schema.enum.filter((value) => value !== null).join(', '));
  else if (schema.type) parts.push([schema.type].flat().filter((type) => type !== 'null').join(' or '));
  if (schema.minimum !== undefined) parts.push(`${schema.minimum} to ${schema.maximum}`);
  if (schema.default !== undefined) parts.push(`default ${JSON.stringify(schema.default)}`);
  return parts.join('; ');
}

/** Makes the nodes of a text of the document, where backticks enclose code. */
function marked(text) {
  return text.split('`').map((part, place) => (place % 2 ? element('code', { textContent: part }) : part));
}

/** Makes an input with its label. */
function labelled(text, input, hint) {
  return element('label', {}, element('span', { textContent: text }), input, element('small', {}, ...marked(hint)));
}

/** Makes the inputs of an operation's parameters. */
function inputs(api, operation) {
  return (operation.parameters ?? []).map((parameter) => {
    const input = element('input', { required: Boolean(parameter.required), autocomplete: 'off', spellcheck: false });
    const hint = [parameter.description, words(api, parameter.schema)].filter(Boolean).join(' ');
    return { parameter, input, label: labelled(parameter.name, input, hint) };
  });
}

/** Makes the request that the inputs describe. */
function request(method, path, fields, body, key) {
  const headers = new Headers();
  if (key) headers.set('X-API-Key', key);
  const query = new URLSearchParams();
  let target = path;
  for (const { parameter, input } of fields.filter(({ input }) => input.value !== '')) {
    if (parameter.in === 'path') target = target.replace(`{${parameter.name}}`, encodeURIComponent(input.value));
    else if (parameter.in === 'query') query.append(parameter.name, input.value);
    else headers.set(parameter.name, input.value);
  }
  const options = { method: method.toUpperCase(), headers, credentials: 'omit', redirect: 'error' };
  if (body && body.text.value.trim() !== '') {
    headers.set('Content-Type', body.type.value);
    options.body = body.text.value;
  }
  return [query.size ? `${target}?${query}` : target, options];
}

/** Indents a JSON text. Its tokens stay as they came, because a number that is read loses digits. */
function indented(text) {
  let depth = 0;
  const line = () => `\n${'  '.repeat(depth)}`;
  const tokens = text.match(/"(?:[^"\\]|\\.)*"|[{}[\],:]|[^\s"{}[\],:]+/g);
  return tokens.map((token, place) => {
    if ('{['.includes(token) && !'}]'.includes(tokens[place + 1])) {
      depth += 1;
      return token + line();
    }
    if ('}]'.includes(token) && !'{['.includes(tokens[place - 1])) {
      depth -= 1;
      return line() + token;
    }
    if (token === ',') return token + line();
    return token === ':' ? ': ' : token;
  }).join('');
}

/** Shows an answer: status, duration, headers and the body as it comes, indented if it is JSON. */
async function show(output, answer, began) {
  const headers = [...answer.headers].map(([name, value]) => `${name}: ${value}`).join('\n');
  const took = Math.round(performance.now() - began);
  const status = `${answer.status} ${answer.statusText}, ${took} ms`;
  const body = element('code', { textContent: `${headers}\n\n` });
  output.replaceChildren(element('p', {}, element('strong', { textContent: status })), element('pre', {}, body));
  if (/\bjson$/.test((answer.headers.get('Content-Type') ?? '').split(';')[0])) {
    const text = await answer.text();
    try {
      JSON.parse(text);
      body.append(indented(text));
    } catch {
      body.append(text);
    }
    return;
  }
  const reader = answer.body?.pipeThrough(new TextDecoderStream()).getReader();
  for (let piece = await reader?.read(); piece && !piece.done; piece = await reader.read()) {
    body.append(piece.value);
  }
}

/** Makes the input of a request's body. */
function bodyInput(operation) {
  const content = operation.requestBody?.content;
  if (!content) return null;
  const isJson = (name) => Number(name === 'application/json');
  const types = Object.keys(content).sort((a, b) => isJson(b) - isJson(a));
  const type = element('select', {}, ...types.map((name) => element('option', { textContent: name })));
  const text = element('textarea', { rows: 8, spellcheck: false });
  const fill = () => { text.value = JSON.stringify(content[type.value].example, null, 2); };
  type.addEventListener('change', fill);
  fill();
  return { type, text, labels: [labelled('Content-Type', type, ''), labelled('Body', text, '')] };
}

/** Makes the form of an operation. */
function form(api, method, path, operation, key) {
  const fields = inputs(api, operation);
  const body = bodyInput(operation);
  const output = element('div', { ariaLive: 'polite' });
  const send = confirmed(element('button', {}), method, path);
  const stop = element('button', { type: 'button', textContent: 'Stop', hidden: true });
  const made = element('form', {}, ...fields.map(({ label }) => label), ...(body?.labels ?? []), send, ' ', stop);
  let running = null;
  stop.addEventListener('click', () => running?.abort());
  made.addEventListener('submit', async (event) => {
    event.preventDefault();
    running?.abort();
    const own = new AbortController();
    running = own;
    stop.hidden = false;
    const [target, options] = request(method, path, fields, body, key.value.trim());
    const note = (text) => element('p', { textContent: text });
    output.replaceChildren(note(`${options.method} ${target} …`));
    try {
      const began = performance.now();
      await show(output, await fetch(target, { ...options, signal: own.signal }), began);
    } catch (error) {
      const why = own.signal.aborted ? 'Stopped.' : `The answer did not come or broke off: ${error.message}`;
      if (running === own) output.append(note(why));
    } finally {
      if (running === own) stop.hidden = true;
    }
  });
  return element('div', {}, made, output);
}

/** Lets a button that ends or changes things ask for a second click. A double click counts as one. */
function confirmed(button, method, path) {
  const asks = method === 'delete' || method === 'patch' || path.endsWith('/rotate');
  let isAsked = false;
  const ask = (now) => {
    isAsked = now;
    button.textContent = now ? `Click again to ${method.toUpperCase()} ${path}` : 'Send';
  };
  ask(false);
  button.addEventListener('blur', () => ask(false));
  button.addEventListener('click', (event) => {
    if (!asks) return;
    if (event.detail > 1 || !isAsked) event.preventDefault();
    if (event.detail <= 1) ask(!isAsked);
  });
  return button;
}

/** Makes the section of an operation, whose form is made when the section is opened. */
function section(api, method, path, operation, key) {
  const heading = element('summary', {},
    element('code', { textContent: `${method.toUpperCase()} ${path}` }), ' ', ...marked(operation.summary));
  const made = element('details', { id: operation.operationId }, heading);
  made.addEventListener('toggle', () => {
    // The address of the page leads to the section that was opened last.
    if (made.open) history.replaceState(null, '', `#${made.id}`);
    if (made.children.length > 1) return;
    const scopes = (operation.security ?? []).flatMap((scheme) => Object.entries(scheme))
      .filter(([name]) => !name.endsWith('AsBearer'))
      .map(([name, roles]) => [name === 'admin' ? 'the admin token' : 'a key', ...roles].join(' with '));
    const needs = scopes.length ? `Needs ${scopes.join(', or ')}.` : 'Needs no key.';
    made.append(
      element('p', {}, ...marked([operation.description, needs].filter(Boolean).join(' '))),
      form(api, method, path, operation, key),
    );
  });
  return made;
}

/** Shows all operations, by tag. */
function explorer(root, api) {
  const key = element('input', { type: 'password', autocomplete: 'off', placeholder: 'trg_live_…' });
  root.replaceChildren(labelled('API key or admin token', key, 'Sent as X-API-Key with each request.'));
  const all = Object.entries(api.paths).flatMap(([path, methods]) =>
    Object.entries(methods).map(([method, operation]) => ({ method, path, operation })));
  for (const { name, description } of api.tags) {
    const found = all.filter(({ operation }) => operation.tags.includes(name));
    root.append(
      element('h3', { textContent: name }),
      element('p', {}, ...marked(description)),
      ...found.map(({ method, path, operation }) => section(api, method, path, operation, key)),
    );
  }
}

/** Opens the section that the address of the page names. */
function openNamed() {
  const named = document.getElementById(location.hash.slice(1));
  if (named?.tagName !== 'DETAILS') return;
  named.open = true;
  named.scrollIntoView();
}

fetch('/openapi.json')
  .then((answer) => answer.json())
  .then((api) => {
    explorer(document.getElementById('operations'), api);
    openNamed();
    addEventListener('hashchange', openNamed);
  })
  .catch((error) => {
    document.getElementById('operations').textContent = `The OpenAPI document cannot be read: ${error.message}`;
  });
