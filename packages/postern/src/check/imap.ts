/** The IMAP layers of a check: a far imapd, its PREAUTH, and a mailbox that opens; a session is good when INBOX is. */
import { type Channel, deadline, type Env, type Link, LinkError, lastWords, printable, raceAbort } from '@postern/core';
import { createImapd } from '@postern/imap';
import { PosternError } from '../base/errors.ts';
import { LAYER_MS, timeout } from './layer.ts';
import type { CheckLayer } from './report.ts';

/** Most of an answer that is read, octets. */
const ANSWER_MAX = 64 * 1024;

/** What {@link checkImap} needs. */
export interface ImapCheck {
  /** The configured far command; absent: it is looked for. */
  readonly command: string | undefined;
  readonly env: Env;
  /** A layer is tried. */
  begin(layer: CheckLayer): void;
  /** It held. */
  pass(layer: CheckLayer, detail: string): void;
}

/** Tries the layers. Rejects with `ImapError`, `LinkError` or `PosternError`: why the layer begun last fails. */
export async function checkImap(link: Link, o: ImapCheck): Promise<void> {
  let found = o.command;
  const imapd = createImapd({
    link,
    spare: 0,
    env: o.env,
    ...(o.command === undefined ? {} : { command: o.command }),
    onEvent(event) {
      if (event.type === 'imapd-found') found = event.command;
    },
  });
  using limit = deadline(o.env, LAYER_MS * 2, { reason: () => timeout('imapd') });
  try {
    const { session } = await imapd.take({ signal: limit.signal });
    o.pass('imapd', found ?? 'imapd');
    o.pass('preauth', printable(session.greeting.toString('latin1').trim(), 100));
    o.begin('inbox');
    try {
      o.pass('inbox', await examine(session.channel, { env: o.env, host: link.host }));
    } finally {
      // Its end is enough for imapd; a signal could come to one that is over. What still runs goes with the connection.
      session.channel.stream.end();
      session.channel.stream.resume();
    }
  } finally {
    await imapd.close();
  }
}

/** EXAMINE changes nothing (RFC 3501 §6.3.2). Resolves with the number of messages. */
async function examine(channel: Channel, o: { env: Env; host: string }): Promise<string> {
  using limit = deadline(o.env, LAYER_MS, { reason: () => timeout('inbox') });
  channel.stream.write('check EXAMINE INBOX\r\n');
  const answer = await raceAbort(readAnswer(channel), limit.signal);
  const [, result, text = ''] = /^check (OK|NO|BAD)\b ?(.*?)\r?$/im.exec(answer) ?? [];
  if (result?.toUpperCase() === 'OK') {
    const [, count = '?'] = /^\* (\d+) EXISTS/im.exec(answer) ?? [];
    return `${count} ${count === '1' ? 'message' : 'messages'}`;
  }
  const said = result === undefined ? await endingOf(channel, answer, o.env) : `${result} ${text}`;
  throw new PosternError('unavailable', `INBOX does not open: ${printable(said, 300)}`, {
    fix: `the far log says why; in Dovecot's configuration look at mail_driver and mail_path (2.4), mail_location (2.3): \`ssh ${o.host} doveconf -n\``,
  });
}

/** Up to the tagged response, or what there was when it ended. Rejects with the `LinkError` of a lost link. */
function readAnswer({ stream }: Channel): Promise<string> {
  return new Promise((resolve, reject) => {
    let answer = '';
    stream.on('data', (chunk: Buffer) => {
      answer += chunk.toString('latin1');
      if (/^check (OK|NO|BAD)\b.*\r?\n/im.test(answer) || answer.length > ANSWER_MAX) resolve(answer);
    });
    stream.once('end', () => resolve(answer));
    stream.once('error', (error) => (error instanceof LinkError ? reject(error) : resolve(answer)));
    stream.resume();
  });
}

/** The last line of its stderr, else of its output. */
async function endingOf(channel: Channel, answer: string, env: Env): Promise<string> {
  const { stderr } = await lastWords(channel, env);
  const words = [stderr, answer].map((text) => text.trim().split('\n').at(-1) ?? '');
  return words.find((text) => text !== '') ?? 'the session ended without a word';
}
