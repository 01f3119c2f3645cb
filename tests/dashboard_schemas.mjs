// Tries what the dashboard's forms are made of (server/dashboard/schema.js), where JavaScript is run without a page.

import assert from "node:assert/strict";
import { choicesOf, hintOf, merged, typesOf, valuesOf, wrong } from "./schema.mjs";
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
