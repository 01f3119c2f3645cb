// What a form needs of JSON Schema (2020-12, and what older drafts have in common with it).

// Choices of one value; more of them are not what somebody chooses among.
const MOST = 100;

const isText = (value) => typeof value === "string";
const isNumber = (value) => typeof value === "number" || typeof value === "bigint";
const isObject = (value) => typeof value === "object" && value !== null && !Array.isArray(value);
// What a form looks at, and what it must be: a schema is written by a server, which may write anything.
const SANE = {
  title: isText, description: isText, format: isText, pattern: isText, properties: isObject,
  type: (value) => isText(value) || (Array.isArray(value) && value.every(isText)),
  required: (value) => Array.isArray(value) && value.every(isText),
  enum: Array.isArray, enumNames: Array.isArray, examples: Array.isArray, oneOf: Array.isArray, anyOf: Array.isArray, allOf: Array.isArray,
  items: (value) => isObject(value) || typeof value === "boolean",
  minimum: isNumber, maximum: isNumber, exclusiveMinimum: isNumber, exclusiveMaximum: isNumber, multipleOf: isNumber,
  minLength: isNumber, maxLength: isNumber, minItems: isNumber, maxItems: isNumber,
};

function sane(schema) {
  const wrong_ = Object.keys(SANE).filter((name) => Object.hasOwn(schema, name) && !SANE[name](schema[name]));
  return wrong_.length ? without(schema, ...wrong_) : schema;
}

/** Follows references within the root schema; one that leads nowhere is any value. What makes no sense is left out. */
export function resolved(schema, root, depth = 0) {
  if (!isObject(schema)) return {};
  const ref = schema.$ref;
  if (typeof ref !== "string" || depth > 20) return sane(schema);
  let found = root;
  for (const part of ref.replace(/^#\/?/, "").split("/").filter(Boolean)) found = within(found, part);
  const { $ref: _, ...beside } = schema;
  return { ...resolved(found, root, depth + 1), ...sane(beside) };
}

function within(value, part) {
  let name = part;
  try {
    name = decodeURIComponent(part);
  } catch {
    // It is not written as addresses are; then it is meant as it stands.
  }
  name = name.replaceAll("~1", "/").replaceAll("~0", "~");
  return typeof value === "object" && value !== null && Object.hasOwn(value, name) ? value[name] : undefined;
}

/**
 * Puts the parts of an `allOf` of objects together. No more than so many of them: parts that refer to each other could
 * be without end, or double with each step.
 */
export function merged(schema, root, left = { parts: 200 }) {
  left.parts -= 1;
  const whole = left.parts < 0 ? {} : resolved(schema, root);
  if (!Array.isArray(whole.allOf)) return whole;
  const { allOf, ...rest } = whole;
  return allOf.slice(0, Math.max(0, left.parts)).map((part) => merged(part, root, left)).concat(rest).reduce(both, {});
}

/** Gives the schema of what fits two of them: the second says what both say, but for properties, which add up. */
function both(one, other) {
  return {
    ...one, ...other,
    ...(one.properties || other.properties ? { properties: { ...one.properties, ...other.properties } } : {}),
    ...(one.required || other.required ? { required: [...new Set([...(one.required ?? []), ...(other.required ?? [])])] } : {}),
  };
}

/** Gives the types a schema allows, without null, and whether null is one of them. */
export function typesOf(schema) {
  let types = schema.type === undefined ? [] : [schema.type].flat();
  if (!types.length) {
    if (schema.properties) types = ["object"];
    else if (schema.items) types = ["array"];
    else if (Array.isArray(schema.enum)) types = [...new Set(schema.enum.map(typeOf))];
    else if ("const" in schema) types = [typeOf(schema.const)];
  }
  return { types: types.filter((type) => type !== "null"), nullable: types.includes("null") || schema.nullable === true };
}

function typeOf(value) {
  if (value === null) return "null";
  if (Array.isArray(value)) return "array";
  if (typeof value === "bigint") return "integer";
  if (typeof value === "number") return Number.isInteger(value) ? "integer" : "number";
  return typeof value;
}

/**
 * Gives the choices of a `oneOf` or `anyOf`, null among them left out; `null` where there are none. Those that have no
 * properties of their own, for an object that has some, only say which of these are needed: the server judges that.
 */
export function choicesOf(schema, root) {
  const { types, nullable } = typesOf(schema);
  const options = schema.oneOf ?? schema.anyOf;
  if (Array.isArray(options)) {
    const { oneOf: _one, anyOf: _any, ...common } = schema;
    const all = options.slice(0, MOST).map((option) => merged(option, root));
    const real = all.filter((option) => option.type !== "null" && option.const !== null);
    if (schema.properties && real.length && !real.some((option) => option.properties || option.oneOf || option.anyOf)) return null;
    const shared = without(common, "default", "description", "title");
    return { options: real.map((option) => titled(both(shared, option), option)), nullable: nullable || real.length < all.length };
  }
  if (types.length > 1) return { options: types.map((type) => ({ ...without(schema, "default", "description", "title"), type, title: type })), nullable };
  return null;
}

/** Gives a choice of an object a title: what it always is, and else what it has of its own. */
function titled(whole, own) {
  if (whole.title || !own.properties) return whole;
  const entries = Object.entries(own.properties).slice(0, 3);
  const fixed = entries.filter(([, one]) => isObject(one) && "const" in one).map(([name, one]) => `${name}: ${told(one.const)}`);
  return { ...whole, title: (fixed.length ? fixed : entries.map(([name]) => name)).join(", ").slice(0, 80) };
}

/** Tells which of several choices a value is of: the one that knows the most of it, -1 if none can be. */
export function choiceOf(value, options, root) {
  const points = options.map((option) => {
    const { types } = typesOf(option);
    const type = typeOf(value);
    if (types.length && !types.includes(type) && !(type === "integer" && types.includes("number"))) return -1;
    if (!isObject(value)) return types.length ? 2 : 1;
    const known = Object.keys(value).filter((name) => Object.hasOwn(option.properties ?? {}, name));
    const fits_ = known.every((name) => (valuesOf(merged(option.properties[name], root)) ?? [{ value: value[name] }]).some((one) => told(one.value) === told(value[name])));
    return fits_ ? 1 + known.length : 0;
  });
  return points.indexOf(Math.max(0, ...points));
}

/** Writes a value in a few words, whatever it is. */
function told(value) {
  return typeof value === "object" ? JSON.stringify(value, (_key, one) => (typeof one === "bigint" ? String(one) : one)) : String(value);
}

function without(schema, ...names) {
  return Object.fromEntries(Object.entries(schema).filter(([name]) => !names.includes(name)));
}

/** Gives the values of a schema that is a list of choices with names (`oneOf` of `const`), or an `enum`. */
export function valuesOf(schema) {
  const options = schema.oneOf ?? schema.anyOf;
  if (Array.isArray(options) && options.length && options.every((option) => option && typeof option === "object" && "const" in option)) {
    return options.map((option) => ({ value: option.const, label: told(option.title ?? option.const) }));
  }
  if (Array.isArray(schema.enum)) {
    const names = Array.isArray(schema.enumNames) ? schema.enumNames : [];
    return schema.enum.map((value, index) => ({ value, label: told(names[index] ?? value) }));
  }
  return "const" in schema ? [{ value: schema.const, label: told(schema.const) }] : null;
}

/** Says in a few words what a schema wants: its type and its limits. */
export function hintOf(schema) {
  const { types } = typesOf(schema);
  const limits = [];
  const low = schema.minimum ?? schema.exclusiveMinimum;
  const high = schema.maximum ?? schema.exclusiveMaximum;
  if (low !== undefined) limits.push(`${schema.minimum === undefined ? ">" : "≥"} ${low}`);
  if (high !== undefined) limits.push(`${schema.maximum === undefined ? "<" : "≤"} ${high}`);
  if (schema.format) limits.push(schema.format);
  if (schema.pattern) limits.push(`/${schema.pattern}/`);
  // What a box for words or a box to tick is for, is plain to see.
  const plain = types.length === 1 && ["string", "boolean"].includes(types[0]);
  return [!plain && types.join(" | "), ...limits].filter(Boolean).join(" · ");
}

/** Gives what is wrong with one plain value, as `[key, values]` of a text; `null` if nothing is. */
export function wrong(schema, value) {
  if (typeof value === "string") {
    if (schema.minLength !== undefined && [...value].length < schema.minLength) return ["form.short", { limit: schema.minLength }];
    if (schema.maxLength !== undefined && [...value].length > schema.maxLength) return ["form.long", { limit: schema.maxLength }];
    if (schema.pattern !== undefined && !fits(schema.pattern, value)) return ["form.pattern", { pattern: schema.pattern }];
  }
  if (typeof value === "number" || typeof value === "bigint") {
    if (schema.minimum !== undefined && value < schema.minimum) return ["form.least", { limit: schema.minimum }];
    if (schema.maximum !== undefined && value > schema.maximum) return ["form.most", { limit: schema.maximum }];
    if (schema.exclusiveMinimum !== undefined && value <= schema.exclusiveMinimum) return ["form.above", { limit: schema.exclusiveMinimum }];
    if (schema.exclusiveMaximum !== undefined && value >= schema.exclusiveMaximum) return ["form.below", { limit: schema.exclusiveMaximum }];
    if (schema.multipleOf && !divides(schema.multipleOf, value)) return ["form.multiple", { limit: schema.multipleOf }];
  }
  if (Array.isArray(value)) {
    if (schema.minItems !== undefined && value.length < schema.minItems) return ["form.few", { limit: schema.minItems }];
    if (schema.maxItems !== undefined && value.length > schema.maxItems) return ["form.many", { limit: schema.maxItems }];
  }
  return null;
}

function divides(step, value) {
  if (typeof value === "bigint") return !Number.isInteger(Number(step)) || value % BigInt(step) === 0n;
  const times = value / Number(step);
  return Math.abs(times - Math.round(times)) <= 1e-9;
}

/**
 * Tells whether a text fits a pattern. One that could take very long (where what repeats is repeated, or is next to
 * more that repeats or may be left out) is left to the server: a hostile one would stop this page with it.
 */
function fits(pattern, value) {
  const repeats = pattern.match(/[*+]|\{\d*,/g)?.length ?? 0;
  const ways = repeats + (pattern.replaceAll("(?", "").match(/[?|]/g)?.length ?? 0);
  if (repeats > 3 || ways > 12 || /\)(?:[*+]|\{)/.test(pattern) || (repeats && value.length > 100)) return true;
  try {
    return new RegExp(pattern, "u").test(value);
  } catch {
    return true; // not a pattern that JavaScript knows: the server judges it
  }
}
