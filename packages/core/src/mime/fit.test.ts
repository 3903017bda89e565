import { describe, expect, test } from 'vitest';
import { createMessageChecker } from '../smtp/check.ts';
import { splits } from '../testing/index.ts';
import { type FitOptions, fitMessage, isFit, surveyMessage } from './fit.ts';

/** The message made fit, fed in these chunks; undefined when it is left as it is. */
function fit(chunks: readonly Uint8Array[], o: FitOptions = {}): { text: string; changed: boolean } {
  const survey = surveyMessage(o);
  for (const chunk of chunks) survey.push(chunk);
  const plan = survey.finish();
  const fitter = fitMessage(plan);
  const out = [...chunks.map((chunk) => fitter.push(chunk)), fitter.finish()];
  return { text: Buffer.concat(out).toString('latin1'), changed: !isFit(plan) };
}

function planOf(text: string, o: FitOptions = {}): ReturnType<ReturnType<typeof surveyMessage>['finish']> {
  const survey = surveyMessage(o);
  survey.push(Buffer.from(text, 'latin1'));
  return survey.finish();
}

const unquote = (text: string): string =>
  text
    .replace(/=\r\n/g, '')
    .replace(/=([0-9A-F]{2})/g, (_, hex: string) => String.fromCharCode(Number.parseInt(hex, 16)));
const bodyOf = (text: string): string => text.slice(text.indexOf('\r\n\r\n') + 4);
const long = 'long '.repeat(600);
const whole = (text: string): Uint8Array[] => [Buffer.from(text, 'latin1')];

const MULTIPART = [
  'Subject: both\r\nMIME-Version: 1.0\r\nContent-Type: multipart/mixed; boundary="b 1"\r\n\r\n',
  'preamble\r\n--b 1\r\nContent-Type: text/plain; charset=utf-8\r\n\r\nshort \xc3\xa9\r\n',
  `--b 1\r\nContent-Type: text/html\r\nContent-Transfer-Encoding: 8bit\r\n\r\n<p>${long}</p>\r\n`,
  '--b 1\r\nContent-Type: message/rfc822\r\n\r\nSubject: inner\r\n\r\n',
  `${long}\r\n--b 1--\r\nepilogue\r\n`,
].join('');

const FIT: readonly [string, string, FitOptions?][] = [
  ['plain text', 'Subject: x\r\n\r\nhello\r\n.\r\n..\r\n'],
  ['no end of line', 'Subject: x\r\n\r\nhello'],
  ['a header alone', 'Subject: x\r\n'],
  ['an empty message', ''],
  ['998 octets in a line', `Subject: x\r\n\r\n${'x'.repeat(998)}\r\n`],
  ['8-bit text where the server takes it', 'Subject: \xe9\r\n\r\n\xe9\r\n'],
  ['a multipart that fits', MULTIPART.replaceAll(long, 'short')],
  ['a boundary that never comes', 'Content-Type: multipart/mixed; boundary=x\r\n\r\nnothing\r\n'],
];

describe('a message that a server takes as it is', () => {
  for (const [name, text, o] of FIT) {
    test.each(splits(Buffer.from(text, 'latin1'), 3))(`${name} keeps every octet, fed %s`, (_how, chunks) =>
      expect(fit(chunks, o)).toEqual({ text, changed: false }),
    );
  }
});

describe('a body that no line can carry', () => {
  const BODIES: readonly [string, string][] = [
    ['a long line', `${long}\r\nnext\r\n`],
    ['a long line without blanks', `${'x'.repeat(3000)}\r\n`],
    ['a long line that has no end', 'y'.repeat(2000)],
    ['a NUL', 'a\0b\r\n'],
    ['a bare carriage return', 'progress 1%\rprogress 2%\r\n'],
    ['equals signs and blanks at the end of lines', `a=b \t\r\n${long} \r\nnext \r\n`],
    ['a blank at its very end', `${'y'.repeat(2000)} `],
  ];
  for (const [name, body] of BODIES) {
    const text = `Subject: x\r\n\r\n${body}`;
    test.each(splits(Buffer.from(text, 'latin1'), 3))(
      `${name} is quoted-printable and reads the same, fed %s`,
      (_how, chunks) => {
        const fitted = fit(chunks);
        expect(fitted.text).toMatch(
          /^Subject: x\r\nContent-Type: text\/plain; charset=utf-8\r\nMIME-Version: 1\.0\r\nContent-Transfer-Encoding: quoted-printable\r\n\r\n/,
        );
        expect(unquote(bodyOf(fitted.text))).toBe(body);
        // A blank at the end of a line may be lost on the way, and how it is fed makes no difference.
        expect(bodyOf(fitted.text)).not.toMatch(/[ \t](\r\n|$)/);
        expect(fitted).toEqual(fit([Buffer.from(text, 'latin1')]));
        expectFit(fitted.text);
      },
    );
  }

  test('of mostly other octets is base64', () => {
    const body = Buffer.from(Array.from({ length: 4000 }, (_, at) => (at * 7) % 256).filter((octet) => octet !== 10));
    const fitted = fit([Buffer.from('Subject: x\r\n\r\n'), body]);
    expect(fitted.text).toContain('Content-Transfer-Encoding: base64\r\n');
    expect(Buffer.from(bodyOf(fitted.text), 'base64').equals(body)).toBe(true);
    expectFit(fitted.text);
  });

  test('each part by itself, at every split: what fits stays, what is within a message is found', () => {
    for (const [, chunks] of splits(Buffer.from(MULTIPART, 'latin1'), 6)) {
      const { text } = fit(chunks);
      expect(text).toContain(
        'preamble\r\n--b 1\r\nContent-Type: text/plain; charset=utf-8\r\n\r\nshort \xc3\xa9\r\n--b 1\r\n',
      );
      expect(text).toContain('Content-Type: text/html\r\nContent-Transfer-Encoding: quoted-printable\r\n\r\n<p>');
      expect(text).toContain(
        'Content-Type: message/rfc822\r\n\r\nSubject: inner\r\nContent-Type: text/plain; charset=utf-8\r\nMIME-Version: 1.0\r\n',
      );
      expect(unquote(text)).toContain(`<p>${long}</p>\r\n--b 1\r\n`);
      expect(unquote(text)).toContain(`${long}\r\n--b 1--\r\nepilogue\r\n`);
      expectFit(text);
    }
  });

  test('that is base64 or quoted-printable already keeps it, in shorter lines', () => {
    const encoded = Buffer.from(long).toString('base64');
    const base64 = fit(whole(`Content-Transfer-Encoding: base64\r\n\r\n${encoded}\r\n`)).text;
    expect(Buffer.from(bodyOf(base64), 'base64').toString()).toBe(long);
    expect(base64.startsWith('Content-Transfer-Encoding: base64\r\n\r\n')).toBe(true);
    const quoted = `${'=C3=A9t=C3=A9 '.repeat(200)}=\r\nend\r\n`;
    for (const [, chunks] of splits(Buffer.from(`Content-Transfer-Encoding: quoted-printable\r\n\r\n${quoted}`), 6)) {
      const { text } = fit(chunks);
      expect(unquote(bodyOf(text))).toBe(unquote(quoted));
      expectFit(text);
    }
  });
});

test('parts are told apart wherever a message is cut', () => {
  const text = MULTIPART.replaceAll(long, '-a\0\r\n-\r\n--\r\n--b 12\r\n- -').replace('--b 1--', '--b 1-- ');
  const once = fit(whole(text)).text;
  expect(once.match(/=00/g)).toHaveLength(2);
  expect(once).toContain('\r\n--b 1-- \r\nepilogue\r\n');
  const bytes = Buffer.from(text, 'latin1');
  for (let cut = 1; cut < bytes.length; cut += 1)
    expect(fit([bytes.subarray(0, cut), bytes.subarray(cut)]).text).toBe(once);
});

describe('toward a server without 8BITMIME', () => {
  test('8-bit bodies are encoded, and nothing else', () => {
    const { text } = fit(whole(MULTIPART.replaceAll(long, 'short')), { sevenBit: true });
    expect(text).toContain(
      'Content-Type: text/plain; charset=utf-8\r\nContent-Transfer-Encoding: quoted-printable\r\n\r\nshort =C3=A9\r\n--b 1',
    );
    expect(text).toContain('Content-Transfer-Encoding: 7bit\r\n\r\n<p>short</p>');
  });
});

describe('8-bit text in a header, toward a server without 8BITMIME', () => {
  const words = (text: string): string =>
    text
      .replace(/\r\n (?==\?)/g, '')
      .replace(/=\?(?:utf-8|unknown-8bit)\?B\?([A-Za-z0-9+/=]+)\?=/g, (_, octets: string) =>
        Buffer.from(octets, 'base64').toString('latin1'),
      );
  test.each([
    ['Subject: Caf\xc3\xa9 au lait', 'Subject: =?utf-8?B?Q2Fmw6k=?= au lait'],
    ['Subject: a \xfc b \xfc c', 'Subject: a =?unknown-8bit?B?/CBiIPw=?= c'],
    ['X-Note:  \xc3\xa9', 'X-Note:  =?utf-8?B?w6k=?='],
    ['From: J\xc3\xb6rg <j@x.example>', 'From: =?utf-8?B?SsO2cmc=?= <j@x.example>'],
    [
      'From: "J\xc3\xb6rg, \\"x\\"" <j@x.example>, b@x.example',
      'From: =?utf-8?B?SsO2cmcsICJ4Ig==?= <j@x.example>, b@x.example',
    ],
    ['To: j@x.example (J\xc3\xb6rg)', 'To: j@x.example (=?utf-8?B?SsO2cmc=?=)'],
    ['To: j\xc3\xb6rg@x.example', 'To: j\xc3\xb6rg@x.example'],
    ['Content-Disposition: attachment; filename="\xc3\xa9"', 'Content-Disposition: attachment; filename="\xc3\xa9"'],
  ])('%j', (given, want) => {
    expect(fit(whole(`${given}\r\n\r\nx\r\n`), { sevenBit: true }).text).toBe(`${want}\r\n\r\nx\r\n`);
    expect(fit(whole(`${given}\r\n\r\nx\r\n`))).toEqual({ text: `${given}\r\n\r\nx\r\n`, changed: false });
  });
  test('that is long makes several words, none over 75 and no character cut', () => {
    const subject = '\xc3\xa9\xe2\x82\xac '.repeat(60).trim();
    const { text } = fit(whole(`Subject: ${subject}\r\n\r\n`), { sevenBit: true });
    for (const [word] of text.matchAll(/=\?\S+\?=/g)) expect(word.length).toBeLessThanOrEqual(75);
    for (const [, octets = ''] of text.matchAll(/\?B\?(\S+)\?=/g))
      expect(Buffer.from(octets, 'base64').toString()).not.toContain('\ufffd');
    expect(words(text)).toBe(`Subject: ${subject}\r\n\r\n`);
  });
});

describe('a header line over 998 octets', () => {
  test('is folded at white space', () => {
    const references = Array.from({ length: 60 }, (_, at) => `<message-${at}@host.example>`).join(' ');
    const { text } = fit(whole(`References: ${references}\r\nSubject: x\r\n\r\nhi\r\n`));
    expect(text.replace(/\r\n /g, ' ')).toBe(`References: ${references}\r\nSubject: x\r\n\r\nhi\r\n`);
    expectFit(text);
  });
  test('without any is broken as Postfix does', () => {
    const { text } = fit(whole(`X: ${'x'.repeat(2500)}\r\n\r\n`));
    expect(text).toBe(`X:\r\n ${'x'.repeat(997)}\r\n ${'x'.repeat(997)}\r\n ${'x'.repeat(506)}\r\n\r\n`);
  });
  test('and a NUL or a bare CR in it is a blank', () => {
    expect(fit(whole('X: a\0b\rc\r\n\r\nbody\r\n')).text).toBe('X: a b c\r\n\r\nbody\r\n');
  });
});

describe('what no encoding reaches is broken into lines', () => {
  const SPACED = (text: string): string => text.replace(/\r\n /g, ' ');
  test.each([
    ['text before the parts', `Content-Type: multipart/mixed; boundary=b\r\n\r\n${long}\r\n--b\r\n\r\nx\r\n--b--\r\n`],
    ['text behind them', `Content-Type: multipart/mixed; boundary=b\r\n\r\n--b\r\n\r\nx\r\n--b--\r\n${long}\r\n`],
    ['a boundary that never comes', `Content-Type: multipart/mixed; boundary=b\r\n\r\n${long}\r\n`],
    ['a multipart without a boundary', `Content-Type: multipart/mixed\r\n\r\n${long}\r\n`],
    ['a report', `Content-Type: message/delivery-status\r\n\r\nDiagnostic-Code: smtp; ${long}\r\n`],
  ])('%s, and reads the same at every split', (_name, text) => {
    const once = fit(whole(text)).text;
    expectFit(once);
    expect(SPACED(once)).toBe(text);
    for (const [, chunks] of splits(Buffer.from(text, 'latin1'), 6)) expect(fit(chunks).text).toBe(once);
  });
  test('a long word at any place, at every split', () => {
    for (const size of [996, 997, 998, 999, 1995, 1996, 1997, 4000]) {
      const text = `Content-Type: multipart/mixed\r\n\r\n${'x'.repeat(size)}\r\n${'y'.repeat(998)}\r\n`;
      const once = fit(whole(text)).text;
      expectFit(once);
      expect(once.replace(/\r\n /g, '')).toBe(text);
      for (const [, chunks] of splits(Buffer.from(text, 'latin1'), 2)) expect(fit(chunks).text).toBe(once);
    }
  });
  test('a bare CR at the end of a boundary becomes a blank, and the boundary stays one', () => {
    const text = 'Content-Type: multipart/mixed; boundary=b\r\n\r\n--b\r\r\n\r\nx\r\n--b--\r\n';
    expect(fit(whole(text)).text).toBe(text.replace('--b\r\r\n', '--b \r\n'));
  });
  test('a NUL or bare CR between parts becomes a blank', () => {
    const text = 'Content-Type: multipart/mixed; boundary=b\r\n\r\na\0b\rc\r\n--b\r\n\r\nx\r\n--b--\r\n';
    expect(fit(whole(text)).text).toBe(text.replace('a\0b\rc', 'a b c'));
  });
  test('a header of more than a MiB is passed on in lines', () => {
    const text = `Content-Type: multipart/mixed; boundary=b\r\n\r\n--b\r\n${'X: y\r\n'.repeat(200_000)}Z: ${long}\r\n\r\nx\r\n--b--\r\n`;
    const fitted = fit(whole(text)).text;
    expectFit(fitted);
    expect(SPACED(fitted)).toBe(text);
  });
});

describe('an encoding that RFC 2045 does not have', () => {
  test('of text is told, no longer said', () => {
    const { text } = fit(whole(`Content-Type: text/plain\r\nContent-Transfer-Encoding: 8-bit\r\n\r\n${long}\r\n`));
    expect(text).toContain(
      'Content-Type: text/plain\r\nOld-Content-Transfer-Encoding: 8-bit\r\nMIME-Version: 1.0\r\nContent-Transfer-Encoding: quoted-printable\r\n',
    );
    expect(unquote(bodyOf(text))).toBe(`${long}\r\n`);
  });
  test('of anything else makes octets of it (RFC 2045 §6.4)', () => {
    const { text } = fit(whole(`Content-Type: image/x\r\nContent-Transfer-Encoding: x-uuencode\r\n\r\n${long}\r\n`));
    expect(text).toContain('Old-Content-Type: image/x\r\nOld-Content-Transfer-Encoding: x-uuencode\r\n');
    expect(text).toContain('Content-Type: application/octet-stream\r\n');
    expect(Buffer.from(bodyOf(text), 'base64').toString()).toBe(`${long}\r\n`);
  });
});

describe('what nobody labelled', () => {
  const SEVEN = { sevenBit: true };
  test.each([
    ['many Gr\xc3\xbc\xc3\x9fe', 'utf-8'],
    ['Gr\xfc\xdfe', 'unknown-8bit'],
    ['cut \xe2\x82', 'unknown-8bit'],
  ])('%j is called %s, however it is fed', (body, charset) => {
    for (const [, chunks] of splits(Buffer.from(`Subject: x\r\n\r\n${body}`, 'latin1'), 2)) {
      const { text } = fit(chunks, SEVEN);
      expect(text).toContain(`Content-Type: text/plain; charset=${charset}\r\n`);
      expect(unquote(bodyOf(text))).toBe(body);
    }
    const typed = fit(whole(`Content-Type: text/plain; format=flowed\r\n\r\n${body}`), SEVEN).text;
    expect(typed).toContain(`Content-Type: text/plain; format=flowed; charset=${charset}\r\n`);
  });
  test('HTML that is no UTF-8 is left to what it says itself', () => {
    expect(fit(whole('Content-Type: text/html\r\n\r\n<p>\xfc'), SEVEN).text).toContain('Content-Type: text/html\r\n');
  });
  test('a part of a digest is a message, and its body is found', () => {
    const text = `Content-Type: multipart/digest; boundary=d\r\n\r\n--d\r\n\r\nSubject: in\r\n\r\n${long}\r\n--d--\r\n`;
    expect(fit(whole(text)).text).toContain(
      '--d\r\n\r\nSubject: in\r\nContent-Type: text/plain; charset=utf-8\r\nMIME-Version: 1.0\r\nContent-Transfer-Encoding: quoted-printable\r\n\r\n',
    );
  });
});

test('a signed part keeps its long header lines where others are folded', () => {
  const field = `X-Y: ${long.trim()}\r\n`;
  const signed = `--b\r\nContent-Type: multipart/signed; boundary=s\r\n${field}\r\n--s\r\n\r\nx\r\n--s--\r\n`;
  const { text } = fit(whole(`${field}Content-Type: multipart/mixed; boundary=b\r\n\r\n${signed}--b--\r\n`));
  expect(text).toContain(signed);
  expect(text).not.toMatch(/^X-Y: [^\r]{998}/);
});

const SEALED: readonly [string, string][] = [
  ['multipart/signed', 'Content-Type: multipart/signed; boundary=s\r\n\r\n--s\r\n\r\nBODY\r\n--s--\r\n'],
  ['S/MIME', 'Content-Type: application/pkcs7-mime\r\n\r\nBODY\r\n'],
  ['DKIM', 'DKIM-Signature: v=1\r\nSubject: x\r\n\r\nBODY\r\n'],
];
describe.each(SEALED)('what is signed (%s)', (_name, text) => {
  test('keeps its long lines', () => {
    const given = text.replace('BODY', long);
    expect(planOf(given).keepsLong).toBe(true);
    expect(fit(whole(given))).toEqual({ text: given, changed: false });
    expect(planOf(text.replace('BODY', 'short')).keepsLong).toBe(false);
  });
  test.each([
    ['a NUL', 'a\0b', {}],
    ['8-bit text toward a server without 8BITMIME', 'Gr\xfc\xdfe', { sevenBit: true }],
  ])('is encoded where it holds %s, which cannot be sent', (_what, body, o) => {
    const fitted = fit(whole(text.replace('BODY', body)), o).text;
    expectFit(fitted);
    expect(fitted).not.toMatch(/[\0\x80-\xff]/);
    expect(planOf(text.replace('BODY', body), o).breaksSeal).toBe(true);
  });
});

/** Nothing in it that SMTP cannot carry, and no encoded line over 76. */
function expectFit(text: string): void {
  const checker = createMessageChecker();
  checker.push(Buffer.from(text, 'latin1'));
  expect(checker.end().type).toBe('fit');
}
