// Live: calls and events as they come. Calls are those of the journal that this token may read, over all clients.

import { debounced, gathered, h, replace } from "./dom.js";
import { clock, number, span, t, words } from "./words.js";

words({
  "live": ["Live", "实时"],
  "live.pause": ["Pause", "暂停"],
  "live.go": ["Go on ({count} new)", "继续（{count} 条新记录）"],
  "live.clear": ["Clear", "清空"],
  "live.all": ["Calls and events", "调用和事件"],
  "live.calls": ["Calls", "调用"],
  "live.events": ["Events", "事件"],
  "live.bad": ["What went wrong", "出错的"],
  "live.count": ["{count} shown", "显示 {count} 条"],
  "live.none": ["Nothing has happened yet. Calls and events appear here as they come.", "还没有任何活动。调用和事件会实时显示在这里。"],
  "live.missed": ["Some of what happened meanwhile is not remembered any more.", "期间的部分记录已不再保留。"],
  "live.nocalls": ["Calls are not shown: {why}", "无法显示调用：{why}"],
});

const JOURNAL = "toolscore://journal";
const KEPT = 1000;
const GOOD = new Set(["ok", ""]);
// What a dashboard asks in order to show it is not what somebody wants to see here, and events say the rest better.
const LOOKS = /^toolscore__(list_\w+|describe_tool|tool_score|read_journal|server_(logs|state)|search_tools|read_result)$/;
const TOLD = /^(server_|tool_|configuration|policy$)/;

function worthy(record) {
  const looks = LOOKS.test(record.tool ?? "") || /^session_/.test(record.kind);
  return !TOLD.test(record.kind ?? "") && !(record.client?.name === "toolscore-dashboard" && looks);
}

/** Makes what is shown of a record of the journal. */
function ofRecord(record) {
  const outcome = record.outcome ?? "";
  return {
    at: record.time, sort: Date.parse(record.time) || 0, what: record.kind, call: true, bad: !GOOD.has(outcome), outcome: /^session_/.test(record.kind) ? "" : outcome,
    name: record.tool ?? record.subject ?? record.server ?? "", took: record.seconds, who: record.client?.name || record.client?.principal || "", detail: record.error ?? "",
    place: record.tool ? ["tools", record.tool] : record.server ? ["servers", record.server] : null,
  };
}

/** Makes what is shown of an event of ToolScore. */
function ofEvent(event) {
  const { at, event: what, server, state, number: _, reason, tools, ...rest } = event;
  const detail = [reason, Array.isArray(tools) ? tools.slice(0, 5).join(", ") + (tools.length > 5 ? " …" : "") : "", ...Object.entries(rest).filter(([, value]) => typeof value === "string" && value).map(([key, value]) => `${key}: ${value}`)].filter(Boolean).join(" · ");
  return { at, sort: Date.parse(at) || 0, what, call: false, bad: ["FAILED", "BACKOFF"].includes(state) || what === "tool_quarantined", outcome: state ?? "", name: server, who: "", detail, place: server ? ["servers", server] : null };
}

function create(app) {
  const session = app.session;
  let all = [];
  let waiting = [];
  let cursor = "";
  let unwatch = null;
  let reading = null;
  let again = false;
  const seen = new WeakSet();

  const kind = h("select", { "aria-label": t("live.all"), onchange: () => draw() }, ["all", "calls", "events", "bad"].map((value) => h("option", { value }, t(`live.${value}`))));
  const find = h("input", { type: "search", placeholder: t("find"), "aria-label": t("find"), oninput: debounced(120, () => draw()) });
  const pause = h("button", { type: "button", "aria-pressed": "false", onclick: () => toggle() }, t("live.pause"));
  const count = h("span", { class: "count" });
  const warn = h("p", { class: "callout warn", hidden: true });
  const body = h("tbody", {});
  const empty = h("p", { class: "empty" }, t("live.none"));
  const element = h("div", { class: "page" },
    h("div", { class: "bar" }, pause, kind, find, count, h("button", { type: "button", class: "quiet", onclick: () => ((all = []), draw()) }, t("live.clear"))),
    h("div", { class: "scroll", tabindex: "0", role: "region", "aria-label": t("live") }, warn, h("table", { class: "live" }, body), empty));

  function fits(one) {
    if (kind.value === "calls" && !one.call) return false;
    if (kind.value === "events" && one.call) return false;
    if (kind.value === "bad" && !one.bad) return false;
    const text = find.value.trim().toLowerCase();
    return !text || `${one.what} ${one.name} ${one.outcome} ${one.who} ${one.detail}`.toLowerCase().includes(text);
  }

  function row(one) {
    const name = one.place ? h("button", { type: "button", class: "quiet link", onclick: () => app.go(...one.place) }, one.name) : one.name;
    return h("tr", { class: one.bad ? "wrong" : "" }, h("td", { class: "at" }, clock(one.at)), h("td", { class: "what" }, one.what), h("td", { class: "name" }, name),
      h("td", { class: "outcome" }, one.bad ? "✕ " : one.call && one.outcome ? "✓ " : "", one.outcome), h("td", { class: "took" }, one.took === undefined ? "" : span(one.took)), h("td", { class: "detail-cell" }, one.who && h("span", { class: "chip" }, one.who), " ", one.detail.slice(0, 400)));
  }

  function draw() {
    const fitting = all.filter(fits);
    count.textContent = t("live.count", { count: number(fitting.length) });
    replace(body, fitting.slice(-300).reverse().map(row));
    empty.hidden = fitting.length > 0;
    empty.textContent = all.length ? t("none.found", { text: find.value }) : t("live.none");
  }

  const soon = gathered(60, draw);

  function paused() {
    return pause.getAttribute("aria-pressed") === "true";
  }

  function toggle() {
    const now = !paused();
    pause.setAttribute("aria-pressed", String(now));
    if (!now) add(waiting.splice(0));
    pause.textContent = now ? t("live.go", { count: 0 }) : t("live.pause");
  }

  function add(fresh) {
    if (!fresh.length) return;
    if (paused()) {
      waiting = [...waiting, ...fresh].slice(-KEPT);
      pause.textContent = t("live.go", { count: waiting.length });
      return;
    }
    all = [...all, ...fresh].sort((one, other) => one.sort - other.sort).slice(-KEPT);
    soon();
  }

  function say(text) {
    warn.hidden = !text;
    warn.textContent = text;
  }

  function readCalls() {
    again = true;
    reading ??= (async () => {
      while (again && unwatch) {
        again = false;
        const said = JSON.parse(await session.read(cursor ? `${JOURNAL}?after=${encodeURIComponent(cursor)}` : JOURNAL));
        if (said.missed && cursor) say(t("live.missed"));
        cursor = said.cursor;
        add(said.records.filter(worthy).map(ofRecord));
      }
    })().catch((error) => session.online && say(t("live.nocalls", { why: error.message }))).finally(() => (reading = null));
  }

  /** Takes over the events that came while this view was not there. */
  function readEvents() {
    const fresh = session.events.filter((event) => !seen.has(event));
    for (const event of fresh) seen.add(event);
    add(fresh.map(ofEvent));
  }

  return {
    element,
    async show() {
      say("");
      unwatch?.();
      unwatch = session.watch(JOURNAL, readCalls);
      if (!cursor) {
        try {
          const { records } = await session.data("read_journal", { limit: 100 });
          add(records.filter(worthy).map(ofRecord));
        } catch {
          // What came before cannot be read; what comes may be.
        }
      }
      readCalls();
      readEvents();
      draw();
    },
    hide() {
      unwatch?.();
      unwatch = null;
    },
    onevents(events, { missed }) {
      if (missed) say(t("live.missed"));
      readEvents();
    },
    find: () => find.focus(),
  };
}

export const view = { id: "live", title: () => t("live"), create };
