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
import { buildDsn, type DsnKind, type DsnRecipient, wantsDsn } from './dsn.ts';

/**
 * Where notifications are kept that cannot be sent; resolves to a name when it is durable. What is kept twice as the
 * same `id` is there once.
 */
export interface Bounces {
  deliver(message: AsyncIterable<Uint8Array>, id: EntryId): Promise<string>;
}

/**
 * Tells senders what became of their mail (RFC 3461, RFC 3464), once, whenever the process dies: a DSN's name is
 * recorded before it is made, and it is withheld from couriers until it is recorded that it is there.
 */
export interface Notices {
  /** Tells what is final and not told yet, and ends what a crash interrupted. */
  final(id: EntryId): Promise<void>;
  delayed(id: EntryId, o: { host: string; retryUntil: number }): Promise<void>;
}

/** Starts the reason of a failure for lack of time. */
export const EXPIRED = 'delivery time expired';

export interface NoticesOptions {
  readonly spool: Spool;
  readonly routes: () => CompiledRoutes;
  readonly bounces: Bounces;
  readonly env: Env;
  readonly hostname: string;
  readonly onEvent: OnRelayEvent;
  /** Lets no courier have this entry, until it is released. */
  withhold(id: EntryId): void;
  release(id: EntryId): void;
}

/** Makes {@link Notices}. */
export function createNotices(o: NoticesOptions): Notices {
  const tell = async (
    state: EntryState,
    kind: DsnKind,
    recipients: readonly DsnRecipient[],
    retryUntil?: number,
  ): Promise<void> => {
    const { id, envelope, size, arrived } = state;
    const at = o.env.wallNow();
    const to = recipients.map(({ recipient }) => recipient.to);
    const begun = state.notifying.find((notice) => notice.kind === kind && notice.to.join() === to.join());
    const dsn = (begun?.dsn as EntryId | undefined) ?? nameAfter(id, o.env);
    o.withhold(dsn);
    if (begun === undefined) await o.spool.record(id, { type: 'notifying', at, kind, to, dsn });
    const built = buildDsn({
      kind,
      id: dsn,
      hostname: o.hostname,
      at,
      recipients,
      about: { id, envelope, size, arrived, open: () => o.spool.read(id) },
      ...defined({ retryUntil }),
    });
    const routed = o.routes().take(envelope.from as string as ForwardPath, '' as ReversePath) !== undefined;
    let name: string = dsn;
    if (o.spool.get(dsn) === undefined) {
      if (routed) await o.spool.accept(built.envelope, built.message(), { id: dsn });
      else name = await o.bounces.deliver(built.message(), dsn);
    }
    await o.spool.record(id, { type: 'notified', at, kind, to, dsn }).catch((error: unknown) => {
      // Removed meanwhile: there is nothing left to tell of twice.
      if (!isGone(error)) throw error;
    });
    o.release(dsn);
    o.onEvent({ type: 'notified', id, kind, dsn: name, kept: !routed });
  };

  /** A DSN that could not be delivered gets no DSN (RFC 3461 §6.1); it is kept for a person to find. */
  const keep = async (state: EntryState, to: readonly ForwardPath[]): Promise<void> => {
    const name = await o.bounces.deliver(o.spool.read(state.id), state.id);
    await o.spool.record(state.id, { type: 'notified', at: o.env.wallNow(), kind: 'failed', to, dsn: name });
    o.onEvent({ type: 'notified', id: state.id, kind: 'failed', dsn: name, kept: true });
  };

  return {
    async final(id) {
      for (const { kind, to, dsn } of o.spool.get(id)?.notifying ?? []) {
        const state = o.spool.get(id);
        // A notice of delay that was not made yet is made when it is due again.
        if (state === undefined || (kind === 'delayed' && o.spool.get(dsn as EntryId) === undefined)) continue;
        const told = new Set(to);
        await tell(
          state,
          kind,
          described(state).filter(({ recipient }) => told.has(recipient.to)),
        );
      }
      const state = o.spool.get(id);
      const due = state === undefined ? [] : untold(state);
      if (state === undefined || due.length === 0) return;
      if (state.envelope.from === '') {
        const failed = due.filter(({ kind }) => kind !== 'relayed').map(({ recipient }) => recipient.to);
        if (failed.length > 0) await keep(state, failed);
        return;
      }
      for (const kind of ['failed', 'expired', 'relayed'] as const) {
        const recipients = due.filter((each) => each.kind === kind && wantsDsn(each.recipient, kind));
        if (recipients.length > 0) await tell(state, kind, recipients);
      }
    },
    async delayed(id, { host, retryUntil }) {
      const state = o.spool.get(id);
      if (state === undefined || state.delayNotified || state.envelope.from === '') return;
      const recipients = described(state)
        .filter(({ outcome }) => outcome.type === 'deferred' || outcome.type === 'uncertain')
        .filter(({ recipient }) => wantsDsn(recipient, 'delayed'))
        .map((each) => ({ ...each, host }));
      if (recipients.length > 0) await tell(state, 'delayed', recipients, retryUntil);
    },
  };
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
