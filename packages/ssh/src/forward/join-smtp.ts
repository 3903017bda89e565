/** A stranger's SMTP session reaches a local server with its recipients filtered. */
import type { Duplex } from 'node:stream';
import { createRcptFilter, type RcptFilter, type RcptFilterStep } from '@postern/core';

/** What {@link joinSmtp} joins. */
export interface SmtpJoin {
  /** Who speaks as SMTP client. */
  readonly client: Duplex;
  readonly server: Duplex;
  /** Recipients in other domains are refused. */
  readonly domains: readonly string[];
  /** Told of each; the address is as the client wrote it. */
  readonly onRefused: (address: string) => void;
  readonly signal: AbortSignal;
}

/**
 * Joins an SMTP client and a server through core's recipient filter, with backpressure both ways. Resolves with the error that ended it, if one
 * did; never rejects.
 */
export function joinSmtp(o: SmtpJoin): Promise<Error | undefined> {
  return new SmtpPipe(o).run();
}

class SmtpPipe {
  readonly #o: SmtpJoin;
  readonly #filter: RcptFilter;
  /** The client's end has begun: what it still says does not matter. */
  #over = false;
  #serverDropped = false;
  #fault: Error | undefined;
  /** Wakes the client's side, which waits while the filter holds. */
  #answered: () => void = () => {};

  constructor(o: SmtpJoin) {
    this.#o = o;
    this.#filter = createRcptFilter({ domains: o.domains });
  }

  async run(): Promise<Error | undefined> {
    const { client, server, signal } = this.#o;
    client.on('error', () => {});
    server.on('error', () => {});
    signal.addEventListener('abort', this.#cutBoth, { once: true });
    if (signal.aborted) this.#cutBoth();
    await Promise.all([this.#fromClient().catch(this.#fail), this.#fromServer().catch(this.#fail)]);
    signal.removeEventListener('abort', this.#cutBoth);
    if (!client.closed) await new Promise<void>((resolve) => client.once('close', resolve));
    server.destroy();
    return this.#fault;
  }

  async #fromClient(): Promise<void> {
    const { client, server } = this.#o;
    for await (const chunk of client as AsyncIterable<Buffer>) {
      if (this.#over) continue;
      await this.#apply(this.#filter.fromClient(chunk));
      while (this.#filter.holding && !this.#over) {
        await new Promise<void>((resolve) => {
          this.#answered = resolve;
        });
      }
    }
    if (!this.#serverDropped) server.end();
  }

  async #fromServer(): Promise<void> {
    try {
      for await (const chunk of this.#o.server as AsyncIterable<Buffer>) {
        await this.#apply(this.#filter.fromServer(chunk));
        this.#answered();
      }
    } catch (error) {
      if (!this.#serverDropped) throw error;
    }
    // A server that was dropped is waited for by nobody: the client goes on to the end of its text.
    if (!this.#serverDropped) this.#endClient();
    this.#answered();
  }

  async #apply(step: RcptFilterStep): Promise<void> {
    for (const address of step.refused) this.#o.onRefused(address);
    if (step.dropServer && !this.#serverDropped) {
      this.#serverDropped = true;
      this.#o.server.destroy();
    }
    // A server that hung up may have said why: its own side of the join finds out.
    if (step.toServer.length > 0 && !this.#serverDropped) await write(this.#o.server, step.toServer).catch(() => {});
    if (step.toClient.length > 0) await write(this.#o.client, step.toClient);
    if (step.end) this.#endClient();
  }

  /** What was written goes out first; nothing more is read. */
  #endClient(): void {
    if (this.#over) return;
    this.#over = true;
    const { client } = this.#o;
    client.end(() => client.destroy());
  }

  readonly #cutBoth = (): void => {
    this.#o.client.destroy();
    this.#o.server.destroy();
  };

  readonly #fail = (error: unknown): void => {
    if (this.#over) return;
    this.#fault ??= error instanceof Error ? error : new Error(String(error));
    this.#cutBoth();
    this.#answered();
  };
}

/** Resolves when the stream has taken it; rejects when it was closed. */
function write(stream: Duplex, bytes: Buffer): Promise<void> {
  return new Promise((resolve, reject) => {
    stream.write(bytes, (error) => (error ? reject(error) : resolve()));
  });
}
