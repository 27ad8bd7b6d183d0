// What the compiler knows about requests and answers. Each expected error has to be one.
import { type Client, type Item, NotFoundError, type Schemas } from "triggerd";
import { isOperational, verify } from "triggerd/webhooks";

export async function types(client: Client): Promise<void> {
  const receipt = await client.send({ type: "a", payload: { n: 1 }, labels: { region: "eu" } });
  const id: string = receipt.id;
  // @ts-expect-error: an event has a payload.
  await client.send({ type: "a" });
  // @ts-expect-error: an event has a type.
  await client.send({ payload: 1 });
  // @ts-expect-error: no event has this member.
  await client.send({ type: "a", payload: 1, dedup: "x" });

  const event = await client.request("GET /api/events/{event_id}", { path: { event_id: id } });
  const status: "accepted" | "delivered" | "acknowledged" | "dead" = event.status;
  const text: string = await client.request("GET /metrics");
  const none: undefined = await client.request("DELETE /api/hooks/{hook_id}", {
    path: { hook_id: "ep_1" },
  });
  await client.request("POST /api/endpoints", { body: { url: "https://example.com/" } });
  await client.request("POST /api/keys/rotate");
  await client.request("POST /api/keys/rotate", { body: { grace_seconds: 1 } });
  // @ts-expect-error: the path has a parameter.
  await client.request("GET /api/events/{event_id}");
  // @ts-expect-error: the body is required.
  await client.request("POST /api/endpoints");
  // @ts-expect-error: a limit is a number.
  await client.request("GET /api/events", { query: { limit: "5" } });
  // @ts-expect-error: the API has no such route.
  await client.request("GET /api/nothing");

  for await (const endpoint of client.items("GET /api/endpoints")) {
    const url: string = endpoint.url;
    void url;
  }
  // @ts-expect-error: this route is no list.
  client.items("GET /api/events/{event_id}", { path: { event_id: id } });
  for await (const item of client.stream("GET /api/tail", { query: { type: "a.*" } })) {
    if (item.event === "missed") {
      const count: number = item.data.count;
      void count;
    }
  }
  // @ts-expect-error: a stream has no end, so it is no answer.
  await client.request("GET /api/tail");
  await client.consume<{ order: number }>((event) => event.payload.order);
  // @ts-expect-error: a payload without a type can be anything.
  await client.consume((event) => event.payload.order);
  const item: Item<"GET /api/inbox"> = {} as Schemas["Event"];

  const pushed = verify("whsec_", {}, "{}");
  if (isOperational(pushed)) {
    if (pushed.type === "triggerd.disk.low") {
      const free: number = pushed.data.free_bytes;
      void free;
    } else if (pushed.type === "triggerd.delivery.dead") {
      const reason: string | null | undefined = pushed.data.reason;
      void reason;
    }
  }
  const code: string = ({} as NotFoundError).code;
  void [status, text, none, item, code, NotFoundError];
}
