// Servers: what each is doing, since when and why, what it uses, and what can be done with it.

import { chart } from "./chart.js";
import { confirm, note } from "./dialog.js";
import { gathered, h, replace } from "./dom.js";
import { List } from "./list.js";
import { stateBadge, stateWord } from "./state.js";
import { Usage } from "./usage.js";
import { bytes, clock, number, span, t, words } from "./words.js";

words({
  "servers": ["Servers", "服务器"],
  "servers.count": ["{count} servers", "{count} 个服务器"],
  "servers.none": ["No servers yet. Install one: `toolscore install pypi:mcp-server-time`, or take over those of your client: `toolscore import`.", "还没有服务器。安装一个：`toolscore install pypi:mcp-server-time`，或导入客户端中已有的服务器：`toolscore import`。"],
  "servers.choose": ["Choose a server to see what it is doing.", "选择一个服务器查看其状态。"],
  "servers.all": ["All states", "所有状态"],
  "servers.trouble": ["With trouble", "有问题"],
  "servers.tools": ["{count} tools", "{count} 个工具"],
  "servers.tool": ["1 tool", "1 个工具"],
  "servers.restarts": ["restarted {count}×", "重启 {count} 次"],
  "servers.quarantined": ["{count} in quarantine", "{count} 个被隔离"],
  "servers.start": ["Start", "启动"],
  "servers.stop": ["Stop", "停止"],
  "servers.restart": ["Restart", "重启"],
  "servers.enable": ["Enable", "启用"],
  "servers.disable": ["Disable", "禁用"],
  "servers.uninstall": ["Uninstall", "卸载"],
  "servers.uninstall.sure": ["This stops {name} and deletes it with its environment, secrets and logs.", "将停止 {name}，并删除它的环境、密钥和日志。"],
  "servers.disable.sure": ["{name} is stopped and no call starts it until it is enabled again.", "{name} 将被停止，重新启用之前任何调用都不会启动它。"],
  "servers.stop.sure": ["{name} is stopped; calls under way fail. Its next call starts it again.", "{name} 将被停止，进行中的调用会失败；下一次调用会重新启动它。"],
  "servers.restart.sure": ["{name} is stopped and started again; calls under way fail.", "{name} 将被停止并重新启动，进行中的调用会失败。"],
  "servers.do": ["{what} {name}?", "{what} {name}？"],
  "servers.force": ["All the same", "仍然执行"],
  "servers.done": ["{name}: {state}", "{name}：{state}"],
  "servers.removed": ["{name} is uninstalled.", "{name} 已卸载。"],
  "servers.next": ["What to do", "下一步"],
  "servers.why": ["Why", "原因"],
  "servers.last": ["How it ended last ({at})", "上次结束的原因（{at}）"],
  "servers.memory": ["Memory", "内存"],
  "servers.cpu": ["Processors", "处理器"],
  "servers.busy": ["{cpu} % CPU", "{cpu}% CPU"],
  "servers.idle": ["Nothing runs.", "没有进程在运行。"],
  "servers.facts": ["About it", "详情"],
  "servers.since": ["In this state", "当前状态持续"],
  "servers.restarted": ["Restarts", "重启次数"],
  "servers.version": ["Version", "版本"],
  "servers.source": ["From", "来源"],
  "servers.pids": ["Processes", "进程"],
  "servers.calls": ["Calls", "调用"],
  "servers.calls.now": ["{running} under way, {queued} waiting", "{running} 个进行中，{queued} 个等待中"],
  "servers.protocol": ["MCP version", "MCP 版本"],
  "servers.groups": ["Groups", "分组"],
  "servers.needs": ["Needs", "依赖"],
  "servers.needed": ["Needed by", "被依赖"],
  "servers.gateway": ["Runs at", "运行于"],
  "servers.confined": ["Confined by", "隔离方式"],
  "servers.instances": ["Instances", "实例"],
  "servers.findings": ["What was found in its descriptions", "在其描述中发现的问题"],
  "servers.show.tools": ["Its tools", "它的工具"],
  "servers.show.logs": ["Its log", "它的日志"],
});

const TROUBLE = new Set(["FAILED", "BACKOFF"]);
const LOOK = 3000;
// What else there is to know is asked after less often, and when something has happened: each time is in the journal.
const ASK = 10;

function row(one, used) {
  const more = [
    used && `${bytes(used.memory)}${used.cpu >= 0.005 ? ` · ${t("servers.busy", { cpu: number(used.cpu * 100) })}` : ""}`,
    one.tools === 1 ? t("servers.tool") : t("servers.tools", { count: one.tools }),
    one.restarts > 0 && t("servers.restarts", { count: one.restarts }),
    one.quarantined > 0 && t("servers.quarantined", { count: one.quarantined }),
    one.reason,
  ].filter(Boolean).join(" · ");
  return h("div", { class: "server row-in" },
    h("span", { class: "name" }, one.name), stateBadge(one.state, one.enabled), h("span", { class: "more" }, more));
}

function create(app) {
  const session = app.session;
  const usage = new Usage(session);
  let servers = null;
  let opened = null;
  let timer = 0;
  let pulses = 0;
  let state_ = null;
  let drawn = "";
  const charts = h("div", { class: "charts" });
  const since = h("span", {});

  const find = h("input", { type: "search", placeholder: t("find"), "aria-label": t("find"), oninput: () => filter() });
  const state = h("select", { "aria-label": t("servers.all"), onchange: () => filter() },
    h("option", { value: "" }, t("servers.all")), h("option", { value: "trouble" }, t("servers.trouble")),
    ["READY", "STOPPED", "DISABLED"].map((value) => h("option", { value }, t(`state.${value}`))));
  const count = h("span", { class: "count", "aria-live": "polite" });
  const list = new List({ label: t("servers"), render: (one) => row(one, one.state === "READY" ? usage.now(one.name) : null), key: (one) => one.name, onopen: (one) => app.go("servers", one.name), empty: t("loading") });
  const detail = h("section", { class: "detail", tabindex: "-1", "aria-live": "off" }, h("p", { class: "empty" }, t("servers.choose")));
  const element = h("div", { class: "split" }, h("div", { class: "side" }, h("div", { class: "bar" }, find, state, count), list.element), detail);

  function fits(one) {
    const shown = one.enabled ? one.state : "DISABLED";
    if (state.value === "trouble" ? !TROUBLE.has(one.state) : state.value && shown !== state.value) return false;
    const text = find.value.trim().toLowerCase();
    return !text || `${one.name} ${one.source} ${one.groups?.join(" ")} ${one.reason ?? ""}`.toLowerCase().includes(text);
  }

  function filter() {
    if (!servers) return;
    const fitting = servers.filter(fits);
    count.textContent = fitting.length === servers.length ? t("servers.count", { count: number(servers.length) }) : `${fitting.length} / ${servers.length}`;
    list.set(fitting, servers.length ? t("none.found", { text: find.value }) : t("servers.none"));
  }

  async function load() {
    try {
      const said = await session.data("list_servers");
      const missing = (said.missing ?? []).map((one) => ({ tools: 0, restarts: 0, enabled: true, groups: [], source: "", ...one }));
      servers = [...said.servers, ...missing].sort((one, other) => TROUBLE.has(other.state) - TROUBLE.has(one.state) || one.name.localeCompare(other.name));
      filter();
      if (state_ && state_.name === opened && since.isConnected) draw(state_); // some of it is in the list alone
    } catch (error) {
      if (session.online) note(t("failed", { why: error.message }), "bad");
    }
  }

  // --- one server

  async function act(name, action, force = false) {
    const what = t(`servers.${action}`);
    if (force) {
      // It was asked already, and refused.
    } else if (action !== "start" && action !== "enable") {
      const sure = await confirm(t("servers.do", { what, name }), t(`servers.${action}.sure`, { name }), what, { danger: true });
      if (!sure) return;
    }
    const buttons = detail.querySelectorAll(".actions button");
    for (const button of buttons) button.disabled = true;
    try {
      if (action === "uninstall") {
        const registered = servers?.some((one) => one.name === name && one.kind === "registered" && !one.source.startsWith("registry:"));
        await session.data(registered ? "unregister_tool" : "uninstall_server", { name, force });
        note(t("servers.removed", { name }));
        app.go("servers");
      } else {
        const done = await session.data("manage_server", { name, action, force });
        note(t("servers.done", { name, state: stateWord(done.state) }));
      }
    } catch (error) {
      // Something uses it, or needs it: the refusal says what, and that it can be done all the same.
      const may = !force && /\bforce\b/.test(error.message);
      if (may && await confirm(t("servers.do", { what, name }), error.message, t("servers.force"), { danger: true })) return act(name, action, true);
      if (!may) note(error.message, "bad");
    }
    load();
    look();
  }

  function actions(one) {
    const running = one.state !== "STOPPED" && one.state !== "FAILED";
    const button = (action, kind = "") => h("button", { type: "button", class: kind, "data-action": action, onclick: () => act(one.name, action) }, t(`servers.${action}`));
    return h("div", { class: "actions" },
      !one.enabled ? button("enable", "primary") : running ? [button("restart"), button("stop")] : button("start", "primary"),
      one.enabled && button("disable"), button("uninstall", "danger"));
  }

  function related(ones) {
    return ones.map((one) => h("button", { type: "button", class: "quiet link", onclick: () => app.go("servers", one.name) }, `${one.name} `, stateBadge(one.state)));
  }

  /** Shows what moves by itself. */
  function move() {
    const samples = usage.of(state_.name);
    const few = ["STOPPED", "FAILED", "BACKOFF"].includes(state_.state) ? t("servers.idle") : undefined;
    since.textContent = span(state_.seconds + (performance.now() - state_.read) / 1000);
    replace(charts,
      chart(t("servers.memory"), samples.map(({ at: when, memory }) => [when, memory]), bytes, few),
      chart(t("servers.cpu"), samples.map(({ at: when, cpu }) => [when, cpu]), (value) => number(value, 2), few));
  }

  /** Shows a server; anew only where something is otherwise than before, as somebody may be marking a text in it. */
  function draw(one) {
    const { read = performance.now() } = one;
    state_ = { ...one, read };
    move();
    const moves = { seconds: 0, uptime: 0, memory: 0, cpu: 0, files: 0, processes: 0, failures: 0, read: 0 };
    const look_ = JSON.stringify([{ ...one, ...moves }, servers?.find((server) => server.name === one.name)?.version]);
    if (look_ === drawn && since.isConnected) return;
    drawn = look_;
    const listed = servers?.find((server) => server.name === one.name) ?? {};
    const failed = TROUBLE.has(one.state);
    const facts = [
      ["servers.since", since],
      ["servers.restarted", one.restarts],
      ["servers.version", listed.version],
      ["servers.source", listed.source && h("code", {}, listed.source)],
      ["servers.protocol", one.protocol],
      ["servers.pids", one.pids?.length ? one.pids.join(", ") : null],
      ["servers.calls", one.in_flight || one.queued ? t("servers.calls.now", { running: one.in_flight, queued: one.queued }) : null],
      ["servers.groups", one.groups?.length ? one.groups.map((name) => h("span", { class: "chip" }, `@${name}`)) : null],
      ["servers.needs", one.depends_on?.length ? related(one.depends_on) : null],
      ["servers.needed", one.dependents?.length ? related(one.dependents) : null],
      ["servers.gateway", one.gateway],
      ["servers.confined", one.confined && Object.entries(one.confined).map(([layer, how]) => h("div", {}, `${layer}: ${how}`))],
      ["servers.instances", one.instances?.length ? one.instances.map((each) => h("div", {}, `${each.name} `, stateBadge(each.state))) : null],
    ].filter(([, value]) => value !== null && value !== undefined && value !== "");
    const at = detail.scrollTop;
    const focused = detail.contains(document.activeElement) ? document.activeElement.dataset.action : undefined;
    replace(detail,
      h("header", {},
        h("button", { type: "button", class: "back", onclick: () => app.go("servers") }, `← ${t("back")}`),
        h("h2", {}, one.name), h("p", {}, stateBadge(one.state, one.enabled), " ", h("span", { class: "faint" }, one.doing))),
      actions(one),
      one.reason && h("div", { class: `callout ${failed ? "fail" : "warn"}` }, h("b", {}, `${t("servers.why")}: `), one.reason),
      failed && h("div", { class: "callout" }, h("b", {}, `${t("servers.next")}: `), one.next),
      charts,
      h("div", { class: "actions" },
        h("button", { type: "button", "data-action": "tools", onclick: () => app.go("tools", "@", one.name) }, t("servers.show.tools")),
        h("button", { type: "button", "data-action": "logs", onclick: () => app.go("logs", one.name) }, t("servers.show.logs"))),
      h("h3", {}, t("servers.facts")),
      h("dl", { class: "facts" }, facts.map(([key, value]) => [h("dt", {}, t(key)), h("dd", {}, value)])),
      one.last_exit && [h("h3", {}, t("servers.last", { at: clock(one.last_exit.at) })), h("pre", {}, one.last_exit.reason)],
      one.findings?.length > 0 && [h("h3", {}, t("servers.findings")), h("ul", {}, one.findings.map((text) => h("li", { class: "callout warn" }, text)))]);
    detail.scrollTop = at;
    if (focused) detail.querySelector(`[data-action="${focused}"]`)?.focus();
  }

  async function look() {
    const name = opened;
    if (!name) return;
    try {
      const one = await session.data("server_state", { name });
      usage.note(name, one);
      if (opened === name) draw(one);
    } catch (error) {
      if (opened !== name || !session.online) return;
      replace(detail, h("button", { type: "button", class: "back", onclick: () => app.go("servers") }, `← ${t("back")}`), h("p", { class: "callout fail" }, error.message));
    }
  }

  async function pulse() {
    pulses += 1;
    await Promise.all([usage.refresh(), (!usage.readable || pulses % ASK === 0) && look()]);
    if (state_ && state_.name === opened && since.isConnected) move();
    list.draw(true);
  }

  async function show([name = null]) {
    if (name !== opened) {
      opened = name;
      detail.scrollTop = 0;
      replace(detail, h("p", { class: "empty" }, t(name ? "loading" : "servers.choose")));
    }
    list.open(name);
    const back = name === null && detail.contains(document.activeElement);
    element.classList.toggle("opened", name !== null);
    if (name !== null && !list.element.offsetParent) detail.focus();
    else if (back) list.element.focus();
    clearInterval(timer);
    timer = setInterval(pulse, LOOK);
    await Promise.all([load(), look(), name && usage.load(name)]);
    await pulse();
  }

  const soon = gathered(150, () => Promise.all([load(), look()]));
  return { element, show, hide: () => clearInterval(timer), onevents: soon, find: () => find.focus() };
}

export const view = { id: "servers", title: () => t("servers"), create };
