import { type Courier, deferred, type Env, type ForwardPath, type Spool, systemEnv } from '@postern/core';
import { memorySpool, settle } from '@postern/core/testing';
import { expect, onTestFinished, test } from 'vitest';
import type { RelayEvent } from '../event.ts';
import { compileRoutes } from '../route/routes.ts';
import type { RunnerOptions } from './context.ts';
import { body, DAY, delivered, envelope, later } from './queue.test-util.ts';
import { createRunner } from './runner.ts';

/** The clocks of the daemon, the wall clock as somebody sets it. */
function settableEnv(): Env & { offset: number } {
  const env = { ...systemEnv, offset: 0, wallNow: () => Date.now() + env.offset };
  return env;
}

async function open(
  env: Env,
): Promise<{ spool: Spool; start: (courier: Courier, o?: Partial<RunnerOptions>) => RelayEvent[] }> {
  const spool = memorySpool({ env });
  onTestFinished(() => spool.close());
  return {
    spool,
    start(courier, o = {}) {
      const events: RelayEvent[] = [];
      const runner = createRunner({
        ...{ spool, env, hostname: 'laptop.example', routes: () => compileRoutes([{ match: ['*'], host: 'gate' }]) },
        courierFor: () => ({ host: 'gate', courier }),
        bounces: { deliver: () => Promise.reject(new Error('nothing is kept here')) },
        onEvent: (event) => void events.push(event),
        ...o,
      });
      onTestFinished(() => runner.close({ graceMs: 0 }));
      return events;
    },
  };
}

/** Answers `later` until it was asked `times` times. */
function patient(times: number, asked: () => void = () => {}): Courier & { readonly done: Promise<void> } {
  const done = deferred<void>();
  let count = 0;
  const courier: Courier = async (batch, report) => {
    for await (const { id, envelope: of } of batch) {
      await report.attempting(id, {});
      asked();
      count++;
      for (const { to } of of.recipients) await report.outcome(id, to, count < times ? later : delivered);
      if (count === times) done.resolve();
    }
  };
  return Object.assign(courier, { done: done.promise });
}

test.each([365 * DAY, -365 * DAY])(
  'what was put off before the wall clock was set %d ms off is tried at the start',
  async (jump) => {
    const env = settableEnv();
    const { spool, start } = await open(env);
    const id = await spool.accept(envelope('a@x.example'), body());
    const at = env.wallNow();
    const to = 'a@x.example' as ForwardPath;
    await spool.record(
      id,
      { type: 'attempt', at, n: 1, host: 'gate', to: [to] },
      { type: 'outcome', at, n: 1, to, outcome: later },
      { type: 'next', at, due: at + 60_000, reason: '451 greylisted', elapsed: 1_000 },
    );
    env.offset = jump;
    const courier = patient(1);
    const events = start(courier);
    await courier.done;
    while (spool.get(id) !== undefined) await settle();
    expect(events.map(({ type }) => type)).toEqual(['outcome', 'completed']);
  },
);

test.each([365 * DAY, -365 * DAY])(
  'a wall clock set %d ms off between two tries changes neither the wait nor the queue life',
  async (jump) => {
    const env = settableEnv();
    const { spool, start } = await open(env);
    const lives: (number | undefined)[] = [];
    const courier = patient(4, () => {
      env.offset += jump;
      lives.push(spool.get(id)?.elapsed);
    });
    const id = await spool.accept(envelope('a@x.example'), body());
    const waits: number[] = [];
    const schedule: Env['schedule'] = (delayMs, run) => {
      waits.push(delayMs);
      return env.schedule(delayMs, run);
    };
    const events = start(courier, {
      env: { ...env, wallNow: () => env.wallNow(), schedule },
      schedule: { firstRetryMs: 5, longestRetryMs: 20 },
    });
    await courier.done;
    while (spool.get(id) !== undefined) await settle();
    expect(events.flatMap((event) => (event.type === 'outcome' ? [event.status] : []))).toEqual([
      ...Array.from({ length: 3 }, () => 'deferred'),
      'sent',
    ]);
    expect(lives.every((elapsed) => elapsed !== undefined && elapsed < DAY)).toBe(true);
    expect(Math.max(...waits)).toBeLessThanOrEqual(20);
  },
);
