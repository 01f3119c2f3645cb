// Small lines over time, as SVG, with their last value and their highest as text.

import { h, s } from "./dom.js";
import { span, t, words } from "./words.js";

const WIDTH = 300;
const HEIGHT = 56;

words({
  "chart.most": ["most {value} in {span}", "{span}内最高 {value}"],
  "chart.few": ["Measuring …", "正在测量 …"],
});

/**
 * Draws one line.
 *
 * `samples` are `[seconds since 1970, value or null]`, oldest first; `say(value)` writes a value with its unit. A gap is
 * where a value is null. `few` is said in place of too few values.
 */
export function chart(label, samples, say, few = t("chart.few")) {
  const values = samples.map(([, value]) => value).filter((value) => value !== null && value !== undefined);
  const now = values.length ? say(values[values.length - 1]) : "–";
  if (values.length < 2) {
    return h("figure", { class: "chart" }, h("figcaption", {}, h("span", {}, label), h("b", {}, now)), h("p", { class: "faint small" }, few));
  }
  const most = Math.max(...values);
  const top = most > 0 ? most * 1.1 : 1;
  const from = samples[0][0];
  const whole = Math.max(1, samples[samples.length - 1][0] - from);
  let path = "";
  let pen = "M";
  for (const [at, value] of samples) {
    if (value === null || value === undefined) {
      pen = "M";
      continue;
    }
    path += `${pen}${(((at - from) / whole) * WIDTH).toFixed(1)} ${(HEIGHT - 2 - (value / top) * (HEIGHT - 4)).toFixed(1)}`;
    pen = "L";
  }
  const told = t("chart.most", { value: say(most), span: span(whole) });
  return h("figure", { class: "chart" },
    h("figcaption", {}, h("span", {}, label), h("b", {}, now)),
    s("svg", { viewBox: `0 0 ${WIDTH} ${HEIGHT}`, preserveAspectRatio: "none", role: "img", "aria-label": `${label}: ${now}, ${told}` },
      s("path", { d: path, "vector-effect": "non-scaling-stroke" })),
    h("p", { class: "faint small" }, told));
}
