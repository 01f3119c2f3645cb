// Tools: find one, read what it does and how well it works, and try it with a form made of its schema.

import { note } from "./dialog.js";
import { gathered, h, replace } from "./dom.js";
import { List } from "./list.js";
import { toolPanel } from "./tool_panel.js";
import { number, t, words } from "./words.js";

words({
  "tools": ["Tools", "工具"],
  "tools.count": ["{count} tools", "{count} 个工具"],
  "tools.all": ["All servers", "所有服务器"],
  "tools.own": ["ToolScore's own", "ToolScore 自带"],
  "tools.none": ["No tools yet: no server that is enabled has any.", "还没有工具：没有已启用的服务器提供工具。"],
  "tools.choose": ["Choose a tool to see what it does, and to try it.", "选择一个工具查看说明并试用。"],
  "tools.meaning": ["Nothing has these words. Press Enter to search for what is meant.", "没有包含这些词的工具。按 Enter 按含义搜索。"],
  "tools.searched": ["{count} found for what is meant", "按含义找到 {count} 个"],
  "tools.quarantined": ["in quarantine", "被隔离"],
  "tools.unknown": ["not called yet", "尚未调用"],
  "tools.works": ["works in at least {share} % of calls", "至少 {share}% 的调用成功"],
});

const TOOLS = "toolscore://tools";
const OWN = "toolscore";

/** Shows a score as a bar and a number, with what it means. */
function scoreMark(score) {
  if (score === null || score === undefined) return h("span", { class: "score none", title: t("tools.unknown") }, "–");
  const share = Math.round(score * 100);
  const meter = h("meter", { min: 0, max: 100, value: share, "aria-hidden": "true" });
  return h("span", { class: "score", title: t("tools.works", { share }) }, meter, `≥ ${share} %`);
}

function row(tool) {
  return h("div", { class: "tool row-in" }, h("span", { class: "name" }, tool.name), tool.quarantined ? h("span", { class: "chip" }, t("tools.quarantined")) : scoreMark(tool.score),
    h("span", { class: "more" }, tool.description));
}

function create(app) {
  const session = app.session;
  let tools = [];
  let complete = false;
  let found = null;
  let panel = null;
  let opened = null;
  let loading = 0;

  const find = h("input", { type: "search", placeholder: t("find"), "aria-label": t("find"), oninput: () => ((found = null), filter()), onkeydown: (event) => event.key === "Enter" && search() });
  const server = h("select", { "aria-label": t("tools.all"), onchange: () => (server.value === OWN ? load() : filter()) });
  const count = h("span", { class: "count", "aria-live": "polite" });
  const list = new List({ label: t("tools"), render: row, key: (tool) => tool.name, onopen: (tool) => app.go("tools", tool.name), empty: t("loading") });
  const detail = h("section", { class: "detail", tabindex: "-1" }, h("p", { class: "empty" }, t("tools.choose")));
  const element = h("div", { class: "split" }, h("div", { class: "side" }, h("div", { class: "bar" }, find, server, count), list.element), detail);

  function drawServers() {
    const chosen = server.value;
    const names = [...new Set(tools.map((tool) => tool.server).filter((name) => name !== OWN))];
    if (chosen && chosen !== OWN && !names.includes(chosen)) names.push(chosen);
    replace(server, h("option", { value: "" }, t("tools.all")), names.sort().map((name) => h("option", { value: name }, name)), h("option", { value: OWN }, t("tools.own")));
    server.value = chosen;
  }

  function filter() {
    const parts = find.value.trim().toLowerCase().split(/\s+/).filter(Boolean);
    const wanted = server.value;
    let fitting = found;
    if (!found) {
      fitting = tools.filter((tool) => (wanted ? tool.server === wanted : tool.server !== OWN)
        && parts.every((part) => tool.name.toLowerCase().includes(part) || tool.description.toLowerCase().includes(part)));
    }
    count.textContent = found ? t("tools.searched", { count: found.length }) : `${t("tools.count", { count: number(fitting.length) })}${complete ? "" : " …"}`;
    const empty = !complete ? t("loading") : parts.length ? t(found ? "none.found" : "tools.meaning", { text: find.value }) : t("tools.none");
    list.set(fitting, empty);
  }

  async function search() {
    const query = find.value.trim();
    if (!query) return;
    try {
      const said = await session.data("search_tools", { query, limit: 50, max_tokens: 20000, ...(server.value && server.value !== OWN ? { server: server.value } : {}) });
      const known = new Map(tools.map((tool) => [tool.name, tool]));
      found = said.tools.map((one) => known.get(one.name) ?? { name: one.name, server: "", description: one.purpose ?? "", score: one.score ?? null });
      filter();
    } catch (error) {
      note(error.message, "bad");
    }
  }

  /** Gives the tools page by page: a thousand each where the resource can be read, and else by the own tool. */
  async function* pages() {
    if (server.value === OWN) return yield (await session.data("list_tools", { server: OWN })).tools;
    let next = "";
    if (!session.host || session.host.resources) {
      do {
        const page = JSON.parse(await session.read(next ? `${TOOLS}?after=${encodeURIComponent(next)}` : TOOLS));
        yield page.tools;
        ({ next } = page);
      } while (next);
      return;
    }
    do {
      const page = await session.data("list_tools", next ? { cursor: next } : {});
      yield page.tools;
      next = page.nextCursor;
    } while (next);
  }

  async function load() {
    const mine = ++loading;
    const fresh = [];
    const first = !tools.length || server.value === OWN;
    try {
      for await (const page of pages()) {
        if (mine !== loading) return;
        for (const tool of page) fresh.push(tool);
        if (!first) continue;
        tools = fresh;
        complete = false;
        filter(); // what has come can be looked at while the rest comes
      }
      tools = fresh;
      complete = true;
      drawServers();
      filter();
    } catch (error) {
      if (mine === loading && session.online) note(t("failed", { why: error.message }), "bad");
    }
  }

  async function open(name) {
    opened = name;
    panel?.leave();
    panel = null;
    list.open(name);
    const back = name === null && detail.contains(document.activeElement);
    element.classList.toggle("opened", name !== null);
    if (name !== null && !list.element.offsetParent) detail.focus();
    else if (back) list.element.focus();
    if (name === null) return replace(detail, h("p", { class: "empty" }, t("tools.choose")));
    replace(detail, h("p", { class: "empty" }, t("loading")));
    try {
      const described = await session.data("describe_tool", { tool: name });
      if (opened !== name) return;
      panel = toolPanel(app, described);
      detail.scrollTop = 0;
      replace(detail, h("button", { type: "button", class: "back", onclick: () => app.go("tools") }, `← ${t("back")}`), panel.element);
    } catch (error) {
      if (opened === name) replace(detail, h("button", { type: "button", class: "back", onclick: () => app.go("tools") }, `← ${t("back")}`), h("p", { class: "callout fail" }, error.message));
      if (!session.online) opened = undefined; // once more when it is there again
    }
  }

  async function show([name = null, filtered = null]) {
    if (name === "@") {
      drawServers();
      if (filtered && ![...server.options].some((option) => option.value === filtered)) server.append(h("option", { value: filtered }, filtered));
      server.value = filtered ?? "";
      find.value = "";
      found = null;
      name = null;
    }
    if (!tools.length) drawServers();
    const loaded = complete ? filter() : load();
    if (name !== opened) await open(name);
    await loaded;
  }

  const soon = gathered(400, load);
  return {
    element, show,
    hide() {
      loading += 1;
    },
    onevents(events, { missed }) {
      if (missed || events.some((event) => event.event.startsWith("tool_") || event.event === "configuration_changed")) soon();
    },
    find: () => find.focus(),
  };
}

export const view = { id: "tools", title: () => t("tools"), create };
