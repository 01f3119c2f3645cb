// The TypeScript SDK's version 1 on ToolScore: `node ts_websocket.mjs FOLDER URL SERVER`; prints one JSON document.
// FOLDER holds the SDK in its node_modules. Its client cannot set headers, so the token is in the address.

import { createRequire } from "node:module";
import { join } from "node:path";

const [folder, url, server] = process.argv.slice(2);
const require = createRequire(join(folder, "package.json"));
const { Client } = require("@modelcontextprotocol/sdk/client/index.js");
const { WebSocketClientTransport } = require("@modelcontextprotocol/sdk/client/websocket.js");

const client = new Client({ name: "ts-websocket", version: "1.0.0" });
const errors = [];
// This SDK takes an answer at once and a notification a moment later. Where both come in one piece of the stream, the
// call is over before its last progress is looked at: steps are a while apart here, and the last one is not counted.
const late = /progress notification for an unknown token/;
client.onerror = (error) => late.test(error) || errors.push(String(error));
await client.connect(new WebSocketClientTransport(new URL(url)), { timeout: 30_000 });

async function execute(tool, args = {}, options = {}) {
  const asked = { name: "execute_tool", arguments: { tool: `${server}__${tool}`, arguments: args } };
  const result = await client.callTool(asked, undefined, { timeout: 30_000, ...options });
  return {
    error: result.isError ?? false,
    text: result.content.filter((block) => block.type === "text").map((block) => block.text).join(""),
    outcome: result._meta?.["toolscore/outcome"] ?? null,
    structured: result.structuredContent,
  };
}

async function cancelled() {
  const abort = new AbortController();
  const slow = { count: 100_000, every: 0.01 };
  try {
    // The first step shows that the call has arrived.
    await execute("progress", slow, { signal: abort.signal, onprogress: () => abort.abort("enough") });
  } catch (error) {
    return { said: String(error), seen: (await execute("cancelled")).structured.ids.length };
  }
  return "it was not cancelled";
}

const steps = [];
const onprogress = ({ progress, total, message }) => steps.push([progress, total ?? null, message ?? null]);
const document = {
  server: client.getServerVersion().name,
  tools: (await client.listTools()).tools.map((tool) => tool.name),
  sum: await execute("add", { a: 40, b: 2 }),
  large: await execute("add", { a: 40, b: 2, padding: "é".repeat(2 << 20) }),
  echoed: (await execute("big", { bytes: 4 << 20 })).text.length,
  progress: [(await execute("progress", { count: 4, every: 0.1 }, { onprogress })).error, steps.slice(0, 3)],
  failed: await execute("failed"),
  unknown: await execute("no_such_tool"),
  cancelled: await cancelled(),
  at_once: (await Promise.all([...Array(50).keys()].map((n) => execute("add", { a: n, b: 0 })))).map((one) => one.text),
  errors,
};
await client.close();
console.log(JSON.stringify(document));
