/**
 * A sender is told once, whenever the process dies: a DSN's name is recorded before it is made, and no courier gets it
 * before it is recorded that it is there.
 */
import {
  defined,
  type EntryId,
  type EntryState,
  type Env,
  entryTime,
  type ForwardPath,
  newEntryId,
  type Outcome,
  type ReversePath,
  type Spool,
} from '@postern/core';
import { isGone } from '../errors.ts';
import type { OnRelayEvent } from '../event.ts';
import type { CompiledRoutes } from '../route/routes.ts';
import { buildDsn, type Dsn, type DsnKind, type DsnRecipient, wantsDsn } from './dsn.ts';

/**
 * Where notifications are kept that cannot be sent; resolves to a name when it is durable. What is kept twice as the
 * same `id` is there once.
 */
export interface Bounces {
  deliver(message: AsyncIterable<Uint8Array>, id: EntryId): Promise<string>;
}

/** Starts the reason of a failure for lack of time. */
export const EXPIRED = 'delivery time expired';

/** Options of {@link Notices}. */
export interface NoticesOptions {
  readonly spool: Spool;
  readonly routes: () => CompiledRoutes;
  readonly bounces: Bounces;
  readonly env: Env;
  readonly hostname: string;
  readonly onEvent: OnRelayEvent;
  /** Lets no courier have this entry, until it is released. */
  readonly withhold: (id: EntryId) => void;
  readonly release: (id: EntryId) => void;
}

/** Tells senders what became of their mail (RFC 3461, RFC 3464). */
export class Notices {
  readonly #o: NoticesOptions;

  constructor(o: NoticesOptions) {
    this.#o = o;
  }

  /** Tells what is final and not told yet, and ends what a crash interrupted. */
  async final(id: EntryId): Promise<void> {
    await this.#resume(id);
    const state = this.#o.spool.get(id);
    const due = state === undefined ? [] : untold(state);
    if (state === undefined || due.length === 0) return;
    if (state.envelope.from === '') {
      const failed = due.filter(({ kind }) => kind !== 'relayed').map(({ recipient }) => recipient.to);
      if (failed.length > 0) await this.#keep(state, failed);
      return;
    }
    for (const kind of ['failed', 'expired', 'relayed'] as const) {
      const recipients = due.filter((each) => each.kind === kind && wantsDsn(each.recipient, kind));
      if (recipients.length > 0) await this.#tell(state, { kind, recipients });
    }
  }

  /** Tells that it takes longer, once. `retryUntil` is wall clock, ms. */
  async delayed(id: EntryId, { host, retryUntil }: { host: string; retryUntil: number }): Promise<void> {
    const state = this.#o.spool.get(id);
    if (state === undefined || state.delayNotified || state.envelope.from === '') return;
    const recipients = described(state)
      .filter(({ outcome }) => outcome.type === 'deferred' || outcome.type === 'uncertain')
      .filter(({ recipient }) => wantsDsn(recipient, 'delayed'))
      .map((each) => ({ ...each, host }));
    if (recipients.length > 0) await this.#tell(state, { kind: 'delayed', recipients, retryUntil });
  }

  /** What was being told when the process died. */
  async #resume(id: EntryId): Promise<void> {
    for (const { kind, to, dsn } of this.#o.spool.get(id)?.notifying ?? []) {
      const state = this.#o.spool.get(id);
      // A notice of delay that was not made yet is made when it is due again.
      if (state === undefined || (kind === 'delayed' && this.#o.spool.get(dsn as EntryId) === undefined)) continue;
      const told = new Set(to);
      const recipients = described(state).filter(({ recipient }) => told.has(recipient.to));
      await this.#tell(state, { kind, recipients });
    }
  }

  async #tell(
    state: EntryState,
    { kind, recipients, retryUntil }: { kind: DsnKind; recipients: readonly DsnRecipient[]; retryUntil?: number },
  ): Promise<void> {
    const { env, spool, hostname, withhold, release, onEvent } = this.#o;
    const { id, envelope, size, arrived } = state;
    const at = env.wallNow();
    const to = recipients.map(({ recipient }) => recipient.to);
    const begun = state.notifying.find((notice) => notice.kind === kind && notice.to.join() === to.join());
    const dsn = (begun?.dsn as EntryId | undefined) ?? nameAfter(id, env);
    withhold(dsn);
    if (begun === undefined) await spool.record(id, { type: 'notifying', at, kind, to, dsn });
    const about = { id, envelope, size, arrived, open: () => spool.read(id) };
    const built = buildDsn({ kind, id: dsn, hostname, at, recipients, about, ...defined({ retryUntil }) });
    const { name, kept } = await this.#send(envelope.from, dsn, built);
    await spool.record(id, { type: 'notified', at, kind, to, dsn }).catch((error: unknown) => {
      // Removed meanwhile: there is nothing left to tell of twice.
      if (!isGone(error)) throw error;
    });
    release(dsn);
    onEvent({ type: 'notified', id, kind, dsn: name, kept });
  }

  /** Into the spool where a route takes it, else into the local bounces. What is there already is not made again. */
  async #send(from: ReversePath, dsn: EntryId, built: Dsn): Promise<{ name: string; kept: boolean }> {
    const { routes, spool, bounces } = this.#o;
    const kept = routes().take(from as string as ForwardPath, '' as ReversePath) === undefined;
    if (spool.get(dsn) !== undefined) return { name: dsn, kept };
    if (kept) return { name: await bounces.deliver(built.message(), dsn), kept };
    await spool.accept(built.envelope, built.message(), { id: dsn });
    return { name: dsn, kept };
  }

  /** A DSN that could not be delivered gets no DSN (RFC 3461 §6.1); it is kept for a person to find. */
  async #keep(state: EntryState, to: readonly ForwardPath[]): Promise<void> {
    const { spool, bounces, env, onEvent } = this.#o;
    const name = await bounces.deliver(spool.read(state.id), state.id);
    await spool.record(state.id, { type: 'notified', at: env.wallNow(), kind: 'failed', to, dsn: name });
    onEvent({ type: 'notified', id: state.id, kind: 'failed', dsn: name, kept: true });
  }
}

/**
 * A name for a DSN that sorts after that of the message it is about: on recovery the message comes first, and says
 * which DSNs to withhold.
 */
function nameAfter(id: EntryId, env: Env): EntryId {
  const wallNow = (): number => Math.max(env.wallNow(), entryTime(id) + 1);
  return newEntryId({ wallNow, random: env.random });
}

function described(state: EntryState): DsnRecipient[] {
  return state.recipients.flatMap(({ to, outcome = { type: 'deferred', reason: 'not tried yet' } }) => {
    const recipient = state.envelope.recipients.find((each) => each.to === to);
    return recipient === undefined ? [] : [{ recipient, outcome }];
  });
}

function untold(state: EntryState): (DsnRecipient & { kind: 'failed' | 'expired' | 'relayed' })[] {
  const told = new Set(state.recipients.filter(({ notified }) => notified).map(({ to }) => to));
  return described(state).flatMap((each) => {
    const kind = kindOf(each.outcome);
    return kind === undefined || told.has(each.recipient.to) ? [] : [{ ...each, kind }];
  });
}

function kindOf(outcome: Outcome): 'failed' | 'expired' | 'relayed' | undefined {
  if (outcome.type === 'failed') return outcome.reason.startsWith(EXPIRED) ? 'expired' : 'failed';
  return outcome.type === 'delivered' && outcome.relayed ? 'relayed' : undefined;
}
