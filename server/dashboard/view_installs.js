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
  "installs.secret": ["A secret: set it with `toolscore secret set {variable}` at the command line, and write {reference} here. It is looked up at each start.", "密钥：请在命令行运行 `toolscore secret set {variable}`，并在此填写 {reference}，每次启动时读取。"],
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
  "installs.index": ["Search by meaning", "语义搜索"],
  "installs.index.far": ["{done} of {all} tools can be found by their meaning so far; the others by their words.", "目前 {all} 个工具中有 {done} 个可按语义找到，其余按词语找到。"],
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
  const cards = new Map();
  const none = h("p", { class: "empty" }, t("installs.none"));
  const meanings = { bar: h("progress", { "aria-label": t("installs.index") }), far: h("p", { class: "faint small" }) };
  const indexing = h("article", { class: "card", "data-index": true }, h("h2", {}, t("installs.index")), meanings.bar, meanings.far);
  let installs = [];
  let index = null;
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
    const inputs = (one.needs ?? []).map((need) => {
      const id = `need-${++fields}`;
      // Nobody is to type a secret where others read along: what is sent is where ToolScore finds it.
      const variable = need.name.replace(/[^A-Za-z0-9_]|^(?=[0-9])/g, "_");
      const reference = need.secret ? `\${${variable}}` : "";
      return [h("label", { for: id }, need.name, need.required && h("span", { class: "faint" }, ` (${t("installs.required")})`)),
        h("input", { id, "data-need": need.name, value: need.required ? reference : "", placeholder: need.default ?? reference, required: need.required && !need.default, autocomplete: "off", spellcheck: "false", "aria-describedby": `${id}-how` }),
        h("p", { class: "faint small", id: `${id}-how` }, need.description, need.secret && [need.description && h("br"), t("installs.secret", { variable, reference })])];
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
    inputs,
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

  function ownOf(one, taken) {
    return one.state === "running" ? [...mine.values()].find((own) => !taken.has(own) && (own.name === one.name || own.source === one.source)) : undefined;
  }

  /**
   * The card of one installation. Its parts stay the same ones while it goes on: a button that was made anew with each
   * line of an installer could neither be clicked nor keep the focus.
   */
  function makeCard() {
    const part = (tag, props, ...inner) => h(tag, { ...props, hidden: true }, ...inner);
    const heading = h("h2", {});
    const from = part("p", { class: "faint small" });
    const bar = part("progress", {});
    const line = part("p", { class: "mono small", "data-line": true });
    const reason = part("div", { class: "callout fail" });
    const said = h("pre", {});
    const lines = part("details", {}, h("summary", { class: "small" }, t("installs.lines")), said);
    const cancel = part("div", { class: "actions" }, h("button", { type: "button", onclick: () => mine_?.control.abort(new Error("cancelled")) }, t("installs.cancel")));
    let mine_ = null;
    let state = null;

    function show(element, text) {
      element.hidden = !text;
      if (text && element.textContent !== text) element.textContent = text;
    }

    return {
      element: h("article", { class: "card" }, heading, from, bar, line, reason, lines, cancel),
      /** Shows how it goes: as ToolScore tells it, and as it tells the call from here. */
      update(one, own) {
        mine_ = own;
        cancel.hidden = !own;
        const title = one?.name ?? own.name ?? own.source;
        if (state !== `${title} ${one?.state}`) replace(heading, title, " ", badge(one?.state ?? ""));
        state = `${title} ${one?.state}`;
        const [done, total] = one ? [one.progress, one.steps] : [own.progress, own.total];
        bar.hidden = one !== undefined && one.state !== "running";
        bar.setAttribute("aria-label", t("installs.progress", { name: title }));
        bar.max = total > 0 ? total : 1;
        if (total > 0) bar.value = done;
        else bar.removeAttribute("value");
        from.hidden = !one;
        if (!one) return;
        replace(from, h("code", {}, one.source), " · ", t("installs.took", { at: clock(new Date(one.began * 1000).toISOString()), span: span((one.ended ?? Date.now() / 1000) - one.began) }));
        show(line, one.state === "running" ? one.lines.at(-1) : "");
        show(reason, one.reason);
        lines.hidden = one.lines.length < 2;
        show(said, one.lines.join("\n"));
      },
    };
  }

  function draw() {
    const wanted = [];
    const covered = new Set();
    const shown = [...installs].reverse().map((one) => {
      const own = ownOf(one, covered);
      covered.add(own);
      if (!cards.has(one.number)) cards.set(one.number, own?.card ?? makeCard());
      cards.get(one.number).update(one, own);
      return cards.get(one.number).element;
    });
    for (const own of mine.values()) {
      if (covered.has(own)) continue;
      own.card ??= makeCard();
      own.card.update(undefined, own);
      wanted.push(own.card.element);
    }
    if (index) {
      Object.assign(meanings.bar, { max: index.tools, value: index.encoded });
      meanings.far.textContent = t("installs.index.far", { done: index.encoded, all: index.tools });
      wanted.unshift(indexing);
    }
    wanted.push(...shown);
    for (const number of cards.keys()) if (!installs.some((one) => one.number === number)) cards.delete(number);
    if (!wanted.length) wanted.push(none);
    for (const element_ of [...under.children]) if (!wanted.includes(element_)) element_.remove();
    // What is where it belongs is left there: whatever is moved loses the focus.
    wanted.forEach((element_, at) => under.children[at] !== element_ && under.insertBefore(element_, under.children[at] ?? null));
  }

  async function load() {
    try {
      ({ installs, index = null } = JSON.parse(await session.read(URI)));
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
