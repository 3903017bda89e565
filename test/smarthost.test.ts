import { writeFile } from 'node:fs/promises';
import type { AddressInfo } from 'node:net';
import { join } from 'node:path';
import { type Gate, readMaildir } from '@postern/gate';
import { makeCertificate, startRig } from '@postern/testkit/rig';
import { createTransport } from 'nodemailer';
import { SMTPServer } from 'smtp-server';
import { afterAll, beforeAll, describe, expect, test } from 'vitest';
import { hostPort, makePlace, type Place, postern, type Up, up } from './support/postern.ts';

/** Mail through a host and mail through plain smarthosts, from one daemon. */
let gate: Gate;
let place: Place;
let daemon: Up;
let server: SMTPServer;
let url: string;
let secret: string;
const heard: { to: string[]; text: string; user: unknown; secure: boolean }[] = [];
const PASSWORD = 'smarthost-canary-73f1';

beforeAll(async () => {
  gate = await startRig();
  const made = await makeCertificate({ dir: gate.dir, names: ['DNS:localhost'], name: 'smarthost' });
  server = new SMTPServer({
    ...{ secure: true, cert: made.cert, key: made.key, disableReverseLookup: true },
    onAuth: ({ username, password }, _session, done) =>
      username === 'me@home.example' && password === PASSWORD ? done(null, { user: username }) : done(new Error('no')),
    onRcptTo: ({ address }, _session, done) =>
      done(address.startsWith('nobody') ? Object.assign(new Error('No such user'), { responseCode: 550 }) : null),
    onData(stream, { envelope, user, secure }, done) {
      const chunks: Buffer[] = [];
      stream
        .on('data', (chunk: Buffer) => chunks.push(chunk))
        .on('end', () => {
          const to = envelope.rcptTo.map(({ address }) => address);
          heard.push({ to, text: Buffer.concat(chunks).toString(), user, secure });
          done();
        });
    },
  });
  server.on('error', () => {});
  await new Promise<void>((resolve) => server.listen(0, '127.0.0.1', resolve));
  url = `smtps://me%40home.example@localhost:${(server.server.address() as AddressInfo).port}`;
  secret = join(gate.dir, 'password');
  await writeFile(secret, 'not-it\n', { mode: 0o600 });
  const routes = [
    `[[route]]\nmatch = ["gate.test"]\nhost = "gate"`,
    `[[route]]\nmatch = ["down.example"]\nsmarthost = "smtp://localhost:1"`,
    `[[route]]\nmatch = ["*"]\nsmarthost = "${url}"\npassword_file = "${secret}"`,
  ];
  const listeners = '[[imap]]\nlisten = ["127.0.0.1:0"]\nhost = "gate"\n[smtp]\nlisten = ["127.0.0.1:0"]\n';
  const made2 = await makePlace(gate, `${listeners}${routes.join('\n')}\n`, 'smarthost');
  place = { ...made2, env: { ...made2.env, NODE_EXTRA_CA_CERTS: made.certFile } };
  daemon = await up(place);
});
afterAll(async () => {
  await daemon?.stop();
  await new Promise<void>((resolve) => server.close(() => resolve()));
  await gate?.stop();
});

async function send(subject: string, to: string[]): Promise<void> {
  const transport = createTransport({ ...hostPort(daemon.smtp[0]), secure: false, ignoreTLS: true });
  await transport.sendMail({ from: 'gate@gate.test', to, subject, text: 'hi\n' });
}
const status = async (): Promise<{ smarthosts: unknown }> =>
  JSON.parse((await postern(place, ['status', '--json'])).stdout);
const queue = async (): Promise<{ id: string; reason: string; recipients: unknown[] }[]> =>
  JSON.parse((await postern(place, ['queue', 'list', '--json'])).stdout);

describe('a plain smarthost', () => {
  test('that refuses the password keeps the mail, with the reason; the right one sends it', async () => {
    await send('to-smarthost', ['ann@far.example']);
    await daemon.logged(/mail waits/);
    expect((await queue())[0]).toMatchObject({ recipients: [{ host: url, outcome: null }] });
    expect((await status()).smarthosts).toContainEqual({ smarthost: url, state: 'down', error: expect.any(String) });
    expect((await postern(place, ['status'])).stdout).toContain(`smarthost ${url}  down: `);
    await writeFile(secret, `${PASSWORD}\n`);
    expect((await postern(place, ['queue', 'flush', url])).code).toBe(0);
    await expect.poll(() => heard, { timeout: 20_000 }).toHaveLength(1);
    expect(heard[0]).toMatchObject({ to: ['ann@far.example'], user: 'me@home.example', secure: true });
    await expect.poll(queue).toEqual([]);
  });

  test('and a host share a message, and a refused recipient bounces through the host', async () => {
    await send('split', ['gate@gate.test', 'bob@far.example', 'nobody@far.example']);
    await expect.poll(() => heard.at(-1), { timeout: 20_000 }).toMatchObject({ to: ['bob@far.example'] });
    const subjects = async (): Promise<string[]> =>
      (await readMaildir(gate.maildir)).map((text) => /^Subject: (.*?)\r?$/m.exec(String(text))?.[1] ?? '').sort();
    await expect.poll(async () => (await subjects()).length, { timeout: 20_000 }).toBe(2);
    expect(await subjects()).toContain('split');
    expect((await readMaildir(gate.maildir)).map(String).join()).toContain('nobody@far.example');
  });

  test('that is down holds up nobody else', async () => {
    await send('waits', ['x@down.example']);
    await send('goes', ['carl@far.example']);
    await expect.poll(() => heard.at(-1)?.to, { timeout: 20_000 }).toEqual(['carl@far.example']);
    await expect.poll(async () => (await queue())[0]?.reason).toMatch(/cannot reach localhost:1/);
  });

  test('the password is in no log, status or queue', async () => {
    const shown = [daemon.log(), JSON.stringify(await status()), JSON.stringify(await queue())].join('\n');
    for (const form of [PASSWORD, Buffer.from(`\0me@home.example\0${PASSWORD}`).toString('base64')]) {
      expect(shown).not.toContain(form);
    }
  });
});
