import { once } from 'node:events';
import { readFile, writeFile } from 'node:fs/promises';
import { connect, type Socket } from 'node:net';
import type { Gate } from '@postern/gate';
import { startRig } from '@postern/testkit/rig';
import { afterAll, beforeAll, expect, test } from 'vitest';
import { hostPort, makePlace, PLAIN, type Place, postern, up } from './support/postern.ts';

/** Signals of `postern up`: how it ends, and how it reloads. */
let gate: Gate;
let place: Place;
beforeAll(async () => {
  gate = await startRig();
  place = await makePlace(gate, PLAIN, 'drain');
});
afterAll(() => gate?.stop());

/** A line-wise client. `said` resolves once the text was read, from where the last one ended; the rest stays for the next. */
function open(address: string | undefined): {
  socket: Socket;
  said(text: string): Promise<void>;
  ended: Promise<unknown>;
  all(): string;
} {
  const socket = connect(hostPort(address));
  let text = '';
  let from = 0;
  socket.on('data', (chunk) => {
    text += chunk.toString('latin1');
  });
  socket.on('error', () => {});
  const ended = once(socket, 'close');
  return {
    socket,
    ended,
    all: () => text,
    async said(wanted) {
      for (let at = text.indexOf(wanted, from); ; at = text.indexOf(wanted, from)) {
        if (at >= 0) {
          from = at + wanted.length;
          return;
        }
        await Promise.race([once(socket, 'data'), ended.then(() => Promise.reject(new Error(`ended after ${text}`)))]);
      }
    },
  };
}

test('SIGTERM tells IMAP clients BYE and SMTP clients 421, and ends with 0', async () => {
  const daemon = await up(place);
  const imap = open(daemon.imap[0]);
  await imap.said('* OK');
  imap.socket.write('a LOGIN x y\r\n');
  await imap.said('a OK');
  const smtp = open(daemon.smtp[0]);
  await smtp.said('220 ');
  expect(await daemon.stop('SIGTERM')).toBe(0);
  await Promise.all([imap.ended, smtp.ended]);
  expect(imap.all()).toMatch(/^\* BYE /m);
  expect(smtp.all()).toMatch(/^421 /m);
});

test('a message on its way in is finished first', async () => {
  const daemon = await up(place);
  const smtp = open(daemon.smtp[0]);
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
  const smtp = open(daemon.smtp[0]);
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

test('SIGHUP takes over routes, keeps sessions, and leaves a faulty file alone', async () => {
  const other = await makePlace(gate, PLAIN.replace('match = ["*"]', 'match = ["elsewhere.test"]'), 'reload');
  await using daemon = await up(other);
  const imap = open(daemon.imap[0]);
  await imap.said('* OK');
  imap.socket.write('a LOGIN x y\r\n');
  await imap.said('a OK');
  const smtp = open(daemon.smtp[0]);
  await smtp.said('220 ');
  smtp.socket.write('EHLO x\r\nMAIL FROM:<>\r\nRCPT TO:<gate@gate.test>\r\n');
  await smtp.said('550 5.7.1');
  const text = await readFile(other.config, 'utf8');
  await writeFile(other.config, text.replace('elsewhere.test', 'gate.test'));
  daemon.child.kill('SIGHUP');
  await daemon.logged(/reloaded routes and access"/);
  smtp.socket.write('RCPT TO:<gate@gate.test>\r\n');
  await smtp.said('250 2.1.5');
  await writeFile(other.config, `${text}colour = "red"\n`);
  daemon.child.kill('SIGHUP');
  await daemon.logged(/nothing reloaded: [^"]*colour/);
  smtp.socket.write('RCPT TO:<gate+again@gate.test>\r\n');
  await smtp.said('250 2.1.5');
  imap.socket.write('b NOOP\r\n');
  await imap.said('b OK');
  imap.socket.destroy();
  smtp.socket.destroy();
});
