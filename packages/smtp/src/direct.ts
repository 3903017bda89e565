/** Cut-through: each transaction has a session of its own, in lockstep, and its client hears every reply as it was given. */
import {
  createDotEncoder,
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
  type Recipient,
  type Reply,
  replyClass,
  type Target,
  unsendable,
} from '@postern/core';
import { type Conversation, converse } from './conversation.ts';
import { DeliveryError } from './error.ts';
import { protocolOf } from './protocol.ts';

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

/** Makes a {@link Direct} over channels of a link. Does no I/O itself. */
export function createDirect(o: DirectOptions): Direct {
  const protocol = protocolOf(o.target);
  const { link, target, env, helo } = o;
  return async (envelope, { size, signal }) => {
    if (protocol !== 'smtp' && protocol !== 'lmtp') {
      throw new DeliveryError(`what takes mail at ${link.host} answers nothing`, { code: 'command' });
    }
    using limit = deadline(env, o.openMs, { parent: signal, reason: () => late(o) });
    const conversation = await converse(link, target, { env, signal, opening: limit.signal });
    const session = new DirectSession(conversation, protocol === 'lmtp');
    const refusal = await session.begin(envelope, { helo, size, signal: limit.signal }).catch((error) => {
      session.close();
      throw error;
    });
    if (refusal === undefined) return { type: 'open', transaction: session };
    session.close();
    return { type: 'refused', reply: refusal };
  };
}

function late({ link, openMs }: DirectOptions): Error {
  if (link.state.type === 'down') return link.state.error;
  return new LinkError(`${link.host} did not answer within ${openMs / 1000} s`, { code: 'timeout', layer: 'channel' });
}

/** One session with one transaction. */
class DirectSession implements DirectTransaction {
  readonly #conversation: Conversation;
  readonly #lmtp: boolean;
  #extensions: Extensions = NO_EXTENSIONS;
  #smtputf8 = false;
  #accepted = 0;
  /** No transaction is open: QUIT may be said. */
  #atRest = true;

  constructor(conversation: Conversation, lmtp: boolean) {
    this.#conversation = conversation;
    this.#lmtp = lmtp;
  }

  /** Greeting, EHLO and MAIL; the reply that refuses one of them, or undefined. */
  async begin(
    envelope: Omit<Envelope, 'recipients'>,
    o: { helo: string; size: number | undefined; signal: AbortSignal },
  ): Promise<Reply | undefined> {
    const refusal = await this.#hello(o.helo, o.signal);
    if (refusal !== undefined) return refusal;
    const extensions = this.#extensions;
    const whole: Envelope = { ...envelope, recipients: [] };
    const unfit = unsendable(whole, { size: o.size ?? 0, extensions });
    if (unfit?.type === 'failed') return asReply(unfit.reason);
    this.#smtputf8 = envelope.smtputf8;
    // Without an announced size there is none to tell (RFC 1870 §6).
    const told = o.size === undefined ? { ...extensions, size: false } : extensions;
    const mail = await this.#conversation.ask(formatMail(whole, { size: o.size ?? 0, extensions: told }), 'mail');
    if (replyClass(mail) !== 2) return mail;
    this.#atRest = false;
    return undefined;
  }

  async rcpt(recipient: Recipient): Promise<Reply> {
    if (this.#lmtp && this.#accepted > 0) {
      return { code: 452, enhanced: '4.5.3', lines: ['One recipient at a time here'] };
    }
    const command = formatRcpt(recipient, { extensions: this.#extensions, smtputf8: this.#smtputf8 });
    const reply = await this.#conversation.ask(command, 'rcpt');
    if (replyClass(reply) === 2) this.#accepted += 1;
    return reply;
  }

  async data(message: AsyncIterable<Uint8Array>): Promise<Reply> {
    const go = await this.#conversation.ask('DATA', 'data');
    if (replyClass(go) !== 3) return go;
    const dots = createDotEncoder();
    try {
      for await (const chunk of message) await this.#conversation.write(dots.push(chunk));
    } catch (error) {
      this.#conversation.abort(error instanceof Error ? error : new Error(String(error)));
      throw error;
    }
    const reply = await this.#conversation.ask(dots.end(), 'final');
    this.#atRest = true;
    return reply;
  }

  close(): void {
    if (this.#atRest) void this.#conversation.farewell();
    else this.#conversation.abort(new DeliveryError('ended', { code: 'aborted' }));
  }

  /** Greeting and EHLO, or HELO; the reply that refuses the session. */
  async #hello(helo: string, signal: AbortSignal): Promise<Reply | undefined> {
    const greeting = await this.#conversation.greeting(signal);
    if (replyClass(greeting) !== 2) return greeting;
    const hello = await this.#conversation.ask(`${this.#lmtp ? 'LHLO' : 'EHLO'} ${helo}`, 'hello', signal);
    if (replyClass(hello) === 2) {
      this.#extensions = parseEhlo(hello);
      return undefined;
    }
    // RFC 5321 §3.2: a server without EHLO still takes HELO. LMTP has none (RFC 2033 §4.1).
    if (this.#lmtp || replyClass(hello) !== 5) return hello;
    const old = await this.#conversation.ask(`HELO ${helo}`, 'hello', signal);
    return replyClass(old) === 2 ? undefined : old;
  }
}

/** `5.6.7 text` as a reply. */
function asReply(reason: string): Reply {
  const [, enhanced, text = reason] = /^(5\.\d{1,3}\.\d{1,3}) (.*)$/s.exec(reason) ?? [];
  return { code: 554, lines: [text], ...(enhanced === undefined ? {} : { enhanced }) };
}
