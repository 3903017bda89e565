/** The SMTP layers of a check. */
import { deadline, type Env, formatTarget, type Link, LinkError, quoteAll, runFar } from '@postern/core';
import { DeliveryError, findLeftReceipts, findSmtp, greetSmtp, protocolOf } from '@postern/smtp';
import { PosternError } from '../base/errors.ts';
import { formatOctets } from '../base/text.ts';
import { smtpTarget } from '../config/host.ts';
import type { HostValues, RouteValues } from '../config/schema.ts';
import { netcatWarnings } from './netcat.ts';

/** What {@link checkSmtp} needs. */
export interface SmtpCheck {
  readonly link: Link;
  /** `[host.NAME]`; absent when there is none. */
  readonly values: HostValues | undefined;
  readonly routes: readonly RouteValues[];
  readonly env: Env;
  readonly timeoutMs: number;
  /** The name couriers greet with. */
  readonly helo: string;
}

/** Tries what takes mail on a host. Resolves with what was found and what should be changed; rejects with why it does not work. */
export async function checkSmtp(o: SmtpCheck): Promise<{ detail: string; warnings: readonly string[] }> {
  const target = smtpTarget(o.values);
  const protocol = protocolOf(target);
  if (target.type !== 'exec') return { detail: await greetSmtp(o.link, target, o), warnings: bsmtpWarnings(o) };
  if (protocol === 'smtp' || protocol === 'lmtp') {
    const detail = await greetSmtp(o.link, target, o).catch((error: unknown) => suggest(error, o));
    const left = protocol === 'smtp' ? await receiptWarnings(o) : [];
    return { detail, warnings: [...netcatWarnings(target.command), ...bsmtpWarnings(o), ...left] };
  }
  await mustExist(target.command, o);
  const does = protocol === 'bsmtp' ? 'reads batches' : 'takes one message a run';
  return { detail: `\`${target.command}\` ${does}`, warnings: [SAYS_NOTHING] };
}

const SAYS_NOTHING =
  'it answers nothing: its exit status is all there is to know, and a refused recipient comes back as a bounce (`sendmail -bs`, where there is one, tells)';

/** A server that refused a recipient reads the message as commands: Postfix 3.7 took 49 of 100 messages that way. */
function bsmtpWarnings({ routes, link }: SmtpCheck): string[] {
  const asked = routes.some((route) => route.host === link.host && route.dialogue === 'bsmtp');
  return asked
    ? [
        'a route here says dialogue = "bsmtp", which writes everything before any reply is read: toward an SMTP server the first refused recipient leaves all that follows uncertain (leave it out)',
      ]
    : [];
}

/** Receipts that nobody fetched, and what they take. A far side that cannot tell has no warning. */
async function receiptWarnings({ link, env, timeoutMs }: SmtpCheck): Promise<string[]> {
  using limit = deadline(env, timeoutMs, { reason: () => new Error('no answer') });
  const left = await findLeftReceipts(link, { signal: limit.signal }).catch(() => undefined);
  if (left === undefined || left.count === 0) return [];
  const what = left.count === 1 ? 'a receipt was' : `${left.count} receipts were`;
  return [
    `${what} left over there by sessions that broke off (~/.postern/receipts, ${formatOctets(left.octets)}); they go by themselves after 14 days`,
  ];
}

/** Where nothing was configured and the usual way fails, there may be another. */
async function suggest(error: unknown, o: SmtpCheck): Promise<never> {
  const behind = error instanceof DeliveryError || (error instanceof LinkError && error.layer === 'channel');
  // What a server has against our name it has however it is reached.
  const named = error instanceof Error && error.message.includes('[smtp] helo');
  if (!behind || named || o.values?.smtp !== undefined) throw error;
  using limit = deadline(o.env, o.timeoutMs, { reason: () => error });
  const found = await findSmtp(o.link, { ...o, signal: limit.signal }).catch(() => undefined);
  if (found?.target === undefined) throw error;
  const fix = `[host.${o.link.host}] smtp = ${JSON.stringify(formatTarget(found.target))}`;
  throw new PosternError('unavailable', error.message, { fix, cause: error });
}

async function mustExist(command: string, { link, env, timeoutMs }: SmtpCheck): Promise<void> {
  const [program = ''] = command.trim().split(/\s+/);
  const timeout = (): Error => new DeliveryError(`no answer in ${timeoutMs / 1000} s`, { code: 'timeout' });
  using limit = deadline(env, timeoutMs, { reason: timeout });
  const script = quoteAll(['sh', '-c', 'command -v "$1" >/dev/null', 'sh', program]);
  const { exit } = await runFar(link, script, { signal: limit.signal, maxOctets: 0 });
  if (exit.type !== 'exit' || exit.code !== 0) {
    throw new DeliveryError(`there is no ${program} over there`, { code: 'command' });
  }
}
