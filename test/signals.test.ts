import { spawn } from 'node:child_process';
import { once } from 'node:events';
import { readFile, writeFile } from 'node:fs/promises';
import { join } from 'node:path';
import type { Gate } from '@postern/gate';
import { startRig } from '@postern/testkit/rig';
import { afterAll, beforeAll, expect, test } from 'vitest';
import { talkTo } from './support/line-client.ts';
import { FROM_SOURCES, makePlace, PLAIN, type Place, postern, run, up } from './support/postern.ts';

/** How `postern up` ends. */
let gate: Gate;
let place: Place;
beforeAll(async () => {
  gate = await startRig();
  place = await makePlace(gate, PLAIN, 'drain');
});
afterAll(() => gate?.stop());

test('SIGTERM tells IMAP clients BYE and SMTP clients 421, and ends with 0', async () => {
  const daemon = await up(place);
  const imap = talkTo(daemon.imap[0]);
  await imap.said('* OK');
  imap.socket.write('a LOGIN x y\r\n');
  await imap.said('a OK');
  const smtp = talkTo(daemon.smtp[0]);
  await smtp.said('220 ');
  expect(await daemon.stop('SIGTERM')).toBe(0);
  await Promise.all([imap.ended, smtp.ended]);
  expect(imap.all()).toMatch(/^\* BYE /m);
  expect(smtp.all()).toMatch(/^421 /m);
});

test('a message on its way in is finished first', async () => {
  const daemon = await up(place);
  const smtp = talkTo(daemon.smtp[0]);
  await smtp.said('220 ');
  smtp.socket.write('EHLO x\r\nMAIL FROM:<>\r\nRCPT TO:<gate@gate.test>\r\nDATA\r\n');
  await smtp.said('354 ');
  smtp.socket.write('Subject: half\r\n\r\n');
  daemon.child.kill('SIGTERM');
  await daemon.logged(/draining/);
  smtp.socket.write('and the other half\r\n.\r\n');
  await smtp.said('queued as ');
  expect(await daemon.ended).toBe(0);
  const left = await postern(place, ['queue', '--json']);
  const delivered = /status=sent/.test(daemon.log());
  expect(JSON.parse(left.stdout)).toHaveLength(delivered ? 0 : 1);
});

test('a second signal does not wait for it, and nothing is acknowledged', async () => {
  const daemon = await up(place);
  const smtp = talkTo(daemon.smtp[0]);
  await smtp.said('220 ');
  smtp.socket.write('EHLO x\r\nMAIL FROM:<>\r\nRCPT TO:<gate@gate.test>\r\nDATA\r\n');
  await smtp.said('354 ');
  daemon.child.kill('SIGINT');
  await daemon.logged(/draining/);
  daemon.child.kill('SIGINT');
  expect(await daemon.ended).toBe(0);
  await smtp.ended;
  expect(smtp.all()).not.toContain('queued as');
});

test('SIGTERM ends a start that does not come to its end, the second signal at once', async () => {
  const held = await makePlace(gate, PLAIN, 'held');
  const [begun, release, ssh] = ['begun', 'release', 'ssh_config'].map((name) => join(held.dir, name)) as [
    string,
    string,
    string,
  ];
  await run('mkfifo', [begun, release]);
  await writeFile(ssh, `Match exec "echo x > ${begun}; cat ${release}"\n`);
  await writeFile(held.config, (await readFile(held.config, 'utf8')).replace(gate.client.configFile, ssh));
  const child = spawn(process.execPath, [...FROM_SOURCES, '--config', held.config, 'up'], { env: held.env });
  const ended = once(child, 'close');
  await readFile(begun);
  child.kill('SIGTERM');
  child.kill('SIGINT');
  expect(await ended).toEqual([0, null]);
  await writeFile(release, '');
});
