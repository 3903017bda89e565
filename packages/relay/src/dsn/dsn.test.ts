import type { EntryId, Envelope, ForwardPath, Outcome, ReversePath } from '@postern/core';
import { simpleParser } from 'mailparser';
import { describe, expect, test } from 'vitest';
import { buildDsn, type DsnInput, wantsDsn } from './dsn.ts';

const refused: Outcome = {
  type: 'failed',
  reply: { code: 550, enhanced: '5.1.1', lines: ['No such user here', 'See https://x.example'] },
  reason: '550 5.1.1 No such user here',
};

function input(
  o: { envelope?: Partial<Envelope>; message?: string; outcome?: Outcome; to?: string } & Partial<DsnInput> = {},
): DsnInput {
  const recipient = { to: (o.to ?? 'a@x.example') as ForwardPath, orcpt: 'rfc822;Alias@x.example' };
  const message = o.message ?? 'From: me@work.example\r\nSubject: hello\r\n\r\nthe body\r\n';
  return {
    kind: 'failed',
    id: '1k81tiob2anoigj' as EntryId,
    hostname: 'laptop.example',
    at: Date.UTC(2026, 10, 22, 15, 3, 50),
    about: {
      id: '1k81tiob2000000' as EntryId,
      envelope: {
        ...{ from: 'me@work.example' as ReversePath, recipients: [recipient], body: '7BIT', smtputf8: false },
        ...o.envelope,
      } as Envelope,
      size: Buffer.byteLength(message),
      arrived: Date.UTC(2026, 10, 22, 15, 0, 0),
      async *open() {
        // Cut in the middle of the header's end.
        const bytes = Buffer.from(message);
        for (let at = 0; at < bytes.length; at += 7) yield bytes.subarray(at, at + 7);
      },
    },
    recipients: [{ recipient, outcome: o.outcome ?? refused, host: 'gate' }],
    ...o,
  };
}

async function text(source: AsyncIterable<Uint8Array>): Promise<string> {
  const chunks: Uint8Array[] = [];
  for await (const chunk of source) chunks.push(chunk);
  return Buffer.concat(chunks).toString();
}

const render = (o?: Parameters<typeof input>[0]) => text(buildDsn(input(o)).message());

describe('a DSN', () => {
  test('goes to the reverse-path from nobody, and wants no answer', () => {
    expect(buildDsn(input()).envelope).toEqual({
      ...{ from: '', body: '7BIT', smtputf8: false },
      recipients: [{ to: 'me@work.example', notify: ['NEVER'] }],
    });
  });

  test('is not made for a null reverse-path', () => {
    expect(() => buildDsn(input({ envelope: { from: '' as ReversePath } }))).toThrow(RangeError);
  });

  test('is read by mailparser as what RFC 3464 wants', async () => {
    const parsed = await simpleParser(await render({ envelope: { envid: 'Q+1' } }), { keepDeliveryStatus: true });
    expect(parsed.from?.text).toBe('"Mail Delivery System" <MAILER-DAEMON@laptop.example>');
    expect(parsed.headers.get('auto-submitted')).toBe('auto-replied');
    expect(parsed.headers.get('content-type')).toMatchObject({
      value: 'multipart/report',
      params: { 'report-type': 'delivery-status' },
    });
    expect(parsed.text).toContain('<a@x.example>');
    const report = parsed.attachments.find(({ contentType }) => contentType === 'message/delivery-status');
    expect(report?.content.toString().trim().split(/\r?\n/)).toEqual([
      'Original-Envelope-Id: Q+1',
      'Reporting-MTA: dns; laptop.example',
      'Arrival-Date: Sun, 22 Nov 2026 15:00:00 +0000',
      '',
      'Original-Recipient: rfc822; Alias@x.example',
      'Final-Recipient: rfc822; a@x.example',
      'Action: failed',
      'Status: 5.1.1',
      'Remote-MTA: dns; gate',
      'Diagnostic-Code: smtp; 550 5.1.1 No such user here See https://x.example',
      'Last-Attempt-Date: Sun, 22 Nov 2026 15:03:50 +0000',
    ]);
    expect(parsed.attachments.at(-1)).toMatchObject({ contentType: 'message/rfc822' });
  });

  test.each<[string, Parameters<typeof input>[0], boolean]>([
    ['a small message whole', {}, true],
    ['the header of a large one', { message: `A: b\r\n\r\n${'x\r\n'.repeat(30_000)}` }, false],
    [
      'a large one whole when asked',
      { message: `A: b\r\n\r\n${'x\r\n'.repeat(30_000)}`, envelope: { ret: 'FULL' } },
      true,
    ],
    ['the header when asked', { envelope: { ret: 'HDRS' } }, false],
    ['the header for a delay', { kind: 'delayed', envelope: { ret: 'FULL' } }, false],
  ])('returns %s', async (_name, o, full) => {
    const dsn = await render(o);
    expect(dsn.includes('Content-Type: message/rfc822')).toBe(full);
    expect(dsn.includes('Content-Type: text/rfc822-headers')).toBe(!full);
    expect(/\r\nthe body\r\n|\r\nx\r\nx\r\n/.test(dsn)).toBe(full);
  });

  test.each([
    ['with a body only', '\r\nbody\r\n'],
    ['without a body', 'A: b\r\n'],
    ['empty', ''],
    ['without a last line end', 'A: b\r\n\r\nbody'],
  ])('about a message %s ends well', async (_name, message) => {
    for (const ret of ['FULL', 'HDRS'] as const) {
      const dsn = await render({ message, envelope: { ret } });
      expect(dsn).toMatch(/\r\n--=_[^\r\n]*--\r\n$/);
      expect((await simpleParser(dsn, { keepDeliveryStatus: true })).attachments.length).toBeGreaterThan(0);
    }
  });

  test('quotes the far server safely: no line of it can become a field, a boundary or a control sequence', async () => {
    const lines = [
      '\r\nAction: delivered\r\n--=_1k81tiob2anoigj_1k81tiob2000000--',
      '\u001b[31mred\u009b',
      '\u00e4\u202e',
      'w'.repeat(3000),
    ];
    const dsn = await render({ outcome: { type: 'failed', reply: { code: 550, lines }, reason: 'x' } });
    expect(dsn.match(/^Action: .*$/gm)).toEqual(['Action: failed']);
    expect(dsn.match(/^--=_.*--$/gm)).toHaveLength(1);
    expect(dsn).not.toMatch(/[^\r\n\t\u0020-\u007e]/);
    expect(Math.max(...dsn.split('\r\n').map((line) => line.length))).toBeLessThanOrEqual(998);
    expect(dsn.replaceAll('\r\n', '')).not.toMatch(/[\r\n]/);
  });

  test('leaves addresses and URLs whole, and no line too long for mail', async () => {
    const address = `${'l'.repeat(64)}@${'d'.repeat(60)}.${'e'.repeat(60)}.${'f'.repeat(56)}.example`;
    const url = `https://support.example/${'a'.repeat(200)}`;
    const reply = { code: 550, lines: [`5.7.1 see ${url} for more`, 'x'.repeat(2000)] };
    const outcome: Outcome = { type: 'failed', reply, reason: 'refused' };
    const recipient = { to: address as ForwardPath, orcpt: `rfc822;${address}` };
    const dsn = await render({ recipients: [{ recipient, outcome, host: 'gate' }] });
    expect(dsn).toMatch(new RegExp(`^Original-Recipient: rfc822;\\s+${address}\r$`, 'm'));
    expect(dsn.split(url)).toHaveLength(3);
    expect(Math.max(...dsn.split('\r\n').map((line) => line.length))).toBeLessThanOrEqual(998);
  });

  test('of a delay says until when it is tried', async () => {
    const dsn = await render({
      kind: 'delayed',
      retryUntil: Date.UTC(2026, 10, 27),
      outcome: { type: 'deferred', reason: 'connection refused' },
    });
    expect(dsn).toContain('Action: delayed\r\nStatus: 4.0.0\r\n');
    expect(dsn).toContain('Will-Retry-Until: Fri, 27 Nov 2026 00:00:00 +0000');
    expect(dsn).not.toContain('Diagnostic-Code');
  });

  test('to a sender of another script says so (RFC 6533)', async () => {
    const envelope = { from: 'j\u00f6@work.example' as ReversePath, smtputf8: true, body: '8BITMIME' } as const;
    const built = buildDsn(input({ to: 'J\u00f6rg@x.example', envelope }));
    expect(built.envelope).toMatchObject({ smtputf8: true, body: '8BITMIME' });
    const dsn = await text(built.message());
    expect(dsn).toContain('Content-Type: message/global-delivery-status');
    expect(dsn).toContain('Final-Recipient: utf-8; J\u00f6rg@x.example');
    expect(dsn).toContain('Content-Type: message/global\r\n');
  });

  const LETTER = 'From: me@work.example\r\nSubject: hello\r\n';
  const SIGNED = `DKIM-Signature: v=1\r\n${LETTER}`;
  const UMLAUT = 'Gr\u00fc\u00dfe\r\n'.repeat(5);
  const LONG = `${'long '.repeat(500)}\r\n`;
  test.each<[string, string, Partial<Envelope>, RegExp]>([
    ['8-bit text', `${LETTER}\r\n${UMLAUT}`, { body: '8BITMIME' }, /rfc822\r\n[\s\S]*Gr=C3=BC=C3=9Fe/],
    [
      '8-bit text in its header',
      `From: J\u00f6rg <me@work.example>\r\n\r\nx\r\n`,
      { body: '8BITMIME' },
      /=\?utf-8\?B\?/,
    ],
    ['long lines', `${LETTER}\r\n${LONG}`, { longLines: true }, /rfc822\r\n[\s\S]*long =\r\n/],
    [
      'signed 8-bit text',
      `${SIGNED}\r\n${UMLAUT}`,
      { body: '8BITMIME' },
      /text\/rfc822-headers\r\n[\s\S]*DKIM-Signature: v=1\r\n/,
    ],
    ['signed long lines', `${SIGNED}\r\n${LONG}`, {}, /text\/rfc822-headers\r\n[\s\S]*DKIM-Signature: v=1\r\n/],
    [
      'a signed 8-bit header',
      `${SIGNED}X-Y: \u00fc\r\n\r\nx\r\n`,
      { body: '8BITMIME' },
      /headers\r\nContent-Transfer-Encoding: quoted-printable\r\n[\s\S]*X-Y: =C3=BC\r\n/,
    ],
    [
      'another script',
      `From: J\u00f6rg\r\n\r\n${UMLAUT}`,
      { body: '8BITMIME', smtputf8: true },
      /message\/global\r\nContent-Transfer-Encoding: quoted-printable\r\n[\s\S]*From: J=C3=B6rg\r\n/,
    ],
  ])('about a message with %s is 7-bit, in lines every server takes', async (_name, message, envelope, want) => {
    const to = envelope.smtputf8 === true ? 'J\u00f6rg@x.example' : 'a@x.example';
    const built = buildDsn(input({ to, message, envelope: { ...envelope, ret: 'FULL' } }));
    expect(built.envelope).toMatchObject({ smtputf8: false, body: '7BIT' });
    const dsn = await text(built.message());
    expect(dsn).toMatch(/^[\t\r\n -~]*$/);
    expect(Math.max(...dsn.split('\r\n').map((line) => line.length))).toBeLessThanOrEqual(998);
    expect(dsn).toMatch(want);
    if (envelope.smtputf8 === true) expect(dsn).toContain('Final-Recipient: utf-8; J\\x{F6}rg@x.example\r\n');
    const parsed = await simpleParser(dsn);
    expect(parsed.text).toContain(`<${to}>`);
  });
});

test.each<[string[] | undefined, string, boolean]>([
  [undefined, 'failed', true],
  [undefined, 'delayed', true],
  [undefined, 'relayed', false],
  [['NEVER'], 'failed', false],
  [['NEVER'], 'delayed', false],
  [['SUCCESS'], 'failed', false],
  [['SUCCESS'], 'relayed', true],
  [['FAILURE'], 'expired', true],
  [['FAILURE'], 'delayed', false],
  [['DELAY'], 'delayed', true],
])('NOTIFY=%s and %s: %s', (notify, kind, expected) => {
  const recipient = { to: 'a@x.example' as ForwardPath, ...(notify && { notify: notify as never }) };
  expect(wantsDsn(recipient, kind as never)).toBe(expected);
});
