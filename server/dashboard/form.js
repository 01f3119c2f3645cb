// A form made of a JSON schema of an object, with the whole of it as JSON for what a form cannot say.

import { Invalid, json, same } from "./control.js";
import { again, field, properties } from "./field.js";
import { h, replace } from "./dom.js";
import { choicesOf, merged } from "./schema.js";
import { t, words } from "./words.js";

words({
  "form.as.form": ["Form", "表单"],
  "form.as.json": ["JSON", "JSON"],
  "form.as": ["Give the arguments as", "参数形式"],
  "form.none": ["It takes no arguments.", "不需要参数。"],
  "form.beyond": ["The form has no field for this; it can be sent as JSON: {names}", "表单中没有这些字段，可以 JSON 形式发送：{names}"],
  "form.lossy": ["The form cannot hold all of this; it can be sent as JSON.", "表单无法容纳全部内容，可以 JSON 形式发送。"],
  "form.object": ["Arguments are an object: { … }.", "参数必须是对象：{ … }。"],
});

const isObject = (value) => typeof value === "object" && value !== null && !Array.isArray(value);

/** Tells whether all that a value has is in another one, which may have more. */
function holds(whole, part) {
  if (Array.isArray(part)) return Array.isArray(whole) && whole.length === part.length && part.every((one, at) => holds(whole[at], one));
  if (!isObject(part) || !isObject(whole)) return same(whole, part);
  return Object.keys(part).every((name) => Object.hasOwn(whole, name) && holds(whole[name], part[name]));
}

/** The fields of the arguments: one for each, and where they are of several kinds, a choice of these first. */
function partsOf(schema, root) {
  const choices = choicesOf(schema, root);
  const objects = choices?.options.filter((option) => option.properties) ?? [];
  if (!objects.length) return properties(schema, root);
  again();
  const one = field({ oneOf: objects }, { root, label: t("form.kind"), required: true });
  return { ...one, elements: [one.element] };
}

/**
 * Makes a form. `read()` gives the object, or null where something is wrong, which is then said and focused; `set(value)`
 * fills it. `plainOnly` leaves the JSON out, as for the questions of a server.
 */
export function schemaForm(given, { plainOnly = false } = {}) {
  const schema = merged(given ?? {}, given ?? {});
  const parts = partsOf(schema, given ?? {});
  const raw = json({});
  raw.element.rows = 10;
  raw.element.setAttribute("aria-label", "JSON");
  const error = h("p", { class: "error", role: "alert", hidden: true });
  // What has no fields but says that it takes something is given as JSON; what says nothing may take something too.
  const none = !parts.elements.length;
  const closed = schema.additionalProperties === false && !schema.patternProperties;
  let asJson = none && !plainOnly && !closed && ("additionalProperties" in schema || "patternProperties" in schema);
  const body = h("div", { class: "fields" });
  const button = (label, value) => h("button", { type: "button", "aria-pressed": String(asJson === value), onclick: () => turn(value) }, label);
  const modes = h("div", { class: "modes", role: "group", "aria-label": t("form.as") });
  const element = h("div", { class: "schema-form" }, !plainOnly && !(none && closed) && modes, body, error);

  function draw() {
    replace(modes, button(t("form.as.form"), false), button(t("form.as.json"), true));
    replace(body, asJson ? raw.element : parts.elements.length ? parts.elements : h("p", { class: "faint" }, t("form.none")));
  }

  function turn(value) {
    if (value === asJson) return;
    say(null);
    try {
      if (value) raw.set(attempt(parts.read));
      else {
        const held = raw.read() ?? {};
        if (!isObject(held)) return say(t("form.object"));
        again();
        parts.set(held);
        const taken = attempt(parts.read);
        const beyond = Object.keys(held).filter((name) => !Object.hasOwn(taken, name) && !Object.hasOwn(schema.properties ?? {}, name));
        if (beyond.length) return say(t("form.beyond", { names: beyond.slice(0, 5).join(", ") }));
        if (!holds(taken, held)) return say(t("form.lossy"));
      }
    } catch (failed) {
      return say(failed.message);
    }
    asJson = value;
    draw();
  }

  /** Reads what is there, be it all that is needed or not. */
  function attempt(read) {
    try {
      return read() ?? {};
    } catch (failed) {
      if (!(failed instanceof Invalid)) throw failed;
      return failed.partial ?? {};
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
        if (isObject(value)) return value;
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
