// An MCP server on Node alone: `echo` and `sleep`, over stdio.
import { createInterface } from "node:readline";

const schema = { type: "object" };
const tools = ["echo", "sleep"].map((name) => ({ name, description: name, inputSchema: schema }));

async function answer({ method, params }) {
  if (method === "initialize") {
    const serverInfo = { name: "node-child", version: "1" };
    return { protocolVersion: params.protocolVersion, capabilities: { tools: {} }, serverInfo };
  }
  if (method === "ping") return {};
  if (method === "tools/list") return { tools };
  if (method !== "tools/call") throw { code: -32601, message: `no method ${method}` };
  const given = params.arguments ?? {};
  if (params.name === "sleep") await new Promise((done) => setTimeout(done, 1000 * given.seconds));
  return { content: [{ type: "text", text: String(given.text ?? "slept") }] };
}

const lines = createInterface({ input: process.stdin });
lines.on("line", async (line) => {
  const message = JSON.parse(line);
  if (message.id === undefined || message.method === undefined) return;
  const head = { jsonrpc: "2.0", id: message.id };
  let told;
  try {
    told = { ...head, result: await answer(message) };
  } catch (error) {
    told = { ...head, error };
  }
  process.stdout.write(JSON.stringify(told) + "\n");
});
lines.on("close", () => process.exit(0));
