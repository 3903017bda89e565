import fc from 'fast-check';
import { describe, expect, test } from 'vitest';
import type { Envelope } from '../envelope.ts';
import { splits } from '../testing/index.ts';
import { createMessageChecker, describeFault, MAX_TEXT_LINE_OCTETS } from './check.ts';
import { formatMail, formatRcpt, unsendable } from './command.ts';
import { createDotDecoder, createDotEncoder } from './dot.ts';
import { type Extensions, NO_EXTENSIONS, parseEhlo } from './extensions.ts';
import { parseForwardPath, parseReversePath } from './path.ts';
import { decodeXtext, encodeXtext } from './xtext.ts';

const ehlo = (...lines: string[]): Extensions => parseEhlo({ code: 250, lines: ['mx.example', ...lines] });
const everything = ehlo('SIZE 1000', 'PIPELINING', '8BITMIME', 'SMTPUTF8', 'DSN', 'CHUNKING');
const envelope = (o: Partial<Envelope> = {}): Envelope => ({
  ...{ from: parseReversePath('a@x.org'), recipients: [{ to: parseForwardPath('b@y.org') }] },
  ...{ body: '7BIT', smtputf8: false, ...o },
});

describe('EHLO', () => {
  test('lists what may be used', () => {
    const extensions = ehlo('size 1000', 'Pipelining', 'AUTH PLAIN LOGIN', 'AUTH=PLAIN CRAM-MD5', 'STARTTLS', '???');
    expect(extensions).toMatchObject({
      esmtp: true,
      pipelining: true,
      size: true,
      maxSize: 1000,
      startTls: true,
      dsn: false,
    });
    expect(extensions.auth).toEqual(['PLAIN', 'LOGIN', 'CRAM-MD5']);
  });
  test('a SIZE without a number or of 0 is no limit', () => {
    for (const line of ['SIZE', 'SIZE 0', 'SIZE x']) {
      expect(ehlo(line).size).toBe(true);
      expect(ehlo(line).maxSize).toBeUndefined();
    }
  });
});

describe('MAIL and RCPT', () => {
  const full = envelope({ body: '8BITMIME', smtputf8: true, ret: 'HDRS', envid: 'id+1=x' });
  test('carry what EHLO listed', () => {
    expect(formatMail(full, { size: 5, extensions: everything }).toString()).toBe(
      'MAIL FROM:<a@x.org> SIZE=5 BODY=8BITMIME SMTPUTF8 RET=HDRS ENVID=id+2B1+3Dx\r\n',
    );
    const to = parseForwardPath('b@y.org');
    const recipient = { to, notify: ['SUCCESS', 'DELAY'] as const, orcpt: 'rfc822;o b@y.org' };
    expect(formatRcpt(recipient, { extensions: everything }).toString()).toBe(
      'RCPT TO:<b@y.org> NOTIFY=SUCCESS,DELAY ORCPT=rfc822;o+20b@y.org\r\n',
    );
    expect(
      formatRcpt({ to, orcpt: 'rfc822;jürgen@y.org' }, { extensions: everything, smtputf8: true }).toString(),
    ).toBe('RCPT TO:<b@y.org> ORCPT=utf-8;j\\x{FC}rgen@y.org\r\n');
  });
  test('carry nothing that EHLO did not list', () => {
    expect(formatMail(full, { size: 5, extensions: NO_EXTENSIONS }).toString()).toBe('MAIL FROM:<a@x.org>\r\n');
    const to = parseForwardPath('b@y.org');
    expect(
      formatRcpt({ to, notify: ['NEVER'], orcpt: 'rfc822;b@y.org' }, { extensions: NO_EXTENSIONS }).toString(),
    ).toBe('RCPT TO:<b@y.org>\r\n');
  });
  test('leave out an ENVID or ORCPT that is too long or cannot be told', () => {
    const long = envelope({ envid: 'x'.repeat(101) });
    expect(formatMail(long, { size: 5, extensions: everything }).toString()).toBe('MAIL FROM:<a@x.org> SIZE=5\r\n');
    const to = parseForwardPath('b@y.org');
    for (const orcpt of ['x', ';x', 'rfc822;', `rfc822;${'x'.repeat(500)}`, 'rfc822;jürgen@x', 'a\r\nb;x']) {
      expect(formatRcpt({ to, orcpt }, { extensions: everything }).toString()).toBe('RCPT TO:<b@y.org>\r\n');
    }
  });
  test('the null reverse-path is <>', () => {
    const bounce = envelope({ from: parseReversePath('') });
    expect(formatMail(bounce, { size: 5, extensions: NO_EXTENSIONS }).toString()).toBe('MAIL FROM:<>\r\n');
  });
  test('a message the server cannot take fails with its own enhanced code', () => {
    expect(unsendable(envelope(), { size: 1001, extensions: everything })).toMatchObject({ reason: /^5\.3\.4 / });
    const eight = envelope({ body: '8BITMIME' });
    expect(unsendable(eight, { size: 1, extensions: ehlo() })).toMatchObject({ type: 'failed', reason: /^5\.6\.3 / });
    const utf8 = envelope({ smtputf8: true });
    expect(unsendable(utf8, { size: 1, extensions: ehlo('8BITMIME') })).toMatchObject({ reason: /^5\.6\.7 / });
    expect(unsendable(utf8, { size: 1000, extensions: everything })).toBeUndefined();
  });
});

describe('xtext', () => {
  test('is what RFC 3461 prints', () => {
    expect(encodeXtext('a+b=c d')).toBe('a+2Bb+3Dc+20d');
    expect(decodeXtext('a+2Bb+3Dc+20d')).toBe('a+b=c d');
  });
  test('comes back as it went', () => {
    fc.assert(
      fc.property(fc.string({ unit: 'grapheme' }), (text) => {
        expect(decodeXtext(encodeXtext(text))).toBe(text);
      }),
    );
  });
  test('refuses what is not xtext', () => {
    for (const text of ['a b', 'a=b', 'a+2', 'a+zz', 'ü']) expect(() => decodeXtext(text)).toThrow(RangeError);
  });
});

/** Bytes as they may travel, rich in dots and line ends. */
const message: fc.Arbitrary<Buffer> = fc
  .array(fc.constantFrom('\r\n', '\r\n', '.', '.', 'a', 'bc', '\u00ff', '..'), { maxLength: 40 })
  .map((parts) => Buffer.from(parts.join(''), 'latin1'));

function dotted(chunks: readonly Uint8Array[]): Buffer {
  const encoder = createDotEncoder();
  return Buffer.concat([...chunks.map((chunk) => encoder.push(chunk)), encoder.end()]);
}

describe('dot-stuffing', () => {
  const known: [string, string][] = [
    ['', '.\r\n'],
    ['.', '..\r\n.\r\n'],
    ['a\r\n', 'a\r\n.\r\n'],
    ['a', 'a\r\n.\r\n'],
    ['.\r\n..\r\na.\r\n', '..\r\n...\r\na.\r\n.\r\n'],
    ['a\r\n.\r\nb\r\n', 'a\r\n..\r\nb\r\n.\r\n'],
  ];
  for (const [plain, encoded] of known) {
    test(`of ${JSON.stringify(plain)} is ${JSON.stringify(encoded)}, however it is cut`, () => {
      for (const [, chunks] of splits(Buffer.from(plain))) expect(dotted(chunks).toString()).toBe(encoded);
    });
  }
  test('comes back as it went, with the CRLF that DATA needs, and finds the commands behind', () => {
    fc.assert(
      fc.property(message, (plain) => {
        const ended = plain.length === 0 || plain.subarray(-2).equals(Buffer.from('\r\n'));
        const expected = ended ? plain : Buffer.concat([plain, Buffer.from('\r\n')]);
        const behind = Buffer.from('MAIL FROM:<>\r\n');
        for (const [, chunks] of splits(plain, 3)) {
          const wire = dotted(chunks);
          const decoded = createDotDecoder().push(Buffer.concat([wire, behind]));
          expect(Buffer.from(decoded.body)).toEqual(expected);
          expect(Buffer.from(decoded.rest ?? [])).toEqual(behind);
          const decoder = createDotDecoder();
          const parts = splits(wire, 1).flatMap(([name, cut]) => (name === 'seed 1' ? cut : []));
          const results = parts.map((part) => decoder.push(part));
          expect(Buffer.concat(results.map((result) => result.body))).toEqual(expected);
          expect(results.findIndex((result) => result.rest !== undefined)).toBe(results.length - 1);
        }
      }),
      { numRuns: 500 },
    );
  });
  test('never lets a message end early: no CRLF.CRLF before its end', () => {
    fc.assert(
      fc.property(message, (plain) => {
        const wire = `\r\n${dotted([plain]).toString('latin1')}`;
        expect(wire.indexOf('\r\n.\r\n')).toBe(wire.length - 5);
      }),
      { numRuns: 500 },
    );
  });
});

describe('the message checker', () => {
  const check = (chunks: readonly Uint8Array[]): unknown => {
    const checker = createMessageChecker();
    for (const chunk of chunks) checker.push(chunk);
    return checker.end();
  };
  const cases: [string, unknown][] = [
    [
      '',
      { type: 'fit', facts: { size: 0, eightBit: false, eightBitHeader: false, longLines: false, endsInCrlf: true } },
    ],
    [
      'a: b\r\n\r\nx',
      { type: 'fit', facts: { size: 9, eightBit: false, eightBitHeader: false, longLines: false, endsInCrlf: false } },
    ],
    [
      'a: b\r\n\r\n\u00ff\r\n',
      { type: 'fit', facts: { size: 11, eightBit: true, eightBitHeader: false, longLines: false, endsInCrlf: true } },
    ],
    [
      'a: \u00ff\r\n\r\n',
      { type: 'fit', facts: { size: 8, eightBit: true, eightBitHeader: true, longLines: false, endsInCrlf: true } },
    ],
    ['a\nb', { type: 'unfit', fault: { type: 'bare-lf', line: 1 } }],
    ['a\r\nb\rc', { type: 'unfit', fault: { type: 'bare-cr', line: 2 } }],
    ['a\r\nb\r', { type: 'unfit', fault: { type: 'bare-cr', line: 2 } }],
    ['a\r\r\n', { type: 'unfit', fault: { type: 'bare-cr', line: 1 } }],
    ['a\r\n.\n.\r\n', { type: 'unfit', fault: { type: 'bare-lf', line: 2 } }],
    ['a\0b', { type: 'unfit', fault: { type: 'nul', line: 1 } }],
    [`${'x'.repeat(MAX_TEXT_LINE_OCTETS)}\r\n`, { type: 'fit' }],
    [`${'x'.repeat(MAX_TEXT_LINE_OCTETS + 1)}\r\n`, { type: 'unfit', fault: { type: 'long-line', line: 1 } }],
  ];
  for (const [text, verdict] of cases) {
    test(`judges ${JSON.stringify(text.slice(0, 20))} the same however it is cut`, () => {
      for (const [, chunks] of splits(Buffer.from(text, 'latin1')))
        expect(check(chunks)).toMatchObject(verdict as object);
    });
  }
  test('says what to do', () => {
    expect(describeFault({ type: 'bare-lf', line: 3 })).toMatch(/line 3 has an LF without CR; send CRLF/);
    expect(describeFault({ type: 'long-line', line: 1 })).toMatch(/line 1 is longer than 998 octets; encode/);
  });
});
