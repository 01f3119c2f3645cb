// JSON with whole numbers as they are written. Beyond 2^53 a number of JavaScript would be another one, and an
// identifier that of something else: such a number is a BigInt here (ECMAScript 2026, JSON.parse source text access).

import { config } from "./place.js";

const LONG = /\d{16}/;

/** Whether such numbers can be sent: the browser writes them, and no host of an MCP App is between. */
export const carried = typeof JSON.rawJSON === "function" && config.transport !== "app";

/** Reads JSON. */
export function parse(text) {
  // Only what can have such a number is read in the slower way.
  return LONG.test(text) ? JSON.parse(text, whole) : JSON.parse(text);
}

function whole(_key, value, context) {
  if (typeof value !== "number" || Number.isSafeInteger(value)) return value;
  return /^-?\d+$/.test(context?.source ?? "") ? BigInt(context.source) : value;
}

/** Writes JSON. */
export function stringify(value, indent) {
  return JSON.stringify(value, (_key, one) => (typeof one === "bigint" ? JSON.rawJSON(String(one)) : one), indent);
}

/** Tells whether a value read by `parse` is what was written, and can be sent so. */
export function faithful(value) {
  if (typeof value === "bigint") return carried;
  if (typeof value === "number") return !Number.isInteger(value) || Number.isSafeInteger(value) || Math.abs(value) >= 1e21;
  return typeof value !== "object" || value === null || Object.values(value).every(faithful);
}
