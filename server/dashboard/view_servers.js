// Servers: what each is doing, since when and why, what it uses, and what can be done with it.

import { confirm, note } from "./dialog.js";
import { debounced, h, replace } from "./dom.js";
import { span, t, words } from "./words.js";

words({
  "servers": ["Servers", "服务器"],
  "servers.tools": ["{count} tools", "{count} 个工具"],
});

function create(app) {
  const list = h("ul", { class: "rows" });
  const element = h("div", { class: "split" }, list);

  async function load() {
    try {
      const { servers } = await app.session.data("list_servers");
      replace(list, servers.map((one) => h("li", {}, h("span", { class: `state ${one.state}` }, one.state), one.name)));
    } catch (error) {
      note(t("failed", { why: error.message }), "bad");
    }
  }

  const soon = debounced(200, load);
  return { element, show: load, hide() {}, onevents: soon };
}

export const view = { id: "servers", title: () => t("servers"), create };
