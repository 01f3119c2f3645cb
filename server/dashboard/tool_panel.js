// One tool: what it does, how well it works, the form to try it, and what came of that.

import { h, replace } from "./dom.js";
import { stringify } from "./exact.js";
import { schemaForm } from "./form.js";
import { resultBlock, textBlock } from "./result.js";
import { LostError } from "./rpc.js";
import { clock, number, span, t, words } from "./words.js";

words({
  "tool.run": ["Run", "运行"],
  "tool.cancel": ["Cancel", "取消"],
  "tool.running": ["Running …", "运行中 …"],
  "tool.try": ["Try it", "试用"],
  "tool.score": ["How well it works", "运行情况"],
  "tool.quantiles": ["Half of the answers came within {p50}, nine of ten within {p90}.", "半数应答在 {p50} 内，九成在 {p90} 内。"],
  "tool.last.failure": ["Failed last {at}: {kind}", "最近一次失败于 {at}：{kind}"],
  "tool.schema": ["Schema of its arguments", "参数模式"],
  "tool.output": ["Schema of its result", "结果模式"],
  "tool.findings": ["Found when its description was looked through", "检查其描述时发现"],
  "tool.quarantined": ["In quarantine", "被隔离"],
  "tool.reads": ["only reads", "只读"],
  "tool.writes": ["may destroy", "可能有破坏性"],
  "tool.again": ["may be repeated", "可重复调用"],
  "tool.outside": ["reaches outside", "访问外部"],
  "tool.lost": ["The connection was lost: whether it was done is not known. The journal tells, once there is a connection again.", "连接已断开，不知道是否已执行。重新连接后可在日志簿中查看。"],
});

const HINTS = [["readOnlyHint", "tool.reads", "ok"], ["destructiveHint", "tool.writes", "warn"], ["idempotentHint", "tool.again", ""], ["openWorldHint", "tool.outside", ""]];

function scored(one) {
  return h("div", {},
    h("p", {}, one.explained),
    one.p50 !== null && h("p", { class: "faint small" }, t("tool.quantiles", { p50: span(one.p50), p90: span(one.p90) })),
    one.last_failure && h("p", { class: "faint small" }, t("tool.last.failure", { at: clock(one.last_failure.at), kind: one.last_failure.kind }), one.last_failure.text && ` – ${one.last_failure.text}`));
}

/** Shows a tool as `describe_tool` tells of it. `leave()` cancels what runs. */
export function toolPanel(app, tool) {
  const session = app.session;
  const form = schemaForm(tool.inputSchema);
  const score = h("div", {}, h("p", { class: "faint" }, t("loading")));
  const came = h("div", { "aria-live": "polite" });
  const run = h("button", { type: "submit", class: "primary" }, t("tool.run"));
  const cancel = h("button", { type: "button", hidden: true, onclick: () => control?.abort(new Error("cancelled")) }, t("tool.cancel"));
  let control = null;

  async function start(event) {
    event.preventDefault();
    const given = form.read();
    if (given === null || control) return;
    control = new AbortController();
    const began = performance.now();
    const bar = h("progress", { "aria-label": t("tool.running") });
    const words_ = h("span", { class: "faint small" }, t("tool.running"));
    replace(came, h("p", { class: "running" }, bar, words_));
    run.disabled = true;
    cancel.hidden = false;
    const onprogress = (told) => {
      const [progress, total] = [Number(told.progress) || 0, Number(told.total) || 0]; // whatever a server says
      const message = told.message === undefined ? "" : String(told.message).slice(0, 500);
      if (total > 0 && Number.isFinite(total + progress)) {
        bar.max = total;
        bar.value = progress;
      }
      words_.textContent = [message, total ? `${number(progress, 1)} / ${number(total, 1)}` : number(progress, 1)].filter(Boolean).join(" · ");
    };
    const ended = {};
    try {
      ended.result = await session.callRaw(tool.name, given, { signal: control.signal, onprogress });
    } catch (error) {
      ended.cancelled = control.signal.aborted;
      ended.error = ended.cancelled ? null : error instanceof LostError ? new Error(t("tool.lost")) : error;
    }
    ended.seconds = (performance.now() - began) / 1000;
    try {
      replace(came, resultBlock(ended, session));
    } catch (error) {
      replace(came, h("p", { class: "callout fail" }, error.message)); // such as of a structure that is too deep
    }
    control = null;
    run.disabled = false;
    cancel.hidden = true;
    judge();
  }

  async function judge() {
    if (tool.server === "toolscore") return;
    try {
      const { scores, note } = await session.data("tool_score", { tool: tool.name });
      replace(score, scores[0] ? scored(scores[0]) : h("p", { class: "faint" }, note));
    } catch (error) {
      replace(score, h("p", { class: "faint" }, error.message));
    }
  }

  judge();
  const hints = HINTS.filter(([hint]) => tool.annotations?.[hint] === true);
  const element = h("div", {},
    h("header", {}, h("h2", {}, tool.title ?? tool.name),
      h("p", {}, tool.title && tool.title !== tool.name && [h("code", {}, tool.name), " "], tool.server !== "toolscore" && h("button", { type: "button", class: "quiet link", onclick: () => app.go("servers", tool.server) }, tool.server),
        hints.map(([, key, kind]) => h("span", { class: `chip ${kind}` }, t(key))))),
    tool.quarantined && h("p", { class: "callout warn" }, h("b", {}, `${t("tool.quarantined")}: `), tool.quarantined),
    tool.findings?.length > 0 && h("div", { class: "callout warn" }, h("b", {}, t("tool.findings")), h("ul", {}, tool.findings.map((text) => h("li", {}, text)))),
    h("p", { class: "words" }, tool.description),
    tool.server !== "toolscore" && [h("h3", {}, t("tool.score")), score],
    h("h3", {}, t("tool.try")),
    h("form", { class: "try", novalidate: true, onsubmit: start, "aria-label": t("tool.try") }, form.element, h("div", { class: "actions" }, run, cancel)), came,
    h("details", {}, h("summary", {}, t("tool.schema")), textBlock(stringify(tool.inputSchema ?? {}))),
    tool.outputSchema && h("details", {}, h("summary", {}, t("tool.output")), textBlock(stringify(tool.outputSchema))));
  return { element, leave: () => control?.abort(new Error("left")) };
}
