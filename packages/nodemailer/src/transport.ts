import type { Readable } from 'node:stream';
import {
  type Dialogue,
  deadline,
  type Entry,
  type Env,
  type Link,
  newEntryId,
  type Outcome,
  parseTarget,
  replyText,
  systemEnv,
} from '@postern/core';
import { createCourier, greetSmtp } from '@postern/smtp';
import { createLink, type ResolveOptions, resolveHost } from '@postern/ssh';
import type { SentMessageInfo, Transport } from 'nodemailer';
import { type Body, collect } from './body.ts';
import { type DsnOptions, type MailEnvelope, toEnvelope } from './envelope.ts';
import { recipientError, TransportError } from './errors.ts';
import { Keeper } from './keeper.ts';
import { type Outcomes, Stock } from './stock.ts';
import type { MessageOptions, Result, Way } from './way.ts';

/** What the recipe has always used. */
const DEFAULT_SMTP = 'netcat localhost smtp';
const DEFAULT_CONNECT_TIMEOUT_MS = 30_000;

/** Options of {@link sshTransport}. One of `host`, `link` and `queue` says where mail goes. */
export interface SshTransportOptions {
  /** An SSH host, resolved as ssh would; its link is made when needed and ended when nothing is left to send. */
  readonly host?: string;
  /** How to resolve `host`. */
  readonly resolve?: ResolveOptions;
  /** A link that others use too; it is never closed here. */
  readonly link?: Link;
  /** A spool directory: messages are kept there for a running or later Postern to deliver; nothing is sent from here. */
  readonly queue?: string;
  /** What speaks SMTP over there: a command, `tcp:host:port` or `unix:/path`. Default `netcat localhost smtp`. */
  readonly smtp?: string;
  /** Default `auto`. */
  readonly dialogue?: Dialogue;
  /** The name for EHLO. Default `[127.0.0.1]`. */
  readonly helo?: string;
  /** How long a session may take to open, host down included, milliseconds. Default 30 s. */
  readonly connectTimeoutMs?: number;
  readonly env?: Env;
}

/** What `sendMail` resolves with: at least one recipient was accepted. */
export interface SshSentMessageInfo extends SentMessageInfo {
  /** Recipients the far server took responsibility for; with `queue`, all of them. */
  accepted: string[];
  /** Recipients it did not take. */
  rejected: string[];
  /** Why, per rejected recipient. */
  rejectedErrors: TransportError[];
  /** The last reply that accepted a recipient; with `queue`, the entry's id. */
  response: string;
}

/** A Nodemailer transport plugin. */
export interface SshTransport extends Transport<SshSentMessageInfo> {
  /**
   * Opens a session as far as the server's EHLO, and ends it. Rejects with `LinkError`, `DeliveryError` or {@link TransportError}; with a
   * callback, that is told instead.
   */
  verify(): Promise<true>;
  verify(callback: (error: Error | null, success?: true) => void): void;
  /** Refuses what waits, ends the session, and the link when it is this transport's own. */
  close(): Promise<void>;
  isIdle(): boolean;
}

/** The part of Nodemailer's message that a transport reads. */
interface Mail {
  readonly data: { readonly dsn?: unknown; readonly signal?: AbortSignal | undefined };
  readonly message: {
    getEnvelope(): MailEnvelope;
    messageId(): string;
    createReadStream(): Readable;
  };
}

/**
 * A transport for `nodemailer.createTransport`: mail goes through an SSH link to what speaks SMTP on the far side, with a verdict for every
 * recipient. Messages sent at the same time share one session. Does no I/O before the first message.
 */
export function sshTransport(o: SshTransportOptions): SshTransport {
  const way = o.queue === undefined ? new Sender(o) : new Keeper(o.queue, o.env ?? systemEnv);
  return {
    name: 'postern',
    version: '0.1.0',
    supportsAbortSignal: true,
    send(mail, callback) {
      send(way, mail as unknown as Mail).then(
        (info) => callback(null, info),
        (error) => callback(error, undefined as never),
      );
    },
    verify: verifier(way),
    close: () => way.close(),
    isIdle: () => way.idle,
  };
}

/** With and without a callback, as Nodemailer's own transports have it. */
function verifier(way: Way): SshTransport['verify'] {
  function verify(): Promise<true>;
  function verify(callback: (error: Error | null, success?: true) => void): void;
  function verify(callback?: (error: Error | null, success?: true) => void): Promise<true> | undefined {
    const verified = way.verify().then((): true => true);
    if (callback === undefined) return verified;
    verified.then((success) => callback(null, success), callback);
    return undefined;
  }
  return verify;
}

async function send(way: Way, mail: Mail): Promise<SshSentMessageInfo> {
  const envelope = mail.message.getEnvelope();
  const { dsn, signal } = mail.data;
  const body = await collect(mail.message.createReadStream(), signal);
  const result = await way.send(envelope, body, { dsn: dsn as DsnOptions | undefined, signal });
  return { ...result, envelope: { from: envelope.from, to: [...envelope.to] }, messageId: mail.message.messageId() };
}

/** Over a link. */
class Sender implements Way {
  readonly #o: SshTransportOptions;
  readonly #env: Env;
  #own: Promise<Link> | undefined;
  /** How many sessions there are: the last lets the link go. */
  #users = 0;
  #gone: Promise<void> = Promise.resolve();
  #stock: Stock | undefined;
  #closed = false;

  constructor(o: SshTransportOptions) {
    if (o.host === undefined && o.link === undefined) throw new TypeError('sshTransport needs host, link or queue');
    this.#o = o;
    this.#env = o.env ?? systemEnv;
  }

  get idle(): boolean {
    return this.#stock?.idle ?? true;
  }

  async send(mail: MailEnvelope, body: Body, { dsn, signal }: MessageOptions): Promise<Result> {
    const done = (): void => void body[Symbol.asyncDispose]();
    let entry: Entry;
    let stock: Stock;
    try {
      const envelope = toEnvelope(mail, { facts: body.facts, dsn });
      const { size } = body.facts;
      entry = { id: newEntryId(this.#env), envelope, size, unresolved: [], open: () => body.open() };
      stock = this.#getStock();
    } catch (error) {
      done();
      throw error;
    }
    return resultOf(await stock.send(entry, { signal, done }));
  }

  async verify(): Promise<void> {
    const target = parseTarget(this.#o.smtp ?? DEFAULT_SMTP);
    const timeoutMs = this.#o.connectTimeoutMs ?? DEFAULT_CONNECT_TIMEOUT_MS;
    // Twice: opening the session has that long, and so has the server.
    await this.#using((link) => greetSmtp(link, target, { env: this.#env, timeoutMs: 2 * timeoutMs }));
  }

  async close(): Promise<void> {
    this.#closed = true;
    await this.#stock?.close();
    await this.#letGo();
  }

  #getStock(): Stock {
    if (this.#closed) throw new TransportError('not sent: the transport was closed', { code: 'aborted' });
    this.#stock ??= new Stock({
      courier: (batch, report) => this.#using((link) => this.#courier(link)(batch, report)),
      env: this.#env,
    });
    return this.#stock;
  }

  #courier(link: Link): ReturnType<typeof createCourier> {
    const { dialogue, helo, smtp } = this.#o;
    return createCourier({
      link,
      target: parseTarget(smtp ?? DEFAULT_SMTP),
      helo: helo ?? '[127.0.0.1]',
      env: this.#env,
      ...(dialogue === undefined ? {} : { dialogue }),
    });
  }

  /** The link, but a script does not wait for a host that stays down. */
  #patient(link: Link): Link {
    const ms = this.#o.connectTimeoutMs ?? DEFAULT_CONNECT_TIMEOUT_MS;
    const env = this.#env;
    const { smtp = DEFAULT_SMTP } = this.#o;
    return {
      host: link.host,
      get state() {
        return link.state;
      },
      wake: (why) => link.wake(why),
      watch: (listener) => link.watch(listener),
      close: () => link.close(),
      async open(target, { signal }) {
        const reason = (): Error =>
          link.state.type === 'down'
            ? link.state.error
            : new TransportError(`no session with ${smtp} on ${link.host} in ${ms} ms`, {
                code: 'timeout',
              });
        using limit = deadline(env, ms, { parent: signal, reason });
        return await link.open(target, { signal: limit.signal });
      },
    };
  }

  #link(): Promise<Link> {
    if (this.#o.link !== undefined) return Promise.resolve(this.#o.link);
    this.#own ??= resolveHost(this.#o.host ?? '', this.#o.resolve).then((host) => createLink(host, { env: this.#env }));
    return this.#own;
  }

  /** A script ends when its mail is sent: nothing of ours keeps it alive. */
  async #using<T>(work: (link: Link) => Promise<T>): Promise<T> {
    this.#users += 1;
    try {
      return await work(this.#patient(await this.#link()));
    } finally {
      this.#users -= 1;
      if (this.#users === 0) void this.#letGo();
    }
  }

  #letGo(): Promise<void> {
    const own = this.#own?.then((link) => link.close()).catch(() => {});
    this.#own = undefined;
    this.#gone = Promise.all([this.#gone, own]).then(() => {});
    return this.#gone;
  }
}

function resultOf(outcomes: Outcomes): Result {
  const accepted: string[] = [];
  const rejectedErrors: TransportError[] = [];
  let response = '';
  for (const [to, outcome] of outcomes) {
    const error = recipientError(to, outcome);
    if (error !== undefined) rejectedErrors.push(error);
    else {
      accepted.push(to);
      response = replyOf(outcome);
    }
  }
  // One that may yet be accepted speaks for all: the message is worth trying again.
  const lead = rejectedErrors.find((error) => !error.permanent) ?? rejectedErrors[0];
  if (lead !== undefined && accepted.length === 0) {
    const { code, responseCode, response } = lead;
    const message = `no recipient was accepted: ${lead.message}`;
    throw new TransportError(message, { code, responseCode, response, rejectedErrors });
  }
  return { accepted, rejected: rejectedErrors.map((error) => error.recipient ?? ''), rejectedErrors, response };
}

function replyOf(outcome: Outcome): string {
  return outcome.type === 'delivered' ? replyText(outcome.reply) : '';
}
