/** Session after session, as long as each gets somewhere, until the batch is exhausted; what no session settles is told, once. */
import {
  type Channel,
  type ClientOptions,
  type Courier,
  type CourierReport,
  type Entry,
  type EntryId,
  type Env,
  type Outcome,
  printable,
  type Recipient,
  raceAbort,
  type WaitingFor,
} from '@postern/core';
import { DeliveryError } from './error.ts';
import type { OnCourierEvent } from './event.ts';
import { type Job, JobSource } from './jobs.ts';
import { runSession } from './session.ts';
import type { Look, SessionResult, Upgrade } from './session-options.ts';

/** What makes one kind of courier. */
export interface SessionsOptions {
  /** Opens what the next session runs over. `receipt`: what the far side may keep. */
  open(o: { signal: AbortSignal; receipt: string | undefined }): Promise<Channel>;
  /** The client of the next session, after the channel is open. */
  client(): Promise<ClientOptions>;
  /** A name for the receipt of the next session; undefined where none can be kept. */
  receiptName(): string | undefined;
  /** The far side refuses what would keep a receipt, so that there are none from now on; or it refuses whatever comes, and nothing is known. */
  receiptRefused(refused: boolean): void;
  /** What became of an entry's earlier attempts is told to `report`; returns the recipients to send to. */
  prepare(entry: Entry, report: CourierReport): Promise<readonly Recipient[]>;
  readonly skipNoise: boolean;
  readonly windows: { readonly receipt: number; readonly none: number };
  /** Runs the TLS handshake over the session's stream. */
  readonly upgrade?: Upgrade;
  readonly env: Env;
  readonly onEvent: OnCourierEvent;
}

interface Result extends SessionResult {
  /** The next session may fare better, and at once: it does without a receipt. */
  readonly again: boolean;
}

/** What the entries of one batch wait for. */
interface Waits {
  session: Look;
  readonly receipts: Map<EntryId, Look>;
}

interface Turn {
  /** Of the session, from 1. */
  readonly number: number;
  readonly waits: Waits;
}

const NOTHING: Look = () => undefined;

function stopwatch(env: Env, what: WaitingFor): Look {
  const since = env.monotonicNow();
  return () => ({ for: what, ms: env.monotonicNow() - since });
}

/** How often an entry may come back from sessions that ended before it had its turn. */
const MAX_RETURNS = 10;

/** A courier that runs session after session, as long as each gets somewhere, until the batch is exhausted. */
export function createSessions(o: SessionsOptions): Courier {
  const run = async (source: JobSource, report: CourierReport, { number, waits }: Turn): Promise<Result> => {
    const { env, onEvent, skipNoise, windows, upgrade } = o;
    const receipt = o.receiptName();
    waits.session = stopwatch(env, 'channel');
    const client = { ...(await raceAbort(o.client(), report.signal)), careful: number > 1 };
    const channel = await o.open({ signal: report.signal, receipt });
    onEvent({ type: 'open', session: number });
    const result = await runSession({
      ...{ channel, number, client, receipt, windows, upgrade, skipNoise, source, report, env, onEvent },
      waits: (look) => {
        waits.session = look;
      },
    });
    waits.session = NOTHING;
    const { settled, wrapped: _, ...rest } = result;
    onEvent({ type: 'closed', session: number, settled, ...('error' in rest ? { error: rest.error } : {}) });
    const refused = receipt !== undefined && !result.wrapped && isEndedCommand(result.error);
    if (isEndedCommand(result.error)) o.receiptRefused(refused);
    return { ...result, again: refused };
  };
  return async (batch, report) => {
    const waits: Waits = { session: NOTHING, receipts: new Map() };
    report.waits?.((id) => (waits.receipts.get(id) ?? waits.session)(id));
    const source = new JobSource(batch, async (entry) => {
      if (entry.unresolved.length > 0) waits.receipts.set(entry.id, stopwatch(o.env, 'receipt'));
      return o.prepare(entry, report).finally(() => waits.receipts.delete(entry.id));
    });
    try {
      for (let number = 1; !(await isDone(source, report.signal)); number++) {
        report.signal.throwIfAborted();
        const result = await run(source, report, { number, waits });
        if ('error' in result && !result.again && !mayGoOn(result, report.signal)) throw result.error;
        await giveUp(source, report, (job) => job.returns >= MAX_RETURNS);
      }
    } catch (error) {
      await giveUp(source, report, () => true, error);
      throw error;
    } finally {
      source.close();
    }
  };
}

/** What a forced command or an allow-list does to a command that it does not know: it ends before it greets. */
function isEndedCommand(error: unknown): boolean {
  return error instanceof DeliveryError && error.code === 'command';
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
