import { describe, expect, test } from 'vitest';
import { createMessageChecker } from '../smtp/check.ts';
import { splits } from '../testing/index.ts';
import { type FitOptions, fitMessage, isFit, surveyMessage } from './fit.ts';

/** The message made fit, fed in these chunks; undefined when it is left as it is. */
function fit(chunks: readonly Uint8Array[], o: FitOptions = {}): { text: string; changed: boolean } {
  const survey = surveyMessage(o);
  for (const chunk of chunks) survey.push(chunk);
  const plan = survey.finish();
  expect(plan.fault).toBeUndefined();
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

describe('text whose character set nobody named', () => {
  test.each([
    ['utf-8', 'Gr\xc3\xbc\xc3\x9fe\r\n'],
    ['unknown-8bit', 'Gr\xfc\xdfe\r\n'],
    ['unknown-8bit', 'cut short: \xc3\r\n'],
  ])('is called %s', (charset, body) => {
    for (const [, chunks] of splits(Buffer.from(`Subject: x\r\n\r\nplain\r\n${body}`, 'latin1'), 3)) {
      expect(fit(chunks, { sevenBit: true }).text).toContain(`Content-Type: text/plain; charset=${charset}\r\n`);
    }
  });
});

test('a part of a digest is a message, though it does not say so (RFC 2046 §5.1.5)', () => {
  const text = (body: string): string =>
    `Content-Type: multipart/digest; boundary=d\r\n\r\n--d\r\n\r\nSubject: inner\r\n\r\n${body}\r\n--d--\r\n`;
  for (const [, chunks] of splits(Buffer.from(text(long)), 3)) {
    const fitting = fit(chunks).text;
    expect(fitting).toContain('--d\r\n\r\nSubject: inner\r\n');
    expect(fitting).toMatch(/Subject: inner\r\n(?:\S+: .*\r\n)*Content-Transfer-Encoding: quoted-printable\r\n\r\n/);
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

describe('toward a server without 8BITMIME', () => {
  test('8-bit bodies are encoded, and nothing else', () => {
    const { text } = fit(whole(MULTIPART.replaceAll(long, 'short')), { sevenBit: true });
    expect(text).toContain(
      'Content-Type: text/plain; charset=utf-8\r\nContent-Transfer-Encoding: quoted-printable\r\n\r\nshort =C3=A9\r\n--b 1',
    );
    expect(text).toContain('Content-Transfer-Encoding: 7bit\r\n\r\n<p>short</p>');
  });
});

describe('a header line over 998 octets', () => {
  test('is folded at white space', () => {
    const references = Array.from({ length: 60 }, (_, at) => `<message-${at}@host.example>`).join(' ');
    const { text } = fit(whole(`References: ${references}\r\nSubject: x\r\n\r\nhi\r\n`));
    expect(text.replace(/\r\n /g, ' ')).toBe(`References: ${references}\r\nSubject: x\r\n\r\nhi\r\n`);
    expectFit(text);
  });
  test('without any is a fault', () => expect(planOf(`X: ${'x'.repeat(1200)}\r\n\r\n`).fault).toBe('header'));
  test('with a NUL is a fault', () => expect(planOf('X: a\0\r\n\r\n').fault).toBe('header'));
});

test.each([
  ['text before the parts', `Content-Type: multipart/mixed; boundary=b\r\n\r\n${long}\r\n--b\r\n\r\nx\r\n--b--\r\n`],
  ['text behind them', 'Content-Type: multipart/mixed; boundary=b\r\n\r\n--b\r\n\r\nx\r\n--b--\r\na\rb\r\n'],
  ['a boundary that never comes', `Content-Type: multipart/mixed; boundary=b\r\n\r\n${long}\r\n`],
  ['a multipart without a boundary', `Content-Type: multipart/mixed\r\n\r\n${long}\r\n`],
  ['an encoding of its own', `Content-Transfer-Encoding: x-uuencode\r\n\r\n${long}\r\n`],
])('what no encoding reaches is a fault: %s', (_name, text) => expect(planOf(text).fault).toBe('frame'));

test.each([
  ['multipart/signed', 'Content-Type: multipart/signed; boundary=s\r\n\r\n--s\r\n\r\nBODY\r\n--s--\r\n'],
  ['S/MIME', 'Content-Type: application/pkcs7-mime\r\n\r\nBODY\r\n'],
  ['DKIM', 'DKIM-Signature: v=1\r\nSubject: x\r\n\r\nBODY\r\n'],
])('what is signed (%s) is never changed', (_name, text) => {
  expect(planOf(text.replace('BODY', long)).fault).toBe('sealed');
  expect(isFit(planOf(text.replace('BODY', 'short')))).toBe(true);
});

/** Nothing in it that SMTP cannot carry, and no encoded line over 76. */
function expectFit(text: string): void {
  const checker = createMessageChecker();
  checker.push(Buffer.from(text, 'latin1'));
  expect(checker.end().type).toBe('fit');
}
