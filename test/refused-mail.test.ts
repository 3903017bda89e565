/** A far side that refuses MAIL: from everybody, and letters wait and it is told; from one sender, and that one hears of it. */
import { chmod, mkdtemp, rm, writeFile } from 'node:fs/promises';
import { tmpdir } from 'node:os';
import { dirname, join } from 'node:path';
import { type Gate, readMaildir } from '@postern/gate';
import { startPostfix, startRig } from '@postern/testkit/rig';
import { createTransport } from 'nodemailer';
import { afterAll, beforeAll, describe, expect, test } from 'vitest';
import { hostPort, makePlace, PLAIN, type Place, postern, type Up, up } from './support/postern.ts';

const LONGEST_WAIT = { timeout: 60_000, interval: 100 };

interface Row {
  readonly state: string;
  readonly reason: string;
  readonly from: string;
}

async function queue(place: Place): Promise<Row[]> {
  return JSON.parse((await postern(place, ['queue', '--json'])).stdout) as Row[];
}

async function send(daemon: Up, from: string, subject: string): Promise<void> {
  const transport = createTransport({ ...hostPort(daemon.smtp[0]), secure: false, ignoreTLS: true });
  await transport.sendMail({
    envelope: { from, to: 'gate@gate.test' },
    from,
    to: 'gate@gate.test',
    subject,
    text: 'x',
  });
  transport.close();
}

/** Subjects of what arrived. */
async function arrived(gate: Gate): Promise<string[]> {
  const messages = await readMaildir(gate.maildir);
  return messages.map((message) => /^Subject: (.*?)\r?$/m.exec(String(message))?.[1] ?? '').toSorted();
}

describe('Exim, its ACL for MAIL saying `550 Access denied`', () => {
  let gate: Gate;
  let shut: string;
  let place: Place;
  beforeAll(async () => {
    const signs = await mkdtemp(join(tmpdir(), 'postern-signs-'));
    await chmod(signs, 0o755);
    shut = join(signs, 'shut');
    gate = await startRig({
      imapd: false,
      smtp: {
        settings: {
          acl_smtp_mail: `"deny condition = \${if exists{${shut}}}\\n message = Access denied\\ndeny senders = bad@gate.test\\n message = Access denied\\naccept"`,
        },
      },
    });
    place = await makePlace(gate, PLAIN);
  });
  afterAll(async () => {
    await gate?.stop();
    await rm(dirname(shut), { recursive: true, force: true });
  });

  test('to everybody: no letter bounces, queue and status tell, and they go when it is over', async () => {
    await writeFile(shut, '', { mode: 0o644 });
    await using daemon = await up(place);
    const names = ['one', 'two', 'three'];
    for (const name of names) await send(daemon, `${name}@gate.test`, name);
    await daemon.logged(/refuses MAIL, whoever sends: 550 Access denied/);
    const why = expect.stringMatching(/whoever sends: 550 Access denied|^550 Access denied/);
    await expect
      .poll(async () => (await queue(place)).map(({ from, reason }) => [from, reason]), LONGEST_WAIT)
      .toEqual(names.map((name) => [`${name}@gate.test`, why]));
    expect((await postern(place, ['status'])).stdout).toMatch(/550 Access denied/);
    await rm(shut);
    await postern(place, ['queue', 'flush']);
    await expect.poll(() => queue(place), LONGEST_WAIT).toEqual([]);
    expect(await arrived(gate)).toEqual(names.toSorted());
  });

  test('to one sender: that letter bounces, and the next one goes', async () => {
    await using daemon = await up(place);
    await send(daemon, 'bad@gate.test', 'bad');
    await send(daemon, 'good@gate.test', 'good');
    await expect.poll(() => arrived(gate), LONGEST_WAIT).toContain('good');
    await expect.poll(async () => (await arrived(gate)).join(), LONGEST_WAIT).toMatch(/could not be delivered/);
    expect(await queue(place)).toEqual([]);
  });
});

describe('Postfix, its sender restrictions at MAIL', () => {
  let gate: Gate;
  beforeAll(async () => {
    gate = await startRig({ imapd: false, smtp: false });
    await startPostfix(gate, {
      settings: {
        smtpd_delay_reject: 'no',
        smtpd_sender_restrictions:
          'check_helo_access inline:{{shut.test=550 Access denied}}, check_sender_access inline:{{bad@gate.test=550 Access denied}}',
      },
    });
  });
  afterAll(() => gate?.stop());

  test('for this host: letters wait', async () => {
    const place = await makePlace(gate, PLAIN.replace('[smtp]\n', '[smtp]\nhelo = "shut.test"\n'), 'shut');
    await using daemon = await up(place);
    for (const name of ['one', 'two']) await send(daemon, `${name}@gate.test`, name);
    await daemon.logged(/refuses MAIL, whoever sends: 550 5\.7\.1 .*Access denied/);
    const froms = async (): Promise<string[]> => (await queue(place)).map(({ from }) => from);
    expect(await froms()).toEqual(['one@gate.test', 'two@gate.test']);
  });

  test('for one sender: it bounces', async () => {
    const place = await makePlace(gate, PLAIN, 'open');
    await using daemon = await up(place);
    await send(daemon, 'bad@gate.test', 'bad');
    await send(daemon, 'good@gate.test', 'good');
    await expect.poll(() => arrived(gate), LONGEST_WAIT).toContain('good');
    await expect.poll(() => queue(place), LONGEST_WAIT).toEqual([]);
    expect((await arrived(gate)).filter((subject) => subject === 'bad')).toEqual([]);
    expect((await arrived(gate)).length).toBe(2);
  });
});
