import { mkdtemp, rm } from 'node:fs/promises';
import { tmpdir } from 'node:os';
import { join } from 'node:path';
import {
  type Courier,
  type Entry,
  type Env,
  type Envelope,
  type ForwardPath,
  type Link,
  LinkError,
  type LinkState,
  type Outcome,
  type ReversePath,
  type Spool,
} from '@postern/core';
import { compileRoutes, createRunner, type RelayEvent, type Route, type RunnerOptions } from '@postern/relay';
import { type Disk, nodeDisk, openSpool, type SpoolEvent } from '@postern/spool';
import { settle, type VirtualEnv, virtualEnv } from '@postern/testkit';
import { onTestFinished } from 'vitest';

export const MINUTE = 60_000;
export const HOUR = 60 * MINUTE;
export const DAY = 24 * HOUR;

/** A disk whose syncs cost nothing, for tests of schedules. */
export const quickDisk: Disk = { ...nodeDisk, sync: async () => {}, syncData: async () => {} };

export const down = (message = 'the line is dead'): LinkError =>
  new LinkError(message, { code: 'unreachable', layer: 'tcp' });
export const delivered: Outcome = { type: 'delivered', reply: { code: 250, enhanced: '2.0.0', lines: ['taken'] } };
export const refused: Outcome = {
  type: 'failed',
  reply: { code: 550, enhanced: '5.1.1', lines: ['No such user'] },
  reason: '550 5.1.1 No such user',
};
export const later: Outcome = {
  type: 'deferred',
  reply: { code: 451, lines: ['greylisted'] },
  reason: '451 greylisted',
};

/** A message from `from` to `to`. */
export function envelope(to: string | string[], from = 'me@work.example', more: Partial<Envelope> = {}): Envelope {
  const recipients = [to].flat().map((address) => ({ to: address as ForwardPath }));
  return { from: from as ReversePath, recipients, body: '7BIT', smtputf8: false, ...more };
}

export async function* body(text = 'Subject: hello\r\n\r\nbody\r\n'): AsyncGenerator<Uint8Array> {
  yield Buffer.from(text);
}

/** All of a message. */
export async function textOf(source: AsyncIterable<Uint8Array>): Promise<string> {
  const chunks: Uint8Array[] = [];
  for await (const chunk of source) chunks.push(chunk);
  return Buffer.concat(chunks).toString();
}

/** A link that has only a state. */
export function stateLink(host = 'gate'): Link & { set(state: LinkState): void; readonly wakes: string[] } {
  let state: LinkState = { type: 'up' };
  const listeners = new Set<(state: LinkState) => void>();
  const wakes: string[] = [];
  return {
    host,
    wakes,
    get state() {
      return state;
    },
    set(next) {
      state = next;
      for (const listener of listeners) listener(next);
    },
    open: () => Promise.reject(down()),
    wake: (why) => void wakes.push(why),
    watch(listener) {
      listeners.add(listener);
      return { [Symbol.dispose]: () => void listeners.delete(listener) };
    },
    close: async () => {},
  };
}

/** What a far side does with one recipient of an entry; throwing ends the session. */
export type Verdict = (entry: Entry, to: ForwardPath) => Outcome | Promise<Outcome>;

/** A courier that asks `verdict`, one entry after the other, and keeps what it was given. */
export function scriptedCourier(
  verdict: Verdict,
): Courier & { readonly seen: { id: string; to: string[]; text: string }[] } {
  const seen: { id: string; to: string[]; text: string }[] = [];
  const courier: Courier = async (batch, report) => {
    for await (const entry of batch) {
      const text = await textOf(entry.open());
      await report.attempting(entry.id, { receipt: `r-${entry.id}` });
      const to = entry.envelope.recipients.map((recipient) => recipient.to);
      seen.push({ id: entry.id, to, text });
      for (const recipient of to) await report.outcome(entry.id, recipient, await verdict(entry, recipient));
    }
  };
  return Object.assign(courier, { seen });
}

export interface Rig {
  readonly env: VirtualEnv;
  readonly spool: Spool;
  readonly events: RelayEvent[];
  readonly spoolEvents: SpoolEvent[];
  readonly bounced: string[];
  readonly link: ReturnType<typeof stateLink>;
  readonly runner: ReturnType<typeof createRunner>;
  readonly dir: string;
  routes: Route[];
  /** Lets all that can happen now happen. */
  rest(): Promise<void>;
  /** Lets time pass. */
  advance(ms: number): Promise<void>;
}

/** A spool, a runner over it and a scripted far side. */
export async function rig(
  courier: Courier,
  o: {
    routes?: Route[];
    schedule?: RunnerOptions['schedule'];
    disk?: Disk;
    before?: (spool: Spool) => Promise<void>;
    /** Its disk hangs: it is not closed at the end. */
    abandoned?: boolean;
    /** Hosts with a link of their own. */
    links?: Record<string, Link>;
    /** The courier has no link. */
    smarthost?: boolean;
  } = {},
): Promise<Rig> {
  const env = virtualEnv();
  const dir = await mkdtemp(join(tmpdir(), 'queue-'));
  const events: RelayEvent[] = [];
  const spoolEvents: SpoolEvent[] = [];
  const bounced: string[] = [];
  const disk = o.disk ?? quickDisk;
  // The spool's own housekeeping has no part in schedules, and would fire thousands of times in a week.
  const still: Env = { ...env, schedule: () => ({ [Symbol.dispose]() {} }) };
  const spool = await openSpool({
    dir,
    env: still,
    disk,
    keepFreeBytes: 0,
    onEvent: (event) => void spoolEvents.push(event),
  });
  await o.before?.(spool);
  const link = stateLink();
  const self = { routes: o.routes ?? [{ match: ['*'], host: 'gate' }] };
  const runner = createRunner({
    spool,
    routes: () => compileRoutes(self.routes),
    courierFor: (route) => ({
      host: route.host ?? '',
      courier,
      ...(o.smarthost ? {} : { link: o.links?.[route.host ?? ''] ?? link }),
    }),
    bounces: {
      async deliver(message) {
        bounced.push(await textOf(message));
        return `bounce-${bounced.length}`;
      },
    },
    env,
    hostname: 'laptop.example',
    onEvent: (event) => void events.push(event),
    ...(o.schedule === undefined ? {} : { schedule: o.schedule }),
  });
  let closed = false;
  onTestFinished(async () => {
    if (o.abandoned) return;
    const closing = runner.close({ graceMs: 0 }).then(() => {
      closed = true;
    });
    // A courier may sleep on the clock; only this moves it.
    while (!closed) await env.step();
    await closing;
    await spool.close();
    await rm(dir, { recursive: true, force: true });
  });
  const rest = async (): Promise<void> => {
    // The disk is real: wait for it, not for the clock.
    for (let quiet = 0; quiet < 3; quiet++) {
      await settle();
      await runner.idle();
    }
  };
  const step = async (ms: number): Promise<void> => {
    await env.advance(ms);
    await rest();
  };
  const advance = async (ms: number): Promise<void> => {
    await rest();
    const stride = ms > 6 * HOUR ? 15 * MINUTE : MINUTE;
    for (let left = ms; left > 0; left -= Math.min(left, stride)) await step(Math.min(left, stride));
  };
  return Object.assign(self, { env, spool, events, spoolEvents, bounced, link, runner, dir, rest, advance });
}
