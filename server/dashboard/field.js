// The fields of a form. A field is `{ element, read(), set(value), focus() }`.
//
// `read()` gives the value, or undefined where it is left out, and throws Invalid where it is wrong, having said so at
// the field; what could be read all the same is in its `partial`.

import { Invalid, json, numeric, oneOf, same, written, yesNo } from "./control.js";
import { h, replace } from "./dom.js";
import { stringify } from "./exact.js";
import { choiceOf, choicesOf, hintOf, merged, typesOf, valuesOf, wrong } from "./schema.js";
import { t, words } from "./words.js";

words({
  "form.required": ["needed", "必填"],
  "form.missing": ["This is needed.", "此项必填。"],
  "form.short": ["At least {limit} characters.", "至少 {limit} 个字符。"],
  "form.long": ["At most {limit} characters.", "最多 {limit} 个字符。"],
  "form.pattern": ["This does not fit the pattern {pattern}.", "不符合模式 {pattern}。"],
  "form.least": ["Not less than {limit}.", "不能小于 {limit}。"],
  "form.most": ["Not more than {limit}.", "不能大于 {limit}。"],
  "form.above": ["More than {limit}.", "必须大于 {limit}。"],
  "form.below": ["Less than {limit}.", "必须小于 {limit}。"],
  "form.multiple": ["A multiple of {limit}.", "必须是 {limit} 的倍数。"],
  "form.few": ["At least {limit}.", "至少 {limit} 项。"],
  "form.many": ["At most {limit}.", "最多 {limit} 项。"],
  "form.number": ["This is not a number.", "这不是数字。"],
  "form.integer": ["A whole number.", "必须是整数。"],
  "form.precise": ["A browser cannot write this number exactly: send it from elsewhere.", "浏览器无法精确表示这个数字。"],
  "form.json": ["This is not valid JSON: {why}", "不是有效的 JSON：{why}"],
  "form.null": ["null if left out", "留空则为 null"],
  "form.default": ["{value} if left out", "留空则为 {value}"],
  "form.leave": ["(left out)", "（不填）"],
  "form.choose": ["(choose)", "（请选择）"],
  "form.add": ["Add", "添加"],
  "form.remove": ["Remove", "移除"],
  "form.item": ["{name} {number}", "{name} {number}"],
  "form.kind": ["Kind", "类型"],
});

const DEEPEST = 8;
const MOST = 400;
const MANY = 100;
const left = { fields: MOST };
let ids = 0;

/** Begins to count fields anew: for a form, or where somebody adds to one. */
export function again() {
  left.fields = MOST;
}

/**
 * Makes the field of a schema. `within` has the root schema, a name, whether the value must be there, whether it may be
 * null, and how deep it is. What is very deep, or beyond very many fields, is given as JSON: a schema can need itself.
 */
export function field(given, { depth = 0, ...about }) {
  const within = { ...about, depth: depth + 1 };
  const schema = merged(given, within.root);
  within.nullable ||= typesOf(schema).nullable;
  left.fields -= 1;
  if (depth > DEEPEST || left.fields < 0) return plain(schema, within, json(schema));
  const values = valuesOf(schema);
  if (values) return plain(schema, within, oneOf(schema, values, within));
  const choices = choicesOf(schema, within.root);
  if (choices && choices.options.length === 1) return field({ ...schema, oneOf: undefined, anyOf: undefined, type: undefined, ...choices.options[0] }, { ...within, nullable: within.nullable || choices.nullable });
  within.nullable ||= choices?.nullable;
  if (choices && choices.options.length) return variants(schema, choices.options, within);
  switch (typesOf(schema).types[0]) {
    case "boolean": return plain(schema, within, yesNo(schema, within));
    case "integer": case "number": return plain(schema, within, numeric(schema));
    case "string": return plain(schema, within, written(schema, within));
    case "array": return schema.default?.length > MANY ? plain(schema, within, json(schema)) : several(schema, within);
    case "object": return schema.properties && Object.keys(schema.properties).length ? nested(schema, within) : plain(schema, within, json(schema));
    default: return plain(schema, within, json(schema));
  }
}

/** Gives the title of a schema, the name it goes by, and marks what must be there. */
function named(schema, within) {
  const title = within.label ?? within.name;
  return [title, within.required && !within.nullable && h("span", { class: "needed" }, t("form.required"))];
}

// --- one value in one control

function plain(schema, within, control) {
  const id = `field-${++ids}`;
  const error = h("p", { class: "error", id: `${id}-error`, hidden: true });
  const hint = [hintOf(schema), schema.default !== undefined && schema.default !== null && schema.default !== "" && t("form.default", { value: stringify(schema.default) }), within.required && within.nullable && t("form.null")].filter(Boolean).join(" · ");
  const told = h("p", { class: "faint small", id: `${id}-hint` }, schema.description, schema.description && hint && h("br"), hint);
  control.element.id = id;
  control.element.setAttribute("aria-describedby", `${id}-hint ${id}-error`);
  if (within.required) control.element.setAttribute("aria-required", "true");
  const label = h("label", { for: id }, named(schema, within));
  const element = h("div", { class: control.beside ? "field beside" : "field" }, control.beside ? [control.element, label] : [label, control.element], told, error);

  function say(problem) {
    error.hidden = !problem;
    error.textContent = problem ?? "";
    if (problem) control.element.setAttribute("aria-invalid", "true");
    else control.element.removeAttribute("aria-invalid");
  }

  control.element.addEventListener("input", () => say(null));
  return {
    element,
    set: control.set,
    focus: () => control.element.focus(),
    read() {
      say(null);
      let problem = null;
      let value;
      try {
        value = control.read();
      } catch (failed) {
        problem = failed.message;
      }
      if (value === undefined && within.required && within.nullable) value = null;
      if (problem === null && value === undefined && within.required) problem = t("form.missing");
      const why = problem === null && value !== undefined ? wrong(schema, value) : null;
      if (why) problem = t(...why);
      if (problem !== null) {
        say(problem);
        throw Object.assign(new Invalid(problem), { partial: value });
      }
      return value;
    },
  };
}

// --- values of several parts

/**
 * Reads all fields, so that each says what is wrong with it, and then throws for the first that is wrong. `put` makes
 * one value of theirs.
 */
export function readAll(fields, put) {
  let failed = null;
  const values = fields.map((one) => {
    try {
      return one.read();
    } catch (error) {
      if (!(error instanceof Invalid)) throw error;
      error.field ??= one;
      failed ??= error;
      return error.partial;
    }
  });
  if (failed) throw Object.assign(failed, { partial: put(values) });
  return put(values);
}

/** The fields of an object's properties, those that are needed first. */
export function properties(schema, root, depth = 0) {
  if (!depth) again();
  const required = new Set(schema.required ?? []);
  const names = Object.keys(schema.properties ?? {}).filter((name) => schema.properties[name] !== false);
  const ordered = [...names.filter((name) => required.has(name)), ...names.filter((name) => !required.has(name))];
  const made = ordered.map((name) => [name, field(schema.properties[name], { root, name, depth, label: merged(schema.properties[name], root).title ?? name, required: required.has(name) })]);
  return {
    elements: made.map(([, one]) => one.element),
    focus: () => made[0]?.[1].focus(),
    read() {
      const put = (values) => Object.fromEntries(made.map(([name], index) => [name, values[index]]).filter(([, value]) => value !== undefined));
      return readAll(made.map(([, one]) => one), put);
    },
    set(value) {
      for (const [name, one] of made) one.set(value && Object.hasOwn(value, name) ? value[name] : undefined);
    },
  };
}

/** An object within another one: it is there at once if it is needed, and else when it is added. */
function nested(schema, within) {
  const always = within.required && !within.nullable;
  let parts = null;
  const add = h("button", { type: "button", onclick: () => (again(), parts ? leave() : fill(), parts?.focus()) });
  const body = h("div", { class: "fields" });
  const element = h("fieldset", { class: "field" }, h("legend", {}, named(schema, within)),
    schema.description && h("p", { class: "faint small" }, schema.description), body, !always && add);

  function fill() {
    parts = properties(schema, within.root, within.depth);
    replace(body, parts.elements);
    add.textContent = t("form.remove");
  }

  function leave() {
    parts = null;
    replace(body);
    add.textContent = t("form.add");
  }

  if (always) fill();
  else leave();
  return {
    element,
    focus: () => (parts ? parts.focus() : add.focus()),
    read: () => (parts ? parts.read() : within.required ? null : undefined),
    set(value) {
      if (value === undefined || value === null) return always ? parts.set({}) : leave();
      if (!parts) fill();
      parts.set(value);
    },
  };
}

/** A list, each of its items a field. */
function several(schema, within) {
  const values = valuesOf(merged(schema.items ?? {}, within.root));
  if (values && values.length <= 30) return picks(schema, values, within);
  const items = [];
  const body = h("div", { class: "fields items" });
  const error = h("p", { class: "error", hidden: true, role: "alert" });
  const add = h("button", { type: "button", onclick: () => (again(), append_().focus()) }, `+ ${t("form.add")}`);
  const element = h("fieldset", { class: "field" }, h("legend", {}, named(schema, within)),
    h("p", { class: "faint small" }, schema.description), body, add, error);

  function append_(value) {
    const label = t("form.item", { name: within.label ?? within.name ?? "", number: items.length + 1 });
    const one = field(schema.items ?? {}, { root: within.root, name: within.name, label, required: true, depth: within.depth });
    const row = h("div", { class: "item" }, one.element,
      h("button", { type: "button", class: "quiet", "aria-label": `${t("form.remove")}: ${label}`, onclick: () => {
        items.splice(items.indexOf(entry), 1);
        row.remove();
        add.focus();
      } }, "×"));
    const entry = { one, row };
    items.push(entry);
    body.append(row);
    if (value !== undefined) one.set(value);
    return one;
  }

  function set(values) {
    items.length = 0;
    replace(body);
    for (const value of Array.isArray(values) ? values : []) append_(value);
  }

  set(schema.default);
  return {
    element,
    set,
    focus: () => (items[0] ? items[0].one.focus() : add.focus()),
    read() {
      error.hidden = true;
      if (!items.length && !within.required) return undefined;
      const values = readAll(items.map(({ one }) => one), (all) => all.filter((value) => value !== undefined));
      const why = wrong(schema, values);
      if (why) {
        error.hidden = false;
        error.textContent = t(...why);
        throw Object.assign(new Invalid(error.textContent), { partial: values });
      }
      return values;
    },
  };
}

/** A list of values out of a few: each is ticked or not. */
function picks(schema, values, within) {
  const error = h("p", { class: "error", hidden: true, role: "alert" });
  const boxes = values.map(({ value, label }) => {
    const box = h("input", { type: "checkbox", id: `field-${++ids}`, checked: Array.isArray(schema.default) && schema.default.some((one) => same(one, value)) });
    return { value, box, element: h("div", { class: "field beside" }, box, h("label", { for: box.id }, label)) };
  });
  return {
    element: h("fieldset", { class: "field" }, h("legend", {}, named(schema, within)), h("p", { class: "faint small" }, schema.description), boxes.map(({ element }) => element), error),
    focus: () => boxes[0].box.focus(),
    set: (given) => boxes.forEach(({ value, box }) => (box.checked = Array.isArray(given) && given.some((one) => same(one, value)))),
    read() {
      const ticked = boxes.filter(({ box }) => box.checked).map(({ value }) => value);
      const why = ticked.length || within.required ? wrong(schema, ticked) : null;
      error.hidden = !why;
      error.textContent = why ? t(...why) : "";
      if (why) throw Object.assign(new Invalid(error.textContent), { partial: ticked });
      return ticked.length || within.required ? ticked : undefined;
    },
  };
}

/** One of several kinds of values: which is chosen first. */
function variants(schema, options, within) {
  let chosen = null;
  const body = h("div", { class: "fields" });
  const names = options.map((option, index) => option.title || option.description?.slice(0, 40) || typesOf(option).types.join(" | "));
  const select = h("select", { "aria-label": t("form.kind"), onchange: () => (again(), choose(select.value)) },
    h("option", { value: "" }, within.required && within.nullable ? t("form.null") : t(within.required ? "form.choose" : "form.leave")), names.map((name, index) => h("option", { value: index }, name || `${index + 1}`)));
  const error = h("p", { class: "error", hidden: true });
  const element = h("fieldset", { class: "field" }, h("legend", {}, named(schema, within)),
    schema.description && h("p", { class: "faint small" }, schema.description), select, error, body);

  function choose(index, value) {
    error.hidden = true;
    select.value = index;
    chosen = index === "" ? null : field(options[Number(index)], { ...within, required: true, nullable: false, label: names[Number(index)] });
    if (chosen && value !== undefined) chosen.set(value);
    replace(body, chosen?.element);
  }

  function set(value) {
    if (value === undefined || (value === null && within.nullable)) return choose("");
    const index = choiceOf(value, options, within.root);
    choose(index < 0 ? "" : String(index), value);
  }

  set(schema.default ?? undefined);
  return {
    element,
    set,
    focus: () => select.focus(),
    read() {
      if (chosen) return chosen.read();
      if (!within.required) return undefined;
      if (within.nullable) return null;
      error.hidden = false;
      error.textContent = t("form.missing");
      throw new Invalid(error.textContent);
    },
  };
}
