// A Zapier app as its documentation describes one with a REST hook trigger: subscribing, unsubscribing, what arrives, and
// samples for whoever sets up a Zap before anything has arrived.
'use strict';

const zapier = require('zapier-platform-core');

const hooks = (bundle) => `${bundle.authData.url}/api/hooks`;

// What comes back is `bundle.subscribeData` when it is unsubscribed.
const subscribe = async (z, bundle) => {
  const body = { target_url: bundle.targetUrl, event: bundle.inputData.event };
  const response = await z.request({ method: 'POST', url: hooks(bundle), body });
  return response.data;
};

const unsubscribe = async (z, bundle) => {
  const response = await z.request({ method: 'DELETE', url: `${hooks(bundle)}/${bundle.subscribeData.id}` });
  return { status: response.status };
};

const list = async (z, bundle) => {
  const params = { event: bundle.inputData.event };
  const response = await z.request({ url: `${hooks(bundle)}/samples`, params });
  return response.data;
};

const trigger = {
  key: 'event',
  noun: 'Event',
  display: { label: 'New Event', description: 'Triggers when an event is taken in.' },
  operation: {
    type: 'hook',
    inputFields: [{ key: 'event', label: 'Type', required: true, helpText: 'Such as order.created, or order.* for all below.' }],
    performSubscribe: subscribe,
    performUnsubscribe: unsubscribe,
    perform: (z, bundle) => [bundle.cleanedRequest],
    performList: list,
    sample: { id: 'evt_01h455vb4pex5vsknk084sn02q', type: 'order.created', timestamp: '2026-01-31T10:00:00.000Z', data: {} },
    outputFields: [{ key: 'id' }, { key: 'type' }, { key: 'timestamp', type: 'datetime' }],
  },
};

module.exports = {
  version: require('./package.json').version,
  platformVersion: zapier.version,
  authentication: {
    type: 'custom',
    fields: [
      { key: 'url', label: 'Address', required: true, type: 'string' },
      { key: 'api_key', label: 'API key', required: true, type: 'password' },
    ],
    test: { url: '{{bundle.authData.url}}/api/hooks/samples' },
  },
  beforeRequest: [
    (request, z, bundle) => {
      request.headers['X-API-Key'] = bundle.authData.api_key;
      return request;
    },
  ],
  triggers: { [trigger.key]: trigger },
};
