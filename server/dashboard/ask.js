// Questions of servers to whoever sits here (MCP elicitation): as a form of the same kind as that of a tool.

import { dialog } from "./dialog.js";
import { h } from "./dom.js";
import { schemaForm } from "./form.js";
import { Fault } from "./rpc.js";
import { t, words } from "./words.js";

words({
  "ask.title": ["A question", "询问"],
  "ask.who": ["Asked in the course of what you started here. Give no secrets you would not give to this server.", "由您在此处发起的操作引起。请勿提供不愿交给该服务器的机密。"],
  "ask.during": ["Asked while this runs: {tools}", "在运行以下工具时提出：{tools}"],
  "ask.accept": ["Answer", "回答"],
  "ask.decline": ["Decline", "拒绝"],
});

let before = Promise.resolve();

/** Shows a question until it is answered or withdrawn, one after the other. Gives the answer (MCP ElicitResult). */
export function askPerson(params, signal, tools = []) {
  const answer = before.then(() => (signal.aborted ? { action: "cancel" } : ask(params, signal, tools)));
  before = answer.catch(() => {});
  return answer;
}

async function ask(params, signal, tools) {
  if (params.mode && params.mode !== "form") throw new Fault({ code: -32602, message: "this page answers questions by forms only" });
  const form = schemaForm(params.requestedSchema ?? {}, { plainOnly: true });
  const answer = await dialog(t("ask.title"), (close) => h("form", {
    class: "fields", novalidate: true,
    onsubmit: (event) => {
      event.preventDefault();
      const content = form.read();
      if (content) close({ action: "accept", content });
    },
  },
  // Whose question it is cannot be told from what it says: a server may write anything there.
  tools.length > 0 && h("p", { class: "faint small" }, t("ask.during", { tools: tools.join(", ") })),
  h("p", { class: "callout" }, String(params.message ?? "")), form.element, h("p", { class: "faint small" }, t("ask.who")),
  h("div", { class: "actions" },
    h("button", { type: "button", onclick: () => close({ action: "decline" }) }, t("ask.decline")),
    h("button", { type: "submit", class: "primary" }, t("ask.accept")))), { signal });
  return answer ?? { action: "cancel" };
}
