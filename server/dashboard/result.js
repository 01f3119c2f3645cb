// What a tool gave back, shown to a person: texts, pictures, sounds, resources, structures, and how it ended.

import { note } from "./dialog.js";
import { h, replace } from "./dom.js";
import { parse, stringify } from "./exact.js";
import { bytes, span, t, words } from "./words.js";

words({
  "result": ["Result", "结果"],
  "result.ok": ["It succeeded", "成功"],
  "result.error": ["The tool says it failed", "工具报告失败"],
  "result.refused": ["Not called: {outcome}", "未调用：{outcome}"],
  "result.fault": ["The request failed", "请求失败"],
  "result.cancelled": ["Cancelled", "已取消"],
  "result.empty": ["It gave nothing back.", "没有返回内容。"],
  "result.structured": ["Structured content", "结构化内容"],
  "result.read": ["Read it", "读取"],
  "result.save": ["Save ({size})", "保存（{size}）"],
  "result.picture": ["Picture from the tool", "工具返回的图片"],
  "result.more": ["… and {count} more parts, which are not shown.", "…… 另有 {count} 项未显示。"],
  "result.unknown": ["Content of a kind that is not known here: {kind}", "未知类型的内容：{kind}"],
});

const PICTURE = /^image\/(png|jpeg|gif|webp|avif|bmp|svg\+xml)$/;
const SOUND = /^audio\/[\w.+-]+$/;
const LONGEST = 200_000;
const MOST = 100;

/** Shows a text that can be copied; JSON is set out in lines. */
export function textBlock(text) {
  let shown = text;
  if (/^\s*[[{]/.test(text) && text.length < LONGEST) {
    try {
      shown = stringify(parse(text), 2);
    } catch {
      // It only looks like JSON.
    }
  }
  const cut = shown.length > LONGEST;
  const copy = h("button", { type: "button", class: "quiet copy", onclick: async () => {
    try {
      await navigator.clipboard.writeText(text);
      note(t("copied"));
    } catch (error) {
      note(error.message, "bad");
    }
  } }, t("copy"));
  return h("div", { class: "block" }, h("pre", { tabindex: "0" }, cut ? `${shown.slice(0, LONGEST)}…` : shown), navigator.clipboard && copy);
}

function saved(blob, kind, name) {
  const type = /^[\w.+-]+\/[\w.+-]+$/.test(kind ?? "") ? kind : "application/octet-stream";
  return h("a", { href: `data:${type};base64,${blob}`, download: name }, t("result.save", { size: bytes(Math.floor(blob.length * 0.75)) }));
}

function media(data, kind) {
  if (PICTURE.test(kind)) return h("img", { src: `data:${kind};base64,${data}`, alt: t("result.picture") });
  if (SOUND.test(kind)) return h("audio", { controls: true, src: `data:${kind};base64,${data}` });
  return saved(data, kind, "content");
}

function resource(contents) {
  const { uri = "", mimeType = "", text, blob } = contents;
  return h("figure", {}, h("figcaption", { class: "small faint" }, uri, mimeType && ` · ${mimeType}`),
    text !== undefined ? textBlock(String(text)) : blob !== undefined && media(String(blob), mimeType));
}

function link(part, session) {
  const place = h("div", {});
  const read = async () => {
    try {
      const { contents = [] } = await session.request("resources/read", { uri: part.uri });
      replace(place, contents.length ? contents.map(resource) : h("p", { class: "faint" }, t("result.empty")));
    } catch (error) {
      replace(place, h("p", { class: "bad" }, error.message));
    }
  };
  return h("figure", {}, h("figcaption", {}, h("b", {}, part.title ?? part.name ?? ""), " ", h("code", {}, part.uri), " ",
    h("button", { type: "button", class: "quiet", onclick: read }, t("result.read"))),
  part.description && h("p", { class: "small faint" }, part.description), place);
}

function content(part, session) {
  switch (part?.type) {
    case "text": return textBlock(String(part.text ?? ""));
    case "image": case "audio": return media(String(part.data ?? ""), part.mimeType);
    case "resource": return resource(part.resource ?? {});
    case "resource_link": return link(part, session);
    default: return h("p", { class: "faint" }, t("result.unknown", { kind: String(part?.type) }));
  }
}

/** Shows a whole result (MCP CallToolResult), or why there is none. */
export function resultBlock({ result, error, cancelled, seconds }, session) {
  const outcome = result?._meta?.["toolscore/outcome"];
  const parts = Array.isArray(result?.content) ? result.content : [];
  const structured = result?.structuredContent;
  const word = cancelled ? t("result.cancelled") : error ? t("result.fault") : outcome ? t("result.refused", { outcome }) : t(result.isError ? "result.error" : "result.ok");
  const bad = !cancelled && (error || result.isError);
  // Most results say the same twice, as a text and as a structure.
  const twice = parts.length === 1 && parts[0].type === "text" && alike(parts[0].text, structured);
  return h("section", { class: "result", "aria-label": t("result"), "data-outcome": cancelled ? "cancelled" : outcome ?? (bad ? "error" : "ok") },
    h("p", { class: `callout ${bad ? "fail" : cancelled ? "warn" : "ok"}` }, h("b", {}, word), ` · ${span(seconds)}`, error && `\n${error.message}`),
    result && !parts.length && structured === undefined && h("p", { class: "faint" }, t("result.empty")),
    twice ? null : parts.slice(0, MOST).map((part) => content(part, session)),
    parts.length > MOST && h("p", { class: "faint" }, t("result.more", { count: parts.length - MOST })),
    structured !== undefined && [!twice && h("h3", {}, t("result.structured")), textBlock(stringify(structured, 2))]);
}

function sorted(value) {
  if (Array.isArray(value)) return value.map(sorted);
  if (typeof value !== "object" || value === null) return value;
  return Object.fromEntries(Object.keys(value).sort().map((key) => [key, sorted(value[key])]));
}

function alike(text, structured) {
  try {
    return structured !== undefined && stringify(sorted(parse(text))) === stringify(sorted(structured));
  } catch {
    return false;
  }
}
