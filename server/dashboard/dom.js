// Makes elements. Whatever a server says becomes text, never markup: nothing here takes HTML.

const SVG = "http://www.w3.org/2000/svg";
const PROPERTIES = new Set(["value", "checked", "disabled", "hidden", "open", "selected", "indeterminate", "tabIndex", "htmlFor", "className"]);

function fill(element, props, children) {
  for (const [name, value] of Object.entries(props ?? {})) {
    if (value === undefined || value === null) continue;
    if (name.startsWith("on") && typeof value === "function") element.addEventListener(name.slice(2), value);
    else if (PROPERTIES.has(name)) element[name] = value;
    else if (value === true) element.setAttribute(name, "");
    else if (value !== false) element.setAttribute(name, String(value));
  }
  append(element, children);
  return element;
}

/** Appends texts, elements and lists of them; leaves out null, undefined and false. */
export function append(element, children) {
  for (const child of [children].flat(Infinity)) {
    if (child === null || child === undefined || child === false) continue;
    element.append(child instanceof Node ? child : document.createTextNode(String(child)));
  }
}

/** Makes an element: h("button", { class: "quiet", onclick: act }, "Start"). */
export function h(tag, props, ...children) {
  return fill(document.createElement(tag), props, children);
}

/** Makes an element of SVG. */
export function s(tag, props, ...children) {
  return fill(document.createElementNS(SVG, tag), props, children);
}

/** Puts other children in place of those that an element has. */
export function replace(element, ...children) {
  element.replaceChildren();
  append(element, children);
}

/** Calls a function once for all calls within so many milliseconds. */
export function debounced(milliseconds, act) {
  let timer = 0;
  return (...args) => {
    clearTimeout(timer);
    timer = setTimeout(() => act(...args), milliseconds);
  };
}

/**
 * Does something once for all that asks for it within so many milliseconds, and never twice at a time: what goes on
 * asking is answered all the same, and something slow is done the less often.
 */
export function gathered(milliseconds, act) {
  let asked = false;
  let busy = false;
  async function run(pause) {
    busy = true;
    while (asked) {
      await new Promise((resolve) => setTimeout(resolve, pause));
      asked = false;
      const began = performance.now();
      try {
        await act();
      } catch (error) {
        console.error("toolscore:", error);
      }
      pause = Math.max(milliseconds, 3 * (performance.now() - began));
    }
    busy = false;
  }
  return () => {
    asked = true;
    if (!busy) run(milliseconds);
  };
}

/** Keeps something over visits where the browser lets it, as it may not within a frame. */
export const kept = {
  get(key, store = "localStorage") {
    try {
      return window[store].getItem(`toolscore.${key}`);
    } catch {
      return null;
    }
  },
  set(key, value, store = "localStorage") {
    try {
      if (value === null) window[store].removeItem(`toolscore.${key}`);
      else window[store].setItem(`toolscore.${key}`, value);
    } catch {
      // Then it lasts as long as the page.
    }
  },
};

/**
 * Has forms within an element work by events alone: a frame of an MCP App may not submit any (sandbox without
 * `allow-forms`), so that neither a click nor Enter would do what it does elsewhere.
 */
export function submitByHand(root) {
  const submit = (event, form) => {
    if (!form) return;
    event.preventDefault();
    form.dispatchEvent(new SubmitEvent("submit", { cancelable: true, bubbles: true }));
  };
  root.addEventListener("click", (event) => submit(event, event.target.closest("button[type=submit]")?.form));
  root.addEventListener("keydown", (event) => {
    if (event.key === "Enter" && event.target.matches("input")) submit(event, event.target.form);
  });
}
