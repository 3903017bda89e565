import { type Env, formatTarget, type Link, LinkError, printable, quoteAll, runFar, type Target } from '@postern/core';
import { DeliveryError } from './error.ts';
import { greetSmtp } from './greet.ts';
import { wayOf } from './way.ts';

/** One way that was tried. */
export interface SmtpTrial {
  readonly target: Target;
  readonly works: boolean;
  /** What it said, or why it does not work, or what speaks against it. One line, escaped. */
  readonly detail: string;
}

/** What {@link findSmtp} found: the best way, if any, and all that was tried before, best first. */
export interface SmtpProbe {
  readonly target: Target | undefined;
  readonly trials: readonly SmtpTrial[];
}

/** Where mailers lie that are not in a user's PATH. */
const PATHS = '$PATH:/usr/sbin:/usr/lib:/usr/libexec:/sbin:/usr/local/sbin';
/** Programs to look for; the first of each kind is tried. */
const NETCATS: readonly string[] = ['netcat', 'nc', 'ncat'];
const MAX_OUTPUT_OCTETS = 4096;

/**
 * Finds how mail gets into the far host, best first: netcat to its port 25 (which keeps receipts), the same by sshd itself, `sendmail -bs`, and as
 * a last resort `sendmail -i`, whose exit status is all it says. Rejects with `LinkError` when there is no link.
 */
export async function findSmtp(
  link: Link,
  o: { env: Env; timeoutMs: number; signal: AbortSignal },
): Promise<SmtpProbe> {
  const programs = await listPrograms(link, o.signal);
  const trials: SmtpTrial[] = [];
  for (const target of candidates(programs)) {
    const trial = await attempt(link, target, o);
    trials.push(trial);
    if (trial.works) return { target, trials };
  }
  return { target: undefined, trials };
}

function candidates(programs: ReadonlyMap<string, string>): Target[] {
  const netcat = NETCATS.find((name) => programs.has(name));
  const sendmail = programs.get('sendmail');
  const exec = (command: string): Target => ({ type: 'exec', command });
  return [
    ...(netcat === undefined ? [] : [exec(`${netcat} localhost ${netcat === 'netcat' ? 'smtp' : '25'}`)]),
    { type: 'tcp', host: 'localhost', port: 25 },
    ...(sendmail === undefined ? [] : [exec(`${sendmail} -bs`), exec(`${sendmail} -i`)]),
  ];
}

async function attempt(link: Link, target: Target, o: { env: Env; timeoutMs: number }): Promise<SmtpTrial> {
  if (wayOf(target) === 'submit') {
    const detail = 'the last resort: tells no recipient from another, and reports refusals by mail';
    return { target, works: true, detail };
  }
  try {
    return { target, works: true, detail: await greetSmtp(link, target, o) };
  } catch (error) {
    const behind = error instanceof DeliveryError || (error instanceof LinkError && error.layer === 'channel');
    if (!behind) throw error;
    return { target, works: false, detail: printable(`${formatTarget(target)}: ${error.message}`) };
  }
}

/** Names found over there, and where. */
async function listPrograms(link: Link, signal: AbortSignal): Promise<Map<string, string>> {
  const names = [...NETCATS, 'sendmail'];
  const script = `PATH="${PATHS}"; for p in "$@"; do w=$(command -v "$p") && echo "postern found $p $w"; done; exit 0`;
  const command = quoteAll(['sh', '-c', script, 'sh', ...names]);
  const { output } = await runFar(link, command, { signal, maxOctets: MAX_OUTPUT_OCTETS });
  const found = output.toString('latin1').matchAll(/^postern found (\S+) ([\w./-]+)\r?$/gm);
  return new Map([...found].map(([, name = '', path = '']) => [name, path]));
}
