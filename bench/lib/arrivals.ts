import { open } from 'node:fs/promises';
import { dirname, join } from 'node:path';
import { setTimeout as wait } from 'node:timers/promises';
import type { SmtpServer } from '@postern/gate';

/** Without a new arrival for so long, none will come, ms. */
const QUIET_MS = 3_000;
const LOOK_MS = 10;
/** What each server logs once it has taken a message for good. */
const TAKEN = {
  exim: /<= (\S+) /,
  postfix: / from=<([^>]*)>, size=\d+, nrcpt=\d+ \(queue active\)/,
} as const;

/** Counts the messages a server has taken, by sender, from its own log. */
export class Arrivals {
  readonly #file: string;
  readonly #taken: RegExp;
  readonly #counts = new Map<string, number>();
  #at = 0;
  #torn = '';
  #looking: Promise<void> | undefined;

  constructor(server: SmtpServer) {
    this.#file = join(dirname(server.spool), server.kind === 'exim' ? 'mainlog' : 'log');
    this.#taken = TAKEN[server.kind];
  }

  /** Messages of `sender` taken by now. */
  async count(sender: string): Promise<number> {
    this.#looking ??= this.#look().finally(() => {
      this.#looking = undefined;
    });
    await this.#looking;
    return this.#counts.get(sender) ?? 0;
  }

  /** Waits until `wanted` messages of `sender` are there, or no more come; gives how many, and when the last was seen. */
  async reach(sender: string, wanted: number, o: { quietMs?: number } = {}): Promise<{ count: number; at: number }> {
    let last = { count: await this.count(sender), at: performance.now() };
    while (last.count < wanted && performance.now() - last.at < (o.quietMs ?? QUIET_MS)) {
      await wait(LOOK_MS);
      const count = await this.count(sender);
      if (count > last.count) last = { count, at: performance.now() };
    }
    return last;
  }

  async #look(): Promise<void> {
    const file = await open(this.#file).catch(() => undefined);
    if (file === undefined) return;
    try {
      const { size } = await file.stat();
      const { buffer } = await file.read(Buffer.alloc(size - this.#at), 0, size - this.#at, this.#at);
      this.#at = size;
      const lines = (this.#torn + buffer.toString('latin1')).split('\n');
      this.#torn = lines.pop() ?? '';
      for (const line of lines) {
        const sender = this.#taken.exec(line)?.[1];
        if (sender !== undefined) this.#counts.set(sender, (this.#counts.get(sender) ?? 0) + 1);
      }
    } finally {
      await file.close();
    }
  }
}
