// A small MCP server on Node, with tools that try what a confined server may do. No packages.
import { readFileSync, writeFileSync } from "node:fs";
import { connect } from "node:net";
import { spawn } from "node:child_process";
import { createInterface } from "node:readline";

const tried = (attempt) => {
  try {
    attempt();
    return "done";
  } catch (error) {
    return error.code;
  }
};

const tools = {
  write: ({ path }) => tried(() => writeFileSync(path, "written")),
  read: ({ path }) => tried(() => readFileSync(path)),
  connect: ({ port }) =>
    new Promise((resolve) => {
      const line = connect(port, "127.0.0.1");
      line.on("connect", () => line.end(() => resolve("done")));
      line.on("error", (error) => resolve(error.code));
    }),
  spawn: () => String(spawn("sleep", ["600"], { detached: true, stdio: "ignore" }).pid),
};

const answer = async ({ method, params }) => {
  if (method === "initialize")
    return {
      protocolVersion: params.protocolVersion,
      capabilities: { tools: {} },
      serverInfo: { name: "probing", version: process.version },
    };
  if (method === "tools/list")
    return { tools: Object.keys(tools).map((name) => ({ name, inputSchema: { type: "object" } })) };
  if (method === "tools/call")
    return { content: [{ type: "text", text: await tools[params.name](params.arguments ?? {}) }] };
  return {};
};

createInterface({ input: process.stdin })
  .on("line", async (line) => {
    const message = JSON.parse(line);
    if (message.id === undefined || message.method === undefined) return;
    process.stdout.write(JSON.stringify({ jsonrpc: "2.0", id: message.id, result: await answer(message) }) + "\n");
  })
  .on("close", () => process.exit(0));
