// Tries what the dashboard's forms are made of (server/dashboard/schema.js), where JavaScript is run without a page.

import assert from "node:assert/strict";
import { choiceOf, choicesOf, hintOf, merged, typesOf, valuesOf, wrong } from "./schema.mjs";
const root = { $defs: { "a/b": { type: "string", title: "deep" }, loop: { $ref: "#/$defs/loop" } } };
assert.deepEqual(merged({ $ref: "#/$defs/a~1b", description: "beside" }, root), { type: "string", title: "deep", description: "beside" });
assert.deepEqual(merged({ $ref: "#/$defs/none" }, root), {});
assert.equal(typeof merged({ $ref: "#/$defs/loop" }, root), "object");
assert.deepEqual(merged({ allOf: [{ properties: { a: {} }, required: ["a"] }, { properties: { b: {} } }] }, {}).required, ["a"]);
assert.deepEqual(typesOf({ type: ["integer", "null"] }), { types: ["integer"], nullable: true });
assert.deepEqual(typesOf({ enum: [1, "x"] }).types, ["integer", "string"]);
const choice = choicesOf({ anyOf: [{ type: "string" }, { type: "integer", minimum: 3 }, { type: "null" }] }, {});
assert.deepEqual([choice.options.map((one) => one.type), choice.nullable], [["string", "integer"], true]);
assert.equal(choicesOf({ type: "string" }, {}), null);
assert.deepEqual(valuesOf({ oneOf: [{ const: 1, title: "one" }, { const: 2 }] }), [{ value: 1, label: "one" }, { value: 2, label: "2" }]);
assert.equal(hintOf({ type: "integer", minimum: 1, exclusiveMaximum: 9 }), "integer · ≥ 1 · < 9");
for (const [schema, value] of [[{ minLength: 2 }, "é"], [{ maxLength: 1 }, "ab"], [{ pattern: "^a$" }, "b"], [{ minimum: 1 }, 0],
  [{ maximum: 1 }, 2], [{ exclusiveMinimum: 1 }, 1], [{ exclusiveMaximum: 1 }, 1], [{ multipleOf: 0.1 }, 0.25], [{ minItems: 1 }, []],
  [{ maxItems: 1 }, [1, 2]]]) assert.ok(wrong(schema, value), JSON.stringify(schema));
for (const [schema, value] of [[{ maxLength: 1 }, "😀"], [{ multipleOf: 0.1 }, 0.3], [{ pattern: "(" }, "x"], [{}, {}]]) assert.equal(wrong(schema, value), null);
// Choices of an object have what all of them have; some only say what is needed, which the server judges.
const shapes = choicesOf({ type: "object", properties: { id: {} }, required: ["id"], oneOf: [{ properties: { kind: { const: "a" }, x: { type: "integer" } }, required: ["x"] },
  { properties: { kind: { const: "b" }, y: {} } }] }, {});
assert.deepEqual(shapes.options.map((one) => [one.title, Object.keys(one.properties), one.required]), [["kind: a", ["id", "kind", "x"], ["id", "x"]], ["kind: b", ["id", "kind", "y"], ["id"]]]);
assert.equal(choicesOf({ properties: { a: {} }, anyOf: [{ required: ["a"] }] }, {}), null);
for (const [value, at] of [[{ kind: "b", y: 1 }, 1], [{ id: 1, x: 2 }, 0], [{ kind: "b", x: 1 }, 1], ["text", -1]]) assert.equal(choiceOf(value, shapes.options, {}), at, JSON.stringify(value));
assert.equal(choiceOf(2.5, [{ type: "integer" }, { type: "number" }], {}), 1);
// What makes no sense is left out, and nothing that a server writes ends the form.
const odd = { toString: 1 };
assert.deepEqual(merged({ type: { x: 1 }, title: odd, description: 5, properties: ["a"], required: 5, pattern: 7, minimum: "x", default: 1 }, {}), { default: 1 });
assert.deepEqual(valuesOf({ enum: [odd, null, 1n] }).map((one) => one.label), ['{"toString":1}', "null", "1"]);
// A pattern that would take longer than anybody waits is left to the server.
for (const pattern of ["a?".repeat(30) + "a".repeat(30), "(a|aa)".repeat(30) + "b", "(a+)+b", "a*a*a*a*b"]) assert.equal(wrong({ pattern }, "a".repeat(29)), null);
