import { spawn } from 'node:child_process';
import { once } from 'node:events';
import { join } from 'node:path';
import { freePort, type Gate } from '@postern/gate';
import { startRig } from '@postern/testkit/rig';
import { createTransport } from 'nodemailer';
import { afterAll, beforeAll, expect, test } from 'vitest';
import type { DaemonStatus } from '../packages/postern/src/control/status.ts';
import { FROM_SOURCES, hostPort, makePlace, type Place, postern, type Up, up } from './support/postern.ts';

/** What `postern status` tells of a running daemon. */
let gate: Gate;
let place: Place;
let daemon: Up;
let away: number;
beforeAll(async () => {
  gate = await startRig({ imapd: false, smtp: { refuse: { nobody: '5.1.1 No such user here' } } });
  away = await freePort();
  place = await makePlace(
    gate,
    `[host.away]\ndestination = "me@127.0.0.1:1"\njump = ["you@127.0.0.1:${away}"]\n[smtp]\nlisten = ["127.0.0.1:0"]\n` +
      '[[route]]\nmatch = ["elsewhere.test"]\nhost = "away"\n[[route]]\nmatch = ["gate.test"]\nhost = "gate"\n',
  );
  daemon = await up(place, []);
});
afterAll(async () => {
  await daemon?.stop();
  await gate?.stop();
});

async function status(): Promise<DaemonStatus> {
  return JSON.parse((await postern(place, ['status', '--json'])).stdout) as DaemonStatus;
}

async function send(to: string): Promise<void> {
  const transport = createTransport({ ...hostPort(daemon.smtp[0]), secure: false });
  await transport.sendMail({ from: 'me@unrouted.test', to, subject: 'told', text: 'hi\n' });
  transport.close();
}

test('the queue by where it goes, and why it waits', async () => {
  await send('a@elsewhere.test, b@elsewhere.test');
  await send('c@elsewhere.test');
  await daemon.logged(/away: link down/);
  const told = await status();
  expect(told.queue).toMatchObject({ held: 0 });
  expect(told.routes).toEqual([
    { route: 'elsewhere.test', host: 'away', entries: 2, next: null, reason: expect.stringContaining(`:${away}`) },
  ]);
  expect((await postern(place, ['status'])).stdout).toMatch(/^ {7}elsewhere\.test via away: 2; .*refuses/m);
});

test('the way to a host, hop by hop', async () => {
  const host = (await status()).hosts.find(({ host: name }) => name === 'away');
  expect(host).toMatchObject({ destination: 'me@127.0.0.1:1', hops: [`you@127.0.0.1:${away}`], state: 'down' });
});

test('how many bounces nobody took', async () => {
  const path = join(place.dir, 'state', 'bounces');
  expect((await status()).bounces).toEqual({ path, messages: 0 });
  await send('nobody@gate.test');
  await expect.poll(async () => (await status()).bounces, { timeout: 30_000 }).toEqual({ path, messages: 1 });
  expect((await postern(place, ['status'])).stdout).toContain(`bounces ${path}  (1)`);
});

test('channels that are lent', async () => {
  const pipe = spawn(process.execPath, [...FROM_SOURCES, '--config', place.config, 'pipe', 'gate', 'cat'], {
    env: place.env,
    stdio: ['pipe', 'pipe', 'inherit'],
  });
  pipe.stdin.write('lent');
  await once(pipe.stdout, 'data');
  const channels = async (): Promise<number | undefined> =>
    (await status()).hosts.find(({ host }) => host === 'gate')?.channels;
  expect(await channels()).toBe(1);
  pipe.stdin.end();
  await once(pipe, 'close');
  await expect.poll(channels).toBe(0);
});
