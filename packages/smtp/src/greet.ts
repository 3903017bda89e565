import {
  type Channel,
  createReplyParser,
  deadline,
  type Env,
  type Link,
  LinkError,
  printable,
  type Reply,
  raceAbort,
  replyClass,
  replyText,
  sleep,
  type Target,
} from '@postern/core';
import { DeliveryError } from './error.ts';

/** How long an ended command's exit status and last words are waited for, milliseconds. */
const LAST_WORDS_MS = 1000;
/** Extensions worth telling a person of: they decide how fast and how much. */
const TOLD = /^(PIPELINING|CHUNKING|8BITMIME|SMTPUTF8|SIZE|DSN)\b/i;

/**
 * Opens an SMTP session, reads greeting and EHLO, quits. Resolves with what was found, one line. Rejects with
 * {@link DeliveryError} or `LinkError`.
 */
export async function greetSmtp(link: Link, target: Target, o: { env: Env; timeoutMs: number }): Promise<string> {
  const silent = (): Error => new DeliveryError(`no SMTP greeting in ${o.timeoutMs / 1000} s`, { code: 'timeout' });
  using limit = deadline(o.env, o.timeoutMs, { reason: silent });
  const channel = await link.open(target, { signal: limit.signal });
  try {
    const replies = readReplies(channel, o.env, target.type === 'exec');
    const greeting = await raceAbort(replies.next(), limit.signal);
    if (greeting.code !== 220) throw refused('the SMTP server refuses', greeting);
    const hello = target.type === 'unix' ? 'LHLO' : 'EHLO';
    channel.stream.write(`${hello} [127.0.0.1]\r\n`);
    const answer = await raceAbort(replies.next(), limit.signal);
    if (replyClass(answer) !== 2) {
      throw refused(`the SMTP server refuses ${hello}`, answer);
    }
    channel.stream.end('QUIT\r\n');
    const told = answer.lines.slice(1).filter((line) => TOLD.test(line));
    return printable(`${replyText(greeting)} (${told.length === 0 ? 'no extensions' : told.join(', ')})`, 300);
  } finally {
    channel.abort(new LinkError('done', { code: 'aborted', layer: 'channel' }));
  }
}

/** The channel's replies one by one; `next` rejects when there is none. */
function readReplies(channel: Channel, env: Env, skipNoise: boolean): { next(): Promise<Reply> } {
  const parser = createReplyParser({ skipNoise });
  channel.stream.on('error', () => {});
  const chunks = (channel.stream as AsyncIterable<Buffer>)[Symbol.asyncIterator]();
  const ready: Reply[] = [];
  return {
    async next() {
      for (;;) {
        const reply = ready.shift();
        if (reply !== undefined) return reply;
        const { done, value } = await chunks.next();
        if (done === true) throw await endedEarly(channel, env);
        for (const event of parser.push(value)) {
          if (event.type === 'malformed') {
            const line = printable(JSON.stringify(event.line), 200);
            throw new DeliveryError(`what answers is no SMTP server: ${line}`, { code: 'protocol' });
          }
          ready.push(event.reply);
        }
      }
    },
  };
}

async function endedEarly(channel: Channel, env: Env): Promise<Error> {
  const stop = new AbortController();
  const exit = await Promise.race([channel.exit, sleep(env, LAST_WORDS_MS, stop.signal).catch(() => undefined)]);
  stop.abort();
  if (exit?.type === 'lost') return exit.error;
  const words = channel.stderrTail().toString('utf8').trim();
  const tail = words === '' ? '' : `: ${printable(words.split('\n').slice(-3).join(' / '), 300)}`;
  const how = exit?.type === 'exit' ? ` with status ${exit.code}` : '';
  return new DeliveryError(`the far SMTP command ended${how} before its greeting${tail}`, { code: 'command' });
}

function refused(what: string, reply: Reply): DeliveryError {
  return new DeliveryError(`${what}: ${printable(replyText(reply), 200)}`, { code: 'refused', reply });
}
