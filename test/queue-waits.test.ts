/** `queue` says what an active entry waits for, at a far side that falls silent behind the message. */
import { type AddressInfo, createServer, type Server } from 'node:net';
import type { Gate } from '@postern/gate';
import { startRig } from '@postern/testkit/rig';
import { createTransport } from 'nodemailer';
import { afterAll, beforeAll, expect, test } from 'vitest';
import { hostPort, makePlace, PLAIN, postern, up } from './support/postern.ts';

let gate: Gate;
let far: Server;
beforeAll(async () => {
  gate = await startRig({ imapd: false, smtp: false });
  far = createServer((socket) => {
    socket.on('error', () => {}).write('220 far\r\n');
    socket.on('data', (chunk) => {
      for (const line of chunk.toString('latin1').match(/^(?:EHLO|MAIL|RCPT|DATA)\b/gm) ?? []) {
        socket.write(line === 'DATA' ? '354 go\r\n' : '250 ok\r\n');
      }
    });
  });
  await new Promise<void>((resolve) => far.listen(0, '127.0.0.1', resolve));
  await gate.useSmtpPort((far.address() as AddressInfo).port);
});
afterAll(async () => {
  await gate?.stop();
  far?.close();
});

test('list, show and --json tell it', async () => {
  const place = await makePlace(gate, PLAIN);
  await using daemon = await up(place);
  const transport = createTransport({ ...hostPort(daemon.smtp[0]), secure: false, ignoreTLS: true });
  await transport.sendMail({ from: 'me@gate.test', to: 'gate@gate.test', subject: 'x', text: 'x' });
  transport.close();
  const rows = async (): Promise<{ id: string; state: string; waits: { for: string; since: string } | null }[]> =>
    JSON.parse((await postern(place, ['queue', '--json'])).stdout);
  await expect.poll(async () => (await rows())[0]?.waits?.for, { timeout: 60_000, interval: 100 }).toBe('final');
  const [row] = await rows();
  expect(row).toMatchObject({ state: 'active', waits: { since: expect.stringMatching(/^\d{4}-.*Z$/) } });
  const line = /^ {4}waits for the reply to the end of data since \d+ s$/m;
  expect((await postern(place, ['queue'])).stdout).toMatch(line);
  expect((await postern(place, ['queue', 'show', row?.id ?? ''])).stdout).toMatch(line);
});
