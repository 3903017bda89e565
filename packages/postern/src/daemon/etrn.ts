/** Asks a local MTA for a queue run (RFC 1985). */
import {
  createReplyParser,
  deadline,
  type Env,
  type Link,
  LinkError,
  type Reply,
  replyClass,
  replyText,
  type Target,
} from '@postern/core';

/** Longest wait for the far server, all in all, milliseconds. */
const ETRN_MS = 60_000;

/** What to ask, and where. */
export interface EtrnOptions {
  readonly link: Link;
  /** What speaks SMTP over there. */
  readonly target: Target;
  /** Whose mail waits there. */
  readonly domains: readonly string[];
  /** Our name. */
  readonly helo: string;
  readonly env: Env;
  readonly signal: AbortSignal;
}

/**
 * Asks the far MTA to run its queue for these domains (RFC 1985). Resolves with its replies, one a domain, on one line each: a refusal is one too.
 * Rejects when no SMTP server answers.
 */
export async function requestQueueRun(o: EtrnOptions): Promise<string[]> {
  const silent = (): Error => new Error(`no answer in ${ETRN_MS / 1000} s`);
  using limit = deadline(o.env, ETRN_MS, { parent: o.signal, reason: silent });
  const channel = await o.link.open(o.target, { signal: limit.signal });
  const abort = (): void => channel.abort(new LinkError('done', { code: 'aborted', layer: 'channel' }));
  limit.signal.addEventListener('abort', abort, { once: true });
  channel.stream.on('error', () => {});
  try {
    const replies = repliesOf(channel.stream as AsyncIterable<Buffer>, o.target.type === 'exec');
    const next = async (): Promise<Reply> => {
      const { done, value } = await replies.next();
      if (done === true) throw limit.signal.aborted ? limit.signal.reason : new Error('the SMTP session ended early');
      return value;
    };
    const say = (line: string): Promise<Reply> => {
      channel.stream.write(`${line}\r\n`);
      return next();
    };
    const greeting = await next();
    if (greeting.code !== 220) return [replyText(greeting)];
    const hello = await say(`EHLO ${o.helo}`);
    if (replyClass(hello) !== 2) return [replyText(hello)];
    const answers: string[] = [];
    for (const domain of o.domains) answers.push(`${domain}: ${replyText(await say(`ETRN ${domain}`))}`);
    await say('QUIT');
    return answers;
  } finally {
    limit.signal.removeEventListener('abort', abort);
    abort();
  }
}

async function* repliesOf(bytes: AsyncIterable<Buffer>, skipNoise: boolean): AsyncGenerator<Reply, undefined> {
  const parser = createReplyParser({ skipNoise });
  for await (const chunk of bytes) {
    for (const event of parser.push(chunk)) {
      if (event.type === 'malformed') throw new Error(`what answers is no SMTP server: ${event.reason}`);
      yield event.reply;
    }
  }
  return undefined;
}
