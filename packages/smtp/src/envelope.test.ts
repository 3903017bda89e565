import { readdir, readFile } from 'node:fs/promises';
import { join } from 'node:path';
import { type Entry, type Extensions, parseForwardPath, systemEnv, type Target } from '@postern/core';
import { type Gate, readMaildir, type SmtpServer, type SmtpServerOptions } from '@postern/gate';
import { startPostfix, startRig } from '@postern/testkit/rig';
import { afterAll, beforeAll, describe, expect, test } from 'vitest';
import { makeEntry, makeReport, type Told, toBatch } from './courier.test-util.ts';
import { createCourier } from './courier.ts';
import { processLink } from './real.test-util.ts';

const NETCAT: Target = { type: 'exec', command: 'netcat localhost smtp' };
type Kind = 'exim' | 'postfix';

async function start(kind: Kind, smtp: SmtpServerOptions): Promise<{ gate: Gate; server: SmtpServer }> {
  if (kind === 'exim') {
    const gate = await startRig({ imapd: false, smtp });
    return { gate, server: gate.smtp as SmtpServer };
  }
  const gate = await startRig({ imapd: false, smtp: false });
  return { gate, server: await startPostfix(gate, smtp) };
}
async function send(gate: Gate, entries: readonly Entry[]): Promise<Told & { extensions: Extensions }> {
  const told = makeReport();
  let extensions: Extensions | undefined;
  const courier = createCourier({
    ...{ link: processLink(gate), target: NETCAT, helo: 'home.test', env: systemEnv },
    onEvent(event) {
      if (event.type === 'ready') extensions = event.extensions;
    },
  });
  await courier(toBatch(entries), told.report);
  if (extensions === undefined) throw new Error('no session');
  return { ...told, extensions };
}
/** Messages that arrived and match, once there are `count`. */
async function arrived(gate: Gate, pattern: RegExp, count = 1): Promise<string[]> {
  for (;;) {
    const found = (await readMaildir(gate.maildir)).map(String).filter((message) => pattern.test(message));
    if (found.length >= count) return found;
    await new Promise((resolve) => setTimeout(resolve, 50));
  }
}
/** The server's log, once it matches. */
async function logged(server: SmtpServer, pattern: RegExp): Promise<string> {
  for (;;) {
    const log = await server.log();
    if (pattern.test(log)) return log;
    await new Promise((resolve) => setTimeout(resolve, 50));
  }
}
/** `makeEntry` takes octets as latin1 text. */
const utf8 = (text: string): string => Buffer.from(text).toString('latin1');
const SPECIAL = {
  eightBit: makeEntry({
    id: 'eight',
    message: utf8('Subject: eight\r\nContent-Type: text/plain; charset=utf-8\r\n\r\nGrüße\r\n'),
    envelope: { body: '8BITMIME' },
  }),
  header: makeEntry({
    id: 'header',
    message: utf8('Subject: header Grüße\r\n\r\nx\r\n'),
    envelope: { body: '8BITMIME', smtputf8: true },
  }),
  address: makeEntry({
    id: 'address',
    from: 'änne@home.test',
    to: ['jörg@gate.test'],
    message: utf8('Subject: address\r\n\r\nx\r\n'),
    envelope: { body: '8BITMIME', smtputf8: true },
  }),
};

for (const kind of ['exim', 'postfix'] as const) {
  describe(`the envelope, at the real ${kind}`, () => {
    let gate: Gate;
    beforeAll(async () => {
      ({ gate } = await start(kind, {
        sizeLimit: 10_000,
        settings: kind === 'exim' ? { smtputf8_advertise_hosts: '*', dsn_advertise_hosts: '*' } : {},
      }));
    });
    afterAll(() => gate?.stop());

    test('8-bit text arrives octet for octet', async () => {
      const told = await send(gate, [SPECIAL.eightBit]);
      expect(told.lines.at(-1)).toBe('eight joe@gate.test delivered 250');
      expect((await arrived(gate, /^Subject: eight/m))[0]).toContain('\n\nGrüße\n');
    });
    test('a header and addresses of another script arrive, or fail with 5.6.7 where SMTPUTF8 is not offered', async () => {
      const told = await send(gate, [SPECIAL.header, SPECIAL.address]);
      if (kind === 'postfix') expect(told.extensions.smtputf8).toBe(true);
      if (told.extensions.smtputf8) {
        expect(told.lines.filter((line) => line.includes('@'))).toEqual([
          'header joe@gate.test delivered 250',
          'address jörg@gate.test delivered 250',
        ]);
        expect((await arrived(gate, /^Subject: header/m))[0]).toContain('Subject: header Grüße\n');
        expect((await arrived(gate, /^Subject: address/m))[0]).toMatch(/^Return-Path: <änne@home\.test>/im);
      } else {
        for (const outcome of told.outcomes.values()) {
          expect(outcome).toMatchObject({ type: 'failed', reason: /^5\.6\.7 / });
        }
      }
    });
    test('a message over the announced SIZE fails with 5.3.4 and is not sent; its neighbours arrive', async () => {
      const large = makeEntry({ id: 'large', message: `Subject: large\r\n\r\n${'x'.repeat(98)}\r\n`.repeat(200) });
      const told = await send(gate, [makeEntry({ id: 'a' }), large, makeEntry({ id: 'b' })]);
      expect(told.extensions.maxSize).toBe(10_000);
      expect(told.outcomes.get('large joe@gate.test')).toMatchObject({
        type: 'failed',
        reason: expect.stringMatching(/^5\.3\.4 /),
      });
      expect(told.outcomes.get('a joe@gate.test')).toMatchObject({ type: 'delivered' });
      expect(told.outcomes.get('b joe@gate.test')).toMatchObject({ type: 'delivered' });
    });
    test('the null sender stays null, and a quoted local part quoted', async () => {
      const told = await send(gate, [
        makeEntry({ id: 'q', from: '', to: ['"a b"@gate.test'], message: 'Subject: quoted\r\n\r\nx\r\n' }),
      ]);
      expect(told.lines.at(-1)).toBe('q "a b"@gate.test delivered 250');
      const [message] = await arrived(gate, /^Subject: quoted/m);
      expect(message).toMatch(/^Return-Path: <>/im);
      expect(message).toMatch(/^(Envelope-To|X-Original-To): "?a b"?@gate\.test/im);
    });
    test('DSN requests arrive: one success notice, with ENVID, ORCPT and the header alone', async () => {
      const recipients = [
        { to: parseForwardPath('one@gate.test'), notify: ['SUCCESS', 'FAILURE'], orcpt: 'rfc822;Bob+1@far.example' },
        { to: parseForwardPath('two@gate.test'), notify: ['NEVER'] },
      ] as const;
      const told = await send(gate, [
        makeEntry({
          id: 'd',
          from: 'ann@gate.test',
          message: 'Subject: dsn\r\n\r\nsecret words\r\n',
          envelope: { recipients, ret: 'HDRS', envid: 'QQ=314+159' },
        }),
      ]);
      expect(told.extensions.dsn).toBe(true);
      expect(told.outcomes.get('d one@gate.test')).toEqual({ type: 'delivered', reply: expect.anything() });
      const [notice] = await arrived(gate, /^Content-Type: (multipart\/report|message\/delivery-status)/m);
      expect(notice).toMatch(/^Original-Envelope-Id: QQ(=314\+159|\+3D314\+2B159)$/im);
      expect(notice).toMatch(/^Original-Recipient: rfc822; ?Bob(\+|\+2B)1@far\.example$/im);
      expect(notice).toMatch(/^Action: delivered/im);
      expect(notice).not.toContain('two@gate.test');
      expect(notice).toContain('Subject: dsn');
      expect(notice).not.toContain('secret words');
    });
  });

  test(`1,200 recipients go to the real ${kind} in two transactions, each once`, async () => {
    const settings: Record<string, string> =
      kind === 'exim' ? { queue_only: 'true', recipients_max: '0' } : { defer_transports: 'virtual' };
    const { gate, server } = await start(kind, { settings });
    try {
      const to = Array.from({ length: 1200 }, (_, at) => `r${at}@gate.test`);
      const told = await send(gate, [makeEntry({ id: 'many', to })]);
      expect([...told.outcomes.values()].map(({ type }) => type)).toEqual(to.map(() => 'delivered'));
      if (kind === 'postfix') {
        const log = await logged(server, /nrcpt=200 /);
        expect([...log.matchAll(/nrcpt=(\d+) \(queue active\)/g)].map(([, count]) => count).toSorted()).toEqual([
          '1000',
          '200',
        ]);
      } else {
        const queue = join(server.spool, 'input');
        const headers = (await readdir(queue)).filter((name) => name.endsWith('-H'));
        const texts = await Promise.all(headers.map((name) => readFile(join(queue, name), 'utf8')));
        expect(texts).toHaveLength(2);
        expect(texts.flatMap((text) => text.match(/^r\d+@gate\.test$/gm) ?? []).toSorted()).toEqual(to.toSorted());
      }
    } finally {
      await gate.stop();
    }
  });
}

describe('a far server that offers less (Postfix)', () => {
  test('gets 8-bit text encoded, fails what needs SMTPUTF8 with a clear word, and asks for the relayed notice where it has no DSN', async () => {
    const settings = { smtpd_discard_ehlo_keywords: '8bitmime smtputf8 dsn' };
    const { gate } = await start('postfix', { settings });
    try {
      const wanted = [{ to: parseForwardPath('joe@gate.test'), notify: ['SUCCESS'] }] as const;
      const raw = makeEntry({
        id: 'raw',
        message: `DKIM-Signature: v=1\r\n${utf8('Subject: raw Grüße\r\nFrom: Jörg <j@home.test>\r\n')}\r\nL\xf6sung\r\n`,
        envelope: { body: '8BITMIME' },
      });
      const told = await send(gate, [
        ...Object.values(SPECIAL),
        raw,
        makeEntry({ id: 'plain', envelope: { recipients: wanted, envid: 'x', ret: 'FULL' } }),
      ]);
      const failed = (code: string): unknown => ({ type: 'failed', reason: expect.stringContaining(code) });
      expect(Object.fromEntries(told.outcomes)).toMatchObject({
        'eight joe@gate.test': { type: 'delivered' },
        'raw joe@gate.test': { type: 'delivered' },
        'header joe@gate.test': failed('5.6.7 '),
        'address jörg@gate.test': failed('5.6.7 '),
        'plain joe@gate.test': { type: 'delivered', relayed: true },
      });
      await expect
        .poll(async () => (await readMaildir(gate.maildir)).map(String).join(), { timeout: 30_000 })
        .toMatch(
          /Subject: raw =\?utf-8\?B\?R3LDvMOfZQ==\?=\r?\nFrom: =\?utf-8\?B\?SsO2cmc=\?= <j@home\.test>\r?\nContent-Type: text\/plain; charset=unknown-8bit\r?\n[\s\S]*\nL=F6sung/,
        );
      await expect
        .poll(async () => (await readMaildir(gate.maildir)).map(String).join(), { timeout: 30_000 })
        .toMatch(
          /Subject: eight\r?\nContent-Type: text\/plain; charset=utf-8\r?\n(?:MIME-Version: 1\.0\r?\n)?Content-Transfer-Encoding: quoted-printable\r?\n[\s\S]*\nGr=C3=BC=C3=9Fe/,
        );
    } finally {
      await gate.stop();
    }
  });
});

describe('a far server that will not have long lines (Postfix)', () => {
  test('gets them encoded, and refuses what is signed in its own words', async () => {
    const settings = {
      body_checks: 'regexp:{{/x{500}/ REJECT this line is too long}}',
      body_checks_size_limit: '100000',
    };
    const { gate } = await start('postfix', { settings });
    try {
      const body = `\r\n${'x'.repeat(1500)}\r\n`;
      const envelope = { longLines: true as const };
      const told = await send(gate, [
        makeEntry({ id: 'plain', message: `Subject: plain\r\n${body}`, envelope }),
        makeEntry({ id: 'signed', message: `DKIM-Signature: v=1\r\n${body}`, envelope }),
      ]);
      expect(Object.fromEntries(told.outcomes)).toMatchObject({
        'plain joe@gate.test': { type: 'delivered' },
        'signed joe@gate.test': {
          type: 'failed',
          reply: { code: 550, lines: [expect.stringContaining('line is too long')] },
        },
      });
    } finally {
      await gate.stop();
    }
  });
});
