// The frame of the page: who is connected, the tabs with their views, the keys, light and dark, the language.

import { dialog, note, noteArea } from "./dialog.js";
import { h, kept, replace, s } from "./dom.js";
import { config } from "./place.js";
import { chosen, language, speak, t } from "./words.js";

const THEMES = ["system", "light", "dark"];

function applyTheme() {
  const theme = kept.get("theme");
  if (theme === "light" || theme === "dark") document.documentElement.dataset.theme = theme;
  else delete document.documentElement.dataset.theme;
  return document.documentElement.dataset.theme ?? "system";
}

function mark() {
  return s("svg", { viewBox: "0 0 24 24", class: "mark", "aria-hidden": "true" },
    s("circle", { cx: 12, cy: 12, r: 3.5 }), s("path", { d: "M12 2v6.5M12 15.5V22M2 12h6.5M15.5 12H22" }));
}

/**
 * The frame. A view is `{ id, title(), create(app) }`; `create` gives `{ element, show(place), hide(), onevents?, find? }`.
 *
 * `show` is called whenever the view can be seen and there is a connection, `hide` when either ends.
 */
export class Shell {
  constructor(root, session, views) {
    this.root = root;
    this.session = session;
    this.views = views;
    this.made = new Map();
    this.current = null;
    this.seen = false;
    this.trouble = null;
    session.onstate = () => this.stateChanged();
    session.onevents = (events, how) => this.shown()?.onevents?.(events, how);
    session.onforget = () => this.draw();
    session.onhost = (host) => this.hostChanged(host);
    addEventListener("hashchange", () => (session.brought(), this.route()));
    document.addEventListener("visibilitychange", () => {
      this.refresh();
      if (!document.hidden && this.session.online) this.session.readEvents();
    });
    document.addEventListener("keydown", (event) => this.key(event));
    applyTheme();
  }

  /** Draws everything anew, as after a change of language. */
  draw() {
    if (this.seen) this.shown()?.hide();
    this.seen = false;
    this.made.clear();
    this.current = null;
    document.documentElement.lang = language() === "zh" ? "zh-CN" : "en";
    this.tabs = this.views.map((view, index) =>
      h("button", {
        type: "button", role: "tab", id: `tab-${view.id}`, "aria-controls": `view-${view.id}`, "aria-keyshortcuts": index + 1,
        onclick: () => this.go(view.id),
      }, view.title()));
    this.status = h("div", { class: "status", role: "status", "aria-live": "polite" });
    this.main = h("main", { id: "main", tabindex: "-1" });
    const theme = h("button", { type: "button", class: "quiet icon", onclick: () => this.nextTheme(theme) }, "");
    this.drawTheme(theme);
    replace(this.root,
      h("header", { class: "top" },
        h("div", { class: "brand" }, mark(), h("h1", {}, t("title"))),
        h("nav", { role: "tablist", "aria-label": t("views"), onkeydown: (event) => this.tabKey(event) }, this.tabs),
        h("div", { class: "controls" }, this.status, theme,
          h("button", { type: "button", class: "quiet", lang: language() === "zh" ? "en" : "zh-CN", onclick: () => this.switchLanguage() }, t("language")),
          h("button", { type: "button", class: "quiet icon", "aria-label": t("help"), title: `${t("help")} (?)`, onclick: () => this.help() }, "?"))),
      this.main, noteArea());
    this.route();
    this.stateChanged();
  }

  // --- connection

  stateChanged() {
    const { state, why, session } = { state: this.session.state, why: this.session.why, session: this.session };
    document.body.dataset.state = state;
    const seconds = Math.max(1, Math.round((session.retryAt - Date.now()) / 1000));
    replace(this.status, h("span", { class: `dot ${state}`, "aria-hidden": "true" }),
      h("span", { class: "word", title: why }, state === "signin" ? "" : t(state, { seconds })),
      state === "waiting" && h("button", { type: "button", class: "quiet", onclick: () => session.start() }, t("reconnect")));
    if (state === "signin" || state === "refused") this.askIn(state, why);
    else if (this.gate) {
      this.gate.remove();
      this.gate = null;
      this.main.hidden = false;
    }
    if (state === "waiting" && session.tries === 2 && why) this.trouble = note(t("trouble", { why }), "bad");
    if (state === "online") this.trouble?.remove();
    if (state === "online" && session.host) this.hostChanged(session.host);
    this.refresh();
  }

  askIn(state, why) {
    this.gate?.remove();
    const field = h("input", { type: "password", id: "token", autocomplete: "off", spellcheck: "false", required: true, "aria-describedby": "token-how" });
    const form = h("form", {
      onsubmit: (event) => {
        event.preventDefault();
        if (field.value.trim()) this.session.signIn(field.value);
      },
    }, h("label", { for: "token" }, t("signin.token")), field,
    h("p", { id: "token-how", class: "faint" }, t("signin.how")),
    h("button", { type: "submit", class: "primary" }, t("signin.go")));
    this.gate = h("section", { class: "gate" }, h("h2", {}, t("signin")), why && h("p", { class: "bad", role: "alert" }, state === "signin" ? t("signin.wrong") : why),
      state === "signin" ? form : h("button", { type: "button", class: "primary", onclick: () => this.session.start() }, t("again")));
    this.main.hidden = true;
    this.main.after(this.gate);
    if (state === "signin") field.focus();
  }

  hostChanged(host) {
    if (host.theme === "light" || host.theme === "dark") document.documentElement.dataset.theme = host.theme;
    const wanted = /^zh\b/i.test(host.locale ?? "") ? "zh" : "en";
    if (!host.locale || chosen() || wanted === language()) return;
    speak(wanted, { keep: false });
    this.draw();
  }

  // --- views

  shown() {
    return this.current && this.made.get(this.current);
  }

  /** Goes to a view, and to a place in it. */
  go(id, ...place) {
    const hash = `#/${[id, ...place].map(encodeURIComponent).join("/")}`;
    if (location.hash === hash) this.route();
    else location.hash = hash;
  }

  route() {
    const [id, ...place] = location.hash.replace(/^#\/?/, "").split("/").map((part) => {
      try {
        return decodeURIComponent(part);
      } catch {
        return part;
      }
    });
    const view = this.views.find((one) => one.id === id) ?? this.views[0];
    if (this.current !== view.id) {
      if (this.seen) this.shown()?.hide();
      this.seen = false;
      this.current = view.id;
      if (!this.made.has(view.id)) {
        const made = view.create(this);
        made.panel = h("section", { role: "tabpanel", id: `view-${view.id}`, class: `view view-${view.id}`, "aria-labelledby": `tab-${view.id}` }, made.element);
        this.made.set(view.id, made);
      }
      replace(this.main, this.shown().panel);
      for (const [index, tab] of this.tabs.entries()) {
        const selected = this.views[index] === view;
        tab.setAttribute("aria-selected", String(selected));
        tab.tabIndex = selected ? 0 : -1;
        if (selected) tab.scrollIntoView({ block: "nearest", inline: "nearest" });
      }
    }
    this.place = view.id === id ? place : [];
    document.title = `${view.title()} · ToolScore`;
    if (this.seen) this.shown().show(this.place);
    else this.refresh();
  }

  /** Lets the view that can be seen fetch, and no other. */
  refresh() {
    const can = this.session.online && !document.hidden && this.current !== null;
    if (can === this.seen) return;
    this.seen = can;
    if (can) this.shown().show(this.place);
    else this.shown()?.hide();
  }

  // --- keys, light and dark, language

  key(event) {
    if (event.ctrlKey || event.metaKey || event.altKey || document.querySelector("dialog[open]")) return;
    const typing = event.target.closest?.("input, textarea, select, [contenteditable]");
    if (event.key === "Escape") {
      if (typing) typing.blur();
      else if (this.place?.length) this.go(this.current);
      return;
    }
    if (typing) return;
    const view = this.views[Number(event.key) - 1];
    if (event.key === "/") this.shown()?.find?.();
    else if (event.key === "?") this.help();
    else if (view) {
      this.go(view.id);
      document.getElementById(`tab-${view.id}`)?.focus();
    } else return;
    event.preventDefault();
  }

  tabKey(event) {
    const at = this.tabs.indexOf(document.activeElement);
    const to = { ArrowRight: at + 1, ArrowLeft: at - 1, Home: 0, End: this.tabs.length - 1 }[event.key];
    if (to === undefined || at < 0) return;
    event.preventDefault();
    const index = (to + this.tabs.length) % this.tabs.length;
    this.go(this.views[index].id);
    this.tabs[index].focus();
  }

  help() {
    const keys = [["/", "help.find"], ["1 … 9", "help.tabs"], ["← → ↑ ↓", "help.arrows"], ["Enter", "help.enter"], ["Esc", "help.escape"], ["?", "help.help"]];
    dialog(t("help"), (close) => [
      h("dl", { class: "keys" }, keys.map(([key, what]) => [h("dt", {}, h("kbd", {}, key)), h("dd", {}, t(what))])),
      h("p", { class: "faint" }, `ToolScore ${this.session.server.version ?? config.version}`),
      h("div", { class: "actions" },
        this.session.token && h("button", { type: "button", onclick: () => (close(), this.session.signOut()) }, t("signout")),
        h("button", { type: "button", class: "primary", autofocus: true, onclick: () => close(null) }, t("close"))),
    ]);
  }

  drawTheme(button) {
    const theme = applyTheme();
    const label = `${t("theme")}: ${t(`theme.${theme}`)}`;
    button.setAttribute("aria-label", label);
    button.title = label;
    button.textContent = { system: "◐", light: "☀", dark: "☾" }[theme];
  }

  nextTheme(button) {
    const next = THEMES[(THEMES.indexOf(applyTheme()) + 1) % THEMES.length];
    kept.set("theme", next === "system" ? null : next);
    this.drawTheme(button);
  }

  switchLanguage() {
    speak(language() === "zh" ? "en" : "zh");
    this.draw();
  }
}
