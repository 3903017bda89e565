import { join } from 'node:path';
import { type Dialogue, type Entry, parseForwardPath, parseReversePath, systemEnv, type Target } from '@postern/core';
import { type Gate, readMaildir, type SmtpServer } from '@postern/gate';
import { startPostfix, startRig } from '@postern/testkit/rig';
import { SMTPServer } from 'smtp-server';
import { afterAll, beforeAll, describe, expect, test } from 'vitest';
import { deliver, makeEntry, makeReport, type Told, toBatch } from './courier.test-util.ts';
import { createCourier } from './courier.ts';
import { DeliveryError } from './error.ts';
import { findSmtp } from './probe.ts';
import { asArgument, checkedCommand, protocolOf, submitCommand } from './protocol.ts';
import { processLink } from './real.test-util.ts';

const RULES = { refuse: { no: '5.1.1 no such user here' } };
const exec = (command: string): Target => ({ type: 'exec', command });

describe('a way', () => {
  test('is told by the name of the target', () => {
    const ways = [
      'netcat localhost smtp',
      'sendmail -bs',
      '/usr/sbin/exim4 -bS',
      'rsmtp',
      '/usr/lib/sendmail -i',
      'sendmail',
    ];
    expect(ways.map((command) => protocolOf(exec(command)))).toEqual([
      'smtp',
      'smtp',
      'bsmtp',
      'bsmtp',
      'submit',
      'submit',
    ]);
    expect(protocolOf({ type: 'unix', path: '/run/lmtp' })).toBe('lmtp');
    expect(protocolOf({ type: 'tcp', host: 'localhost', port: 25 })).toBe('smtp');
  });
  test('by command line takes no address for an option, and runs none', () => {
    const evil = parseForwardPath("-oQ/tmp'`id`$x@gate.test");
    expect(asArgument(evil)).toBe('"-oQ/tmp\'`id`$x"@gate.test');
    expect(submitCommand('sendmail -i', { from: parseReversePath(''), to: [evil] })).toBe(
      `sendmail -i -f '<>' -- '"-oQ/tmp'\\''\`id\`$x"@gate.test'`,
    );
  });
});

for (const kind of ['exim', 'postfix'] as const) {
  describe(`into the real ${kind}`, () => {
    let gate: Gate;
    let server: SmtpServer;
    beforeAll(async () => {
      gate = await startRig({ imapd: false, smtp: RULES });
      server = kind === 'exim' ? (gate.smtp as SmtpServer) : await startPostfix(gate, RULES);
    });
    afterAll(() => gate?.stop());

    async function send(
      entries: readonly Entry[],
      target: Target,
      dialogue?: Dialogue,
    ): Promise<Told & { refused: boolean }> {
      const told = makeReport();
      const courier = createCourier({
        ...{ link: processLink(gate), target, helo: 'home.test', env: systemEnv },
        ...(dialogue === undefined ? {} : { dialogue }),
      });
      const refused = await courier(toBatch(entries), told.report).then(
        () => false,
        (error: unknown) => {
          if (dialogue === 'bsmtp' && error instanceof DeliveryError && error.code === 'refused') return true;
          throw error;
        },
      );
      return { ...told, refused };
    }
    async function arrived(prefix: string, count: number): Promise<string[]> {
      for (;;) {
        const messages = (await readMaildir(gate.maildir)).map(String);
        const found = messages.filter((message) => message.includes(`Subject: ${prefix}`));
        if (found.length >= count) return found;
        await new Promise((resolve) => setTimeout(resolve, 50));
      }
    }
    /** The body in any line ends. */
    const body = (message: string | undefined): string =>
      (message ?? '').replaceAll('\r\n', '\n').split('\n\n')[1] ?? '';
    const TRICKY = 'Subject: tricky\r\n\r\n.\r\n..dots\r\nFrom here\r\nRCPT TO:<x@y>\r\n.\r\nend\r\n';

    test('`sendmail -i` takes a message with lone dots whole, and its exit status is the outcome', async () => {
      const entry = makeEntry({ id: 'a', from: '', message: TRICKY.replace('tricky', 'submit') });
      const told = await send([entry], exec('sendmail -i'));
      expect(told.lines).toEqual(['a attempting', 'a joe@gate.test delivered 250']);
      const [message] = await arrived('submit', 1);
      expect(body(message)).toBe('.\n..dots\nFrom here\nRCPT TO:<x@y>\n.\nend\n');
    });
    test('a command that is missing defers', async () => {
      const told = await send([makeEntry({ id: 'a' })], { type: 'exec', command: '/nowhere/sendmail -i' });
      expect(told.lines).toEqual(['a attempting', 'a joe@gate.test deferred']);
      expect(told.outcomes.get('a joe@gate.test')).toMatchObject({ reason: /exit status 127/ });
    });
    test('a message that came short runs no command', async () => {
      const link = processLink(gate);
      const command = checkedCommand('sendmail -i -- joe@gate.test', { octets: 100 });
      const channel = await link.open({ type: 'exec', command }, { signal: new AbortController().signal });
      channel.stream.resume();
      channel.stream.end('Subject: short\n\nhalf a mess');
      expect(await channel.exit).toEqual({ type: 'exit', code: 75 });
      expect(channel.stderrTail().toString()).toContain('cut off');
      await send([makeEntry({ message: 'Subject: after\r\n\r\nx\r\n' })], exec('sendmail -i'));
      await arrived('after', 1);
      expect((await readMaildir(gate.maildir)).map(String).some((message) => message.includes('short'))).toBe(false);
    });
    test('the bsmtp dialogue attributes nothing after the first unexpected reply', async () => {
      const entries = [
        makeEntry({ id: 'a', message: TRICKY.replace('tricky', 'blind') }),
        makeEntry({ id: 'b', to: ['no@gate.test'], message: 'Subject: refused\r\n\r\nQUIT\r\nhello\r\n' }),
        makeEntry({ id: 'c', message: 'Subject: third\r\n\r\nx\r\n' }),
      ];
      const told = await send(entries, exec('netcat localhost smtp'), 'bsmtp');
      // Postfix 3.9 and later refuse a client that is ahead before it has said a word: nothing is taken, and nothing guessed.
      if (told.refused) {
        expect(kind).toBe('postfix');
        expect([...told.outcomes.values()].filter(({ type }) => type !== 'uncertain')).toEqual([]);
        return;
      }
      const outcome = (key: string): string | undefined => told.outcomes.get(key)?.type;
      // Exim 4.96 insists on synchronization and takes one at most; Postfix 3.7 obeys the QUIT in b's text.
      expect(kind === 'postfix' ? ['delivered'] : ['delivered', 'uncertain']).toContain(outcome('a joe@gate.test'));
      expect(kind === 'postfix' ? ['failed'] : ['failed', 'uncertain']).toContain(outcome('b no@gate.test'));
      expect(outcome('c joe@gate.test')).toBe('uncertain');
    });
    test('the probe takes netcat, and without it what sshd or sendmail offer', async () => {
      const probe = { env: systemEnv, timeoutMs: 10_000, signal: new AbortController().signal };
      const best = await findSmtp(processLink(gate), probe);
      expect(best.target).toEqual(exec('netcat localhost smtp'));
      expect(best.trials).toMatchObject([{ works: true, detail: /PIPELINING/ }]);
      await gate.command('netcat', 'echo broken >&2; exit 1');
      // An sshd that forwards nothing: whether this machine has an MTA of its own on port 25 is not looked at.
      const next = await findSmtp(processLink(gate, { forwards: false }), probe);
      expect(next.trials[0]).toMatchObject({ works: false, detail: /netcat localhost smtp: .*broken/ });
      expect(next.target).toMatchObject({ type: 'exec', command: /sendmail -bs$/ });
      expect(next.trials.length).toBeGreaterThanOrEqual(2);
      await gate.useSmtpPort(server.port);
    });
    if (kind === 'exim') {
      test('`exim -bS` takes a batch', async () => {
        const entry = makeEntry({ id: 'a', from: 's@home.test', message: TRICKY.replace('tricky', 'bsmtp') });
        const told = await send([entry], exec('sendmail -bS'));
        expect(told.lines).toEqual(['a attempting', 'a joe@gate.test delivered 250']);
        const [message] = await arrived('bsmtp', 1);
        expect(body(message)).toBe('.\n..dots\nFrom here\nRCPT TO:<x@y>\n.\nend\n');
        expect(message).toMatch(/Return-path: <s@home\.test>/i);
      });
    }
  });
}

describe('LMTP', () => {
  test('has a reply for each recipient', async () => {
    const run = deliver(
      [
        `S:220 gate.test LMTP
        C:LHLO home.test
        S:250-gate.test
        S:250 PIPELINING
        C:MAIL FROM:<ann@home.test>
        C:RCPT TO:<r1@gate.test>
        C:RCPT TO:<no@gate.test>
        C:RCPT TO:<r2@gate.test>
        C:RCPT TO:<r3@gate.test>
        C:DATA
        S:250 ok
        S:250 ok
        S:550 no
        S:250 ok
        S:250 ok
        S:354 go
        C:Subject: x
        C:
        C:hello
        C:.
        S:250 r1 has it
        S:452 r2 is over quota
        S:552 r3 will not
        C:QUIT`,
      ],
      {
        entries: [makeEntry({ id: 'a', to: ['r1@gate.test', 'no@gate.test', 'r2@gate.test', 'r3@gate.test'] })],
        target: { type: 'unix', path: '/run/lmtp' },
      },
    );
    expect(await run.done).toBeUndefined();
    await run.played;
    expect(run.lines).toEqual([
      'a attempting',
      'a r1@gate.test delivered 250',
      'a no@gate.test failed 550',
      'a r2@gate.test deferred 452',
      'a r3@gate.test failed 552',
    ]);
  });
  test('is spoken to a real LMTP server at a Unix socket', async () => {
    let gate: Gate | undefined;
    try {
      gate = await startRig({ imapd: false, smtp: false });
      const path = join(gate.dir, 'lmtp.sock');
      const texts: string[] = [];
      const server = new SMTPServer({
        ...{ lmtp: true, authOptional: true, disabledCommands: ['STARTTLS', 'AUTH'], disableReverseLookup: true },
        onRcptTo: ({ address }, _session, done) => done(address.startsWith('no') ? new Error('no such user') : null),
        onData(stream, session, done) {
          stream.on('data', (chunk: Buffer) => texts.push(chunk.toString()));
          const answers = session.envelope.rcptTo.map(({ address }) =>
            address.startsWith('full')
              ? Object.assign(new Error('quota'), { responseCode: 452 })
              : `taken for ${address}`,
          );
          stream.on('end', () => (done as (error: null, answers: unknown) => void)(null, answers));
        },
      });
      server.on('error', () => {});
      await new Promise<void>((resolve) => void server.listen(path, () => resolve()));
      const told = makeReport();
      const entry = makeEntry({ id: 'a', to: ['r1@gate.test', 'no@gate.test', 'full@gate.test'] });
      const target: Target = { type: 'unix', path };
      await createCourier({ link: processLink(gate), target, helo: 'home.test', env: systemEnv })(
        toBatch([entry]),
        told.report,
      );
      await new Promise<void>((resolve) => server.close(() => resolve()));
      expect(told.lines).toEqual([
        'a attempting',
        'a r1@gate.test delivered 250',
        'a no@gate.test failed 550',
        'a full@gate.test deferred 452',
      ]);
      expect(texts.join('')).toContain('hello');
    } finally {
      await gate?.stop();
    }
  });
});
