// The surroundings of the tests: the real server, a proxy that breaks connections, a receiver.
import { spawn } from "node:child_process";
import { once } from "node:events";
import { mkdtempSync, readFileSync, rmSync, writeFileSync } from "node:fs";
import { Agent, createServer, request } from "node:http";
import { tmpdir } from "node:os";
import { join } from "node:path";
import { createInterface } from "node:readline";
import { setTimeout as delay } from "node:timers/promises";
import { Client } from "triggerd";

const clients = new URL("../../", import.meta.url).pathname;
export const scenario = JSON.parse(readFileSync(join(clients, "scenario.json"), "utf8"));

/** The real binary, running `serve` on a directory of its own. */
export async function startServer() {
  const directory = mkdtempSync(join(tmpdir(), "triggerd-"));
  writeFileSync(join(directory, "triggerd.toml"), scenario.config.join("\n"));
  const binary = process.env.TRIGGERD_TEST_BINARY || join(clients, "../../target/debug/triggerd");
  const child = spawn(binary, ["serve", "--config", "triggerd.toml"], {
    cwd: directory,
    env: { ...process.env, TRIGGERD__RETENTION__KEEP_FREE_SHARE: "0" },
    stdio: ["ignore", "pipe", "inherit"],
  });
  const lines = createInterface({ input: child.stdout });
  const url = await new Promise((resolve, reject) => {
    child.once("exit", () => reject(new Error("the server ended")));
    child.once("error", reject);
    lines.on("line", (line) => {
      const entry = JSON.parse(line);
      if (entry.message === "triggerd is ready") resolve(`http://${entry.address}`);
    });
  });
  const token = readFileSync(join(directory, "data", "admin.token"), "utf8").trim();
  const stop = async () => {
    child.kill("SIGTERM");
    await once(child, "exit");
    rmSync(directory, { recursive: true });
  };
  return { url, admin: new Client({ url, key: token }), stop };
}

/** Listens with a handler of `(request, response, body)`. */
async function listen(handler) {
  const server = createServer(async (incoming, response) => {
    const chunks = await incoming.toArray();
    await handler(incoming, response, Buffer.concat(chunks));
  });
  server.listen(0, "127.0.0.1");
  await once(server, "listening");
  const stop = () => {
    server.closeAllConnections();
    server.close();
  };
  return { url: `http://127.0.0.1:${server.address().port}`, stop };
}

/**
 * Each request has a connection of its own. One in ten breaks, before the request, before the
 * answer or within the answer. Another one in ten is late.
 */
export async function startBreakingProxy(to) {
  let count = 0;
  const proxy = { broken: 0 };
  const agent = new Agent({ keepAlive: false });
  const { url, stop } = await listen(async (incoming, response, body) => {
    const number = count++;
    const breaks = number % 10 === 3 ? Math.floor(number / 10) % 3 : undefined;
    if (breaks !== undefined) proxy.broken += 1;
    if (breaks === 0) return incoming.socket.destroy();
    if (number % 10 === 7) await delay(50);
    const { method, headers } = incoming;
    const upstream = request(new URL(incoming.url, to), { method, headers, agent });
    upstream.on("error", () => incoming.socket.destroy());
    upstream.end(body);
    const [answer] = await once(upstream, "response");
    const bytes = Buffer.concat(await answer.toArray());
    if (breaks === 1) return incoming.socket.destroy();
    response.writeHead(answer.statusCode, { ...answer.headers, connection: "close" });
    if (breaks !== 2) return response.end(bytes);
    response.write(bytes.subarray(0, bytes.length / 2), () => incoming.socket.destroy());
  });
  return Object.assign(proxy, { url, stop });
}

/** Gives the first request to `/`, and refuses those to `/refuse`. */
export async function startReceiver() {
  const { promise, resolve } = deferred();
  const { url, stop } = await listen((incoming, response, body) => {
    response.writeHead(incoming.url === "/refuse" ? 500 : 204).end();
    if (incoming.url === "/") resolve({ headers: incoming.headers, body });
  });
  return { url, stop, received: promise };
}

function deferred() {
  let resolve;
  const promise = new Promise((done) => {
    resolve = done;
  });
  return { promise, resolve };
}
