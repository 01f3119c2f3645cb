// Installs: find a server or name its source, give what it needs, and see how every installation goes, whoever asked for it.

import { note } from "./dialog.js";
import { gathered, h, replace, s } from "./dom.js";
import { shapeOf } from "./state.js";
import { clock, span, t, words } from "./words.js";

words({
  "installs": ["Installs", "安装"],
  "installs.search": ["What should a server be able to do?", "需要服务器做什么？"],
  "installs.find": ["Search the catalog", "搜索目录"],
  "installs.direct": ["Install from a source", "从来源安装"],
  "installs.source": ["Source", "来源"],
  "installs.source.how": ["pypi:NAME, npm:NAME, git+URL, a folder, a .mcpb file, docker:IMAGE, registry:NAME, or 'command: PROGRAM ARGS'", "pypi:NAME、npm:NAME、git+URL、文件夹、.mcpb 文件、docker:IMAGE、registry:NAME 或 'command: PROGRAM ARGS'"],
  "installs.name": ["Name (optional)", "名称（可选）"],
  "installs.args": ["Arguments, one a line (optional)", "参数，每行一个（可选）"],
  "installs.env": ["Settings, KEY=VALUE, one a line (optional)", "设置，每行一个 KEY=VALUE（可选）"],
  "installs.env.how": ["No secrets here: set one with `toolscore secret set NAME` and write KEY=${secret:NAME}.", "请勿在此填写密钥：用 `toolscore secret set NAME` 保存后写 KEY=${secret:NAME}。"],
  "installs.env.wrong": ["A setting is KEY=VALUE; this is not: {line}", "设置应为 KEY=VALUE，此行不是：{line}"],
  "installs.go": ["Install", "安装"],
  "installs.there": ["installed as {name}", "已安装为 {name}"],
  "installs.fetches": ["Fetches", "将获取"],
  "installs.needs": ["Needs", "需要"],
  "installs.secret": ["{name} is a secret: `toolscore secret set {name}` at the command line.", "{name} 是密钥：请在命令行运行 `toolscore secret set {name}`。"],
  "installs.required": ["required", "必填"],
  "installs.under": ["Under way, and lately", "进行中与最近的安装"],
  "installs.none": ["Nothing was installed since ToolScore started.", "自 ToolScore 启动以来没有安装过任何服务器。"],
  "installs.cancel": ["Cancel", "取消"],
  "installs.cancelled": ["{source} is not installed; nothing of it was kept.", "{source} 未安装，没有留下任何内容。"],
  "installs.done": ["{name} is installed, with {count} tools.", "{name} 已安装，提供 {count} 个工具。"],
  "installs.running": ["installing", "安装中"],
  "installs.ended": ["done", "完成"],
  "installs.failed": ["failed", "失败"],
  "installs.stopped": ["cancelled", "已取消"],
  "installs.took": ["{at}, {span}", "{at}，用时 {span}"],
  "installs.progress": ["Installing {name}", "正在安装 {name}"],
  "installs.lines": ["What the installer said", "安装程序输出"],
  "installs.waits": ["asked for", "已请求"],
});

const URI = "toolscore://installs";
const STATES = { running: ["busy", "installs.running"], done: ["ok", "installs.ended"], failed: ["fail", "installs.failed"], cancelled: ["", "installs.stopped"] };

function badge(state) {
  const [kind, key] = STATES[state] ?? ["", "installs.waits"];
  return h("span", { class: `state ${kind}`, "data-install": state }, s("svg", { viewBox: "0 0 16 16", "aria-hidden": "true" }, shapeOf(kind)), t(key));
}

function rows(text) {
  return text.split("\n").map((line) => line.trim()).filter(Boolean);
}

let fields = 0;

function field(key, make, how) {
  const id = `install-${++fields}`;
  const input = make({ id, autocomplete: "off", spellcheck: "false", "aria-describedby": how ? `${id}-how` : null });
  return [h("label", { for: id }, t(key)), input, how && h("p", { id: `${id}-how`, class: "faint small" }, t(how))];
}

function create(app) {
  const session = app.session;
  const mine = new Map();
  let installs = [];
  let unwatch = null;

  const query = h("input", { type: "search", "aria-label": t("installs.find"), placeholder: t("installs.search") });
  const results = h("div", { class: "cards", "aria-live": "polite" });
  const under = h("div", { class: "cards" });

  const source = field("installs.source", (props) => h("input", { ...props, required: true, name: "source" }), "installs.source.how");
  const name = field("installs.name", (props) => h("input", { ...props, name: "name" }));
  const args = field("installs.args", (props) => h("textarea", { ...props, name: "args", rows: 2 }));
  const env = field("installs.env", (props) => h("textarea", { ...props, name: "env", rows: 2 }), "installs.env.how");
  const direct = h("form", {
    class: "fields",
    onsubmit: (event) => {
      event.preventDefault();
      const given = {};
      for (const line of rows(env[1].value)) {
        const at = line.indexOf("=");
        if (at < 1) return note(t("installs.env.wrong", { line }), "bad");
        given[line.slice(0, at).trim()] = line.slice(at + 1);
      }
      install({
        source: source[1].value.trim(),
        ...(name[1].value.trim() ? { name: name[1].value.trim() } : {}),
        ...(args[1].value.trim() ? { args: rows(args[1].value) } : {}),
        ...(Object.keys(given).length ? { env: given } : {}),
      });
    },
  }, source, name, args, env, h("button", { type: "submit", class: "primary" }, t("installs.go")));

  const element = h("div", { class: "sheet" },
    h("form", { class: "bar", role: "search", onsubmit: (event) => (event.preventDefault(), search()) }, query, h("button", { type: "submit" }, t("installs.find"))),
    results,
    h("details", { class: "card" }, h("summary", {}, t("installs.direct")), direct),
    h("h3", {}, t("installs.under")), under);

  // --- the catalog

  async function search() {
    const text = query.value.trim();
    if (!text) return replace(results);
    replace(results, h("p", { class: "empty" }, t("loading")));
    try {
      const { servers, note: said } = await session.data("search_servers", { query: text, limit: 10, max_tokens: 8000 });
      replace(results, servers.length ? servers.map(offer) : h("p", { class: "empty" }, t("none.found", { text })), said && h("p", { class: "faint small" }, said));
    } catch (error) {
      if (session.online) replace(results, h("p", { class: "callout fail" }, error.message));
    }
  }

  function offer(one) {
    const open = (one.needs ?? []).filter((need) => !need.secret);
    const secret = (one.needs ?? []).filter((need) => need.secret);
    const inputs = open.map((need) => {
      const id = `need-${++fields}`;
      return [h("label", { for: id }, need.name, need.required && h("span", { class: "faint" }, ` (${t("installs.required")})`)),
        h("input", { id, "data-need": need.name, placeholder: need.default ?? "", required: need.required && !need.default, autocomplete: "off" }),
        need.description && h("p", { class: "faint small" }, need.description)];
    });
    const form = h("form", {
      class: "fields",
      onsubmit: (event) => {
        event.preventDefault();
        const settings = {};
        for (const input of form.querySelectorAll("[data-need]")) if (input.value) settings[input.dataset.need] = input.value;
        install({ source: `registry:${one.name}`, ...(Object.keys(settings).length ? { settings } : {}) });
      },
    },
    inputs, secret.map((need) => h("p", { class: "callout warn" }, t("installs.secret", { name: need.name }))),
    one.installed ? h("span", { class: "chip" }, t("installs.there", { name: one.installed })) : h("button", { type: "submit", class: "primary" }, t("installs.go")));
    return h("article", { class: "card" },
      h("h2", {}, one.title ?? one.name, one.version && h("span", { class: "faint small" }, ` ${one.version}`)),
      h("p", { class: "faint small mono" }, one.name), one.description && h("p", {}, one.description),
      one.fetches && h("p", { class: "small" }, `${t("installs.fetches")}: `, h("code", {}, one.fetches)),
      (one.notes ?? []).map((text) => h("p", { class: "callout warn small" }, text)), form);
  }

  // --- installing

  async function install(given) {
    const control = new AbortController();
    const own = { ...given, control, progress: 0, total: null, line: "" };
    mine.set(control, own);
    draw();
    try {
      const done = await session.data("install_server", given, {
        signal: control.signal,
        onprogress: ({ progress, total, message }) => {
          Object.assign(own, { progress, total, line: message ?? own.line });
          draw();
        },
      });
      note([t("installs.done", { name: done.name, count: done.total }), ...(done.notes ?? [])].join(" "));
    } catch (error) {
      if (control.signal.aborted) note(t("installs.cancelled", { source: given.source }));
      else note(error.message, "bad");
    }
    mine.delete(control);
    load();
  }

  function ownOf(one) {
    return one.state === "running" ? [...mine.values()].find((own) => own.name === one.name || own.source === one.source) : undefined;
  }

  function cancel(own) {
    return h("button", { type: "button", onclick: () => own.control.abort(new Error("cancelled")) }, t("installs.cancel"));
  }

  function bar(title, done, total) {
    return h("progress", { "aria-label": t("installs.progress", { name: title }), max: total || 1, value: total ? String(done) : null });
  }

  function card(one) {
    const own = ownOf(one);
    const running = one.state === "running";
    const last = one.lines.at(-1);
    const open = under.querySelector(`[data-number="${one.number}"] details`)?.open;
    return h("article", { class: "card", "data-number": one.number },
      h("h2", {}, one.name, " ", badge(one.state)),
      h("p", { class: "faint small" }, h("code", {}, one.source), " · ", t("installs.took", { at: clock(new Date(one.began * 1000).toISOString()), span: span((one.ended ?? Date.now() / 1000) - one.began) })),
      running && bar(one.name, one.progress, one.steps),
      running && last && h("p", { class: "mono small", "data-line": true }, last),
      one.reason && h("div", { class: "callout fail" }, one.reason),
      one.lines.length > 1 && h("details", { open }, h("summary", { class: "small" }, t("installs.lines")), h("pre", {}, one.lines.join("\n"))),
      own && h("div", { class: "actions" }, cancel(own)));
  }

  function draw() {
    const covered = new Set(installs.map(ownOf));
    const asked = [...mine.values()].filter((own) => !covered.has(own));
    replace(under,
      asked.map((own) => h("article", { class: "card" }, h("h2", {}, own.name ?? own.source, " ", badge("")), bar(own.source, own.progress, own.total), h("div", { class: "actions" }, cancel(own)))),
      installs.length ? [...installs].reverse().map(card) : !asked.length && h("p", { class: "empty" }, t("installs.none")));
  }

  async function load() {
    try {
      ({ installs } = JSON.parse(await session.read(URI)));
      draw();
    } catch (error) {
      if (session.online) replace(under, h("p", { class: "callout fail" }, error.message));
    }
  }

  function show() {
    unwatch ??= session.watch(URI, gathered(50, load));
    return load();
  }

  function hide() {
    unwatch?.();
    unwatch = null;
  }

  return { element, show, hide, find: () => query.focus() };
}

export const view = { id: "installs", title: () => t("installs"), create };
