// Logs: what a server, a group, all of them or ToolScore itself wrote, followed as it comes.

import { debounced, gathered, h, replace } from "./dom.js";
import { number, t, words } from "./words.js";

words({
  "logs": ["Logs", "日志"],
  "logs.of": ["Log of", "日志来源"],
  "logs.every": ["All servers", "所有服务器"],
  "logs.own": ["ToolScore itself", "ToolScore 自身"],
  "logs.level": ["Level", "级别"],
  "logs.level.all": ["All levels", "所有级别"],
  "logs.and.above": ["{level} and above", "{level} 及以上"],
  "logs.follow": ["Follow", "跟随"],
  "logs.lines": ["{count} lines", "{count} 行"],
  "logs.found": ["{count} of {total} lines", "{total} 行中的 {count} 行"],
  "logs.gap": ["… lines in between came too fast to be shown; `toolscore logs` has them.", "…… 中间有些行来得太快，未能显示；可用 `toolscore logs` 查看。"],
  "logs.none": ["Nothing was written yet.", "还没有日志。"],
});

const LOGS = "toolscore://logs/";
const LEVELS = ["DEBUG", "INFO", "WARNING", "ERROR"];
const KEPT = 3000;
const SOME = 1000;
const EARLIER = 1000;

/** Reads a line: time, level, and text; one of several logs begins with `NAME | `. */
function parsed(line) {
  const match = /^(?:(\S+) \| )?(\d{4}-\d\d-\d\dT[\d:.]+(?:Z|[+-][\d:]+)?|\d{4}-\d\d-\d\d [\d:.,]+) (DEBUG|INFO|WARNING|ERROR) (.*)$/s.exec(line);
  return match ? { whole: line, who: match[1] ?? "", at: match[2], level: match[3], text: match[4] } : { whole: line, who: "", at: "", level: "", text: line };
}

/** Puts further lines behind those that are there: what was read anew overlaps with them, or `gap` is in between. */
export function joined(old, fresh, gap) {
  if (!old.length || !fresh.length) return fresh.length ? fresh : old;
  for (let from = Math.max(0, old.length - fresh.length); from < old.length; from += 1) {
    let same = true;
    for (let at = from; same && at < old.length; at += 1) same = old[at] === fresh[at - from];
    if (same) return [...old, ...fresh.slice(old.length - from)];
  }
  // Of several logs, some lines may have come between those that are there.
  const known = new Set(old.slice(-SOME));
  const unknown = fresh.filter((line) => !known.has(line));
  return [...old, ...(unknown.length === fresh.length ? [gap] : []), ...unknown];
}

function create(app) {
  const session = app.session;
  let name = "*";
  let lines = [];
  let drawn = [];
  let unwatch = null;
  let turn = 0;

  const who = h("select", { "aria-label": t("logs.of"), onchange: () => app.go("logs", who.value) });
  const level = h("select", { "aria-label": t("logs.level"), onchange: () => draw(true) }, h("option", { value: "" }, t("logs.level.all")),
    LEVELS.slice(1).map((one) => h("option", { value: one }, t("logs.and.above", { level: one }))));
  const find = h("input", { type: "search", placeholder: t("find"), "aria-label": t("find"), oninput: debounced(120, () => draw(true)) });
  const follow = h("input", { type: "checkbox", id: "logs-follow", checked: true, onchange: () => follow.checked && end() });
  const count = h("span", { class: "count" });
  const body = h("div", { class: "lines", role: "log", tabindex: "0", "aria-label": t("logs"), "aria-live": "off", onscroll: () => {
    const atEnd = body.scrollTop + body.clientHeight >= body.scrollHeight - 8;
    if (!atEnd && follow.checked && body.scrollTop < before - 4) follow.checked = false;
    before = body.scrollTop;
  } });
  let before = 0;
  const element = h("div", { class: "page" }, h("div", { class: "bar" }, who, level, find, h("span", { class: "check" }, follow, h("label", { for: "logs-follow" }, t("logs.follow"))), count), body);

  function end() {
    body.scrollTop = body.scrollHeight;
    before = body.scrollTop;
  }

  function fits(line) {
    const least = LEVELS.indexOf(level.value);
    if (least > 0 && LEVELS.indexOf(line.level) < least) return false;
    const text = find.value.trim().toLowerCase();
    return !text || line.whole.toLowerCase().includes(text);
  }

  function shown(line) {
    return h("div", { class: `line ${line.level.toLowerCase()}` }, line.who && h("span", { class: "who" }, line.who), h("span", { class: "at", title: line.at }, line.at.slice(11, 19)),
      h("span", { class: "level" }, line.level), h("span", { class: "text" }, line.text));
  }

  function draw(anew = false) {
    const fitting = lines.map(parsed).filter(fits);
    count.textContent = fitting.length === lines.length ? t("logs.lines", { count: number(lines.length) }) : t("logs.found", { count: number(fitting.length), total: number(lines.length) });
    const goes = !anew && drawn.length && fitting.length >= drawn.length && fitting[drawn.length - 1].whole === drawn[drawn.length - 1].whole && fitting[0].whole === drawn[0].whole;
    if (goes) body.append(...fitting.slice(drawn.length).map(shown));
    else replace(body, fitting.length ? fitting.map(shown) : h("p", { class: "empty" }, lines.length ? t("none.found", { text: find.value || level.value }) : t("logs.none")));
    drawn = fitting;
    if (follow.checked) end();
  }

  async function read(first = false) {
    const mine = ++turn;
    try {
      const fresh = first || session.host
        ? (await session.data("server_logs", { name, lines: EARLIER })).lines
        : (await session.read(LOGS + encodeURIComponent(name))).split("\n").filter(Boolean);
      if (mine !== turn) return;
      lines = (first ? fresh : joined(lines, fresh, t("logs.gap")));
      if (lines.length > KEPT + SOME) lines = lines.slice(-KEPT); // not at each line, as all is drawn anew then
      draw(first);
    } catch (error) {
      if (mine === turn && session.online) replace(body, h("p", { class: "callout fail" }, error.message));
    }
  }

  async function choices() {
    try {
      const { servers } = await session.data("list_servers");
      const groups = [...new Set(servers.flatMap((one) => one.groups))].sort();
      replace(who, h("option", { value: "*" }, t("logs.every")), h("option", { value: "toolscore" }, t("logs.own")),
        groups.map((group) => h("option", { value: `@${group}` }, `@${group}`)), servers.map((one) => h("option", { value: one.name }, one.name)));
    } catch {
      // Then the log that is open is all there is to choose.
    }
    if (![...who.options].some((option) => option.value === name)) who.append(h("option", { value: name }, name));
    who.value = name;
  }

  async function show([wanted = "*"]) {
    unwatch?.();
    if (wanted !== name) lines = drawn = [];
    name = wanted;
    follow.checked = true;
    unwatch = session.watch(LOGS + encodeURIComponent(name), gathered(50, () => unwatch && read()));
    await Promise.all([choices(), read(true)]);
  }

  return {
    element, show,
    hide() {
      unwatch?.();
      unwatch = null;
      turn += 1;
    },
    find: () => find.focus(),
  };
}

export const view = { id: "logs", title: () => t("logs"), create };
