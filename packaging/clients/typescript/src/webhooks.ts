// Verifies the requests that triggerd makes to an endpoint.
import { Webhook, WebhookVerificationError } from "standardwebhooks";
import type { Schemas } from "./routes.js";
import type { webhooks } from "./schema.js";

export { WebhookVerificationError };

type Types = Extract<keyof webhooks, `triggerd.${string}`>;

/** An event of triggerd itself; its `type` says which one it is. */
export type OperationalEvent = {
  [T in Types]: webhooks[T]["post"]["requestBody"]["content"]["application/json"];
}[Types];

export type Envelope = Schemas["Envelope"];

/**
 * Returns the event, or throws `WebhookVerificationError` if triggerd did not send it. `body` is
 * the bytes or the text as they arrived. For an endpoint whose `body` is not `envelope`, the result
 * is the JSON of that form.
 */
export function verify(
  secret: string,
  headers: Headers | Record<string, string | string[] | undefined>,
  body: Uint8Array | string,
): Envelope | OperationalEvent {
  const entries = headers instanceof Headers ? [...headers] : Object.entries(headers);
  const texts = entries.map(([name, value]) => [name, String(value ?? "")] as const);
  if (typeof body !== "string" && !(body instanceof Uint8Array)) {
    throw new TypeError("verify needs the bytes of the body as they arrived, and not parsed");
  }
  const webhook = webhookOf(secret);
  const text = typeof body === "string" ? body : textOf(body);
  webhook.verify(text, Object.fromEntries(texts), { jsonParse: false });
  return JSON.parse(text);
}

/** Returns true for an event of triggerd itself. */
export function isOperational(event: Envelope | OperationalEvent): event is OperationalEvent {
  return event.type.startsWith("triggerd.");
}

function webhookOf(secret: string): Webhook {
  try {
    return new Webhook(secret);
  } catch (cause) {
    throw new TypeError("the secret is not one of an endpoint: whsec_ and Base64", { cause });
  }
}

function textOf(body: Uint8Array): string {
  try {
    return new TextDecoder("utf-8", { fatal: true, ignoreBOM: true }).decode(body);
  } catch {
    throw new WebhookVerificationError("The body is not UTF-8");
  }
}
