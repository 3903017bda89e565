import type { Far } from './rivals.ts';

/** What may stand at the end of what is kept: longer than any line waited for. */
const TAIL = 512;

/** An IMAP client that does next to nothing, so that what it costs does not hide what is measured. */
export class ImapClient {
  readonly far: Far;
  #octets = 0;
  #tail = '';
  #tags = 0;
  #waiting: { pattern: RegExp; resolve: (text: string) => void; reject: (error: Error) => void } | undefined;

  constructor(far: Far) {
    this.far = far;
    far.output.on('data', (chunk: Buffer) => {
      this.#octets += chunk.length;
      this.#tail = (this.#tail + chunk.subarray(-TAIL).toString('latin1')).slice(-TAIL);
      this.#look();
    });
    far.output.once('close', () => this.#waiting?.reject(new Error(`closed after ${JSON.stringify(this.#tail)}`)));
  }

  /** Reads the greeting and logs in where it is not PREAUTH. */
  async logIn(user: string, password: string): Promise<void> {
    const greeting = await this.heard(/^\* .*\r\n/m);
    if (!greeting.startsWith('* PREAUTH')) await this.command(`LOGIN ${user} ${password}`);
  }

  /** Sends a command and gives the octets of its answer. Rejects unless it is OK. */
  async command(text: string): Promise<number> {
    const tag = `b${++this.#tags}`;
    const before = this.#octets;
    this.far.input.write(`${tag} ${text}\r\n`);
    const line = await this.heard(new RegExp(`(?:^|\\n)${tag} (OK|NO|BAD)[^\\r\\n]*\\r\\n$`));
    if (!line.includes(`${tag} OK`)) throw new Error(`${text}: ${line.trim()}`);
    return this.#octets - before;
  }

  async idle(): Promise<void> {
    this.far.input.write(`b${++this.#tags} IDLE\r\n`);
    await this.heard(/\+ .*\r\n/);
  }

  /** The first text that matches, come since the last one or to come. */
  heard(pattern: RegExp): Promise<string> {
    return new Promise((resolve, reject) => {
      this.#waiting = { pattern, resolve, reject };
      this.#look();
    });
  }

  close(): Promise<unknown> {
    this.far.kill();
    return this.far.done;
  }

  #look(): void {
    const found = this.#waiting?.pattern.exec(this.#tail);
    if (!found) return;
    this.#tail = '';
    this.#waiting?.resolve(found[0]);
    this.#waiting = undefined;
  }
}
