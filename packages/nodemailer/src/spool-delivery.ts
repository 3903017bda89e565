/** Messages go into a spool, for a running or later Postern to deliver; what is told is what the disk has. */
import { defined, type Env, type ForwardPath } from '@postern/core';
import { spoolWriter } from '@postern/spool';
import type { Body } from './body.ts';
import type { Delivery, MessageOptions, Result } from './delivery.ts';
import { type MailEnvelope, toEnvelope } from './envelope.ts';

/** Delivers into a spool. */
export class SpoolDelivery implements Delivery {
  readonly idle = true;
  readonly #dir: string;
  readonly #env: Env;
  #writer: ReturnType<typeof spoolWriter> | undefined;

  constructor(dir: string, env: Env) {
    this.#dir = dir;
    this.#env = env;
  }

  async send(mail: MailEnvelope, content: Body, { dsn, signal }: MessageOptions): Promise<Result> {
    await using body = content;
    const envelope = toEnvelope(mail, { facts: body.facts, dsn });
    const writer = await this.#open();
    const id = await writer.accept(envelope, body.open(), defined({ signal }));
    const accepted: ForwardPath[] = envelope.recipients.map(({ to }) => to);
    return { accepted, rejected: [], rejectedErrors: [], response: `queued as ${id}` };
  }

  async verify(): Promise<void> {
    await this.#open();
  }

  async close(): Promise<void> {
    const writer = this.#writer;
    this.#writer = undefined;
    await (await writer?.catch(() => undefined))?.close();
  }

  #open(): ReturnType<typeof spoolWriter> {
    if (this.#writer === undefined) {
      const writer = spoolWriter({ dir: this.#dir, env: this.#env });
      this.#writer = writer;
      // What was in the way may be gone at the next message.
      writer.catch(() => {
        if (this.#writer === writer) this.#writer = undefined;
      });
    }
    return this.#writer;
  }
}
