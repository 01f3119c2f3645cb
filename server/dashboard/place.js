// Where this page was loaded from, and so where MCP is spoken: on the same host, whatever prefix a proxy put before.

const PATIENCE = 10_000;
const tag = document.querySelector("meta[name=toolscore]");

/** What ToolScore wrote into the page: transport ("ws", "http" or "app"), path, token (whether one is needed), version. */
export const config = { transport: "ws", path: "mcp", token: true, version: "", ...JSON.parse(tag?.content ?? "{}") };

/** Gives the address of something of this listener. */
export function address(path, scheme) {
  const url = new URL(location.href);
  url.hash = url.search = "";
  url.pathname = url.pathname.replace(/[^/]*$/, "") + path;
  if (scheme === "ws") url.protocol = url.protocol === "https:" ? "wss:" : "ws:";
  return url;
}

/**
 * Asks why there is no connection; `shut` tells that none could be made at all. Gives the status, 0 where nobody
 * answers, and what was said.
 */
export async function knock(token, shut) {
  const headers = token ? { Authorization: `Bearer ${token}` } : {};
  const ask = (method) => fetch(address("health/detailed"), { method, headers, cache: "no-store", signal: AbortSignal.timeout(PATIENCE) });
  try {
    const answer = await ask("GET");
    if (!answer.ok) return { status: answer.status, text: (await answer.text()).trim() };
    // With a POST a browser says where a page is from, as it does for a WebSocket; behind a proxy that can be refused.
    const other = shut && config.transport === "ws" ? await ask("POST") : answer;
    return other.status === 403 ? { status: 403, text: (await other.text()).trim() } : { status: answer.status, text: "" };
  } catch {
    return { status: 0, text: "" };
  }
}
