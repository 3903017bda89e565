/** Opens sessions with the command given, or with the first candidate that greets with PREAUTH. */
import { randomBytes } from 'node:crypto';
import { type Env, type Link, parseTarget, printable, type Target } from '@postern/core';
import { CANDIDATES, probeCommand, probedIndex, withoutMark } from './candidates.ts';
import { ImapError } from './errors.ts';
import type { OnImapEvent } from './event.ts';
import { isNoted, notedCommand } from './fence.ts';
import { GreetingError, type OpenOptions, openSession, type Session } from './session.ts';

/** How much of a command a message shows, characters. */
const MAX_LABEL = 60;

/** Opens one more session each time it is called. Remembers what was found; rejects as `openSession` does. */
export type OpenNext = (signal: AbortSignal) => Promise<Session>;

/** What {@link sessionOpener} needs. `command` as configuration writes a target (see `parseTarget`). */
export interface OpenerOptions {
  readonly link: Link;
  readonly command?: string;
  readonly env: Env;
  readonly onEvent: OnImapEvent;
  /** Sessions are noted over there, so that a lost one can be proven over. */
  readonly noted?: boolean;
}

/** Makes an {@link OpenNext}. Throws `RangeError` when `command` is no target. */
export function sessionOpener(o: OpenerOptions): OpenNext {
  const attempt = provingOpener(o);
  return o.command === undefined ? searching(o, attempt) : given(attempt, o.command);
}

type Attempt = (target: Target, label: OpenOptions['label'], signal: AbortSignal) => Promise<Session>;

/** Until a session has answered a question, and again after a failure, a greeting alone is not trusted. */
function provingOpener(o: OpenerOptions): Attempt {
  let proven = false;
  return async (asked, label, signal) => {
    const token = o.noted === true && asked.type === 'exec' ? randomBytes(12).toString('hex') : undefined;
    const target: Target =
      token === undefined || asked.type !== 'exec'
        ? asked
        : { type: 'exec', command: notedCommand(asked.command, token) };
    try {
      const opened = await openSession({ link: o.link, env: o.env, target, label, signal, prove: !proven });
      const session = token !== undefined && isNoted(opened.skipped) ? { ...opened, token } : opened;
      proven = true;
      const lines = withoutMark(session.skipped);
      if (lines.length > 0) o.onEvent({ type: 'noise', host: o.link.host, lines });
      return session;
    } catch (error) {
      proven = false;
      throw error;
    }
  };
}

function given(attempt: Attempt, command: string): OpenNext {
  const target = parseTarget(command);
  const label = `"${printable(command, MAX_LABEL)}"`;
  return (signal) => attempt(target, () => label, signal);
}

function searching(o: OpenerOptions, attempt: Attempt): OpenNext {
  const label: OpenOptions['label'] = (lines) => `"${CANDIDATES[probedIndex(lines) ?? -1] ?? 'sh'}"`;
  let found: number | undefined;
  const remember = (index: number | undefined): void => {
    if (index !== undefined && index !== found) {
      o.onEvent({ type: 'imapd-found', host: o.link.host, command: CANDIDATES[index] ?? '' });
    }
    found = index;
  };
  return async (signal) => {
    let failure: ImapError | undefined;
    for (let from = found ?? 0; from < CANDIDATES.length; ) {
      try {
        const session = await attempt({ type: 'exec', command: probeCommand(from) }, label, signal);
        remember(probedIndex(session.skipped) ?? from);
        return session;
      } catch (error) {
        if (!(error instanceof GreetingError)) throw error;
        found = undefined;
        const started = probedIndex(error.skipped);
        if (started === undefined) throw failure ?? (error.code === 'no-imapd' ? noneFound(o.link.host, error) : error);
        failure ??= error;
        from = started + 1;
        // A silent one has used up the time there is: the next attempt starts behind it.
        if (error.code === 'silent') {
          found = from < CANDIDATES.length ? from : undefined;
          break;
        }
      }
    }
    throw failure ?? noneFound(o.link.host, undefined);
  };
}

function noneFound(host: string, cause: unknown): ImapError {
  return new ImapError('no-imapd', `no imapd found on ${host}; looked for ${CANDIDATES.join(', ')}`, { cause });
}
