// Where one value is given. A control is `{ element, read(), set(value), beside? }`; `read()` gives undefined where the
// value is left out, and throws Invalid with what is wrong with it.

import { h } from "./dom.js";
import { carried, faithful, parse, stringify } from "./exact.js";
import { typesOf } from "./schema.js";
import { t } from "./words.js";

const LONG = /(^|_)(body|code|content|html|markdown|message|prompt|query|script|source|sql|text)$/i;

/** A value is wrong; the field shows why. */
export class Invalid extends Error {}

/** One of the values that a schema allows. */
export function oneOf(schema, values, within) {
  const known = values.findIndex(({ value }) => same(value, schema.default));
  const only = within.required && values.length === 1 ? 0 : known;
  const element = h("select", {}, h("option", { value: "" }, t(within.required ? "form.choose" : "form.leave")),
    values.map(({ label }, index) => h("option", { value: index, selected: index === only }, label)));
  return {
    element,
    read: () => (element.value === "" ? undefined : values[Number(element.value)].value),
    set(value) {
      const index = values.findIndex((one) => same(one.value, value));
      element.value = index >= 0 ? String(index) : within.required && values.length === 1 ? "0" : "";
    },
  };
}

/** Tells whether two values are the same JSON. */
export function same(one, other) {
  return stringify(one) === stringify(other);
}

/** Writes what is to be in a box for words: a text as it is, whatever else somebody may have put there as JSON. */
function textOf(value) {
  if (value === undefined || value === null) return "";
  return typeof value === "object" ? stringify(value) : String(value);
}

/** A box to tick. */
export function yesNo(schema, within) {
  const element = h("input", { type: "checkbox", checked: schema.default === true });
  let touched = false;
  element.addEventListener("change", () => (touched = true));
  return {
    element,
    beside: true,
    read: () => (within.required || touched || element.checked ? element.checked : undefined),
    set(value) {
      element.checked = value === true;
      touched = value !== undefined;
    },
  };
}

/** A number; a whole one as long as it is written. */
export function numeric(schema) {
  const whole = typesOf(schema).types[0] === "integer";
  const element = h("input", { type: "text", inputmode: whole ? "numeric" : "decimal", autocomplete: "off", value: textOf(schema.default) });
  return {
    element,
    read() {
      const text = element.value.trim();
      if (!text) return undefined;
      const value = Number(text);
      if (!/^[+-]?(\d+\.?\d*|\.\d+)(e[+-]?\d+)?$/i.test(text) || !Number.isFinite(value)) throw new Invalid(t("form.number"));
      if (whole && !Number.isInteger(value)) throw new Invalid(t("form.integer"));
      if (Number.isInteger(value) && !Number.isSafeInteger(value)) {
        if (carried && /^[+-]?\d+$/.test(text)) return BigInt(text);
        throw new Invalid(t("form.precise"));
      }
      return value;
    },
    set: (value) => (element.value = textOf(value)),
  };
}

const KINDS = new Map([["date", "date"], ["email", "email"], ["password", "password"]]);

/** A text. */
export function written(schema, within) {
  const long = LONG.test(within.name ?? "") || schema.maxLength > 300 || textOf(schema.default).includes("\n");
  const kind = schema.writeOnly ? "password" : KINDS.get(schema.format) ?? "text";
  const common = { value: textOf(schema.default), spellcheck: "false", autocomplete: "off", placeholder: textOf(schema.examples?.[0]) };
  const element = long && kind === "text" ? h("textarea", { rows: 3, ...common }) : h("input", { type: kind, ...common });
  return {
    element,
    read: () => (element.value === "" ? undefined : element.value),
    set: (value) => (element.value = textOf(value)),
  };
}

/** A field for any value, as JSON. */
export function json(schema) {
  const shown = (value) => (value === undefined ? "" : stringify(value, 2));
  const element = h("textarea", { rows: 4, class: "mono", spellcheck: "false", value: shown(schema.default ?? undefined), placeholder: "JSON" });
  return {
    element,
    read() {
      if (!element.value.trim()) return undefined;
      let value;
      try {
        value = parse(element.value);
      } catch (error) {
        throw new Invalid(t("form.json", { why: error.message }));
      }
      if (!faithful(value)) throw new Invalid(t("form.precise"));
      return value;
    },
    set: (value) => (element.value = shown(value)),
  };
}
