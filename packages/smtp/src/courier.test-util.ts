import {
  type Courier,
  type CourierReport,
  type Dialogue,
  type Entry,
  type EntryId,
  type Envelope,
  type Outcome,
  parseForwardPath,
  parseReversePath,
  type Recipient,
  type Target,
  type Unresolved,
  type Wait,
} from '@postern/core';
import {
  type ChannelPair,
  type MemoryLink,
  memoryLink,
  playServer,
  settle,
  type VirtualEnv,
  virtualEnv,
} from '@postern/testkit';
import { createCourier } from './courier.ts';
import type { CourierEvent } from './event.ts';

/** What a test says of an entry. */
export interface EntryInit {
  readonly id?: string;
  readonly from?: string;
  readonly to?: readonly (string | Partial<Recipient>)[];
  readonly message?: string;
  readonly envelope?: Partial<Envelope>;
  readonly unresolved?: readonly Unresolved[];
}

let ids = 0;

export function makeEntry(o: EntryInit = {}): Entry {
  const message = Buffer.from(o.message ?? 'Subject: x\r\n\r\nhello\r\n', 'latin1');
  const recipients = (o.to ?? ['joe@gate.test']).map((to): Recipient => {
    if (typeof to === 'string') return { to: parseForwardPath(to) };
    return { to: parseForwardPath('joe@gate.test'), ...to };
  });
  return {
    id: (o.id ?? `e${++ids}`) as EntryId,
    envelope: {
      from: parseReversePath(o.from ?? 'ann@home.test'),
      recipients,
      body: '7BIT',
      smtputf8: false,
      ...o.envelope,
    },
    size: message.length,
    unresolved: o.unresolved ?? [],
    async *open() {
      yield message;
    },
  };
}

/** What a courier told, in order. */
export interface Told {
  readonly lines: string[];
  readonly outcomes: Map<string, Outcome>;
  readonly receipts: Map<string, string | undefined>;
  readonly report: CourierReport;
  /** What an entry waits for, and how long, ms. */
  waits(id: string): string | undefined;
}

export function makeReport(signal: AbortSignal = new AbortController().signal): Told {
  const lines: string[] = [];
  const outcomes = new Map<string, Outcome>();
  const receipts = new Map<string, string | undefined>();
  let look: (id: EntryId) => Wait | undefined = () => undefined;
  const report: CourierReport = {
    signal,
    waits(told) {
      look = told;
    },
    async attempting(id, { receipt }) {
      lines.push(`${id} attempting`);
      receipts.set(id, receipt);
    },
    async outcome(id, to, outcome) {
      const key = `${id} ${to}`;
      if (outcomes.has(key)) throw new Error(`two outcomes for ${key}`);
      if (!lines.includes(`${id} attempting`)) throw new Error(`an outcome without an attempt: ${key}`);
      outcomes.set(key, outcome);
      lines.push(`${key} ${brief(outcome)}`);
    },
  };
  const waits = (id: string): string | undefined => {
    const wait = look(id as EntryId);
    return wait && `${wait.for} ${wait.ms}`;
  };
  return { lines, outcomes, receipts, report, waits };
}

/** `delivered 250`, `failed 550`, `deferred`, `uncertain`. */
export function brief(outcome: Outcome): string {
  const reply = 'reply' in outcome && outcome.reply !== undefined ? ` ${outcome.reply.code}` : '';
  return outcome.type + reply;
}

export async function* toBatch(entries: readonly Entry[]): AsyncGenerator<Entry> {
  yield* entries;
}

/** One run of a courier against far sides that follow transcripts. */
export interface Run extends Told {
  readonly env: VirtualEnv;
  readonly events: CourierEvent[];
  readonly pairs: ChannelPair[];
  readonly link: MemoryLink;
  /** Resolves with the error the courier rejected with, or undefined. */
  readonly done: Promise<unknown>;
  /** Rejects when a far side saw something else than its transcript. */
  readonly played: Promise<unknown>;
  /** Resolves when the first far side has come to the end of its transcript, and all that follows has run. */
  reached(): Promise<void>;
}

/** Delivers `entries` to far sides that follow `transcripts`, one per channel. */
export function deliver(
  transcripts: readonly string[],
  o: {
    readonly entries: readonly Entry[];
    readonly dialogue?: Dialogue;
    readonly target?: Target;
    readonly signal?: AbortSignal;
    readonly window?: number;
    readonly make?: (courier: { link: MemoryLink; env: VirtualEnv; onEvent: (event: CourierEvent) => void }) => Courier;
  },
): Run {
  const env = virtualEnv();
  const events: CourierEvent[] = [];
  const pairs: ChannelPair[] = [];
  const plays: Promise<void>[] = [];
  const link = memoryLink((_target, pair) => {
    const text = transcripts[pairs.length];
    pairs.push(pair);
    pair.far.once('finish', () => pair.exit({ type: 'closed' }));
    if (text === undefined) throw new Error('no far side for another channel');
    const play = playServer(pair.far, text, { settle });
    play.catch(() => pair.lose());
    plays.push(play);
  });
  const told = makeReport(o.signal);
  const onEvent = (event: CourierEvent): void => void events.push(event);
  const target: Target = o.target ?? { type: 'tcp', host: 'localhost', port: 25 };
  const window = o.window === undefined ? {} : { window: o.window };
  const courier =
    o.make?.({ link, env, onEvent }) ??
    createCourier({ link, target, dialogue: o.dialogue ?? 'auto', helo: 'home.test', env, onEvent, ...window });
  const done = courier(toBatch(o.entries), told.report).then(
    () => undefined,
    (error: unknown) => error,
  );
  const played = done.then(() => Promise.all(plays));
  played.catch(() => {});
  const reached = async (): Promise<void> => {
    while (plays[0] === undefined) await settle();
    await plays[0];
    await settle();
  };
  return { ...told, env, events, pairs, link, done, played, reached };
}
