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

/** Asks why a connection could not be made. Gives the status, 0 where nobody answers, and what was said. */
export async function knock(token) {
  try {
    const headers = token ? { Authorization: `Bearer ${token}` } : {};
    const answer = await fetch(address("health/detailed"), { headers, cache: "no-store", signal: AbortSignal.timeout(PATIENCE) });
    return { status: answer.status, text: answer.ok ? "" : (await answer.text()).trim() };
  } catch {
    return { status: 0, text: "" };
  }
}
