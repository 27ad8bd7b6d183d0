// Runs the programs of the README in the directory `README_DIRECTORY`, where the package is
// installed; without it, in this package.
import assert from "node:assert/strict";
import { spawn } from "node:child_process";
import { once } from "node:events";
import { readFileSync } from "node:fs";
import { createInterface } from "node:readline";
import { test } from "node:test";
import { startServer } from "./world.js";

const home = new URL("..", import.meta.url).pathname;

test("the producer and the consumer of the README run", async () => {
  const readme = readFileSync(`${home}/README.md`, "utf8");
  const programs = [...readme.matchAll(/```js\n(.*?)```/gs)].map(([, program]) => program);
  for (const program of programs) {
    assert.ok(program.split("\n").filter((line) => line !== "").length <= 10);
  }
  const server = await startServer();
  const body = { organization: "README", tier: "pro" };
  const { key } = await server.admin.request("POST /api/keys/generate", { body });
  const run = (program) =>
    spawn(process.execPath, ["--input-type=module", "-e", program], {
      cwd: process.env.README_DIRECTORY || home,
      env: { ...process.env, TRIGGERD_URL: server.url, TRIGGERD_API_KEY: key },
      stdio: ["ignore", "pipe", "inherit"],
    });
  const producer = run(programs[0]);
  const sent = (await producer.stdout.toArray()).join("");
  assert.match(sent, /^stored evt_\w{26}\n100 accepted\n$/);

  const consumer = run(programs[1]);
  const got = [];
  for await (const line of createInterface({ input: consumer.stdout })) {
    if (got.push(line) === 101) consumer.kill();
  }
  if (consumer.exitCode === null && consumer.signalCode === null) await once(consumer, "exit");
  assert.equal(got[0], "got order.created 1017");
  const paid = Array.from({ length: 100 }, (_, order) => `got order.paid ${order}`);
  assert.deepEqual(got.slice(1), paid);
  await server.stop();
});
