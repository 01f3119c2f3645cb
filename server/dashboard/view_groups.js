// Groups: which server needs which, drawn in layers, with its state; a group is started and stopped as one.

import { confirm, note } from "./dialog.js";
import { gathered, h, replace, s } from "./dom.js";
import { layered } from "./layers.js";
import { kindOf, shapeOf, stateBadge } from "./state.js";
import { t, words } from "./words.js";

words({
  "groups": ["Groups", "分组"],
  "groups.all": ["All servers", "所有服务器"],
  "groups.which": ["Group", "分组"],
  "groups.graph": ["What needs what; what is needed is on the left.", "依赖关系图；被依赖者在左侧。"],
  "groups.alone": ["Without dependencies", "没有依赖关系"],
  "groups.none": ["No server is in a group or needs another yet: `toolscore configure NAME groups=GROUP depends_on=OTHER`.", "还没有分组或依赖关系：`toolscore configure NAME groups=GROUP depends_on=OTHER`。"],
  "groups.start": ["Start all", "全部启动"],
  "groups.stop": ["Stop all", "全部停止"],
  "groups.restart": ["Restart all", "全部重启"],
  "groups.sure": ["This is about {count} servers: {names}.", "涉及 {count} 个服务器：{names}。"],
  "groups.done": ["{name}: {state}", "{name}：{state}"],
  "groups.node": ["{name}, {state}, needs {needs}", "{name}，{state}，依赖 {needs}"],
  "groups.node.free": ["{name}, {state}, needs nothing", "{name}，{state}，无依赖"],
});

const URI = "toolscore://groups";
const WIDE = 190;
const HIGH = 54;
const ACROSS = 70;
const BELOW = 18;

function word(one) {
  const key = `state.${one.enabled || one.state === "READY" ? one.state : "DISABLED"}`;
  const text = t(key);
  return text === key ? one.state : text;
}

function short(text) {
  return text.length > 21 ? `${text.slice(0, 20)}…` : text;
}

function create(app) {
  const session = app.session;
  let servers = [];
  let shown = "";
  const which = h("select", { "aria-label": t("groups.which"), onchange: () => app.go("groups", ...(which.value ? [which.value] : [])) });
  const buttons = ["start", "stop", "restart"].map((action) => h("button", { type: "button", "data-action": action, onclick: () => act(action) }, t(`groups.${action}`)));
  const picture = h("div", { class: "graph" });
  const element = h("div", { class: "sheet" }, h("div", { class: "bar" }, which, buttons), picture);

  function chosen() {
    return which.value ? servers.filter((one) => one.groups.includes(which.value)) : servers;
  }

  function node(one, x, y) {
    const kind = kindOf(one.enabled || one.state === "READY" ? one.state : "DISABLED");
    const open = () => app.go("servers", one.name);
    const key = one.depends_on.length ? "groups.node" : "groups.node.free";
    return s("g", {
      class: `node state ${kind}`, transform: `translate(${x} ${y})`, tabindex: "0", role: "link", "data-name": one.name,
      "aria-label": t(key, { name: one.name, state: word(one), needs: one.depends_on.join(", ") }),
      onclick: open, onkeydown: (event) => (event.key === "Enter" || event.key === " ") && (event.preventDefault(), open()),
    },
    s("title", {}, one.reason ? `${one.name}: ${one.reason}` : one.name),
    s("rect", { width: WIDE, height: HIGH, rx: 8, class: "box" }),
    s("g", { transform: "translate(12 29)", class: "shape" }, shapeOf(kind)),
    s("text", { x: 12, y: 21, class: "name" }, short(one.name)),
    s("text", { x: 34, y: 41, class: "word" }, short(word(one))));
  }

  function edge(from, to) {
    const [x1, y1, x2, y2] = [from.x + WIDE, from.y + HIGH / 2, to.x - 7, to.y + HIGH / 2];
    const bend = Math.max(30, (x2 - x1) / 2);
    return s("path", { class: "edge", d: `M${x1} ${y1}C${x1 + bend} ${y1} ${x2 - bend} ${y2} ${x2} ${y2}`, "marker-end": "url(#arrow)" });
  }

  function graph({ layers, needs }, found) {
    const places = new Map();
    const tallest = Math.max(...layers.map((layer) => layer.length));
    for (const [at, layer] of layers.entries()) {
      const top = ((tallest - layer.length) * (HIGH + BELOW)) / 2;
      for (const [index, name] of layer.entries()) places.set(name, { x: at * (WIDE + ACROSS) + 2, y: top + index * (HIGH + BELOW) + 2 });
    }
    const width = layers.length * (WIDE + ACROSS) - ACROSS + 4;
    const height = tallest * (HIGH + BELOW) - BELOW + 4;
    const edges = [...needs].flatMap(([name, wanted]) => wanted.map((need) => edge(places.get(need), places.get(name))));
    return s("svg", { viewBox: `0 0 ${width} ${height}`, width, height, role: "group", "aria-label": t("groups.graph") },
      s("defs", {}, s("marker", { id: "arrow", viewBox: "0 0 8 8", refX: 2, refY: 4, markerWidth: 7, markerHeight: 7, orient: "auto" }, s("path", { d: "M0 0 8 4 0 8Z" }))),
      edges, layers.flat().map((name) => node(found.get(name), places.get(name).x, places.get(name).y)));
  }

  function enable() {
    for (const button of buttons) button.disabled = !chosen().length;
  }

  function draw() {
    const those = chosen();
    const found = new Map(those.map((one) => [one.name, one]));
    const drawn = layered(those);
    const focused = picture.contains(document.activeElement) ? document.activeElement.dataset.name : undefined;
    enable();
    const linked = servers.some((one) => one.groups.length || one.depends_on.length);
    replace(picture,
      !linked && h("p", { class: "callout" }, t("groups.none")),
      drawn.layers.length > 0 && h("div", { class: "drawn" }, graph(drawn, found)),
      drawn.alone.length > 0 && [
        h("h3", {}, t("groups.alone")),
        h("div", { class: "alone" }, drawn.alone.map((name) =>
          h("button", { type: "button", "data-name": name, onclick: () => app.go("servers", name) }, h("b", {}, name), " ", stateBadge(found.get(name).state, found.get(name).enabled)))),
      ]);
    if (focused) picture.querySelector(`[data-name="${CSS.escape(focused)}"]`)?.focus();
  }

  async function act(action) {
    const name = which.value ? `@${which.value}` : "*";
    const names = chosen().map((one) => one.name);
    const title = `${t(`groups.${action}`)}: ${name}`;
    const some = names.length > 12 ? `${names.slice(0, 12).join(", ")} …` : names.join(", ");
    if (!(await confirm(title, t("groups.sure", { count: names.length, names: some }), t(`groups.${action}`), { danger: action !== "start" }))) return;
    for (const button of buttons) button.disabled = true;
    try {
      const done = await session.data("manage_server", { name, action });
      note(t("groups.done", { name, state: done.servers.map((one) => `${one.name} ${one.state}`).slice(0, 8).join(", ") }));
    } catch (error) {
      note(error.message, "bad");
    }
    load();
  }

  async function load() {
    try {
      const said = JSON.parse(await session.read(URI));
      // What a person has before them is not drawn anew for nothing.
      const look = JSON.stringify([said.servers.map(({ since: _, restarts: __, ...rest }) => rest), said.groups, which.value]);
      if (look === shown && picture.firstChild) return enable();
      shown = look;
      servers = said.servers;
      const value = which.value || app.place?.[0] || "";
      replace(which, h("option", { value: "" }, t("groups.all")), said.groups.map((group) => h("option", { value: group }, `@${group}`)));
      which.value = said.groups.includes(value) ? value : "";
      draw();
    } catch (error) {
      if (session.online) replace(picture, h("p", { class: "callout fail" }, error.message));
    }
  }

  async function show([group = ""]) {
    if (which.options.length) which.value = group;
    await load();
  }

  const soon = gathered(150, load);
  return { element, show, hide() {}, onevents: soon, find: () => which.focus() };
}

export const view = { id: "groups", title: () => t("groups"), create };
