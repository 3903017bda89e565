/** Lines kept of one server; older ones are dropped. */
const MAX_LINES = 5000;
/** Bytes kept of a line that does not end. */
const MAX_LINE = 64 * 1024;

/** The output of one server, split into lines, with waiting for a line. */
export class LineLog {
  readonly #lines: string[] = [];
  readonly #onLine: (line: string) => void;
  readonly #waiters = new Set<{ pattern: RegExp; resolve: (match: RegExpExecArray | undefined) => void }>();
  #dropped = 0;
  #rest = '';
  #ended = false;

  constructor(onLine: (line: string) => void) {
    this.#onLine = onLine;
  }

  /** Takes output as it came. */
  write(chunk: Buffer): void {
    const parts = (this.#rest + chunk.toString('utf8')).split('\n');
    this.#rest = (parts.pop() ?? '').slice(-MAX_LINE);
    for (const part of parts) this.#add(part.replace(/\r$/, ''));
  }

  /** No more output comes: what waits gets `undefined`. */
  end(): void {
    if (this.#rest !== '') this.#add(this.#rest);
    this.#rest = '';
    this.#ended = true;
    for (const waiter of this.#waiters) waiter.resolve(undefined);
    this.#waiters.clear();
  }

  /** The number of lines so far; give it to {@link waitFor} as `after` to look at later lines only. */
  get length(): number {
    return this.#dropped + this.#lines.length;
  }

  /** The lines kept, oldest first. */
  lines(): readonly string[] {
    return this.#lines;
  }

  /** The last lines as text, for messages. */
  tail(count = 20): string {
    return this.#lines.slice(-count).join('\n');
  }

  /** The first line that matches, past or to come; `undefined` when the server ended first. */
  waitFor(pattern: RegExp, after = 0): Promise<RegExpExecArray | undefined> {
    for (const line of this.#lines.slice(Math.max(0, after - this.#dropped))) {
      const match = pattern.exec(line);
      if (match !== null) return Promise.resolve(match);
    }
    if (this.#ended) return Promise.resolve(undefined);
    return new Promise((resolve) => this.#waiters.add({ pattern, resolve }));
  }

  #add(line: string): void {
    this.#lines.push(line);
    if (this.#lines.length > MAX_LINES) {
      this.#lines.shift();
      this.#dropped += 1;
    }
    this.#onLine(line);
    for (const waiter of this.#waiters) {
      const match = waiter.pattern.exec(line);
      if (match === null) continue;
      this.#waiters.delete(waiter);
      waiter.resolve(match);
    }
  }
}
