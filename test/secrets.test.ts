import { readdir, readFile } from 'node:fs/promises';
import { connect } from 'node:net';
import { join } from 'node:path';
import { type Gate, readMaildir } from '@postern/gate';
import { startRig } from '@postern/testkit/rig';
import { createTransport } from 'nodemailer';
import { afterAll, beforeAll, expect, test } from 'vitest';
import { hostPort, makePlace, type Place, postern, type Up, up } from './support/postern.ts';

/** A password that a client gives, right or wrong, is nowhere afterwards: not in a log, an answer, a file, or over there. */
let gate: Gate;
let place: Place;
let daemon: Up;
let right: string;
const CANARY = 'canary-5e1f7c-bird';
const ME = 'gate@gate.test';

beforeAll(async () => {
  gate = await startRig();
  const listeners = '[[imap]]\nlisten = ["127.0.0.1:0"]\nhost = "gate"\n[smtp]\nlisten = ["127.0.0.1:0"]\n';
  const made = await makePlace(
    gate,
    `${listeners}[access]\nallow = ["password"]\n[[route]]\nmatch = ["*"]\nhost = "gate"\n`,
    'secrets',
  );
  place = { ...made, env: { ...made.env, POSTERN_DEBUG: '1' } };
  right = (await postern(place, ['password'])).stdout.trim();
  daemon = await up(place);
});
afterAll(async () => {
  await daemon?.stop();
  await gate?.stop();
});

/** Says each line once what is expected was seen; gives all that was read, at the end. */
function talk(address: string | undefined, script: readonly [expect: RegExp, send: string][]): Promise<string> {
  const { host, port } = hostPort(address);
  const todo = [...script];
  return new Promise((resolve, reject) => {
    const socket = connect(port, host);
    let text = '';
    let at = 0;
    socket.once('error', reject);
    socket.once('close', () => resolve(text));
    socket.on('data', (chunk: Buffer) => {
      text += chunk.toString('latin1');
      for (;;) {
        const found = todo[0]?.[0].exec(text.slice(at));
        if (found == null) return;
        at += found.index + found[0].length;
        socket.write(`${todo.shift()?.[1]}\r\n`);
      }
    });
  });
}

const base64 = (text: string): string => Buffer.from(text).toString('base64');
const plain = (secret: string): string => base64(`\0me\0${secret}`);

async function filesBelow(dir: string): Promise<string[]> {
  const entries = await readdir(dir, { withFileTypes: true, recursive: true });
  return entries.filter((entry) => entry.isFile()).map((entry) => join(entry.parentPath ?? entry.path, entry.name));
}

test('a client’s password leaves no trace', async () => {
  for (const secret of [CANARY, right]) {
    const status = secret === right ? 'OK' : 'NO';
    const imap = (command: string, ...more: [RegExp, string][]): Promise<string> =>
      talk(daemon.imap[0], [[/^\* OK.*\r\n/, command], ...more, [/^a (OK|NO|BAD)/m, 'b LOGOUT']]);
    expect(await imap(`a LOGIN me "${secret}"`)).toContain(`a ${status}`);
    expect(await imap(`a LOGIN me {${secret.length}}`, [/^\+ /m, secret])).toContain(`a ${status}`);
    expect(await imap(`a AUTHENTICATE PLAIN ${plain(secret)}`)).toContain(`a ${status}`);
    expect(await imap('a AUTHENTICATE PLAIN', [/^\+/m, plain(secret)])).toContain(`a ${status}`);
    // A password where none belongs: a client that got out of step.
    await imap(`a ${secret} ${plain(secret)}`);
    const code = secret === right ? '235' : '535';
    const smtp = (...script: [RegExp, string][]): Promise<string> =>
      talk(daemon.smtp[0], [[/^220 .*\r\n/, 'EHLO x'], ...script, [/^(235|535|500|501) /m, 'QUIT']]);
    expect(await smtp([/^250 /m, `AUTH PLAIN ${plain(secret)}`])).toContain(code);
    const login = await smtp([/^250 /m, 'AUTH LOGIN'], [/^334 /m, base64('me')], [/^334 /m, base64(secret)]);
    expect(login).toContain(code);
    await smtp([/^250 /m, `${secret} ${plain(secret)}`]);
  }
  const auth = { user: 'me', pass: right };
  const transport = createTransport({ ...hostPort(daemon.smtp[0]), secure: false, ignoreTLS: true, auth });
  await transport.sendMail({ from: ME, to: ME, subject: 'no trace', text: 'hi\n' });
  await expect.poll(async () => (await readMaildir(gate.maildir)).length, { timeout: 30_000 }).toBe(1);
  await gate.ssh.stop();
  await transport.sendMail({ from: ME, to: ME, subject: 'kept', text: 'hi\n' });
  const answers = await Promise.all(
    [['status'], ['status', '--json'], ['queue'], ['queue', '--json']].map((words) => postern(place, words)),
  );
  const [entry] = JSON.parse(answers[3]?.stdout ?? '[]') as { id: string }[];
  answers.push(await postern(place, ['queue', 'show', entry?.id ?? '']));
  expect(answers.at(-1)?.stdout).toContain('Subject: kept');
  await gate.ssh.start();

  const places = new Map<string, string>([['the log', daemon.log()]]);
  for (const [index, { stdout, stderr }] of answers.entries()) places.set(`answer ${index}`, stdout + stderr);
  for (const file of await filesBelow(gate.dir)) {
    if (file !== join(place.dir, 'state', 'password')) places.set(file, await readFile(file, 'latin1'));
  }
  expect(places.size).toBeGreaterThan(10);
  const forms = [CANARY, right].flatMap((secret) => [secret, plain(secret), base64(secret)]);
  const found = [...places].filter(([, text]) => forms.some((form) => text.includes(form))).map(([name]) => name);
  expect(found).toEqual([]);
  // The search itself works: the one file that may hold it does.
  expect(await readFile(join(place.dir, 'state', 'password'), 'utf8')).toContain(right);
  // Every line about a client names it.
  for (const line of daemon.log().split('\n')) {
    if (line.includes('"service"'))
      expect(JSON.parse(line)).toMatchObject({ peer: expect.stringContaining('127.0.0.1:') });
  }
});
