// Reads a list of {secret, headers, body} from standard input, bodies in base64, and says for each whether the library of the
// Standard Webhooks specification trusts it: a list of true and false.
const { Webhook } = require("standardwebhooks");

const requests = JSON.parse(require("node:fs").readFileSync(0, "utf8"));
const isTrusted = ({ secret, headers, body }) => {
  try {
    new Webhook(secret).verify(Buffer.from(body, "base64"), headers);
    return true;
  } catch (error) {
    if (error.name !== "WebhookVerificationError" && error.constructor.name !== "WebhookVerificationError") throw error;
    return false;
  }
};
console.log(JSON.stringify(requests.map(isTrusted)));
