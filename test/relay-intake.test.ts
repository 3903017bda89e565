import { spawnSync } from 'node:child_process';
import { createRequire } from 'node:module';
import { connect } from 'node:net';
import { type Gate, readMaildir, type SmtpServer } from '@postern/gate';
import { startPostfix, startRig } from '@postern/testkit/rig';
import { createTransport } from 'nodemailer';
import { afterAll, beforeAll, expect, test } from 'vitest';
import { hostPort, makePlace, PLAIN, type Place, postern, run, up } from './support/postern.ts';

/** What clients say to the relay, as it comes out at a far Postfix; a queue run asked for by SMTP; an end in the middle of it all. */
const require = createRequire(import.meta.url);
const LONGEST_WAIT = { timeout: 60_000 };
let gate: Gate;
let far: SmtpServer;

beforeAll(async () => {
  gate = await startRig({ smtp: false });
  far = await startPostfix(gate, { domains: ['gate.test', 'x.test', 'xn--bcher-kva.test'] });
});
afterAll(() => gate?.stop());

/** Lines in one write each, a whole reply to each; ends when the server does. */
interface Client {
  say(line: string): Promise<string>;
  end(): void;
}

function client(address: string | undefined): Client {
  const socket = connect({ ...hostPort(address), noDelay: true });
  let text = '';
  let closed = false;
  let wake = (): void => {};
  socket.on('data', (chunk: Buffer) => {
    text += chunk.toString('latin1');
    wake();
  });
  socket.on('error', () => {});
  socket.once('close', () => {
    closed = true;
    wake();
  });
  const reply = async (): Promise<string> => {
    for (;;) {
      const [whole, last = ''] = /^(?:\d{3}-[^\r\n]*\r\n)*(\d{3} [^\r\n]*)\r\n/.exec(text) ?? [];
      if (whole !== undefined) {
        text = text.slice(whole.length);
        return last;
      }
      if (closed) return '';
      await new Promise<void>((resolve) => {
        wake = resolve;
      });
    }
  };
  const greeting = reply();
  return {
    async say(line) {
      await greeting;
      if (!closed) socket.write(`${line}\r\n`, 'latin1');
      return reply();
    },
    end: () => socket.destroy(),
  };
}

async function sayAll(one: Client, lines: readonly string[]): Promise<string[]> {
  const replies: string[] = [];
  for (const line of lines) replies.push((await one.say(line)).slice(0, 3));
  return replies;
}

async function texts(mark: string): Promise<string[]> {
  const all = (await readMaildir(gate.maildir)).map((bytes) => bytes.toString('latin1'));
  return all.filter((text) => text.includes(mark));
}

const queue = async (place: Place): Promise<{ id: string }[]> =>
  JSON.parse((await postern(place, ['queue', 'list', '--json'])).stdout);

test('each recipient, its NOTIFY and ORCPT, and the ENVID come to Postfix as they were said', async () => {
  const place = await makePlace(gate, PLAIN, 'exact');
  await using daemon = await up(place);
  const one = client(daemon.smtp[0]);
  expect(
    await sayAll(one, [
      'EHLO exact.test',
      'MAIL FROM:<ada@gate.test> RET=HDRS ENVID=a+2Bb+3Dc+21+2B',
      'RCPT TO:<"a b"@gate.test> NOTIFY=NEVER',
      'RCPT TO:<Ada@x.test> NOTIFY=NEVER',
      'RCPT TO:<ada@x.test> NOTIFY=SUCCESS,FAILURE ORCPT=rfc822;Bob+2Btag+3D@old.test',
      'RCPT TO:<ada@xn--bcher-kva.test> NOTIFY=NEVER',
      'RCPT TO:<dot.@gate.test> NOTIFY=NEVER',
      'DATA',
      'Subject: exact-mark\r\n\r\nhello\r\n.',
    ]),
  ).toEqual(['250', '250', '250', '250', '250', '250', '250', '354', '250']);
  one.end();
  await expect.poll(async () => (await texts('Original-Envelope-Id')).length, LONGEST_WAIT).toBe(1);
  const [notice = ''] = await texts('Original-Envelope-Id');
  expect(notice).toMatch(/^Original-Envelope-Id: a\+b=c!\+$/m);
  expect(notice).toMatch(/^Original-Recipient: rfc822; ?Bob\+tag=@old\.test$/m);
  expect(notice).toMatch(/^Final-Recipient: rfc822; ada@x\.test$/m);
  expect(notice).toMatch(/^Action: delivered$/m);
  expect(notice.match(/^Final-Recipient:/gm)).toHaveLength(1);
  const log = await far.log();
  const to = [...log.matchAll(/to=<([^>]*)>.* status=sent \(delivered to maildir\)/g)].map(([, path]) => path);
  expect(to.filter((path) => path !== 'ada@gate.test').sort()).toEqual([
    '"a b"@gate.test',
    // Came as dot.@gate.test; Postfix writes it quoted.
    '"dot."@gate.test',
    'Ada@x.test',
    'ada@x.test',
    'ada@xn--bcher-kva.test',
  ]);
});

test('ETRN sends what waits, as the link is back', async () => {
  const place = await makePlace(gate, PLAIN, 'etrn');
  await gate.ssh.stop();
  await using daemon = await up(place);
  const one = client(daemon.smtp[0]);
  const envelope = ['EHLO etrn.test', 'MAIL FROM:<ada@gate.test>', 'RCPT TO:<gate@gate.test>', 'DATA'];
  expect(await sayAll(one, [...envelope, 'Subject: etrn-mark\r\n\r\nhello\r\n.'])).toEqual([
    '250',
    '250',
    '250',
    '354',
    '250',
  ]);
  await daemon.logged(/link down/);
  await gate.ssh.start();
  expect(await one.say('ETRN gate.test')).toMatch(/^250 2\.0\.0 /);
  await expect.poll(async () => (await texts('etrn-mark')).length, LONGEST_WAIT).toBe(1);
  one.end();
});

/** A child of another user reads Nodemailer from this checkout: it must lie where that user may look. */
const OTHERS_MAY_LOOK =
  process.getuid?.() === 0 &&
  spawnSync('setpriv', [
    '--reuid',
    '65534',
    '--regid',
    '65534',
    '--clear-groups',
    'test',
    '-r',
    require.resolve('nodemailer'),
  ]).status === 0;

test.runIf(OTHERS_MAY_LOOK)('another user gives the local password, by PLAIN or LOGIN', async () => {
  const place = await makePlace(gate, PLAIN, 'password');
  await using daemon = await up(place);
  const password = (await postern(place, ['password'])).stdout.trim();
  const send = (method: string, given: string): Promise<string> => {
    const { host, port } = hostPort(daemon.smtp[0]);
    const script = `require(${JSON.stringify(require.resolve('nodemailer'))}).createTransport({ host: '${host}', port: ${port}, ignoreTLS: true, authMethod: '${method}', auth: { user: 'x', pass: '${given}' } }).sendMail({ from: 'ada@gate.test', to: 'gate@gate.test', subject: 'by-${method}', text: 'x' }).then(() => console.log('sent'), (error) => console.log(error.responseCode))`;
    const argv = ['--reuid', '65534', '--regid', '65534', '--clear-groups', process.execPath, '-e', script];
    return run('setpriv', argv, { cwd: '/' }).then(({ stdout, stderr }) => `${stdout}${stderr}`.trim());
  };
  for (const method of ['PLAIN', 'LOGIN']) {
    expect(await send(method, 'wrong')).toBe('535');
    expect(await send(method, password)).toBe('sent');
    await expect.poll(async () => (await texts(`Subject: by-${method}`)).length, LONGEST_WAIT).toBe(1);
  }
  expect(daemon.log()).not.toContain(password);
});

test('SIGTERM under load: what was answered 250 is in the spool, and nothing else is', async () => {
  const place = await makePlace(gate, PLAIN, 'drain');
  await gate.ssh.stop();
  const daemon = await up(place);
  let sent = 0;
  let half = (): void => {};
  const enough = new Promise<void>((resolve) => {
    half = resolve;
  });
  const acknowledged: string[] = [];
  const worker = async (): Promise<void> => {
    const transport = createTransport({ ...hostPort(daemon.smtp[0]), ignoreTLS: true, pool: true, maxConnections: 1 });
    for (;;) {
      const info = await transport
        .sendMail({ from: 'ada@gate.test', to: 'gate@gate.test', subject: 'drained', text: 'x\n'.repeat(3000) })
        .catch(() => undefined);
      if (info === undefined) break;
      acknowledged.push(/queued as (\S+)/.exec(info.response)?.[1] ?? info.response);
      sent += 1;
      if (sent === 60) half();
    }
    transport.close();
  };
  const workers = Array.from({ length: 12 }, worker);
  await enough;
  expect(await daemon.stop('SIGTERM')).toBe(0);
  await Promise.all(workers);
  const spooled = (await queue(place)).map(({ id }) => id);
  expect(spooled.sort()).toEqual(acknowledged.sort());
  await gate.ssh.start();
});
