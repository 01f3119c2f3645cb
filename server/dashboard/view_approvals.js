// Approvals: tools in quarantine. What differs is shown in the question that ToolScore asks before a tool is approved.

import { confirm, dialog, note } from "./dialog.js";
import { differences, isDifference } from "./diff.js";
import { gathered, h, replace } from "./dom.js";
import { clock, t, words } from "./words.js";

words({
  "approvals": ["Approvals", "审批"],
  "approvals.count": ["{count} in quarantine", "{count} 个被隔离"],
  "approvals.none": ["Nothing is in quarantine: every tool is as it was approved.", "没有被隔离的工具：所有工具都与审批时一致。"],
  "approvals.why": ["A tool whose description or schema changed after it was approved is shown to models as it was, and is not called, until somebody has looked at the change.", "工具的描述或参数结构在审批后发生变化时，模型看到的仍是原来的版本，且该工具不会被调用，直到有人审阅变更。"],
  "approvals.since": ["since {at}", "自 {at}"],
  "approvals.rejected": ["rejected", "已拒绝"],
  "approvals.review": ["Review", "审阅"],
  "approvals.reject": ["Reject", "拒绝"],
  "approvals.approve": ["Approve", "批准"],
  "approvals.keep": ["Leave in quarantine", "继续隔离"],
  "approvals.title": ["{tool} of {server}", "{server} 的 {tool}"],
  "approvals.reject.sure": ["It stays in quarantine and is marked as rejected. It can still be approved later.", "该工具继续被隔离并标记为已拒绝，之后仍可批准。"],
  "approvals.done": ["{tool} is approved.", "{tool} 已批准。"],
  "approvals.turned": ["{tool} is rejected.", "{tool} 已拒绝。"],
  "approvals.found": ["What was found in it", "发现的问题"],
  "approvals.noted": ["Approved, and something was found", "已批准但发现问题"],
});

function lines(message) {
  // Texts and differences in turn, as they come.
  const parts = [];
  for (const line of message.split("\n")) {
    const kind = isDifference(line) ? "diff" : "text";
    if (parts.at(-1)?.kind === kind) parts.at(-1).lines.push(line);
    else parts.push({ kind, lines: [line] });
  }
  return parts.map(({ kind, lines: found }) => (kind === "diff" ? differences(found) : found.map((line) => h("p", {}, line))));
}

function create(app) {
  const session = app.session;
  const count = h("span", { class: "count", role: "status" });
  const list = h("div", { class: "cards" });
  const element = h("div", { class: "sheet" }, h("p", { class: "faint" }, t("approvals.why")), count, list);

  /** Answers the question of one `approve_tool` by a dialog with what differs; others as before. */
  async function reviewing(held, act) {
    const before = session.onask;
    const mine = (params) => params.message?.includes(held.tool) && params.requestedSchema?.properties?.approve;
    let seen = false;
    session.onask = async (params, signal, tools) => {
      if (seen || !mine(params)) return before(params, signal, tools);
      seen = true;
      const answer = await dialog(t("approvals.title", held), (close) => [
        h("div", { class: "question", tabindex: "0" }, lines(params.message)),
        h("div", { class: "actions" },
          h("button", { type: "button", autofocus: true, onclick: () => close("decline") }, t("approvals.keep")),
          h("button", { type: "button", class: "primary", onclick: () => close("accept") }, t("approvals.approve"))),
      ], { wide: true, signal });
      return answer === "accept" ? { action: "accept", content: { approve: true } } : { action: answer === "decline" ? "decline" : "cancel" };
    };
    try {
      await act();
      return { approved: true };
    } catch (error) {
      return { why: error.message, asked: seen };
    } finally {
      session.onask = before;
    }
  }

  async function review(held, button) {
    button.disabled = true;
    const { server, tool, digest } = held;
    const done = await reviewing(held, () => session.data("approve_tool", { server, tool, digest }));
    button.disabled = false;
    if (done.approved) note(t("approvals.done", { tool }));
    else note(done.why, done.asked ? "" : "bad");
    load();
  }

  async function reject({ server, tool, digest }) {
    if (!(await confirm(`${t("approvals.reject")}: ${tool}`, t("approvals.reject.sure"), t("approvals.reject"), { danger: true }))) return;
    try {
      await session.data("reject_tool", { server, tool, digest });
      note(t("approvals.turned", { tool }));
    } catch (error) {
      note(error.message, "bad");
    }
    load();
  }

  function card(held) {
    const act = h("button", { type: "button", class: "primary", onclick: () => review(held, act) }, t("approvals.review"));
    return h("article", { class: "card" },
      h("h2", {}, held.tool),
      h("p", { class: "faint small" }, [held.server, held.why, t("approvals.since", { at: clock(held.since) })].join(" · "), held.rejected && [" ", h("span", { class: "chip" }, t("approvals.rejected"))]),
      held.findings.length > 0 && [h("h3", {}, t("approvals.found")), h("ul", {}, held.findings.map((text) => h("li", { class: "callout warn" }, text)))],
      h("div", { class: "actions" }, act, !held.rejected && h("button", { type: "button", onclick: () => reject(held) }, t("approvals.reject"))));
  }

  async function load() {
    try {
      const { tools, noted } = await session.data("list_quarantined");
      count.textContent = t("approvals.count", { count: tools.length });
      replace(list, tools.length ? tools.map(card) : h("p", { class: "empty" }, t("approvals.none")),
        noted.length > 0 && [h("h3", {}, t("approvals.noted")), h("ul", {}, noted.map((text) => h("li", { class: "small" }, text)))]);
    } catch (error) {
      if (session.online) replace(list, h("p", { class: "callout fail" }, error.message));
    }
  }

  const soon = gathered(200, load);
  return { element, show: load, hide() {}, onevents: (events) => events.some((event) => event.event.startsWith("tool_")) && soon(), find: () => list.querySelector("button")?.focus() };
}

export const view = { id: "approvals", title: () => t("approvals"), create };
