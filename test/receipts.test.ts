import { mkdir, utimes, writeFile } from 'node:fs/promises';
import { join } from 'node:path';
import { type Gate, readMaildir } from '@postern/gate';
import type { Simulator } from '@postern/testkit';
import { startRig } from '@postern/testkit/rig';
import { createTransport } from 'nodemailer';
import { afterAll, beforeAll, expect, test } from 'vitest';
import type { DaemonStatus } from '../packages/postern/src/control/status.ts';
import { lineTo } from './support/line.ts';
import { hostPort, makePlace, PLAIN, type Place, postern, type Up, up } from './support/postern.ts';

/** A line that breaks after the far Exim has taken mail and before its replies are here: the receipt tells, and nothing is sent twice. */
let gate: Gate;
let line: Simulator;
let place: Place;
let daemon: Up;
const ME = 'gate@gate.test';
const DELAY_MS = 400;

beforeAll(async () => {
  gate = await startRig();
  const through = await lineTo(gate);
  line = through.line;
  place = await makePlace(gate, through.host + PLAIN, 'receipts');
  daemon = await up(place);
  await daemon.logged(/link (up|down)/);
  expect(daemon.log()).toMatch(/link up/);
});
afterAll(async () => {
  await daemon?.stop();
  await line?.[Symbol.asyncDispose]();
  await gate?.stop();
});

const subjects = async (): Promise<string[]> =>
  (await readMaildir(gate.maildir)).map((text) => /^Subject: (.*?)\r?$/m.exec(String(text))?.[1] ?? '').sort();

test('every message arrives once', async () => {
  const sent = Array.from({ length: 8 }, (_, index) => `once-${index}`);
  line.shape({ delayMs: DELAY_MS });
  const transport = createTransport({ ...hostPort(daemon.smtp[0]), secure: false, ignoreTLS: true, pool: true });
  await Promise.all(sent.map((subject) => transport.sendMail({ from: ME, to: ME, subject, text: 'hi\n' })));
  transport.close();
  // Exim delivers as soon as it has accepted; the reply is on its way for DELAY_MS.
  while ((await subjects()).length === 0);
  line.reset();
  line.shape({});
  await daemon.logged(/status=uncertain/);
  const queue = async (): Promise<unknown> => JSON.parse((await postern(place, ['queue', '--json'])).stdout);
  await expect.poll(queue, { timeout: 90_000 }).toEqual([]);
  await expect.poll(async () => (await subjects()).length, { timeout: 30_000 }).toBeGreaterThanOrEqual(sent.length);
  expect(await subjects()).toEqual(sent);
});

test('check and status tell of receipts that were left over, and not of those in use', async () => {
  const dir = join(gate.home, '.postern', 'receipts');
  await mkdir(dir, { recursive: true, mode: 0o700 });
  const checking = await makePlace(gate, PLAIN, 'receipts-left');
  const told = async (): Promise<string> => (await postern(checking, ['check', 'gate'])).stdout;
  await writeFile(join(dir, 'inuse'), 'x'.repeat(5000), { mode: 0o666 });
  expect(await told()).not.toContain('left over there');
  for (const [name, octets] of [
    ['one', 3000],
    ['two', 2000],
  ] as const) {
    await writeFile(join(dir, name), 'x'.repeat(octets), { mode: 0o666 });
    const old = new Date(Date.now() - 7_200_000);
    await utimes(join(dir, name), old, old);
  }
  expect(await told()).toContain(
    '2 receipts were left over there by sessions that broke off (~/.postern/receipts, 5 KiB)',
  );
  const { hosts } = JSON.parse((await postern(place, ['status', '--json'])).stdout) as DaemonStatus;
  expect(hosts).toMatchObject([{ receipts: { count: 2, octets: 5000 } }]);
  expect((await postern(place, ['status'])).stdout).toContain('receipts gate  2 left over there, 5 KiB');
});
