/** Asks an MTA to run its queue (RFC 1985): one reply a domain, and a refusal is one too. */
import { deadline, type Env, type Link, replyClass, replyText, type Target } from '@postern/core';
import { converse } from './conversation.ts';
import { DeliveryError } from './error.ts';

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
 * Asks the far MTA to run its queue for these domains. Resolves with its replies, one a domain, on one line each. Rejects when no SMTP
 * server answers, or it is out of step.
 */
export async function requestQueueRun(o: EtrnOptions): Promise<string[]> {
  const silent = (): Error => new DeliveryError(`no answer in ${ETRN_MS / 1000} s`, { code: 'timeout' });
  using limit = deadline(o.env, ETRN_MS, { parent: o.signal, reason: silent });
  const session = await converse(o.link, o.target, { env: o.env, signal: limit.signal });
  try {
    const greeting = await session.greeting();
    if (greeting.code !== 220) return [replyText(greeting)];
    const hello = await session.ask(`EHLO ${o.helo}`, 'hello');
    if (replyClass(hello) !== 2) return [replyText(hello)];
    const answers: string[] = [];
    for (const domain of o.domains) {
      answers.push(`${domain}: ${replyText(await session.ask(`ETRN ${domain}`, 'etrn'))}`);
    }
    return answers;
  } finally {
    await session.farewell();
  }
}
