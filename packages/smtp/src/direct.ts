import {
  type Channel,
  createDotEncoder,
  createReplyParser,
  type Direct,
  type DirectTransaction,
  deadline,
  type Env,
  type Envelope,
  type Extensions,
  formatMail,
  formatRcpt,
  type Link,
  LinkError,
  NO_EXTENSIONS,
  parseEhlo,
  printable,
  type Recipient,
  type Reply,
  raceAbort,
  replyClass,
  type Target,
  unsendable,
} from '@postern/core';
import { DeliveryError } from './error.ts';
import { BLOCKED_TIMEOUT_MS, REPLY_TIMEOUT_MS } from './session-options.ts';
import { wayOf } from './way.ts';

/** What {@link createDirect} needs. */
export interface DirectOptions {
  readonly link: Link;
  /** What speaks SMTP, or LMTP at a Unix socket: then one recipient a transaction, since each has a final reply of its own (RFC 2033 §4.2). */
  readonly target: Target;
  /** The name for EHLO: a domain or an address literal. */
  readonly helo: string;
  readonly env: Env;
  /** How long the far side has to come up, from dialling to the reply to EHLO, milliseconds. */
  readonly openMs: number;
}

/** Makes a {@link Direct} over channels of a link: each transaction has a session of its own, in lockstep. Does no I/O itself. */
export function createDirect(o: DirectOptions): Direct {
  const way = wayOf(o.target);
  return async (envelope, { size, signal }) => {
    if (way !== 'smtp' && way !== 'lmtp') {
      throw new DeliveryError(`what takes mail at ${o.link.host} answers nothing`, { code: 'command' });
    }
    const late = (): Error =>
      o.link.state.type === 'down'
        ? o.link.state.error
        : new LinkError(`${o.link.host} did not answer within ${o.openMs / 1000} s`, {
            code: 'timeout',
            layer: 'channel',
          });
    using limit = deadline(o.env, o.openMs, { parent: signal, reason: late });
    const channel = await o.link.open(o.target, { signal: limit.signal });
    const session = new DirectSession(channel, {
      env: o.env,
      lmtp: way === 'lmtp',
      skipNoise: o.target.type === 'exec',
    });
    const onAbort = (): void => session.close();
    signal.addEventListener('abort', onAbort, { once: true });
    const refusal = await session.begin(envelope, { helo: o.helo, size, signal: limit.signal }).catch((error) => {
      session.close();
      throw error;
    });
    if (refusal === undefined) return { type: 'open', transaction: session };
    session.close();
    return { type: 'refused', reply: refusal };
  };
}

/** One session with one transaction. */
class DirectSession implements DirectTransaction {
  readonly #channel: Channel;
  readonly #env: Env;
  readonly #lmtp: boolean;
  readonly #replies: Reply[] = [];
  #error: Error | undefined;
  #wake: () => void = () => {};
  #extensions: Extensions = NO_EXTENSIONS;
  #smtputf8 = false;
  #accepted = 0;
  /** No transaction is open: QUIT may be said. */
  #atRest = true;

  constructor(channel: Channel, o: { env: Env; lmtp: boolean; skipNoise: boolean }) {
    this.#channel = channel;
    this.#env = o.env;
    this.#lmtp = o.lmtp;
    const parser = createReplyParser({ skipNoise: o.skipNoise });
    const { stream } = channel;
    stream.on('data', (chunk: Buffer) => {
      for (const event of parser.push(chunk)) {
        if (event.type === 'reply') this.#replies.push(event.reply);
        else
          this.#fail(
            new DeliveryError(`the far side does not speak SMTP: ${printable(event.line, 120)}`, { code: 'protocol' }),
          );
      }
      this.#wake();
    });
    stream.on('error', (error) => this.#fail(error));
    stream.on('end', () => void this.#ended());
    stream.on('close', () => void this.#ended());
  }

  /** Greeting, EHLO and MAIL; the reply that refuses one of them, or undefined. */
  async begin(
    envelope: Omit<Envelope, 'recipients'>,
    o: { helo: string; size: number | undefined; signal: AbortSignal },
  ): Promise<Reply | undefined> {
    const greeting = await raceAbort(this.#reply(REPLY_TIMEOUT_MS.greeting), o.signal);
    if (replyClass(greeting) !== 2) return greeting;
    const hello = await raceAbort(
      this.#ask(`${this.#lmtp ? 'LHLO' : 'EHLO'} ${o.helo}\r\n`, REPLY_TIMEOUT_MS.hello),
      o.signal,
    );
    if (replyClass(hello) === 2) this.#extensions = parseEhlo(hello);
    else {
      const old = await raceAbort(this.#ask(`HELO ${o.helo}\r\n`, REPLY_TIMEOUT_MS.hello), o.signal);
      if (replyClass(old) !== 2) return old;
    }
    const extensions = this.#extensions;
    const whole: Envelope = { ...envelope, recipients: [] };
    const unfit = unsendable(whole, { size: o.size ?? 0, extensions });
    if (unfit?.type === 'failed') return asReply(unfit.reason);
    this.#smtputf8 = envelope.smtputf8;
    // Without an announced size there is none to tell (RFC 1870 §6).
    const told = o.size === undefined ? { ...extensions, size: false } : extensions;
    const mail = await this.#ask(formatMail(whole, { size: o.size ?? 0, extensions: told }), REPLY_TIMEOUT_MS.mail);
    if (replyClass(mail) !== 2) return mail;
    this.#atRest = false;
    return undefined;
  }

  async rcpt(recipient: Recipient): Promise<Reply> {
    if (this.#lmtp && this.#accepted > 0) {
      return { code: 452, enhanced: '4.5.3', lines: ['One recipient at a time here'] };
    }
    const command = formatRcpt(recipient, { extensions: this.#extensions, smtputf8: this.#smtputf8 });
    const reply = await this.#ask(command, REPLY_TIMEOUT_MS.rcpt);
    if (replyClass(reply) === 2) this.#accepted += 1;
    return reply;
  }

  async data(message: AsyncIterable<Uint8Array>): Promise<Reply> {
    const go = await this.#ask('DATA\r\n', REPLY_TIMEOUT_MS.data);
    if (replyClass(go) !== 3) return go;
    const dots = createDotEncoder();
    try {
      for await (const chunk of message) await this.#write(dots.push(chunk));
    } catch (error) {
      this.#fail(error instanceof Error ? error : new Error(String(error)));
      this.close();
      throw error;
    }
    const reply = await this.#ask(dots.end(), REPLY_TIMEOUT_MS.final);
    this.#atRest = true;
    return reply;
  }

  close(): void {
    const done = new DeliveryError('ended', { code: 'aborted' });
    if (this.#error !== undefined || !this.#atRest) {
      this.#fail(done);
      this.#channel.abort(done);
      return;
    }
    this.#fail(done);
    this.#channel.stream.end('QUIT\r\n');
    this.#channel.stream.resume();
    const timer = this.#env.schedule(REPLY_TIMEOUT_MS.quit, () => this.#channel.abort(done));
    void this.#channel.exit.then(() => timer[Symbol.dispose]());
  }

  async #ask(command: string | Uint8Array, timeoutMs: number): Promise<Reply> {
    // A reply nobody asked for, 421 mostly, answers whatever comes next.
    if (this.#replies.length === 0) await this.#write(command);
    return this.#reply(timeoutMs);
  }

  async #write(bytes: string | Uint8Array): Promise<void> {
    if (this.#error !== undefined) throw this.#error;
    const { stream } = this.#channel;
    if (stream.write(bytes)) return;
    using limit = this.#limit(BLOCKED_TIMEOUT_MS, 'took no data');
    stream.once('drain', () => this.#wake());
    await this.#until(() => !stream.writableNeedDrain, limit.signal);
  }

  async #reply(timeoutMs: number): Promise<Reply> {
    using limit = this.#limit(timeoutMs, 'did not answer');
    await this.#until(() => this.#replies.length > 0, limit.signal);
    return this.#replies.shift() as Reply;
  }

  #limit(ms: number, what: string): ReturnType<typeof deadline> {
    const reason = (): Error => new DeliveryError(`the far side ${what} for ${ms / 1000} s`, { code: 'timeout' });
    return deadline(this.#env, ms, { reason });
  }

  /** Replies that came before an end still count. */
  async #until(condition: () => boolean, signal: AbortSignal): Promise<void> {
    while (!condition()) {
      if (this.#error !== undefined) throw this.#error;
      await raceAbort(
        new Promise<void>((resolve) => {
          this.#wake = resolve;
        }),
        signal,
      );
    }
  }

  async #ended(): Promise<void> {
    const exit = await this.#channel.exit;
    const words = printable(this.#channel.stderrTail().toString('utf8').trim(), 300);
    const closed = new DeliveryError(`the far side closed the session${words === '' ? '' : `: ${words}`}`, {
      code: 'closed',
    });
    this.#fail(exit.type === 'lost' ? exit.error : closed);
  }

  #fail(error: Error): void {
    this.#error ??= error;
    this.#wake();
  }
}

/** `5.6.7 text` as a reply. */
function asReply(reason: string): Reply {
  const [, enhanced, text = reason] = /^(5\.\d{1,3}\.\d{1,3}) (.*)$/s.exec(reason) ?? [];
  return { code: 554, lines: [text], ...(enhanced === undefined ? {} : { enhanced }) };
}
