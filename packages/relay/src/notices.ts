import {
  type EntryState,
  type Env,
  type ForwardPath,
  newEntryId,
  type Outcome,
  type ReversePath,
  type Spool,
} from '@postern/core';
import { buildDsn, type DsnKind, type DsnRecipient, wantsDsn } from './dsn.ts';
import type { OnRelayEvent } from './event.ts';
import type { CompiledRoutes } from './routes.ts';
import type { Schedule } from './schedule.ts';

/** Where notifications are kept that cannot be sent; resolves to a name when it is durable. */
export interface Bounces {
  deliver(message: AsyncIterable<Uint8Array>): Promise<string>;
}

/** Tells senders what became of their mail (RFC 3461, RFC 3464). Each call is one DSN at most for each kind, recorded when durable. */
export interface Notices {
  /** What is final and not told yet. A crash in between may tell it twice, never not at all. */
  final(state: EntryState): Promise<void>;
  delayed(state: EntryState, o: { host: string; retryUntil: number }): Promise<void>;
}

/** Starts the reason of a failure for lack of time. */
export const EXPIRED = 'delivery time expired';

export interface NoticesOptions {
  readonly spool: Spool;
  readonly routes: () => CompiledRoutes;
  readonly bounces: Bounces;
  readonly env: Env;
  readonly hostname: string;
  readonly schedule: Schedule;
  readonly onEvent: OnRelayEvent;
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
    const dsnId = newEntryId(o.env);
    const about = { id, envelope, size, arrived, open: () => o.spool.read(id) };
    const dsn = buildDsn({
      ...{ kind, id: dsnId, hostname: o.hostname, at, about, recipients },
      ...(retryUntil === undefined ? {} : { retryUntil }),
    });
    const routed = o.routes().take(envelope.from as string as ForwardPath, '' as ReversePath) !== undefined;
    const name = routed
      ? await o.spool.accept(dsn.envelope, dsn.message(), { id: dsnId })
      : await o.bounces.deliver(dsn.message());
    const to = recipients.map(({ recipient }) => recipient.to);
    await o.spool.record(id, { type: 'notified', at, kind, to, dsn: name });
    o.onEvent({ type: 'notified', id, kind, dsn: name, kept: !routed });
  };

  /** A DSN that could not be delivered gets no DSN (RFC 3461 §6.1); it is kept for a person to find. */
  const keep = async (state: EntryState, to: readonly ForwardPath[]): Promise<void> => {
    const name = await o.bounces.deliver(o.spool.read(state.id));
    await o.spool.record(state.id, { type: 'notified', at: o.env.wallNow(), kind: 'failed', to, dsn: name });
    o.onEvent({ type: 'notified', id: state.id, kind: 'failed', dsn: name, kept: true });
  };

  return {
    async final(state) {
      const due = untold(state);
      if (due.length === 0) return;
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
    async delayed(state, { host, retryUntil }) {
      const waiting = described(state).filter(
        ({ outcome }) => outcome.type === 'deferred' || outcome.type === 'uncertain',
      );
      const recipients = waiting.filter(({ recipient }) => wantsDsn(recipient, 'delayed'));
      if (state.envelope.from === '' || recipients.length === 0) return;
      await tell(
        state,
        'delayed',
        recipients.map((each) => ({ ...each, host })),
        retryUntil,
      );
    },
  };
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
