import { connect } from 'node:net';
import { createInterface } from 'node:readline';
import { type Gate, readMaildir } from '@postern/gate';
import { startRig } from '@postern/testkit/rig';
import { afterAll, beforeAll, describe, expect, test } from 'vitest';
import { hostPort, makePlace, type Place, postern, type Up, up } from './support/postern.ts';

/** `queue = false`: what a client hears is what the far Exim said. */
let gate: Gate;
let place: Place;
let daemon: Up;
const CONFIG = `
[[imap]]
listen = ["127.0.0.1:0"]
host = "gate"
spare = 0
[smtp]
listen = ["127.0.0.1:0"]
[[route]]
match = ["queued.test"]
host = "gate"
[[route]]
match = ["*"]
host = "gate"
queue = false
`;

beforeAll(async () => {
  gate = await startRig({
    smtp: { domains: ['gate.test', 'queued.test'], refuse: { nobody: '5.1.1 No such user here' } },
  });
  place = await makePlace(gate, CONFIG, 'cut');
  daemon = await up(place);
});
afterAll(async () => {
  await daemon?.stop();
  await gate?.stop();
});

/** Says each line once the one before has its whole reply; gives the replies after the greeting and EHLO. */
function say(lines: readonly string[]): Promise<string[]> {
  const { host, port } = hostPort(daemon.smtp[0]);
  const todo = ['EHLO client.example', ...lines, 'QUIT'];
  const replies: string[] = [];
  return new Promise((resolve, reject) => {
    const socket = connect(port, host);
    socket.once('error', reject);
    socket.once('close', () => resolve(replies.slice(2, -1)));
    createInterface(socket).on('line', (line) => {
      if (line[3] === '-') return;
      replies.push(line);
      const next = todo.shift();
      if (next !== undefined) socket.write(`${next}\r\n`);
    });
  });
}

const texts = async (): Promise<string[]> => (await readMaildir(gate.maildir)).map(String);
/** The only message with that subject, once Exim has delivered it. */
async function arrived(subject: string): Promise<string> {
  const found = async (): Promise<string[]> => (await texts()).filter((text) => text.includes(`Subject: ${subject}`));
  await expect.poll(async () => (await found()).length, { timeout: 30_000 }).toBe(1);
  return (await found())[0] ?? '';
}
const message = (subject: string, body = 'hi'): string => `Subject: ${subject}\r\n\r\n${body}\r\n.`;
const queue = async (): Promise<unknown> => JSON.parse((await postern(place, ['queue', 'list', '--json'])).stdout);

describe('cut-through', () => {
  test('each recipient and the message get the far reply, and the message is there before it', async () => {
    const replies = await say([
      ...['MAIL FROM:<me@work.example>', 'RCPT TO:<nobody@gate.test>', 'RCPT TO:<gate@gate.test>'],
      ...['RCPT TO:<x@queued.test>', 'DATA', message('straight', '..dots\r\n...and\r\nmore')],
    ]);
    expect(replies).toEqual([
      expect.stringMatching(/^250 /),
      expect.stringMatching(/^550 .*No such user here/),
      expect.stringMatching(/^250 Accepted/),
      expect.stringMatching(/^452 4\.5\.3 /),
      expect.stringMatching(/^354 /),
      // Exim's own words.
      expect.stringMatching(/^250 OK id=/),
    ]);
    const text = await arrived('straight');
    expect(text).toContain('\n.dots\n..and\nmore\n');
    expect(text).toMatch(/\(Postern\)\r?\n\twith ESMTP id /);
    expect(await queue()).toEqual([]);
    await daemon.logged(/status=sent \(straight through: 250 OK id=/);
  });

  test('a transaction that began with a queued recipient refuses one that passes through, and the queued one is kept', async () => {
    const replies = await say([
      ...['MAIL FROM:<me@work.example>', 'RCPT TO:<gate@queued.test>', 'RCPT TO:<gate@gate.test>'],
      ...['DATA', message('kept')],
    ]);
    expect(replies.map((reply) => reply.slice(0, 3))).toEqual(['250', '250', '452', '354', '250']);
    expect(replies.at(-1)).toMatch(/queued as/);
  });

  test('several transactions in one session, and one that is given up', async () => {
    const replies = await say([
      ...['MAIL FROM:<me@work.example>', 'RCPT TO:<gate@gate.test>', 'RSET'],
      ...['MAIL FROM:<>', 'RCPT TO:<gate@gate.test>', 'DATA', message('second')],
      ...['MAIL FROM:<me@work.example>', 'RCPT TO:<gate@gate.test>', 'DATA', message('third')],
    ]);
    expect(replies.map((reply) => reply.slice(0, 3)).join(' ')).toBe('250 250 250 250 250 354 250 250 250 354 250');
    await arrived('second');
    await arrived('third');
  });

  test('an unfit message is refused here, and nothing of it arrives', async () => {
    const unfit = 'a\rb';
    const replies = await say([
      ...['MAIL FROM:<me@work.example>', 'RCPT TO:<gate@gate.test>', 'DATA', message('unfit', unfit)],
    ]);
    expect(replies.at(-1)).toMatch(/^554 5\.6\.0 /);
    expect((await texts()).some((text) => text.includes('unfit'))).toBe(false);
  });

  test('a host that is down means 451 with the reason, and nothing is queued', async () => {
    await gate.ssh.stop();
    await daemon.logged(/link down/);
    const replies = await say(['MAIL FROM:<me@work.example>', 'RCPT TO:<gate@gate.test>', 'DATA']);
    expect(replies[1]).toMatch(/^451 4\.4\.1 .*(refuse|reach|connect)/);
    expect(replies[2]).toMatch(/^503 /);
    expect(await queue()).toEqual([]);
    await gate.ssh.start();
    await postern(place, ['queue', 'flush']);
    const after = await say(['MAIL FROM:<me@work.example>', 'RCPT TO:<gate@gate.test>', 'DATA', message('back')]);
    expect(after.at(-1)).toMatch(/^250 OK id=/);
  });
});
