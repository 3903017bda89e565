import { readdirSync, truncateSync } from 'node:fs';
import { join } from 'node:path';
import type { Spool } from '@postern/core';
import { compileRoutes, createRunner } from '@postern/relay';
import { type Disk, openSpool } from '@postern/spool';
import { settle, virtualEnv } from '@postern/testkit';
import { expect, onTestFinished, test } from 'vitest';
import { body, delivered, envelope, later, MINUTE, quickDisk, refused, rig, scriptedCourier } from './support.ts';

/** A disk that never comes back from the first journal write with `text` in it. */
function hangingAt(text: string): Disk & { readonly hung: Promise<void> } {
  let reached = (): void => {};
  const hung = new Promise<void>((resolve) => {
    reached = resolve;
  });
  return {
    ...quickDisk,
    hung,
    async write(fd, bytes, position) {
      if (Buffer.from(bytes).includes(text)) {
        reached();
        await new Promise<never>(() => {});
      }
      await quickDisk.write(fd, bytes, position);
    },
  };
}

/** Another process after the first one died: a spool and a runner on the same directory. */
async function nextLife(dir: string, courier: ReturnType<typeof scriptedCourier>): Promise<Spool> {
  for (const name of readdirSync(dir)) if (name.startsWith('owner.')) truncateSync(join(dir, name), 0);
  const env = virtualEnv({ seed: 2 });
  const spool = await openSpool({
    dir,
    env: { ...env, schedule: () => ({ [Symbol.dispose]() {} }) },
    disk: quickDisk,
    keepFreeBytes: 0,
  });
  const runner = createRunner({
    ...{ spool, env, hostname: 'laptop.example', routes: () => compileRoutes([{ match: ['*'], host: 'gate' }]) },
    courierFor: () => ({ host: 'gate', courier }),
    bounces: { deliver: () => Promise.reject(new Error('nothing is kept here')) },
  });
  onTestFinished(async () => {
    await runner.close({ graceMs: 0 });
    await spool.close();
  });
  for (let quiet = 0; quiet < 3; quiet++) {
    await settle();
    await runner.idle();
  }
  return spool;
}

const names = (seen: readonly { text: string }[]): string[] =>
  seen.flatMap(({ text }) => /^Message-ID: (\S+)[\s\S]*^Final-Recipient/m.exec(text)?.[1] ?? []);

test.each(['"notifying"', '"notified"'])(
  'a process that dies writing %s has told nobody, and the next one tells once',
  async (record) => {
    const disk = hangingAt(`"type":${record}`);
    const verdict = (entry: { envelope: { from: string } }) => (entry.envelope.from === '' ? delivered : refused);
    const first = scriptedCourier(verdict);
    const r = await rig(first, { disk, abandoned: true });
    await r.spool.accept(envelope('a@x.example'), body());
    await disk.hung;
    await settle();
    expect(names(first.seen)).toEqual([]);
    const second = scriptedCourier(verdict);
    const spool = await nextLife(r.dir, second);
    expect(names(second.seen)).toHaveLength(1);
    expect([...spool.entries()]).toEqual([]);
  },
);

test('a spool that refuses one record tells once, a little later', async () => {
  let refuse = true;
  const courier = scriptedCourier((entry) => (entry.envelope.from === '' ? delivered : refused));
  const r = await rig(courier, {
    disk: {
      ...quickDisk,
      async write(fd, bytes, position) {
        if (refuse && Buffer.from(bytes).includes('"notified"')) {
          throw Object.assign(new Error('EIO'), { code: 'EIO' });
        }
        await quickDisk.write(fd, bytes, position);
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
  const disk = hangingAt('"type":"notified"');
  const first = scriptedCourier((entry) => (entry.envelope.from === '' ? delivered : later));
  const r = await rig(first, { disk, abandoned: true, schedule: { delayNoticeMs: 0 } });
  await r.spool.accept(envelope('a@x.example'), body());
  await disk.hung;
  const second = scriptedCourier((entry) => (entry.envelope.from === '' ? delivered : later));
  const spool = await nextLife(r.dir, second);
  expect(names(first.seen)).toEqual([]);
  expect(names(second.seen)).toHaveLength(1);
  expect([...spool.entries()]).toMatchObject([{ delayNotified: true, notifying: [] }]);
});
