// MCP over Streamable HTTP (2025-11-25): each message is a POST, answered by JSON or a stream of events; one further
// stream, kept open by GET, brings what is said without being asked.

import { parse, stringify } from "./exact.js";
import { address, config } from "./place.js";

const BOTH = "application/json, text/event-stream";

/** Reads a stream of events (HTML standard, server-sent events) and hands on the message in each. */
async function readEvents(body, onmessage) {
  const reader = body.pipeThrough(new TextDecoderStream()).getReader();
  let rest = "";
  for (;;) {
    const { value, done } = await reader.read();
    if (done) return;
    const blocks = (rest + value).split(/\r?\n\r?\n/);
    rest = blocks.pop();
    for (const block of blocks) {
      const lines = block.split(/\r?\n/).filter((line) => line.startsWith("data:"));
      const data = lines.map((line) => line.slice(5).replace(/^ /, "")).join("\n");
      if (data) onmessage(parse(data));
    }
  }
}

/** Gives why a request was refused: a text, or an error of JSON-RPC. */
function reason(text) {
  try {
    return JSON.parse(text).error?.message ?? text;
  } catch {
    return text.trim();
  }
}

/** Makes a transport; its first message, `initialize`, begins the session. */
export function openHttp(token) {
  const url = address(config.path);
  const ended = new AbortController();
  let session = "";
  let version = "";
  let listening = false;

  function headers(more) {
    return {
      ...more,
      ...(token ? { Authorization: `Bearer ${token}` } : {}),
      ...(session ? { "Mcp-Session-Id": session, "MCP-Protocol-Version": version } : {}),
    };
  }

  function lost(why) {
    if (ended.signal.aborted) return;
    ended.abort();
    transport.onclose({ code: 0, reason: why });
  }

  function take(message) {
    if (message?.result?.protocolVersion) version = message.result.protocolVersion;
    transport.onmessage(message);
  }

  async function listen() {
    while (!ended.signal.aborted) {
      try {
        const answer = await fetch(url, { headers: headers({ Accept: "text/event-stream" }), signal: ended.signal });
        if (!answer.ok) return lost(`the stream was refused (${answer.status})`);
        await readEvents(answer.body, take);
        await new Promise((resolve) => setTimeout(resolve, 1000)); // it was ended in order, and is asked for again
      } catch (error) {
        return lost(error.message);
      }
    }
  }

  const transport = {
    onmessage: () => {},
    onclose: () => {},
    async send(message, failed) {
      try {
        const answer = await fetch(url, {
          method: "POST",
          headers: headers({ "Content-Type": "application/json", Accept: BOTH }),
          body: stringify(message),
          signal: ended.signal,
        });
        session ||= answer.headers.get("Mcp-Session-Id") ?? "";
        const type = answer.headers.get("Content-Type") ?? "";
        if (!answer.ok) {
          const why = reason(await answer.text()) || `HTTP ${answer.status}`;
          failed(why);
          if (answer.status === 404 && session) lost(why); // it is over, as after a restart
          return;
        }
        if (type.startsWith("text/event-stream")) {
          await readEvents(answer.body, take);
          failed("the connection was lost before the answer came"); // to who still waits for one
        } else if (answer.status === 200 && type.startsWith("application/json")) take(parse(await answer.text()));
        if (message.method === "notifications/initialized" && !listening) {
          listening = true;
          listen();
        }
      } catch (error) {
        failed(error.message);
        if (error instanceof TypeError) lost(error.message);
      }
    },
    close() {
      if (ended.signal.aborted) return;
      ended.abort();
      if (session) fetch(url, { method: "DELETE", headers: headers({}), keepalive: true }).catch(() => {});
    },
  };
  return Promise.resolve(transport);
}
