// Reads a list of {headers, body} from standard input and says how the CloudEvents SDK for JavaScript understands each: a list
// of events in its own words, each of which it finds valid.
const { HTTP } = require("cloudevents");

const requests = JSON.parse(require("node:fs").readFileSync(0, "utf8"));
const read = ({ headers, body }) => {
  const event = HTTP.toEvent({ headers, body });
  if (!event.validate()) throw new Error(`not valid: ${body}`);
  const read = { ...event.toJSON() };
  // Bytes are shown as base64, whatever array they are in.
  if (event.data_base64 !== undefined) read.data_base64 = event.data_base64;
  if (read.data instanceof Uint8Array || read.data instanceof Uint32Array) delete read.data;
  return read;
};
console.log(JSON.stringify(requests.map(read)));
