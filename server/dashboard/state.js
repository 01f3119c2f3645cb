// States as people see them: a colour, a shape, and the word.

import { h, s } from "./dom.js";
import { t, words } from "./words.js";

words({
  "state.READY": ["ready", "就绪"],
  "state.STARTING": ["starting", "启动中"],
  "state.INSTALLING": ["installing", "安装中"],
  "state.STOPPING": ["stopping", "停止中"],
  "state.STOPPED": ["stopped", "已停止"],
  "state.BACKOFF": ["waits to restart", "等待重启"],
  "state.FAILED": ["failed", "失败"],
  "state.DISABLED": ["disabled", "已禁用"],
});

const KINDS = { READY: "ok", STARTING: "busy", INSTALLING: "busy", STOPPING: "busy", BACKOFF: "warn", FAILED: "fail" };
const SHAPES = {
  ok: () => s("circle", { cx: 8, cy: 8, r: 6 }),
  busy: () => s("circle", { cx: 8, cy: 8, r: 6, "stroke-dasharray": "4 3" }),
  warn: () => s("path", { d: "M8 2 15 14H1Z", "stroke-linejoin": "round" }),
  fail: () => s("path", { d: "M3 3l10 10M13 3 3 13", "stroke-linecap": "round" }),
  "": () => s("rect", { x: 3, y: 3, width: 10, height: 10, rx: 1 }),
};

/** Tells of what kind a state is: "ok", "busy", "warn", "fail", or "" for one that is at rest. */
export function kindOf(state) {
  return KINDS[state] ?? "";
}

/** The shape of a kind, 16 by 16. */
export function shapeOf(kind) {
  return SHAPES[kind]();
}

/** Gives the word for a state. */
export function stateWord(state) {
  const key = `state.${state}`;
  const word = t(key);
  return word === key ? state : word;
}

/** Shows a state of a server; a disabled one is just that. */
export function stateBadge(state, enabled = true) {
  const shown = enabled || state === "READY" ? state : "DISABLED";
  const kind = kindOf(shown);
  return h("span", { class: `state ${kind}`, "data-state": shown },
    s("svg", { viewBox: "0 0 16 16", "aria-hidden": "true" }, shapeOf(kind)), h("span", {}, stateWord(shown)));
}
