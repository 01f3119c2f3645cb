// Dialogs, and the short notes that appear and go. A dialog is the browser's own: it keeps the focus, and Esc closes it.

import { h } from "./dom.js";
import { t } from "./words.js";

/**
 * Shows a dialog until `close(value)` is called or it is dismissed, which gives null.
 *
 * `fill(close)` gives what is in it; the first field or button in it has the focus.
 */
export function dialog(title, fill, { signal, wide } = {}) {
  return new Promise((resolve) => {
    let answer = null;
    const close = (value) => {
      answer = value;
      element.close();
    };
    const heading = h("h2", { id: `dialog-${Math.random().toString(36).slice(2)}` }, title);
    const element = h("dialog", { "aria-labelledby": heading.id, class: wide ? "wide" : "" }, heading, fill(close));
    element.addEventListener("close", () => {
      element.remove();
      signal?.removeEventListener("abort", dismissed);
      resolve(answer);
    });
    const dismissed = () => element.close();
    signal?.addEventListener("abort", dismissed);
    // The key that led here, held a moment too long, is no answer.
    element.addEventListener("keydown", (event) => {
      if (event.repeat && event.key === "Enter" && !event.target.matches("textarea")) event.preventDefault();
    });
    document.body.append(element);
    element.showModal();
  });
}

/** Asks whether something is to be done. Gives true or false. */
export async function confirm(title, text, act, { danger = false } = {}) {
  const answer = await dialog(title, (close) => [
    h("p", {}, text),
    h("div", { class: "actions" },
      h("button", { type: "button", autofocus: true, onclick: () => close(null) }, t("cancel")),
      h("button", { type: "button", class: danger ? "danger" : "primary", onclick: () => close(true) }, act)),
  ]);
  return answer === true;
}

const LONGEST = 1000;
const MOST = 5;
const notes = h("div", { class: "notes", role: "status", "aria-live": "polite" });

/** Where notes appear; put into the page once. */
export function noteArea() {
  return notes;
}

/** Says something for a while: kind "" or "bad". Gives the element, which may be taken away earlier. */
export function note(text, kind = "") {
  const shown = h("div", { class: `note ${kind}` }, h("span", {}, text.length > LONGEST ? `${text.slice(0, LONGEST)}…` : text),
    h("button", { type: "button", class: "quiet", "aria-label": t("close"), onclick: () => shown.remove() }, "×"));
  notes.append(shown);
  while (notes.childElementCount > MOST) notes.firstElementChild.remove();
  setTimeout(() => shown.remove(), kind === "bad" ? 60000 : 5000); // what went wrong is read, and then acted upon
  return shown;
}
