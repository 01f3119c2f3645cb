// MCP over WebSocket: one message a text frame, subprotocol `mcp`; a browser can give the token in the address only.

import { parse, stringify } from "./exact.js";
import { address, config } from "./place.js";

/** Opens a WebSocket to the listener that this page is of. Rejects if it does not open. */
export function openWebSocket(token) {
  const url = address(config.path, "ws");
  if (token) url.searchParams.set("token", token);
  return new Promise((resolve, reject) => {
    const socket = new WebSocket(url, "mcp");
    const transport = {
      onmessage: () => {},
      onclose: () => {},
      send(message, failed) {
        if (socket.readyState === WebSocket.OPEN) socket.send(stringify(message));
        else failed("there is no connection");
      },
      close() {
        transport.onclose = () => {};
        socket.close(1000);
      },
    };
    let open = false;
    socket.onopen = () => {
      open = true;
      resolve(transport);
    };
    socket.onmessage = (event) => {
      try {
        transport.onmessage(parse(event.data));
      } catch (error) {
        console.error("toolscore: a message was not understood", error);
      }
    };
    socket.onclose = (event) => {
      if (open) transport.onclose({ code: event.code, reason: event.reason });
      else reject(new Error("the WebSocket did not open; a proxy in between must pass upgrades on"));
    };
  });
}
