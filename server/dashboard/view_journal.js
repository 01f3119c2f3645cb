// Journal: what was done through ToolScore, page by page back in time and on as it is written; a row opens with all of it.

import { note } from "./dialog.js";
import { debounced, gathered, h, replace, s } from "./dom.js";
import { stringify } from "./exact.js";
import { List } from "./list.js";
import { shapeOf } from "./state.js";
import { bytes, clock, number, span, t, words } from "./words.js";

words({
  "journal": ["Journal", "日志簿"],
  "journal.choose": ["Choose a record to see what was asked and answered.", "选择一条记录查看请求与结果。"],
  "journal.none": ["Nothing was written down that fits.", "没有符合条件的记录。"],
  "journal.server": ["Server", "服务器"],
  "journal.tool": ["Tool", "工具"],
  "journal.client": ["Client", "客户端"],
  "journal.kind": ["All kinds", "所有类型"],
  "journal.outcome": ["All outcomes", "所有结果"],
  "journal.outcome.ok": ["What succeeded", "成功"],
  "journal.outcome.bad": ["What did not", "未成功"],
  "journal.since": ["Any time", "全部时间"],
  "journal.since.ago": ["Last {span}", "最近 {span}"],
  "journal.looks": ["With looks of dashboards", "包含面板自身的查询"],
  "journal.follow": ["Follow", "跟随"],
  "journal.older": ["Older records", "更早的记录"],
  "journal.oldest": ["This is the oldest.", "已是最早的记录。"],
  "journal.count": ["{count} records", "{count} 条记录"],
  "journal.missed": ["Some records were not seen; they are read again.", "有记录被漏掉，正在重新读取。"],
  "journal.time": ["When", "时间"],
  "journal.what": ["What", "类型"],
  "journal.version": ["Version", "版本"],
  "journal.who": ["Who", "客户端"],
  "journal.session": ["Session", "会话"],
  "journal.came": ["Outcome", "结果"],
  "journal.took": ["Took", "耗时"],
  "journal.trace": ["Trace", "追踪"],
  "journal.parent": ["Called by", "由谁调用"],
  "journal.sizes": ["Size", "大小"],
  "journal.sizes.both": ["{asked} asked, {answered} answered", "请求 {asked}，结果 {answered}"],
  "journal.arguments": ["Arguments", "参数"],
  "journal.result": ["Result", "结果内容"],
  "journal.detail": ["Details", "详情"],
  "journal.cut": ["The first of {bytes}; the journal keeps no more of it.", "全文 {bytes}，日志簿只保留开头。"],
  "journal.error": ["What was said", "错误信息"],
  "journal.same": ["Only {what}", "只看{what}"],
  "journal.same.session": ["this session", "此会话"],
  "journal.same.trace": ["this trace", "此追踪"],
});

const URI = "toolscore://journal";
const PAGE = 100;
const KEPT = 5000;
const KINDS = ["call", "install", "uninstall", "register", "unregister", "manage", "configure", "approve", "reject", "read", "prompt", "server_*", "tool_*", "session_*", "policy", "configuration"];
// What dashboards ask by themselves, which would bury what people and models did.
const LOOKS = new Set(["list_servers", "server_state", "list_tools", "describe_tool", "tool_score", "read_journal", "list_quarantined", "server_logs", "search_tools"]);
const CURED = new Set(["needs_approval", "cancelled", "limit", "queue_full", "installing", "changed"]);

function isLook(record) {
  return record.client?.name === "toolscore-dashboard" && LOOKS.has(String(record.tool).replace(/^toolscore__/, ""));
}

function outcomeBadge(outcome = "ok") {
  const kind = outcome === "ok" ? "ok" : CURED.has(outcome) ? "warn" : "fail";
  return h("span", { class: `state ${kind}` }, s("svg", { viewBox: "0 0 16 16", "aria-hidden": "true" }, shapeOf(kind)), outcome);
}

function title(record) {
  return record.tool ?? record.subject ?? (record.server ? `${record.kind} ${record.server}` : record.kind);
}

function row(record) {
  const more = [clock(record.time), record.kind, record.client?.name ?? record.client?.principal, record.seconds !== undefined && span(record.seconds), record.error];
  return h("div", { class: "server row-in" },
    h("span", { class: "name" }, title(record)), outcomeBadge(record.outcome), h("span", { class: "more" }, more.filter(Boolean).join(" · ")));
}

/** A microsecond later, so that records of the same moment are not passed over. */
function after(time) {
  return time.replace(/(\d{6})Z$/, (whole, micros) => (micros === "999999" ? whole : `${String(Number(micros) + 1).padStart(6, "0")}Z`));
}

function pretty(value) {
  return typeof value === "string" ? value : stringify(value, 2);
}

function create(app) {
  const session = app.session;
  let records = [];
  let known = new Set();
  let cursor = "";
  let opened = null;
  let unwatch = null;
  let oldest = false;
  let turn = 0;
  let extra = {};

  const changed = debounced(300, () => again());
  const field = (key) => h("input", { type: "search", placeholder: t(`journal.${key}`), "aria-label": t(`journal.${key}`), "data-filter": key, autocomplete: "off", oninput: changed });
  const choice = (key, options) => h("select", { "aria-label": t(`journal.${key}`), "data-filter": key, onchange: changed },
    h("option", { value: "" }, t(`journal.${key}`)), options.map(([value, text]) => h("option", { value }, text)));
  const filters = {
    tool: field("tool"), server: field("server"), client: field("client"),
    kind: choice("kind", KINDS.map((kind) => [kind, kind])),
    outcome: choice("outcome", [["ok", t("journal.outcome.ok")], ["!ok", t("journal.outcome.bad")]]),
    since: choice("since", [["10m", "10 min"], ["1h", "1 h"], ["1d", "1 d"], ["7d", "7 d"]].map(([value, ago]) => [value, t("journal.since.ago", { span: ago })])),
  };
  const follow = h("input", { type: "checkbox", checked: true, onchange: () => (follow.checked ? again() : stop()) });
  const looks = h("input", { type: "checkbox", onchange: () => again() });
  const remark = h("p", { class: "faint small", role: "status" });
  const chips = h("span", { class: "chips" });
  const count = h("span", { class: "count", role: "status" });
  const older = h("button", { type: "button", class: "older", onclick: () => back() }, t("journal.older"));
  const list = new List({ label: t("journal"), render: row, key: (one) => one.id, onopen: (one) => app.go("journal", one.id), empty: t("loading") });
  const detail = h("section", { class: "detail", tabindex: "-1" }, h("p", { class: "empty" }, t("journal.choose")));
  const element = h("div", { class: "split" },
    h("div", { class: "side three" },
      h("div", { class: "bar" }, Object.values(filters), h("label", { class: "tick" }, follow, t("journal.follow")),
        h("label", { class: "tick" }, looks, t("journal.looks")), chips, count, remark),
      list.element, older),
    detail);

  function wanted() {
    const given = { ...extra };
    for (const [key, input] of Object.entries(filters)) if (input.value.trim()) given[key] = input.value.trim();
    return given;
  }

  function take(found, { older: behind = false } = {}) {
    const fresh = found.filter((one) => !known.has(one.id) && (looks.checked || !isLook(one)));
    for (const one of fresh) known.add(one.id);
    fresh.reverse();
    records = behind ? [...records, ...fresh] : [...fresh, ...records];
    if (!behind && records.length > KEPT) {
      for (const one of records.splice(KEPT)) known.delete(one.id);
      oldest = false;
    }
    count.textContent = t("journal.count", { count: number(records.length) });
    list.set(records, t("journal.none"));
    older.disabled = oldest;
    older.textContent = oldest ? t("journal.oldest") : t("journal.older");
    return fresh.length;
  }

  /** Reads a page, and further ones where all of it is left out. */
  async function read(until, mine) {
    let shown = 0;
    for (let page = 0; page < 8 && shown < PAGE / 4; page += 1) {
      const { records: found, note: said } = await session.data("read_journal", { ...wanted(), limit: PAGE, ...(until ? { until } : {}) });
      if (mine !== turn) return;
      remark.textContent = said ?? "";
      oldest = found.length < PAGE;
      shown += take(found, { older: true });
      if (oldest) return;
      until = after(found[0].time);
      if (found.every((one) => one.time === found[0].time)) until = found[0].time;
    }
  }

  async function again() {
    const mine = ++turn;
    stop();
    records = [];
    known = new Set();
    list.set([], t("loading"));
    try {
      // Where the journal is now, before what was: nothing falls between the two.
      if (follow.checked) await begin(mine);
      await read(null, mine);
    } catch (error) {
      if (mine !== turn || !session.online) return;
      list.set([], error.message);
    }
  }

  async function back() {
    const mine = turn;
    if (!records.length) return;
    older.disabled = true;
    try {
      await read(after(records.at(-1).time), mine);
    } catch (error) {
      note(t("failed", { why: error.message }), "bad");
      older.disabled = false;
    }
  }

  // --- as it is written

  function query() {
    const { since: _, ...rest } = wanted();
    return new URLSearchParams({ ...(cursor ? { after: cursor } : {}), ...rest });
  }

  async function begin(mine) {
    cursor = "";
    try {
      ({ cursor } = JSON.parse(await session.read(URI)));
    } catch {
      return; // There is no journal, or it may not be followed; reading says which.
    }
    if (mine === turn) unwatch = session.watch(URI, gathered(50, () => ahead(mine)));
  }

  async function ahead(mine) {
    if (mine !== turn || !cursor) return;
    try {
      const page = JSON.parse(await session.read(`${URI}?${query()}`));
      if (mine !== turn) return;
      cursor = page.cursor;
      if (page.missed) {
        note(t("journal.missed"));
        again();
      } else if (page.records.length) take(page.records);
    } catch (error) {
      if (session.online) note(t("failed", { why: error.message }), "bad");
    }
  }

  function stop() {
    unwatch?.();
    unwatch = null;
  }

  // --- one record

  function only(key, value, what) {
    return h("button", { type: "button", class: "quiet link", onclick: () => narrow({ [key]: value }) }, t("journal.same", { what: t(`journal.same.${what}`) }));
  }

  function narrow(more) {
    extra = more;
    replace(chips, Object.entries(extra).map(([key, value]) =>
      h("button", { type: "button", class: "chip", onclick: () => narrow({}) }, `${t(`journal.${key}`)} ${value.slice(0, 18)} ×`)));
    again();
  }

  function contents(record, part) {
    if (record[part] === undefined) return null;
    const cut = record.cut?.[part];
    return [h("h3", {}, t(`journal.${part}`)), cut && h("p", { class: "faint small" }, t("journal.cut", { bytes: bytes(cut.bytes) })), h("pre", { "data-part": part }, pretty(record[part]))];
  }

  function draw(record) {
    const { client = {} } = record;
    const facts = [
      ["journal.time", `${new Date(record.time).toLocaleString()} (${record.time})`],
      ["journal.what", record.method && record.method !== record.kind ? `${record.kind} (${record.method})` : record.kind],
      ["journal.server", record.server],
      ["journal.version", record.version],
      ["journal.who", [client.name, client.version, client.principal && `(${client.principal}, ${client.listener})`].filter(Boolean).join(" ")],
      ["journal.session", record.session && [h("code", {}, record.session), " ", only("session", record.session, "session")]],
      ["journal.took", record.seconds !== undefined && span(record.seconds)],
      ["journal.sizes", record.bytes && t("journal.sizes.both", { asked: bytes(record.bytes.arguments), answered: bytes(record.bytes.result) })],
      ["journal.trace", record.trace && [h("code", {}, record.trace), " ", only("trace", record.trace, "trace")]],
      ["journal.parent", record.parent && h("code", {}, record.parent)],
    ].filter(([, value]) => value);
    replace(detail,
      h("header", {}, h("button", { type: "button", class: "back", onclick: () => app.go("journal") }, `← ${t("back")}`),
        h("h2", {}, title(record)), h("p", {}, outcomeBadge(record.outcome))),
      record.error && h("div", { class: "callout fail" }, h("b", {}, `${t("journal.error")}: `), record.error),
      h("dl", { class: "facts" }, facts.map(([key, value]) => [h("dt", {}, t(key)), h("dd", {}, value)])),
      ["arguments", "result", "detail"].map((part) => contents(record, part)));
  }

  async function look() {
    const id = opened;
    try {
      const { records: found } = await session.data("read_journal", { id, contents: true, limit: 1 });
      if (opened !== id) return;
      if (found.length) draw(found[0]);
      else replace(detail, h("p", { class: "empty" }, t("journal.none")));
    } catch (error) {
      if (opened === id && session.online) replace(detail, h("p", { class: "callout fail" }, error.message));
    }
  }

  async function show([id = null]) {
    const fresh = unwatch === null && follow.checked;
    if (id !== opened) {
      opened = id;
      detail.scrollTop = 0;
      replace(detail, h("p", { class: "empty" }, t(id ? "loading" : "journal.choose")));
      if (id) look();
    }
    list.open(id);
    element.classList.toggle("opened", id !== null);
    if (fresh || !records.length) await again();
  }

  return { element, show, hide: stop, find: () => filters.tool.focus() };
}

export const view = { id: "journal", title: () => t("journal"), create };
