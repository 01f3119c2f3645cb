// A form made of a JSON schema of an object, with the whole of it as JSON for what a form cannot say.

import { Invalid, json } from "./control.js";
import { properties } from "./field.js";
import { h, replace } from "./dom.js";
import { merged } from "./schema.js";
import { t, words } from "./words.js";

words({
  "form.as.form": ["Form", "表单"],
  "form.as.json": ["JSON", "JSON"],
  "form.as": ["Give the arguments as", "参数形式"],
  "form.none": ["It takes no arguments.", "不需要参数。"],
  "form.beyond": ["The form has no field for this; it can be sent as JSON: {names}", "表单中没有这些字段，可以 JSON 形式发送：{names}"],
  "form.object": ["Arguments are an object: { … }.", "参数必须是对象：{ … }。"],
});

/**
 * Makes a form. `read()` gives the object, or null where something is wrong, which is then said and focused; `set(value)`
 * fills it. `plainOnly` leaves the JSON out, as for the questions of a server.
 */
export function schemaForm(given, { plainOnly = false } = {}) {
  const schema = merged(given ?? {}, given ?? {});
  const parts = properties(schema, given ?? {});
  const raw = json({});
  raw.element.rows = 10;
  raw.element.setAttribute("aria-label", "JSON");
  const error = h("p", { class: "error", role: "alert", hidden: true });
  // What has no fields but takes anything can be given as JSON alone.
  const free = !parts.elements.length && schema.additionalProperties !== false && !plainOnly && schema.type === "object" && "additionalProperties" in schema;
  let asJson = free;
  const body = h("div", { class: "fields" });
  const button = (label, value) => h("button", { type: "button", "aria-pressed": String(asJson === value), onclick: () => turn(value) }, label);
  const modes = h("div", { class: "modes", role: "group", "aria-label": t("form.as") });
  const element = h("div", { class: "schema-form" }, !plainOnly && parts.elements.length > 0 && modes, body, error);

  function draw() {
    replace(modes, button(t("form.as.form"), false), button(t("form.as.json"), true));
    replace(body, asJson ? raw.element : parts.elements.length ? parts.elements : h("p", { class: "faint" }, t("form.none")));
  }

  function turn(value) {
    if (value === asJson) return;
    say(null);
    try {
      if (value) raw.set(attempt(parts.read) ?? {});
      else {
        const held = raw.read() ?? {};
        const beyond = Object.keys(held).filter((name) => !Object.hasOwn(schema.properties ?? {}, name));
        if (beyond.length) return say(t("form.beyond", { names: beyond.slice(0, 5).join(", ") }));
        parts.set(held);
      }
    } catch (failed) {
      return say(failed.message);
    }
    asJson = value;
    draw();
  }

  function attempt(read) {
    try {
      return read();
    } catch {
      return {};
    }
  }

  function say(problem) {
    error.hidden = !problem;
    error.textContent = problem ?? "";
  }

  draw();
  return {
    element,
    set(value) {
      if (asJson) raw.set(value);
      parts.set(value);
    },
    focus: () => (asJson ? raw.element.focus() : parts.focus()),
    read() {
      say(null);
      try {
        const value = asJson ? raw.read() ?? {} : parts.read();
        if (typeof value === "object" && value !== null && !Array.isArray(value)) return value;
        say(t("form.object"));
      } catch (failed) {
        if (!(failed instanceof Invalid)) throw failed;
        if (failed.field) failed.field.focus();
        else say(failed.message);
      }
      return null;
    },
  };
}
