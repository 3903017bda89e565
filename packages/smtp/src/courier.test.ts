/** What a server offers or refuses as a whole: limits of RFC 9422, keeping receipts, first words that are no greeting. */
import { createReplyParser, parseEhlo, type Reply, type Target } from '@postern/core';
import { memoryLink, playServer, settle, virtualEnv } from '@postern/testkit';
import { describe, expect, test } from 'vitest';
import { deliver, makeEntry, makeReport, type Run, toBatch } from './courier.test-util.ts';
import { createCourier } from './courier.ts';

const EXEC: Target = { type: 'exec', command: 'netcat localhost smtp' };
const TAKEN = `
  C:DATA
  S:354 go
  C:Subject: x
  C:
  C:hello
  C:.
  S:250 taken`;
const BYE = `
  C:QUIT
  S:221 bye`;
const greet = (limits: string): string => `
  S:220 gate.test
  C:EHLO home.test
  S:250-gate.test
  S:250 LIMITS ${limits}
  C:MAIL FROM:<ann@home.test>
  S:250 ok`;
const rcpt = (to: string): string => `
  C:RCPT TO:<${to}>
  S:250 ok`;
const again = `
  C:MAIL FROM:<ann@home.test>
  S:250 ok`;

async function finished(run: Run): Promise<void> {
  expect(await run.done).toBeUndefined();
  await run.played;
}
const types = (run: Run): string[] => [...run.outcomes.values()].map(({ type }) => type);

describe('the limits of a server (RFC 9422)', () => {
  const ehlo = (line: string): Reply => {
    const [event] = createReplyParser().push(Buffer.from(`250-gate.test\r\n250 ${line}\r\n`));
    if (event?.type !== 'reply') throw new Error('no reply');
    return event.reply;
  };
  for (const [line, limits] of [
    ['LIMITS MAILMAX=1000 RCPTMAX=50000', { mailMax: 1000, rcptMax: 50000 }],
    ['limits rcptdomainmax=1', { rcptDomainMax: 1 }],
    ['LIMITS MAILMAX=0 RCPTMAX=x OTHER=5 RCPTMAX', {}],
    ['LIMITS', {}],
    ['HELP', {}],
  ] as const) {
    test(`read from \`${line}\``, () => expect(parseEhlo(ehlo(line)).limits).toEqual(limits));
  }
  test('of recipients a transaction: the others go in the next one', async () => {
    const run = deliver(
      [
        `${greet('RCPTMAX=2')}${rcpt('r1@gate.test')}${rcpt('r2@gate.test')}${TAKEN}
         ${again}${rcpt('r3@gate.test')}${TAKEN}${BYE}`,
      ],
      { entries: [makeEntry({ id: 'a', to: ['r1@gate.test', 'r2@gate.test', 'r3@gate.test'] })] },
    );
    await finished(run);
    expect(types(run)).toEqual(['delivered', 'delivered', 'delivered']);
  });
  test('of domains a transaction', async () => {
    const run = deliver(
      [
        `${greet('RCPTDOMAINMAX=1')}${rcpt('r1@a.test')}${rcpt('r3@A.test')}${TAKEN}
         ${again}${rcpt('r2@b.test')}${TAKEN}${BYE}`,
      ],
      { entries: [makeEntry({ id: 'a', to: ['r1@a.test', 'r2@b.test', 'r3@A.test'] })] },
    );
    await finished(run);
    expect(types(run)).toEqual(['delivered', 'delivered', 'delivered']);
  });
  test('of transactions a session: QUIT, and the rest goes in another session', async () => {
    const one = `${rcpt('joe@gate.test')}${TAKEN}`;
    const first = `${greet('MAILMAX=2')}${one}${again}${one}${BYE}`;
    const run = deliver([first, `${greet('MAILMAX=2')}${one}${BYE}`], {
      entries: ['a', 'b', 'c'].map((id) => makeEntry({ id })),
    });
    await finished(run);
    expect(types(run)).toEqual(['delivered', 'delivered', 'delivered']);
    expect(run.events.filter(({ type }) => type === 'closing')).toEqual([]);
  });
});

describe('a far side that refuses to keep receipts', () => {
  const allowList = (commands: string[]): ReturnType<typeof memoryLink> =>
    memoryLink((target, pair) => {
      const command = target.type === 'exec' ? target.command : '';
      commands.push(command === 'netcat localhost smtp' ? 'plain' : 'wrapped');
      if (command === 'netcat localhost smtp') {
        pair.far.once('finish', () => pair.exit({ type: 'exit', code: 0 }));
        const text = `
          S:220 gate.test
          C:EHLO home.test
          S:250 gate.test
          C:MAIL FROM:<ann@home.test>
          S:250 ok
          ${rcpt('joe@gate.test')}${TAKEN}${BYE}`;
        void playServer(pair.far, text, { settle });
        return;
      }
      pair.stderr(Buffer.from('gate: this command is not allowed\n'));
      pair.exit({ type: 'exit', code: 126 });
    });
  test('gets its mail without, at once, and is not asked again', async () => {
    const commands: string[] = [];
    const link = allowList(commands);
    const send = createCourier({ link, target: EXEC, helo: 'home.test', env: virtualEnv() });
    for (const id of ['a', 'b']) {
      const told = makeReport();
      await send(toBatch([makeEntry({ id })]), told.report);
      expect(told.lines).toEqual([`${id} attempting`, `${id} joe@gate.test delivered 250`]);
    }
    expect(commands).toEqual(['wrapped', 'plain', 'plain']);
  });
  test('and refuses everything is an error, and is asked for both again', async () => {
    const commands: string[] = [];
    const link = memoryLink((target, pair) => {
      commands.push(target.type === 'exec' && target.command === 'netcat localhost smtp' ? 'plain' : 'wrapped');
      pair.exit({ type: 'exit', code: 126 });
    });
    const send = createCourier({ link, target: EXEC, helo: 'home.test', env: virtualEnv() });
    for (const id of ['a', 'b']) {
      const told = makeReport();
      await expect(send(toBatch([makeEntry({ id })]), told.report)).rejects.toMatchObject({ code: 'command' });
      expect(told.lines).toEqual([]);
    }
    expect(commands).toEqual(['wrapped', 'plain', 'wrapped', 'plain']);
  });
});

describe('what is no SMTP server', () => {
  test('is named by its first words, ten seconds after they came, and nothing is lost', async () => {
    const env = virtualEnv();
    const link = memoryLink((_target, pair) => void pair.far.write('Welcome to the machine\nlogin: '));
    const told = makeReport();
    const send = createCourier({ link, target: EXEC, helo: 'home.test', env });
    const done = send(toBatch([makeEntry({ id: 'a' })]), told.report).catch((error: unknown) => error);
    await env.advance(10_000);
    expect(await done).toMatchObject({ code: 'protocol', message: expect.stringContaining('login: ') });
    expect(told.lines).toEqual([]);
  });
});
