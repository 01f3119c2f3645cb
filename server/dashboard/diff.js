// What differs between what was approved and what there is now, as ToolScore writes it, for people to read.

import { h } from "./dom.js";
import { t, words } from "./words.js";

words({
  "diff.new": ["New", "新增"],
  "diff.gone": ["Gone", "删除"],
  "diff.changed": ["Changed", "修改"],
  "diff.was": ["was", "原为"],
  "diff.now": ["now", "现为"],
});

const HEADS = { "+": ["added", "diff.new"], "-": ["removed", "diff.gone"], "~": ["changed", "diff.changed"] };

function path(text) {
  const [, where, rest] = /^(.*?):(?: (.*))?$/s.exec(text) ?? [null, text, ""];
  return [h("b", { class: "mono" }, where), rest ? [" ", h("span", { class: "text" }, rest)] : null];
}

/** Tells whether a line is one of a difference. */
export function isDifference(line) {
  return /^(?:[+~-] | {4}[+-] )/.test(line);
}

/** Shows lines that begin with `+`, `-` or `~`, the last followed by the old and the new text; each has a word too. */
export function differences(lines) {
  return h("ul", { class: "diff" }, lines.map((line) => {
    const inner = /^ {4}([+-]) (.*)$/s.exec(line);
    if (inner) {
      const now = inner[1] === "+";
      return h("li", { class: `in ${now ? "added" : "removed"}` }, h("span", { class: "sign" }, `${inner[1]} ${t(now ? "diff.now" : "diff.was")}`), h(now ? "ins" : "del", {}, inner[2]));
    }
    const head = HEADS[line[0]];
    if (!head || line[1] !== " ") return h("li", {}, line);
    return h("li", { class: head[0] }, h("span", { class: "sign" }, `${line[0]} ${t(head[1])}`), h("span", {}, path(line.slice(2))));
  }));
}
