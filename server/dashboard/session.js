// The connection of this page to ToolScore: opened, kept, opened again, and what views do over it.

import { kept } from "./dom.js";
import { config, knock } from "./place.js";
import { Fault, LostError, Rpc } from "./rpc.js";
import { openApp } from "./transport_app.js";
import { openHttp } from "./transport_http.js";
import { openWebSocket } from "./transport_ws.js";

const EVENTS = "toolscore://events";
const PAUSES = [0.5, 1, 2, 4, 8, 15, 30];
const POLL = 2000;
const REMEMBERED = 2000;
const PATIENCE = 20_000;
// Own tools in the course of which nobody is asked anything.
const LOOKS = /^(list_\w+|server_(state|logs)|read_journal|describe_tool|tool_score|search_tools)$/;
const BEAT = 20_000;
const OPEN = { ws: openWebSocket, http: openHttp, app: openApp };

/** A tool was refused, or said that it failed. `outcome` is ToolScore's word for a refusal, where it is one. */
export class ToolError extends Error {
  constructor(result) {
    const texts = (result.content ?? []).filter((part) => part.type === "text").map((part) => part.text);
    super(texts.join("\n") || "The tool failed, and did not say why.");
    this.name = "ToolError";
    this.result = result;
    this.outcome = result._meta?.["toolscore/outcome"];
  }
}

function decoded(text) {
  try {
    return decodeURIComponent(text);
  } catch {
    return text; // it is not written as addresses are; then it is meant as it stands
  }
}

/** Takes a token out of the address: `#token=TOKEN`, or `#once=NAME`, which names a cookie that is good once. */
function tokenBrought() {
  const [, kind, text] = /^#(?:.*&)?(token|once)=([^&]*)/.exec(location.hash) ?? [];
  if (!kind) return "";
  history.replaceState(null, "", location.pathname + location.search);
  if (kind === "token") return decoded(text);
  const name = `toolscore-${text}`;
  const [, value = ""] = document.cookie.split("; ").find((one) => one.startsWith(`${name}=`))?.split("=") ?? [];
  document.cookie = `${name}=; Path=/; Max-Age=0; SameSite=Strict`;
  return decoded(value);
}

/** The token of this tab, if it has one: brought by its address, or from before. */
export function tokenGiven() {
  const brought = tokenBrought();
  if (brought) kept.set("token", brought, "sessionStorage");
  return brought || (kept.get("token", "sessionStorage") ?? "");
}

export class Session {
  constructor() {
    this.token = config.transport === "app" ? "" : tokenGiven();
    this.state = "connecting";
    this.why = "";
    this.retryAt = 0;
    this.server = {};
    this.host = null;
    this.events = [];
    this.onstate = () => {};
    this.onevents = () => {};
    this.onforget = () => {};
    this.onask = () => Promise.reject(new Fault({ code: -32601, message: "not offered" }));
    this.rpc = null;
    this.cursor = "";
    this.reading = null;
    this.tries = 0;
    this.timer = 0;
    this.polling = 0;
    this.followed = new Map();
    this.running = new Set();
    this.attempt = 0;
    this.beating = 0;
    // A line that a suspended computer had, or one of another network, can be dead without anybody having said so.
    addEventListener("online", () => (this.state === "waiting" ? this.start() : this.beat()));
    document.addEventListener("visibilitychange", () => document.hidden || this.beat());
  }

  get online() {
    return this.state === "online";
  }

  /** Connects, unless a token is needed and there is none. */
  start() {
    clearTimeout(this.timer);
    this.drop();
    if (config.token && !this.token && config.transport !== "app") return this.become("signin");
    this.connect();
  }

  /** Takes a token and connects with it. */
  signIn(token) {
    const other = token.trim() !== this.token;
    if (other) this.forget();
    this.token = token.trim();
    kept.set("token", this.token, "sessionStorage");
    this.tries = 0;
    this.start();
  }

  /** Connects with the token that an address has brought to the open page, if it has. */
  brought() {
    const token = config.transport === "app" ? "" : tokenBrought();
    if (token) this.signIn(token);
  }

  /** Forgets all that was told to the one who was here: the next may not be allowed to see it. */
  forget() {
    this.drop();
    this.events = [];
    this.cursor = "";
    this.state = "connecting";
    this.onforget();
    this.followed.clear();
  }

  signOut() {
    clearTimeout(this.timer);
    this.forget();
    this.token = "";
    kept.set("token", null, "sessionStorage");
    this.become("signin");
  }

  become(state, why = "") {
    this.state = state;
    this.why = why;
    this.onstate(state, why);
  }

  drop() {
    clearInterval(this.polling);
    clearInterval(this.beating);
    this.attempt += 1;
    const rpc = this.rpc;
    this.rpc = null;
    rpc?.close();
  }

  async connect() {
    this.become("connecting");
    let rpc = null;
    const mine = ++this.attempt;
    const late = setTimeout(() => mine === this.attempt && !this.online && this.lost("it does not answer"), PATIENCE);
    try {
      const transport = await OPEN[config.transport](this.token);
      if (mine !== this.attempt) return transport.close();
      rpc = this.rpc = new Rpc(transport, {
        onrequest: (method, params, signal) => this.asked(method, params, signal),
        onnotification: (method, params) => this.told(method, params),
        onclose: (why) => this.rpc === rpc && this.lost(why?.reason),
      });
      if (transport.introduce) {
        ({ server: this.server, host: this.host } = await transport.introduce(rpc));
        transport.onhost = (host) => this.onhost?.(host);
        transport.onleave = () => this.drop();
      } else {
        const said = await rpc.request("initialize", {
          protocolVersion: "2025-11-25",
          capabilities: { elicitation: { form: {} } },
          clientInfo: { name: "toolscore-dashboard", title: "ToolScore dashboard", version: config.version || "0" },
        });
        this.server = said.serverInfo ?? {};
        rpc.notify("notifications/initialized");
      }
      if (mine !== this.attempt) return;
      this.tries = 0;
      this.beating = setInterval(() => document.hidden || this.beat(), BEAT);
      this.become("online");
      await this.follow();
    } catch (error) {
      if (mine === this.attempt) await this.lost(error.message, { shut: rpc === null });
    } finally {
      clearTimeout(late);
    }
  }

  /** Sees whether the line lives. */
  async beat() {
    const rpc = this.rpc;
    if (!rpc || !this.online || config.transport === "app" || this.asking === rpc) return;
    this.asking = rpc;
    const late = setTimeout(() => this.rpc === rpc && this.lost("it does not answer any more"), PATIENCE / 2);
    await rpc.request("ping").catch(() => {});
    clearTimeout(late);
    this.asking = null;
  }

  async lost(reason = "", { shut = false } = {}) {
    this.drop();
    if (config.transport === "app") return this.become("refused", reason);
    this.become("connecting", reason);
    const mine = this.attempt;
    const { status, text } = await knock(this.token, shut);
    if (mine !== this.attempt) return; // somebody has begun anew meanwhile
    if (status === 401) {
      kept.set("token", null, "sessionStorage");
      return this.become("signin", this.token ? text : "");
    }
    if (status >= 400 && status < 500) return this.become("refused", text);
    const seconds = PAUSES[Math.min(this.tries, PAUSES.length - 1)];
    this.tries += 1;
    this.retryAt = Date.now() + seconds * 1000;
    this.timer = setTimeout(() => this.connect(), seconds * 1000);
    this.become("waiting", text || reason);
  }

  // --- what ToolScore says

  async asked(method, params, signal) {
    if (method === "ping") return {};
    if (method === "elicitation/create") return this.onask(params, signal, [...this.running].map(({ name }) => name).filter((name) => !LOOKS.test(name)));
    throw new Fault({ code: -32601, message: `this page does not answer ${method}` });
  }

  told(method, { uri = "" }) {
    if (method !== "notifications/resources/updated") return;
    if (uri.startsWith(EVENTS)) this.readEvents();
    else for (const act of this.followed.get(uri) ?? []) act();
  }

  async follow() {
    if (config.transport === "app") {
      this.polling = setInterval(() => document.hidden || this.tick(), this.host?.resources ? POLL : 3 * POLL);
    } else {
      const wanted = [EVENTS, ...this.followed.keys()];
      const rpc = this.rpc;
      await Promise.all(wanted.map((uri) => rpc.request("resources/subscribe", { uri }).catch(() => {})));
    }
    this.readEvents();
  }

  tick() {
    if (this.host?.resources) this.readEvents();
    else this.onevents([], { first: false, missed: false }); // nothing tells: whoever is seen looks
    for (const acts of this.followed.values()) for (const act of acts) act();
  }

  /** Reads what happened since the last reading; one reading at a time, and none while nobody sees the page. */
  readEvents() {
    this.unread = true;
    if (document.hidden || (this.host && !this.host.resources)) return;
    this.reading ??= this.readAll().finally(() => (this.reading = null));
  }

  async readAll() {
    let first = !this.cursor;
    try {
      while (this.unread && this.rpc) {
        this.unread = false;
        const page = JSON.parse(await this.read(this.cursor ? `${EVENTS}?after=${this.cursor}` : EVENTS));
        this.cursor = page.cursor;
        this.events.push(...page.events);
        this.events.splice(0, this.events.length - REMEMBERED);
        if (page.events.length || page.missed) this.onevents(page.events, { first, missed: page.missed });
        first = false;
        if (page.more) this.unread = true;
      }
    } catch (error) {
      if (!(error instanceof LostError)) console.warn("toolscore: events could not be read:", error.message);
    }
  }

  // --- what views do

  /** Sends any request. */
  request(method, params, options) {
    if (!this.rpc) return Promise.reject(new LostError("there is no connection"));
    return this.rpc.request(method, params, options);
  }

  /** Calls a tool, ToolScore's own by its plain name, and gives its result. Throws a ToolError where it failed. */
  async call(name, args = {}, options) {
    const result = await this.callRaw(name, args, options);
    if (result.isError) throw new ToolError(result);
    return result;
  }

  /** Does what `call` does, but gives a result that is an error like any other. */
  callRaw(name, args = {}, options) {
    const direct = config.transport !== "app" || name === "execute_tool";
    const params = direct ? { name, arguments: args } : { name: "execute_tool", arguments: { tool: name, arguments: args } };
    const running = { name };
    this.running.add(running);
    return this.request("tools/call", params, options).finally(() => this.running.delete(running));
  }

  /** Calls an own tool and gives its structured result. */
  async data(name, args = {}, options) {
    return (await this.call(name, args, options)).structuredContent;
  }

  /** Reads a resource and gives its text. */
  async read(uri) {
    if (this.host && !this.host.resources) throw new Fault({ code: -32601, message: "this host does not pass readings of resources on" });
    const { contents = [] } = await this.request("resources/read", { uri });
    return contents.map((part) => part.text ?? "").join("");
  }

  /**
   * Calls `act` whenever a resource changes, over reconnects too, and with an error if it cannot be subscribed to.
   * What is returned ends that.
   */
  watch(uri, act) {
    const acts = this.followed.get(uri) ?? new Set();
    this.followed.set(uri, acts);
    const subscribes = config.transport !== "app";
    if (!acts.size && this.online && subscribes) this.request("resources/subscribe", { uri }).catch((error) => act(error));
    acts.add(act);
    return () => {
      acts.delete(act);
      if (acts.size || this.followed.get(uri) !== acts) return;
      this.followed.delete(uri);
      if (this.online && subscribes) this.request("resources/unsubscribe", { uri }).catch(() => {});
    };
  }
}
