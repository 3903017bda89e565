/** A queue whose far side, clock and spool are the test's own. */
import {
  type Courier,
  defined,
  type Entry,
  type Envelope,
  type ForwardPath,
  type Link,
  LinkError,
  type Outcome,
  type ReversePath,
} from '@postern/core';
import {
  type MemoryLink,
  type MemorySpool,
  type MemorySpoolOptions,
  memoryLink,
  memorySpool,
  settle,
  type VirtualEnv,
  virtualEnv,
} from '@postern/core/testing';
import { onTestFinished } from 'vitest';
import type { RelayEvent } from '../event.ts';
import { compileRoutes, type Route } from '../route/routes.ts';
import type { RunnerOptions } from './context.ts';
import { createRunner } from './runner.ts';

export const MINUTE = 60_000;
export const HOUR = 60 * MINUTE;
export const DAY = 24 * HOUR;

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

/** A link that has only a state: it opens no channel. */
export function stateLink(host = 'gate'): MemoryLink {
  return memoryLink(() => {
    throw down();
  }, host);
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
  readonly spool: MemorySpool;
  readonly events: RelayEvent[];
  readonly bounced: string[];
  readonly link: MemoryLink;
  readonly runner: ReturnType<typeof createRunner>;
  routes: Route[];
  /** Lets all that can happen now happen. */
  rest(): Promise<void>;
  /** Lets time pass. */
  advance(ms: number): Promise<void>;
}

/** How a {@link Rig} differs from the plain one. */
export interface RigOptions {
  readonly routes?: Route[];
  readonly schedule?: RunnerOptions['schedule'];
  /** What the spool's disk would do. */
  readonly spool?: Omit<MemorySpoolOptions, 'env'>;
  readonly before?: (spool: MemorySpool) => Promise<void>;
  /** Its spool hangs: it is not closed at the end. */
  readonly abandoned?: boolean;
  /** Hosts with a link of their own. */
  readonly links?: Record<string, Link>;
  /** The courier has no link. */
  readonly smarthost?: boolean;
}

/** A spool, a runner over it and a scripted far side. */
export async function rig(courier: Courier, o: RigOptions = {}): Promise<Rig> {
  const env = virtualEnv();
  const events: RelayEvent[] = [];
  const bounced: string[] = [];
  const spool = memorySpool({ env, ...o.spool });
  await o.before?.(spool);
  const link = stateLink();
  const self = { routes: o.routes ?? [{ match: ['*'], host: 'gate' }] };
  const runner = createRunner({
    spool,
    routes: () => compileRoutes(self.routes),
    courierFor: ({ host = '' }) => ({ host, courier, ...(o.smarthost ? {} : { link: o.links?.[host] ?? link }) }),
    bounces: {
      async deliver(message) {
        bounced.push(await textOf(message));
        return `bounce-${bounced.length}`;
      },
    },
    env,
    hostname: 'laptop.example',
    onEvent: (event) => void events.push(event),
    ...defined({ schedule: o.schedule }),
  });
  onTestFinished(async () => {
    if (o.abandoned) return;
    let closed = false;
    const closing = runner.close({ graceMs: 0 }).then(() => {
      closed = true;
    });
    // A courier may sleep on the clock; only this moves it.
    while (!closed) await env.step();
    await closing;
    await spool.close();
  });
  const rest = (): Promise<void> => quiet(runner);
  const step = async (ms: number): Promise<void> => {
    await env.advance(ms);
    await rest();
  };
  const advance = async (ms: number): Promise<void> => {
    await rest();
    const stride = ms > 6 * HOUR ? 15 * MINUTE : MINUTE;
    for (let left = ms; left > 0; left -= Math.min(left, stride)) await step(Math.min(left, stride));
  };
  return Object.assign(self, { env, spool, events, bounced, link, runner, rest, advance });
}

/** Resolves when a runner has done all it can do now. */
export async function quiet(runner: Rig['runner']): Promise<void> {
  for (let rounds = 0; rounds < 3; rounds++) {
    await settle();
    await runner.idle();
  }
}
