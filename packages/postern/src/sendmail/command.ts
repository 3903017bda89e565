/** `postern sendmail`: what it is given is spooled, or it says why not and exits by sysexits.h. */

import { printable, printableJson, SpoolError } from '@postern/core';
import { PosternError } from '../base/errors.ts';
import { askDaemon, configOf } from '../cli/context.ts';
import { parseSendmailArgs, type SendmailRequest } from './args.ts';
import { KeptInput } from './dead-letter.ts';
import { formatMailq } from './mailq.ts';
import type { SendmailOptions } from './options.ts';

const HELP = `Usage: postern sendmail [-t] [-i] [-f ADDRESS] [-F NAME] [-N WHEN] [--] [ADDRESS...]
       postern sendmail -bs | -bp | -q[IID] | -bi

Takes a message on standard input into the spool, as other sendmails do. Under the name sendmail, mailq or newaliases (a
symlink to postern) it is that program. See docs/sendmail.md.
`;

/** Runs a sendmail call to its end and resolves with its exit status, from sysexits.h. Never rejects. */
export async function runSendmail(o: SendmailOptions): Promise<number> {
  let json = o.words.includes('--json');
  await using input = new KeptInput(o.stdin);
  let request: SendmailRequest | undefined;
  try {
    const args = parseSendmailArgs(o.words, o.name);
    json = args.json;
    request = args.request;
    await perform(request, args.config, json, { ...o, message: input.read() });
    return 0;
  } catch (error) {
    const { code, message, fix, status } = asPosternError(error);
    const kept = request?.type === 'submit' ? await keep(input, request.sender, o.surroundings) : undefined;
    if (json) o.output.err(`${printableJson({ event: 'error', code, message, fix, status, ...kept?.member })}\n`);
    else {
      o.output.err(`${o.name}: ${printable(message)}\n${fix === undefined ? '' : `  fix: ${fix}\n`}`);
      if (kept !== undefined) o.output.err(`${o.name}: ${printable(kept.words)}\n`);
    }
    return status;
  }
}

/** Keeps what was not taken, and says where. Never rejects. */
async function keep(
  input: KeptInput,
  sender: string | undefined,
  { home, uid, env }: SendmailOptions['surroundings'],
): Promise<{ words: string; member: { deadLetter?: string } } | undefined> {
  try {
    const path = await input.keep({ home, uid, sender: sender || env.LOGNAME || env.USER || '', at: new Date() });
    return path === undefined ? undefined : { words: `the message was kept in ${path}`, member: { deadLetter: path } };
  } catch (error) {
    return { words: `the message could not be kept in dead.letter: ${(error as Error).message}`, member: {} };
  }
}

/** No room may be there in a minute, a disk that fails will not mend itself. */
function asPosternError(error: unknown): PosternError {
  if (error instanceof PosternError) return error;
  if (error instanceof SpoolError) {
    return new PosternError(error.code === 'io' ? 'io' : 'temporary', `not accepted: ${error.message}`, {
      cause: error,
    });
  }
  const message = error instanceof Error ? error.message : String(error);
  return new PosternError('software', `a fault of Postern itself: ${message}`, { cause: error });
}

async function perform(
  request: SendmailRequest,
  configFile: string | undefined,
  json: boolean,
  o: SendmailOptions & { readonly message: AsyncIterable<Uint8Array> },
): Promise<void> {
  if (request.type === 'help') return o.output.out(HELP);
  if (request.type === 'version') return o.output.out(`${o.version}\n`);
  if (request.type === 'newaliases') return;
  const options = { json, ...(configFile === undefined ? {} : { config: configFile }) };
  const asker = { surroundings: o.surroundings, options };
  if (request.type === 'mailq') {
    const { queueRows } = await import('../cli/queue.ts');
    const rows = await queueRows(asker);
    return o.output.out(json ? `${printableJson(rows)}\n` : formatMailq(rows));
  }
  if (request.type === 'flush') {
    await askDaemon(asker, 'queue.flush', request.id === undefined ? {} : { what: request.id });
    return;
  }
  const { takeMail } = await import('./take-mail.ts');
  await takeMail(request, await configOf(asker), o, json);
}
