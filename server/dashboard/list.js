// A list of which only the rows that can be seen are made, so that thousands cost as little as ten.

import { h, replace } from "./dom.js";

let lists = 0;

/**
 * A list box (WAI-ARIA listbox): arrows move, Enter and a click open.
 *
 * `render(item)` gives what is in a row, `key(item)` tells one from another, `onopen(item)` opens it. `rem` is the
 * height of a row.
 */
export class List {
  constructor({ label, render, key, onopen, rem = 3.5, empty = "" }) {
    this.prefix = `list-${++lists}`;
    this.render = render;
    this.key = key;
    this.onopen = onopen;
    this.empty = empty;
    this.height = rem * parseFloat(getComputedStyle(document.documentElement).fontSize);
    this.items = [];
    this.marked = null;
    this.opened = null;
    this.rows = new Map();
    this.held = false;
    this.late = false;
    this.space = h("div", { role: "presentation", class: "space" });
    this.element = h("div", {
      class: "rows", role: "listbox", tabindex: "0", "aria-label": label,
      onkeydown: (event) => this.key_(event), onscroll: () => this.draw(), onpointerdown: () => this.hold(),
    }, this.space);
    new ResizeObserver(() => this.draw()).observe(this.element);
  }

  /** Shows other items. What is marked stays so, if it is there still. */
  set(items, empty = this.empty) {
    this.items = items;
    this.empty = empty;
    this.draw(true);
  }

  /** Notes which item is open: by its key, or null. */
  open(key) {
    this.opened = key;
    if (key !== null) this.marked = key;
    const at = this.index();
    if (key !== null && at >= 0) this.mark(at);
    else this.draw(true);
  }

  /** Leaves the rows as they are while one is pressed: what is made anew meanwhile is not clicked. */
  hold() {
    if (this.held) return;
    this.held = true;
    const ended = new AbortController();
    const over = () => {
      ended.abort();
      setTimeout(() => {
        this.held = false;
        if (this.late) this.draw(true);
        this.late = false;
      });
    };
    for (const end of ["pointerup", "pointercancel", "blur"]) addEventListener(end, over, { signal: ended.signal });
  }

  index() {
    return this.items.findIndex((item) => this.key(item) === this.marked);
  }

  key_(event) {
    const at = this.index();
    const page = Math.max(1, Math.floor(this.element.clientHeight / this.height) - 1);
    const to = { ArrowDown: at + 1, ArrowUp: Math.max(0, at - 1), Home: 0, End: this.items.length - 1, PageDown: at + page, PageUp: at - page }[event.key];
    if (event.key === "Enter" || event.key === " ") {
      if (at >= 0) this.onopen(this.items[at]);
    } else if (to === undefined || !this.items.length) return;
    else this.mark(Math.min(this.items.length - 1, Math.max(0, to)));
    event.preventDefault();
  }

  mark(at) {
    this.marked = this.key(this.items[at]);
    const top = at * this.height;
    const box = this.element;
    if (top < box.scrollTop) box.scrollTop = top;
    else if (top + this.height > box.scrollTop + box.clientHeight) box.scrollTop = top + this.height - box.clientHeight;
    this.draw(true);
  }

  draw(anew = false) {
    const { items, height, element } = this;
    if (anew && this.held) {
      this.late = true;
      return;
    }
    if (!items.length) {
      this.rows.clear();
      this.space.style.height = "auto";
      replace(this.space, this.empty && h("p", { class: "empty" }, this.empty));
      element.removeAttribute("aria-activedescendant");
      return;
    }
    this.space.style.height = `${items.length * height}px`;
    const first = Math.max(0, Math.floor(element.scrollTop / height) - 3);
    const last = Math.min(items.length, Math.ceil((element.scrollTop + (element.clientHeight || 600)) / height) + 3);
    if (anew || !this.rows.size) {
      this.rows.clear();
      this.space.replaceChildren();
    }
    for (const [index, row] of this.rows) {
      if (index >= first && index < last) continue;
      row.remove();
      this.rows.delete(index);
    }
    for (let index = first; index < last; index += 1) {
      if (!this.rows.has(index)) this.rows.set(index, this.row(index));
    }
    const at = this.index();
    if (this.rows.has(at)) element.setAttribute("aria-activedescendant", this.rows.get(at).id);
    else element.removeAttribute("aria-activedescendant");
  }

  row(index) {
    const item = this.items[index];
    const key = this.key(item);
    const row = h("div", {
      class: key === this.marked ? "row marked" : "row", role: "option", id: `${this.prefix}-${index}`,
      "aria-selected": String(key === this.opened), "aria-setsize": this.items.length, "aria-posinset": index + 1,
      onclick: () => {
        this.marked = key;
        this.onopen(item);
      },
    }, this.render(item));
    row.style.top = `${index * this.height}px`;
    row.style.height = `${this.height}px`;
    this.space.append(row);
    return row;
  }
}
