// JSON-RPC 2.0 over a transport: requests with progress and cancellation, in both directions.

/** An error that the other side answered with. */
export class Fault extends Error {
  constructor(error) {
    super(error?.message || "error without a text");
    this.name = "Fault";
    this.code = error?.code;
    this.data = error?.data;
  }
}

/** The line was lost, or given up, before the answer came. */
export class LostError extends Error {
  constructor(text = "the connection was lost before the answer came") {
    super(text);
    this.name = "LostError";
  }
}

/**
 * A connection. Its transport has `send(message)` and `close()`, and calls `onmessage(message)` and `onclose(why)`.
 *
 * `onrequest(method, params, signal)` answers what the other side asks; `onnotification(method, params)` is told.
 */
export class Rpc {
  constructor(transport, { onrequest, onnotification, onclose }) {
    this.transport = transport;
    this.waiting = new Map();
    this.answering = new Map();
    this.next = 0;
    this.onrequest = onrequest;
    this.onnotification = onnotification;
    transport.onmessage = (message) => this.take(message);
    transport.onclose = (why) => {
      this.end();
      onclose(why);
    };
  }

  /** Sends a request and gives its result. An aborted signal cancels it on the other side too. */
  request(method, params = {}, { signal, onprogress } = {}) {
    return new Promise((resolve, reject) => {
      if (signal?.aborted) return reject(signal.reason);
      const id = ++this.next;
      const cancel = () => {
        if (!this.waiting.delete(id)) return;
        this.notify("notifications/cancelled", { requestId: id, reason: "cancelled by the user" });
        reject(signal.reason);
      };
      const over = () => signal?.removeEventListener("abort", cancel);
      this.waiting.set(id, { resolve, reject, onprogress, over });
      signal?.addEventListener("abort", cancel);
      if (onprogress) params = { ...params, _meta: { ...params._meta, progressToken: id } };
      this.send({ jsonrpc: "2.0", id, method, params });
    });
  }

  notify(method, params) {
    this.send(params === undefined ? { jsonrpc: "2.0", method } : { jsonrpc: "2.0", method, params });
  }

  send(message) {
    this.transport.send(message, (why) => {
      // It did not leave: nobody will answer it.
      const entry = this.waiting.get(message.id);
      if (entry && message.method) {
        this.waiting.delete(message.id);
        entry.over();
        entry.reject(new LostError(why));
      }
    });
  }

  take(message) {
    if (typeof message !== "object" || message === null) return;
    if (message.method === undefined) return this.answered(message);
    if (message.id !== undefined) return void this.asked(message);
    const params = message.params ?? {};
    if (message.method === "notifications/progress") this.waiting.get(params.progressToken)?.onprogress?.(params);
    else if (message.method === "notifications/cancelled") this.answering.get(params.requestId)?.abort();
    else this.onnotification(message.method, params);
  }

  answered(message) {
    const entry = this.waiting.get(message.id);
    if (!entry) return;
    this.waiting.delete(message.id);
    entry.over();
    if (message.error) entry.reject(new Fault(message.error));
    else entry.resolve(message.result ?? {});
  }

  async asked({ id, method, params }) {
    const control = new AbortController();
    this.answering.set(id, control);
    try {
      const result = await this.onrequest(method, params ?? {}, control.signal);
      if (!control.signal.aborted) this.send({ jsonrpc: "2.0", id, result });
    } catch (error) {
      if (control.signal.aborted) return;
      const code = error instanceof Fault ? error.code : -32603;
      this.send({ jsonrpc: "2.0", id, error: { code, message: error.message } });
    } finally {
      this.answering.delete(id);
    }
  }

  end() {
    for (const entry of this.waiting.values()) {
      entry.over();
      entry.reject(new LostError());
    }
    this.waiting.clear();
    for (const control of this.answering.values()) control.abort();
    this.answering.clear();
  }

  close() {
    this.transport.close();
    this.end();
  }
}
