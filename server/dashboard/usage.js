// What servers used of the machine over time, as ToolScore measured it: the resource toolscore://usage.

const USAGE = "toolscore://usage";
const KEPT = 400;
const RECENT = 20;

/** The samples of servers: `{ at, memory, cpu }`, `at` in seconds since 1970, memory in bytes, cpu in processors. */
export class Usage {
  constructor(session) {
    this.session = session;
    this.samples = new Map();
    this.last = 0;
    this.readable = true;
  }

  /** Gives the samples of a server, oldest first. */
  of(name) {
    return this.samples.get(name) ?? [];
  }

  /** Gives the last sample of a server, unless that is of long ago, or nothing of it ran. */
  now(name) {
    const sample = this.of(name).at(-1);
    return sample && sample.memory !== null && sample.at > this.last - RECENT ? sample : null;
  }

  /** Reads all there is of one server. */
  async load(name) {
    const said = await this.read(`?server=${encodeURIComponent(name)}`);
    if (!said) return;
    this.samples.delete(name);
    this.take(said);
  }

  /** Reads what came since the last reading, of all servers. */
  async refresh() {
    const said = await this.read(`?after=${this.last || Date.now() / 1000 - RECENT}`);
    if (said) this.take(said);
    if (said?.at.length) this.last = said.at.at(-1);
  }

  async read(query) {
    if (!this.readable) return null;
    try {
      return JSON.parse(await this.session.read(USAGE + query));
    } catch {
      this.readable = !this.session.online; // it may not be read here: then what server_state says is shown
      return null;
    }
  }

  take({ at, servers }) {
    for (const [name, { memory, cpu }] of Object.entries(servers)) {
      const samples = this.of(name);
      const known = samples.at(-1)?.at ?? 0;
      at.forEach((when, index) => when > known && samples.push({ at: when, memory: memory[index], cpu: cpu[index] }));
      this.samples.set(name, samples.slice(-KEPT));
    }
  }

  /** Notes what `server_state` told just now, where nothing else tells it. */
  note(name, { memory = null, cpu = null }) {
    const at = Date.now() / 1000;
    if (!this.readable) this.take({ at: [at], servers: { [name]: { memory: [memory], cpu: [cpu] } } });
  }
}
