import { type Spool, SpoolError } from '@postern/core';
import { type MemorySpool, type MemorySpoolOptions, memorySpool, settle, virtualEnv } from '@postern/core/testing';
import { expect, onTestFinished, test } from 'vitest';
import {
  body,
  delivered,
  envelope,
  later,
  MINUTE,
  quiet,
  refused,
  rig,
  scriptedCourier,
} from '../queue/queue.test-util.ts';
import { createRunner } from '../queue/runner.ts';
import { compileRoutes } from '../route/routes.ts';

/** A spool that never comes back from the first record of a type. */
function hangingAt(type: string): { readonly spool: Omit<MemorySpoolOptions, 'env'>; readonly hung: Promise<void> } {
  let reached = (): void => {};
  const hung = new Promise<void>((resolve) => {
    reached = resolve;
  });
  return {
    hung,
    spool: {
      async beforeRecord(_id, records) {
        if (!records.some((record) => record.type === type)) return;
        reached();
        await new Promise<never>(() => {});
      },
    },
  };
}

/** Another process after the first one died: a spool and a runner on what that one kept. */
async function nextLife(after: MemorySpool, courier: ReturnType<typeof scriptedCourier>): Promise<Spool> {
  const env = virtualEnv({ seed: 2 });
  const spool = memorySpool({ env, after });
  const runner = createRunner({
    spool,
    env,
    hostname: 'laptop.example',
    routes: () => compileRoutes([{ match: ['*'], host: 'gate' }]),
    courierFor: () => ({ host: 'gate', courier }),
    bounces: { deliver: () => Promise.reject(new Error('nothing is kept here')) },
  });
  onTestFinished(async () => {
    await runner.close({ graceMs: 0 });
    await spool.close();
  });
  await quiet(runner);
  return spool;
}

const names = (seen: readonly { text: string }[]): string[] =>
  seen.flatMap(({ text }) => /^Message-ID: (\S+)[\s\S]*^Final-Recipient/m.exec(text)?.[1] ?? []);

test.each(['notifying', 'notified'])(
  'a process that dies writing %s has told nobody, and the next one tells once',
  async (record) => {
    const { spool: hanging, hung } = hangingAt(record);
    const verdict = (entry: { envelope: { from: string } }) => (entry.envelope.from === '' ? delivered : refused);
    const first = scriptedCourier(verdict);
    const r = await rig(first, { spool: hanging, abandoned: true });
    await r.spool.accept(envelope('a@x.example'), body());
    await hung;
    await settle();
    expect(names(first.seen)).toEqual([]);
    const second = scriptedCourier(verdict);
    const spool = await nextLife(r.spool, second);
    expect(names(second.seen)).toHaveLength(1);
    expect([...spool.entries()]).toEqual([]);
  },
);

test('a spool that refuses one record tells once, a little later', async () => {
  let refuse = true;
  const courier = scriptedCourier((entry) => (entry.envelope.from === '' ? delivered : refused));
  const r = await rig(courier, {
    spool: {
      async beforeRecord(_id, records) {
        if (refuse && records.some(({ type }) => type === 'notified')) throw new SpoolError('EIO', { code: 'io' });
      },
    },
  });
  await r.spool.accept(envelope('a@x.example'), body());
  await r.advance(10 * MINUTE);
  expect(names(courier.seen)).toEqual([]);
  refuse = false;
  await r.advance(2 * MINUTE);
  expect(names(courier.seen)).toHaveLength(1);
  expect([...r.spool.entries()]).toEqual([]);
});

test('a notice of delay that was interrupted is not sent again', async () => {
  const { spool: hanging, hung } = hangingAt('notified');
  const first = scriptedCourier((entry) => (entry.envelope.from === '' ? delivered : later));
  const r = await rig(first, { spool: hanging, abandoned: true, schedule: { delayNoticeMs: 0 } });
  await r.spool.accept(envelope('a@x.example'), body());
  await hung;
  const second = scriptedCourier((entry) => (entry.envelope.from === '' ? delivered : later));
  const spool = await nextLife(r.spool, second);
  expect(names(first.seen)).toEqual([]);
  expect(names(second.seen)).toHaveLength(1);
  expect([...spool.entries()]).toMatchObject([{ delayNotified: true, notifying: [] }]);
});
