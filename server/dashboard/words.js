// The words of the page in English and Chinese. A view adds its own: words({ "logs.follow": ["Follow", "跟随"] }).

import { kept } from "./dom.js";

const LANGUAGES = ["en", "zh"];
const table = {};
let spoken = kept.get("language");
if (!LANGUAGES.includes(spoken)) spoken = /^zh\b/i.test(navigator.language ?? "") ? "zh" : "en";

/** Adds words: a key, and what it is in English and in Chinese. */
export function words(entries) {
  Object.assign(table, entries);
}

/** Gives a text in the language of the page; {name} in it is replaced by the value of that name. */
export function t(key, values = {}) {
  const found = table[key];
  const text = found ? found[LANGUAGES.indexOf(spoken)] ?? found[0] : key;
  return text.replace(/\{(\w+)\}/g, (whole, name) => (name in values ? String(values[name]) : whole));
}

/** Tells the language of the page: "en" or "zh". */
export function language() {
  return spoken;
}

/** Tells whether somebody chose the language here. */
export function chosen() {
  return LANGUAGES.includes(kept.get("language"));
}

/** Changes the language of the page; who calls this draws it anew. */
export function speak(other, { keep = true } = {}) {
  spoken = LANGUAGES.includes(other) ? other : "en";
  if (keep) kept.set("language", spoken);
}

/** Gives a number as people of this language write it. */
export function number(value, digits = 0) {
  return value.toLocaleString(spoken === "zh" ? "zh-CN" : "en-GB", { maximumFractionDigits: digits });
}

/** Gives bytes in the unit that fits. */
export function bytes(value) {
  if (value === null || value === undefined) return "–";
  const units = ["B", "KiB", "MiB", "GiB", "TiB"];
  let unit = 0;
  while (value >= 1024 && unit < units.length - 1) {
    value /= 1024;
    unit += 1;
  }
  return `${number(value, value < 10 && unit ? 1 : 0)} ${units[unit]}`;
}

/** Gives seconds in the unit that fits. */
export function span(seconds) {
  if (seconds === null || seconds === undefined) return "–";
  if (seconds < 1) return `${number(seconds * 1000, seconds < 0.01 ? 1 : 0)} ms`;
  if (seconds < 60) return `${number(seconds, seconds < 10 ? 1 : 0)} s`;
  if (seconds < 3600) return `${Math.floor(seconds / 60)} min`;
  if (seconds < 86400) return `${Math.floor(seconds / 3600)} h ${Math.floor((seconds % 3600) / 60)} min`;
  return `${Math.floor(seconds / 86400)} d ${Math.floor((seconds % 86400) / 3600)} h`;
}

/** Gives the time of day of an ISO 8601 time, and the day where that is not today. */
export function clock(iso) {
  const at = new Date(iso);
  if (Number.isNaN(at.getTime())) return String(iso);
  const time = at.toLocaleTimeString("en-GB");
  return at.toDateString() === new Date().toDateString() ? time : `${at.toLocaleDateString("sv-SE")} ${time}`;
}

words({
  "title": ["ToolScore", "ToolScore"],
  "views": ["Views", "视图"],
  "online": ["connected", "已连接"],
  "connecting": ["connecting …", "正在连接 …"],
  "waiting": ["not connected; again in {seconds} s", "未连接；{seconds} 秒后重试"],
  "trouble": ["There is no connection: {why}", "没有连接：{why}"],
  "refused": ["not let in", "被拒绝"],
  "reconnect": ["Connect now", "立即连接"],
  "signin": ["Connect to ToolScore", "连接 ToolScore"],
  "signin.token": ["Token", "令牌"],
  "signin.how": ["`toolscore token show` prints it; `toolscore dashboard` opens this page with it. It stays in this tab.", "运行 `toolscore token show` 可查看令牌；`toolscore dashboard` 会带着令牌打开本页。令牌只保存在此标签页中。"],
  "signin.wrong": ["The token is not valid here, or not any more. Give another one.", "令牌在此无效，或已失效。请提供另一个令牌。"],
  "signin.go": ["Connect", "连接"],
  "signout": ["Forget the token", "忘记令牌"],
  "theme": ["Light or dark", "浅色或深色"],
  "theme.system": ["As the system", "跟随系统"],
  "theme.light": ["Light", "浅色"],
  "theme.dark": ["Dark", "深色"],
  "language": ["中文", "English"],
  "help": ["Keys", "快捷键"],
  "help.find": ["find in this view", "在当前视图中查找"],
  "help.help": ["show this", "显示本帮助"],
  "help.escape": ["close, or go back to the list", "关闭，或返回列表"],
  "help.tabs": ["go to a view by its number", "按编号切换视图"],
  "help.arrows": ["move in tabs and lists", "在标签和列表中移动"],
  "help.enter": ["open what is marked", "打开选中的项"],
  "close": ["Close", "关闭"],
  "cancel": ["Cancel", "取消"],
  "back": ["Back", "返回"],
  "find": ["Find", "查找"],
  "loading": ["Loading …", "加载中 …"],
  "none.found": ["Nothing fits “{text}”.", "没有匹配“{text}”的项。"],
  "failed": ["This could not be loaded: {why}", "无法加载：{why}"],
  "again": ["Try again", "重试"],
  "copy": ["Copy", "复制"],
  "copied": ["Copied.", "已复制。"],
});
