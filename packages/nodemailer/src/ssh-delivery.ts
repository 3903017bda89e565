/** Messages go over one link, in sessions they share; a link that was made here ends with the last of them. */
import {
  deadline,
  defined,
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
import { createLink, resolveHost } from '@postern/ssh';
import { Batcher, type Outcomes } from './batcher.ts';
import type { Body } from './body.ts';
import type { Delivery, MessageOptions, Result } from './delivery.ts';
import { type MailEnvelope, toEnvelope } from './envelope.ts';
import { recipientError, TransportError } from './errors.ts';
import type { SshTransportOptions } from './options.ts';

/** What the recipe has always used. */
const DEFAULT_SMTP = 'netcat localhost smtp';
const DEFAULT_CONNECT_TIMEOUT_MS = 30_000;

/** Delivers over a link. */
export class SshDelivery implements Delivery {
  readonly #o: SshTransportOptions;
  readonly #env: Env;
  #own: Promise<Link> | undefined;
  /** How many sessions there are: the last lets the link go. */
  #users = 0;
  #gone: Promise<void> = Promise.resolve();
  #batcher: Batcher | undefined;
  #closed = false;

  constructor(o: SshTransportOptions) {
    if (o.host === undefined && o.link === undefined) throw new TypeError('sshTransport needs host, link or queue');
    this.#o = o;
    this.#env = o.env ?? systemEnv;
  }

  get idle(): boolean {
    return this.#batcher?.idle ?? true;
  }

  async send(mail: MailEnvelope, body: Body, { dsn, signal }: MessageOptions): Promise<Result> {
    const done = (): void => void body[Symbol.asyncDispose]();
    let entry: Entry;
    let batcher: Batcher;
    try {
      const envelope = toEnvelope(mail, { facts: body.facts, dsn });
      const { size } = body.facts;
      entry = { id: newEntryId(this.#env), envelope, size, unresolved: [], open: () => body.open() };
      batcher = this.#getBatcher();
    } catch (error) {
      done();
      throw error;
    }
    return resultOf(await batcher.send(entry, { signal, done }));
  }

  async verify(): Promise<void> {
    const target = parseTarget(this.#o.smtp ?? DEFAULT_SMTP);
    const timeoutMs = this.#o.connectTimeoutMs ?? DEFAULT_CONNECT_TIMEOUT_MS;
    // Twice: opening the session has that long, and so has the server.
    await this.#using((link) => greetSmtp(link, target, { env: this.#env, timeoutMs: 2 * timeoutMs }));
  }

  async close(): Promise<void> {
    this.#closed = true;
    await this.#batcher?.close();
    await this.#letGo();
  }

  #getBatcher(): Batcher {
    if (this.#closed) throw new TransportError('not sent: the transport was closed', { code: 'aborted' });
    this.#batcher ??= new Batcher({
      courier: (batch, report) => this.#using((link) => this.#courier(link)(batch, report)),
      env: this.#env,
    });
    return this.#batcher;
  }

  #courier(link: Link): ReturnType<typeof createCourier> {
    const { dialogue, helo, smtp } = this.#o;
    return createCourier({
      link,
      target: parseTarget(smtp ?? DEFAULT_SMTP),
      helo: helo ?? '[127.0.0.1]',
      env: this.#env,
      ...defined({ dialogue }),
    });
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
      return await work(withTimeout(await this.#link(), this.#o, this.#env));
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

/** The link, but a script does not wait for a host that stays down. */
export function withTimeout(
  link: Link,
  { connectTimeoutMs: ms = DEFAULT_CONNECT_TIMEOUT_MS, smtp = DEFAULT_SMTP }: SshTransportOptions,
  env: Env,
): Link {
  const reason = (): Error =>
    link.state.type === 'down'
      ? link.state.error
      : new TransportError(`no session with ${smtp} on ${link.host} in ${ms} ms`, { code: 'timeout' });
  return {
    host: link.host,
    get state() {
      return link.state;
    },
    get heardAt() {
      return link.heardAt;
    },
    wake: (why) => link.wake(why),
    watch: (listener) => link.watch(listener),
    close: () => link.close(),
    async open(target, { signal }) {
      using limit = deadline(env, ms, { parent: signal, reason });
      return await link.open(target, { signal: limit.signal });
    },
  };
}
