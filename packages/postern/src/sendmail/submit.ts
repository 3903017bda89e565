import type { EntryId, SpoolWriter } from '@postern/core';
import { PosternError } from '../errors.ts';
import type { SubmitRequest } from './args.ts';
import { compose, type Stamp } from './compose.ts';
import { type Head, headReader } from './header.ts';
import { textReader } from './text.ts';

/** Octets of a message held in memory, to see whether it needs 8BITMIME; of a longer one that is assumed. */
export const SEEN_OCTETS: number = 4 * 1024 * 1024;

/** What {@link submit} needs. */
export interface SubmitOptions {
  readonly request: SubmitRequest;
  readonly input: AsyncIterable<Uint8Array>;
  readonly spool: SpoolWriter;
  /** Taken once the header is there, since `-t` needs it. */
  readonly stamp: Stamp;
  /** Why a recipient cannot be taken, or undefined: asked before anything is spooled. */
  readonly refusal?: (to: string) => Promise<string | undefined>;
  readonly signal?: AbortSignal;
}

/**
 * Takes a message from `input` into the spool; resolves when it is durable. All recipients are taken or none. Throws
 * {@link PosternError} `data` for a message or an address that cannot be sent, `no-host` for a recipient that no route takes; what the
 * spool throws passes through.
 */
export async function submit(o: SubmitOptions): Promise<EntryId> {
  const source = new Source(o.input, !o.request.dotIsText);
  const head = await source.head();
  const { envelope, header } = compose(o.request, head.fields, o.stamp);
  for (const { to } of envelope.recipients) {
    const why = await o.refusal?.(to);
    if (why !== undefined) throw new PosternError('no-host', `sendmail: ${to}: ${why}; nothing was sent`);
  }
  const front = await source.front(head.body);
  const body = front.whole && !hasEightBit([header, ...front.chunks]) ? '7BIT' : '8BITMIME';
  async function* message(): AsyncGenerator<Uint8Array> {
    yield header;
    yield* front.chunks;
    if (!front.whole) yield* source.rest();
  }
  try {
    return await o.spool.accept({ ...envelope, body }, message(), o.signal === undefined ? {} : { signal: o.signal });
  } catch (error) {
    // The spool reports that its source broke off; the source knows why.
    throw source.fault ?? error;
  }
}

/** The message as CRLF text, pulled from the input piece by piece. */
class Source {
  /** What was wrong with the text, once that is known. */
  fault: PosternError | undefined;
  readonly #input: AsyncIterator<Uint8Array>;
  readonly #text: ReturnType<typeof textReader>;
  #finished = false;

  constructor(input: AsyncIterable<Uint8Array>, dotEnds: boolean) {
    this.#input = input[Symbol.asyncIterator]();
    this.#text = textReader({ dotEnds });
  }

  async #next(): Promise<Buffer | undefined> {
    if (this.#finished) return undefined;
    try {
      const read = this.#text.ended ? { done: true as const } : await this.#input.next();
      if (!read.done) return this.#text.push(read.value);
      this.#finished = true;
      return this.#text.finish();
    } catch (error) {
      this.fault =
        error instanceof PosternError
          ? error
          : new PosternError('io', `sendmail: the message cannot be read: ${(error as Error).message}`, {
              cause: error,
            });
      throw this.fault;
    }
  }

  async head(): Promise<Head> {
    const reader = headReader();
    for (let chunk = await this.#next(); chunk !== undefined; chunk = await this.#next()) {
      const head = reader.push(chunk);
      if (head !== undefined) return head;
    }
    return reader.finish();
  }

  /** As much as is held in memory. */
  async front(first: Buffer): Promise<{ chunks: Buffer[]; whole: boolean }> {
    const chunks = [first];
    let size = first.length;
    while (size <= SEEN_OCTETS) {
      const chunk = await this.#next();
      if (chunk === undefined) return { chunks, whole: true };
      chunks.push(chunk);
      size += chunk.length;
    }
    return { chunks, whole: false };
  }

  async *rest(): AsyncGenerator<Buffer> {
    for (let chunk = await this.#next(); chunk !== undefined; chunk = await this.#next()) yield chunk;
  }
}

function hasEightBit(chunks: readonly Buffer[]): boolean {
  return chunks.some((chunk) => chunk.some((octet) => octet > 127));
}
