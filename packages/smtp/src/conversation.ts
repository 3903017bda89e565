/**
 * One SMTP conversation in lockstep: a reply answers the one command that waits for it. A reply of a class that does not fit, or one that nobody waits
 * for, is out of step: the session is over and nothing more is matched. Only 421 may come unasked; then no more is written, and it is
 * the answer to all that would have been (RFC 5321 §3.8).
 */
import {
  type AwaitedCommand,
  type Channel,
  createReplyParser,
  type Deferred,
  deadline,
  deferred,
  type Env,
  type Link,
  LinkError,
  lastLines,
  lastWords,
  mayAnswer,
  printable,
  type Reply,
  raceAbort,
  replyClass,
  replyText,
  type Target,
} from '@postern/core';
import { DeliveryError } from './error.ts';
import { notSmtp } from './session-errors.ts';
import { BLOCKED_TIMEOUT_MS, REPLY_TIMEOUT_MS, STRANGER_MS } from './session-options.ts';

/** What a reply answers here. */
export type Asked = AwaitedCommand | 'etrn';

/** A session that is spoken by hand. All reject with {@link DeliveryError}, or `LinkError` when the link is lost. */
export interface Conversation {
  /** Waits for the greeting. */
  greeting(signal?: AbortSignal): Promise<Reply>;
  /** Writes a command line, without its end, and waits for its reply as long as RFC 5321 §4.5.3.2 says. After 421 it is not written. */
  ask(command: string | Uint8Array, awaited: Asked, signal?: AbortSignal): Promise<Reply>;
  /** Writes a piece of a message. Nothing after 421. */
  write(bytes: Uint8Array): Promise<void>;
  /** QUIT, where the session is in step; then the end, whatever the far command does. Never rejects. Idempotent. */
  farewell(): Promise<void>;
  /** Ends at once. */
  abort(reason: Error): void;
}

/** Opens a channel to what speaks SMTP and listens. `signal` ends the conversation at any time. */
export async function converse(
  link: Link,
  target: Target,
  o: { env: Env; signal: AbortSignal; opening?: AbortSignal },
): Promise<Conversation> {
  const channel = await link.open(target, { signal: o.opening ?? o.signal });
  return new Lockstep(channel, { ...o, skipNoise: target.type === 'exec' });
}

class Lockstep implements Conversation {
  readonly #channel: Channel;
  readonly #env: Env;
  readonly #signal: AbortSignal;
  #waiting: { readonly command: Asked; readonly reply: Deferred<Reply> } | undefined;
  /** Replies that were there before the greeting was asked for: the greeting. */
  #greeting: Deferred<Reply> | undefined;
  #goodbye: Reply | undefined;
  #error: Error | undefined;
  #failed: Deferred<never> = deferred();
  #stranger: Disposable | undefined;
  #farewell: Promise<void> | undefined;

  constructor(channel: Channel, o: { env: Env; signal: AbortSignal; skipNoise: boolean }) {
    this.#channel = channel;
    this.#env = o.env;
    this.#signal = o.signal;
    this.#failed.promise.catch(() => {});
    this.#expect('greeting');
    this.#greeting = this.#waiting?.reply;
    this.#listen(o.skipNoise);
    const onAbort = (): void => this.abort(o.signal.reason);
    o.signal.addEventListener('abort', onAbort, { once: true });
    void channel.exit.then(() => o.signal.removeEventListener('abort', onAbort));
    if (o.signal.aborted) onAbort();
  }

  greeting(signal?: AbortSignal): Promise<Reply> {
    const { promise } = this.#greeting ?? deferred<Reply>();
    return this.#within('greeting', promise, signal);
  }

  async ask(command: string | Uint8Array, awaited: Asked, signal?: AbortSignal): Promise<Reply> {
    if (this.#goodbye !== undefined) return this.#goodbye;
    if (this.#error !== undefined) throw this.#error;
    const reply = this.#expect(awaited);
    await this.write(typeof command === 'string' ? Buffer.from(`${command}\r\n`) : command);
    return await this.#within(awaited, reply.promise, signal);
  }

  async write(bytes: Uint8Array): Promise<void> {
    if (this.#goodbye !== undefined) return;
    if (this.#error !== undefined) throw this.#error;
    const { stream } = this.#channel;
    if (stream.write(bytes)) return;
    const drained = deferred<void>();
    const onDrain = (): void => drained.resolve();
    stream.once('drain', onDrain);
    using limit = this.#limit(BLOCKED_TIMEOUT_MS, 'took no data');
    try {
      await this.#until(drained.promise, limit.signal);
    } catch (error) {
      // What was said before the end still counts.
      if (this.#goodbye === undefined) throw error;
    } finally {
      stream.off('drain', onDrain);
    }
  }

  farewell(): Promise<void> {
    this.#farewell ??= this.#quit().catch(() => {});
    return this.#farewell;
  }

  abort(reason: Error): void {
    this.#fail(reason);
  }

  async #quit(): Promise<void> {
    try {
      if (this.#waiting === undefined && this.#error === undefined) await this.ask('QUIT', 'quit');
    } finally {
      this.abort(new LinkError('done', { code: 'aborted', layer: 'channel' }));
    }
  }

  #expect(command: Asked): Deferred<Reply> {
    const reply = deferred<Reply>();
    reply.promise.catch(() => {});
    this.#waiting = { command, reply };
    return reply;
  }

  async #within(awaited: Asked, reply: Promise<Reply>, signal?: AbortSignal): Promise<Reply> {
    using limit = this.#limit(timeoutOf(awaited), `did not answer ${awaited}`, signal);
    return await this.#until(reply, limit.signal);
  }

  #limit(ms: number, what: string, parent?: AbortSignal): ReturnType<typeof deadline> {
    const reason = (): Error => new DeliveryError(`the far side ${what} for ${ms / 1000} s`, { code: 'timeout' });
    return deadline(this.#env, ms, { reason, ...(parent === undefined ? {} : { parent }) });
  }

  /** A reply that came before the end still counts. What is given up leaves the session out of step, so it is over. */
  async #until<T>(promise: Promise<T>, signal: AbortSignal): Promise<T> {
    try {
      return await raceAbort(Promise.race([promise, this.#failed.promise]), signal);
    } catch (error) {
      if (this.#error === undefined && error instanceof Error) this.abort(error);
      throw error;
    }
  }

  #listen(skipNoise: boolean): void {
    const parser = createReplyParser({ skipNoise });
    const { stream } = this.#channel;
    stream.on('data', (chunk: Buffer) => {
      if (this.#error !== undefined) return;
      for (const event of parser.push(chunk)) {
        if (event.type === 'reply') this.#read(event.reply);
        else this.#fail(notSmtp(event.line));
      }
      this.#stranger?.[Symbol.dispose]();
      if (this.#error !== undefined || parser.noise === '') return;
      this.#stranger = this.#env.schedule(STRANGER_MS, () => this.#fail(notSmtp(parser.noise)));
    });
    stream.on('error', (error) => this.#fail(error));
    stream.on('end', () => void this.#ended());
    stream.on('close', () => void this.#ended());
  }

  #read(reply: Reply): void {
    if (this.#error !== undefined) return;
    const waiting = this.#waiting;
    this.#waiting = undefined;
    if (reply.code === 421) this.#goodbye ??= reply;
    else if (waiting === undefined || !fits(waiting.command, reply)) {
      const said = printable(replyText(reply), 120);
      const message = `the session is out of step: ${said} in answer to ${waiting?.command ?? 'nothing'}`;
      this.#fail(new DeliveryError(message, { code: 'protocol', reply }));
      return;
    }
    waiting?.reply.resolve(reply);
  }

  async #ended(): Promise<void> {
    const { exit, stderr } = await lastWords(this.#channel, this.#env);
    const greeted = this.#waiting?.command !== 'greeting';
    const how = exit?.type === 'exit' && !greeted ? ` with status ${exit.code}` : '';
    const what = greeted ? 'the far side closed the session' : `the far SMTP command ended${how} before its greeting`;
    const message = `${what}${stderr === '' ? '' : `: ${lastLines(stderr)}`}`;
    const closed = new DeliveryError(message, { code: greeted ? 'closed' : 'command' });
    this.#fail(exit?.type === 'lost' ? exit.error : closed);
  }

  #fail(error: Error): void {
    this.#stranger?.[Symbol.dispose]();
    if (this.#error !== undefined) return;
    this.#error = error;
    this.#failed.reject(error);
    // What broke off, or is out of step, gets no QUIT.
    this.#channel.abort(error);
  }
}

function timeoutOf(awaited: Asked): number {
  return REPLY_TIMEOUT_MS[awaited === 'etrn' ? 'mail' : awaited];
}

/** RFC 1985 §5 knows positive and negative replies. */
function fits(asked: Asked, reply: Reply): boolean {
  return asked === 'etrn' ? replyClass(reply) !== 3 : mayAnswer(asked, reply);
}
