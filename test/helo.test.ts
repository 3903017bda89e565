/** The name Postern greets with, at a real Postfix that wants a full one: mail goes, and a name it refuses loses no letter. */
import type { Gate } from '@postern/gate';
import { startPostfix, startRig } from '@postern/testkit/rig';
import { createTransport } from 'nodemailer';
import { afterAll, beforeAll, expect, test } from 'vitest';
import { hostPort, makePlace, PLAIN, type Place, postern, up } from './support/postern.ts';

const LONGEST_WAIT = { timeout: 60_000, interval: 100 };
let gate: Gate;
beforeAll(async () => {
  gate = await startRig({ smtp: false });
  await startPostfix(gate, {
    settings: {
      smtpd_helo_required: 'yes',
      smtpd_helo_restrictions: 'reject_invalid_helo_hostname, reject_non_fqdn_helo_hostname',
    },
  });
});
afterAll(() => gate?.stop());

/** PLAIN with a line in its [smtp] table. */
const withHelo = (name: string): string => PLAIN.replace('[smtp]\n', `[smtp]\nhelo = "${name}"\n`);

interface Row {
  readonly state: string;
  readonly reason: string;
  readonly from: string;
}

async function queue(place: Place): Promise<Row[]> {
  return JSON.parse((await postern(place, ['queue', '--json'])).stdout) as Row[];
}

async function send(address: string | undefined): Promise<void> {
  const transport = createTransport({ ...hostPort(address), secure: false, ignoreTLS: true });
  await transport.sendMail({ from: 'me@gate.test', to: 'gate@gate.test', subject: 'named', text: 'x' });
  transport.close();
}

test('by default it is one that is taken, in check as in delivery', async () => {
  const place = await makePlace(gate, PLAIN, 'helo-default');
  expect((await postern(place, ['check', 'gate'])).code).toBe(0);
  await using daemon = await up(place);
  await send(daemon.smtp[0]);
  await expect.poll(() => queue(place), LONGEST_WAIT).toEqual([]);
});

test('a bare one fails check with the key to set, and holds the mail instead of bouncing it', async () => {
  const place = await makePlace(gate, withHelo('laptop'), 'helo-bare');
  const checked = await postern(place, ['check', 'gate']);
  expect(checked.code).toBe(69);
  expect(checked.stdout).toMatch(/FAIL {2}SMTP .*the name laptop.*\[smtp\] helo/);
  expect(checked.stdout).toMatch(/fix: .*below \[smtp\]: {2}helo = /);
  await using daemon = await up(place);
  await send(daemon.smtp[0]);
  const refused = { from: 'me@gate.test', reason: expect.stringMatching(/504|helo/i) };
  // The message itself, and no bounce beside it.
  await expect.poll(() => queue(place), LONGEST_WAIT).toEqual([expect.objectContaining(refused)]);
});
