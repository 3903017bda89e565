/** The SMTP layers of a check. */
import { deadline, type Env, formatTarget, type Link, LinkError, quoteAll, runFar } from '@postern/core';
import { DeliveryError, findSmtp, greetSmtp, protocolOf } from '@postern/smtp';
import { PosternError } from '../base/errors.ts';
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

/** Octets of a listing that are read: some 10,000 receipts. */
const MAX_LISTING = 1_048_576;

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

/** A receipt is removed with its session, or when it was asked for; what is older than an hour was left behind. One line for each: its size. */
const LEFT = 'find "$HOME/.postern/receipts" -type f -mmin +60 -exec ls -ln {} + 2>/dev/null';

/** Receipts that nobody fetched, and what they take. A far side that cannot tell has no warning. */
async function receiptWarnings({ link, env, timeoutMs }: SmtpCheck): Promise<string[]> {
  using limit = deadline(env, timeoutMs, { reason: () => new Error('no answer') });
  const script = quoteAll(['sh', '-c', LEFT]);
  const ran = await runFar(link, script, { signal: limit.signal, maxOctets: MAX_LISTING }).catch(() => undefined);
  const sizes = (ran?.output.toString('latin1') ?? '').match(/^-\S+ +\d+ +\d+ +\d+ +\d+(?= )/gm) ?? [];
  if (sizes.length === 0) return [];
  const octets = sizes.reduce((sum, line) => sum + Number(/\d+$/.exec(line)?.[0] ?? 0), 0);
  const what = sizes.length === 1 ? 'a receipt was' : `${sizes.length} receipts were`;
  return [
    `${what} left over there by sessions that broke off (~/.postern/receipts, ${formatOctets(octets)}); they go by themselves after 14 days`,
  ];
}

function formatOctets(octets: number): string {
  return octets < 1024 * 1024 ? `${Math.ceil(octets / 1024)} KiB` : `${Math.ceil(octets / 1024 / 1024)} MiB`;
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
