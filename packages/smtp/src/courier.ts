import {
  type Courier,
  type CourierReport,
  type Dialogue,
  type Env,
  type Link,
  type Outcome,
  printable,
  STREAM_WINDOW,
  type Target,
} from '@postern/core';
import { DeliveryError } from './error.ts';
import type { OnCourierEvent } from './event.ts';
import { type Job, JobSource } from './jobs.ts';
import { newReceiptName, receiptCommand } from './receipt.ts';
import { Resolver } from './resolve.ts';
import { runSession, type SessionResult } from './session.ts';

/** What {@link createCourier} needs. */
export interface CourierOptions {
  readonly link: Link;
  /** What speaks SMTP on its standard input and output, or at its socket; a Unix socket is spoken to in LMTP. */
  readonly target: Target;
  /** `auto` when absent. */
  readonly dialogue?: Dialogue;
  /** The name for EHLO: a domain or an address literal. */
  readonly helo: string;
  readonly env: Env;
  /** Messages unanswered at most while streaming; when absent, 25 where receipts work and 5 elsewhere. */
  readonly window?: number;
  /** SMTP, but LMTP for `unix` targets, when absent. */
  readonly protocol?: 'smtp' | 'lmtp';
  /** Let far commands keep receipts of their replies, which tell what became of a message when the link was lost. True when absent. */
  readonly receipts?: boolean;
  readonly onEvent?: OnCourierEvent;
}

/** Messages unanswered at most where no receipt is kept. */
export const WINDOW_WITHOUT_RECEIPT = 5;

/** How often an entry may come back from sessions that ended before it had its turn. */
const MAX_RETURNS = 10;

/**
 * Makes a courier that delivers over channels of `link`. Does no I/O itself; each call opens its own session, and another when
 * the far side ends one that had brought outcomes. Rejects with `LinkError` or {@link DeliveryError} when there is no session.
 */
export function createCourier(o: CourierOptions): Courier {
  const onEvent = o.onEvent ?? ((): void => {});
  const protocol = o.protocol ?? (o.target.type === 'unix' ? 'lmtp' : 'smtp');
  const dialogue = o.dialogue ?? 'auto';
  const withReceipts = o.receipts !== false && protocol === 'smtp' && o.target.type === 'exec' && dialogue !== 'bsmtp';
  const windows = { receipt: o.window ?? STREAM_WINDOW, none: o.window ?? WINDOW_WITHOUT_RECEIPT };
  const run = async (source: JobSource, report: CourierReport, number: number): Promise<SessionResult> => {
    const receipt = withReceipts ? newReceiptName() : undefined;
    const target = receipt === undefined ? o.target : wrap(o.target, receipt);
    const channel = await o.link.open(target, { signal: report.signal });
    onEvent({ type: 'open', session: number });
    const result = await runSession({
      ...{ channel, number, source, report, onEvent, env: o.env, skipNoise: o.target.type === 'exec' },
      ...{ receipt, windows },
      client: {
        helo: o.helo,
        dialogue,
        protocol,
        window: windows.receipt,
        careful: number > 1,
      },
    });
    const { settled, ...rest } = result;
    onEvent({ type: 'closed', session: number, settled, ...('error' in rest ? { error: rest.error } : {}) });
    return result;
  };
  return async (batch, report) => {
    const resolver = new Resolver(o.link, report);
    const source = new JobSource(batch, (entry) => resolver.prepare(entry));
    try {
      for (let number = 1; !(await isDone(source, report.signal)); number++) {
        report.signal.throwIfAborted();
        const result = await run(source, report, number);
        if ('error' in result && !mayGoOn(result, report.signal)) throw result.error;
        await giveUp(source, report, (job) => job.returns >= MAX_RETURNS);
      }
    } catch (error) {
      await giveUp(source, report, () => true, error);
      throw error;
    } finally {
      source.close();
      void resolver.forget().catch(() => {});
    }
  };
}

function wrap(target: Target, name: string): Target {
  return target.type === 'exec' ? { type: 'exec', command: receiptCommand(target.command, name) } : target;
}

/** Waits for the first entry, so that no session is opened for an empty batch. */
async function isDone(source: JobSource, signal: AbortSignal): Promise<boolean> {
  await new Promise<void>((resolve, reject) => {
    const onAbort = (): void => resolve();
    signal.addEventListener('abort', onAbort, { once: true });
    if (signal.aborted) resolve();
    source
      .ready()
      .then(resolve, reject)
      .finally(() => signal.removeEventListener('abort', onAbort));
  });
  return source.done;
}

/** Another session is worth it when this one got somewhere and it is the server that ended it, not the link. */
function mayGoOn({ error, settled }: SessionResult, signal: AbortSignal): boolean {
  const ended = error instanceof DeliveryError && ['closed', 'protocol', 'message'].includes(error.code);
  return ended && settled > 0 && !signal.aborted;
}

/** Jobs that came back and will not be sent now: those whose attempt is recorded are deferred, the others were never begun. */
async function giveUp(
  source: JobSource,
  report: CourierReport,
  which: (job: Job) => boolean,
  error?: unknown,
): Promise<void> {
  for (const job of source.drain()) {
    if (!which(job)) {
      source.putBack(job);
      continue;
    }
    if (job.attempt.recorded === undefined && error !== undefined) continue;
    const told = error instanceof Error ? error.message : 'the far side kept closing the session';
    const outcome: Outcome = { type: 'deferred', reason: printable(job.reason ?? told) };
    job.attempt.recorded ??= report.attempting(job.entry.id, {});
    await job.attempt.recorded;
    for (const { to } of job.recipients) await report.outcome(job.entry.id, to, outcome);
  }
}
