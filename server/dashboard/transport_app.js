// Within an MCP App (SEP-1865, 2026-01-26): messages go to the host by postMessage, which passes tool calls and
// readings of resources on to ToolScore.

import { config } from "./place.js";

const VERSION = "2026-01-26";

/** Gives the transport to the host of the frame that this page is in. */
export function openApp() {
  const host = window.parent;
  let height = 0;
  const receive = (event) => {
    if (event.source !== host || event.data?.jsonrpc !== "2.0") return;
    const { method, params } = event.data;
    if (method === "ui/resource-teardown") {
      // The host waits for the answer before it takes the frame away; nothing is asked any more.
      transport.send({ jsonrpc: "2.0", id: event.data.id, result: {} });
      transport.onleave();
    } else if (method === "ui/notifications/host-context-changed") transport.onhost(params ?? {});
    // What the tool was called with, and gave, says nothing that is not asked for anyway.
    else if (!method?.startsWith("ui/notifications/")) transport.onmessage(event.data);
  };
  const grown = new ResizeObserver(() => {
    const now = Math.ceil(document.documentElement.getBoundingClientRect().height);
    if (now === height) return;
    height = now;
    transport.send({ jsonrpc: "2.0", method: "ui/notifications/size-changed", params: { width: innerWidth, height } });
  });

  const transport = {
    onmessage: () => {},
    onclose: () => {},
    onhost: () => {},
    onleave: () => {},
    // The host's origin is not known, and nothing secret is sent: what is sent is what the host carries anyway.
    send: (message) => host.postMessage(message, "*"),
    close() {
      window.removeEventListener("message", receive);
      grown.disconnect();
    },
    async introduce(rpc) {
      const said = await rpc.request("ui/initialize", {
        protocolVersion: VERSION,
        appInfo: { name: "toolscore-dashboard", version: config.version || "0" },
        appCapabilities: { availableDisplayModes: ["inline", "fullscreen"] },
      });
      rpc.notify("ui/notifications/initialized", {});
      grown.observe(document.documentElement);
      const resources = Boolean(said.hostCapabilities?.serverResources);
      return { server: { name: "toolscore", version: config.version }, host: { ...said.hostContext, resources } };
    },
  };
  window.addEventListener("message", receive);
  return Promise.resolve(transport);
}
