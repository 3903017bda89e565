/** What takes mail on a host is found by trying the candidates, best first, with a greeting and no message. */
import { type Env, formatTarget, type Link, LinkError, printable, runFar, type Target } from '@postern/core';
import { candidates, listCommand, readPrograms } from './candidates.ts';
import { DeliveryError } from './error.ts';
import { greetSmtp } from './greet.ts';
import { protocolOf } from './protocol.ts';

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

const MAX_OUTPUT_OCTETS = 4096;

/**
 * Finds how mail gets into the far host, best first. Rejects with `LinkError` when there is no link.
 */
export async function findSmtp(
  link: Link,
  o: { env: Env; timeoutMs: number; signal: AbortSignal },
): Promise<SmtpProbe> {
  const { output } = await runFar(link, listCommand(), { signal: o.signal, maxOctets: MAX_OUTPUT_OCTETS });
  const programs = readPrograms(output.toString('latin1'));
  const trials: SmtpTrial[] = [];
  for (const target of candidates(programs)) {
    const trial = await attempt(link, target, o);
    trials.push(trial);
    if (trial.works) return { target, trials };
  }
  return { target: undefined, trials };
}

async function attempt(link: Link, target: Target, o: { env: Env; timeoutMs: number }): Promise<SmtpTrial> {
  if (protocolOf(target) === 'submit') {
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
