import fc from 'fast-check';
import { describe, expect, test } from 'vitest';
import { splits } from '../testing/index.ts';
import { CapabilityReader, GreetingReader, loggedInCapabilities, parseCapabilities, parseStatus } from './response.ts';

describe('status responses', () => {
  test.each([
    ['* OK hello', { tag: '*', type: 'ok', text: 'hello' }],
    [
      '* PREAUTH [CAPABILITY IMAP4rev1 IDLE] Logged in as x',
      { tag: '*', type: 'preauth', code: { name: 'CAPABILITY', value: 'IMAP4rev1 IDLE' }, text: 'Logged in as x' },
    ],
    ['* bye', { tag: '*', type: 'bye', text: '' }],
    ['a1 NO [alert] full', { tag: 'a1', type: 'no', code: { name: 'ALERT', value: '' }, text: 'full' }],
    ['* OK [ALERT]', { tag: '*', type: 'ok', code: { name: 'ALERT', value: '' }, text: '' }],
  ])('%j', (line, want) => expect(parseStatus(line)).toEqual(want));
  test.each(['', '*', '* FLAGS (x)', 'Last login: yesterday', '* OKAY', '* 3 EXISTS'])('%j is none', (line) =>
    expect(parseStatus(line)).toBeUndefined(),
  );
  test('capabilities stand in a code or in a response of their own', () => {
    expect(parseCapabilities('* CAPABILITY IMAP4REV1 IDLE')).toEqual(['IMAP4REV1', 'IDLE']);
    expect(parseCapabilities('* PREAUTH [capability IMAP4rev1] x')).toEqual(['IMAP4rev1']);
    expect(parseCapabilities('* PREAUTH Ready.')).toBeUndefined();
  });
  test('what speaks of a login is taken out of the far capabilities, the rest stays as it is', () =>
    expect(loggedInCapabilities(['IMAP4REV1', 'STARTTLS', 'AUTH=PLAIN', 'LoginDisabled', 'SASL-IR', 'X-AUTH'])).toEqual(
      ['IMAP4REV1', 'SASL-IR', 'X-AUTH'],
    ));
});

function greet(chunks: readonly Uint8Array[]): unknown {
  const reader = new GreetingReader();
  const all = Buffer.concat(chunks);
  let fed = 0;
  for (const chunk of chunks) {
    fed += chunk.length;
    const verdict = reader.receive(chunk);
    if (verdict?.type === 'preauth') {
      const rest = Buffer.concat([verdict.rest, all.subarray(fed)]).toString();
      return { ...verdict, line: verdict.line.toString(), rest };
    }
    if (verdict !== undefined) return verdict;
  }
  return undefined;
}

const preauth = (line: string, o: object = {}) => ({
  type: 'preauth',
  line,
  capabilities: undefined,
  rest: '',
  skipped: [],
  ...o,
});

describe('the far greeting', () => {
  const DOVECOT = '* PREAUTH [CAPABILITY IMAP4rev1 IDLE] Logged in as bob\r\n';
  const CASES: [string, string, unknown][] = [
    ['Dovecot', DOVECOT, preauth(DOVECOT, { capabilities: ['IMAP4rev1', 'IDLE'] })],
    [
      'Courier, behind an alert',
      '* OK [ALERT] Filesystem notification\r\n* PREAUTH Ready.\r\n',
      preauth('* PREAUTH Ready.\r\n', { skipped: ['* OK [ALERT] Filesystem notification'] }),
    ],
    [
      'UW imapd 2007f',
      '* PREAUTH [CAPABILITY IMAP4REV1 LITERAL+ IDLE] localhost IMAP4rev1 2007f at now\r\n',
      preauth('* PREAUTH [CAPABILITY IMAP4REV1 LITERAL+ IDLE] localhost IMAP4rev1 2007f at now\r\n', {
        capabilities: ['IMAP4REV1', 'LITERAL+', 'IDLE'],
      }),
    ],
    [
      'a shell start file that prints lines',
      `Welcome\n\nto gate\n${DOVECOT}* 1 EXISTS\r\n`,
      preauth(DOVECOT, {
        capabilities: ['IMAP4rev1', 'IDLE'],
        skipped: ['Welcome', '', 'to gate'],
        rest: '* 1 EXISTS\r\n',
      }),
    ],
    [
      'a terminal title without a line end',
      `\x1b]0;gate\x07${DOVECOT}`,
      preauth(DOVECOT, { capabilities: ['IMAP4rev1', 'IDLE'] }),
    ],
    ['a server that wants a login', '* OK IMAP4rev1 ready\r\n', { type: 'ok', line: '* OK IMAP4rev1 ready' }],
    ['a server that says no', '* BYE overloaded\r\n', { type: 'bye', line: '* BYE overloaded' }],
  ];
  for (const [name, input, want] of CASES) {
    test.each(splits(Buffer.from(input)))(`${name}, fed %s`, (_how, chunks) => expect(greet(chunks)).toEqual(want));
  }

  test('endless noise and a greeting of 1 MiB are given up', () => {
    expect(greet(Array.from({ length: 2000 }, () => Buffer.from(`${'y'.repeat(60)}\n`)))).toEqual({
      type: 'noise',
      line: 'y'.repeat(60),
    });
    expect(greet([Buffer.from(`* PREAUTH ${'x'.repeat(2 ** 20)}\r\n`)])).toMatchObject({ type: 'noise' });
    expect(greet([Buffer.alloc(2 ** 20, 'x')])).toMatchObject({ type: 'noise' });
  });

  test('any octets give a verdict or a wait, never an exception', () => {
    fc.assert(
      fc.property(fc.array(fc.uint8Array({ maxLength: 200 }), { maxLength: 20 }), (chunks) => {
        greet(chunks);
        const reader = new CapabilityReader();
        for (const chunk of chunks) if (reader.receive(chunk) !== undefined) break;
      }),
    );
  });
});

describe('asking for capabilities', () => {
  function ask(chunks: readonly Uint8Array[]): unknown {
    const reader = new CapabilityReader();
    for (const chunk of chunks) {
      const verdict = reader.receive(chunk);
      if (verdict?.type === 'answer')
        return { ...verdict, aside: verdict.aside.toString(), rest: verdict.rest.toString() };
      if (verdict !== undefined) return verdict;
    }
    return undefined;
  }
  const tag = new CapabilityReader().question.toString().split(' ')[0];

  test.each(splits(Buffer.from(`* OK [ALERT] full\r\n* CAPABILITY IMAP4rev1 IDLE\r\n${tag} OK done\r\n`)))(
    'the answer is swallowed and an alert kept, fed %s',
    (_how, chunks) =>
      expect(ask(chunks)).toEqual({
        type: 'answer',
        capabilities: ['IMAP4rev1', 'IDLE'],
        aside: '* OK [ALERT] full\r\n',
        rest: '',
      }),
  );
  test('a far side that knows none is taken for IMAP4rev1', () =>
    expect(ask([Buffer.from(`${tag} BAD what\r\n* 1 EXISTS\r\n`)])).toEqual({
      type: 'answer',
      capabilities: ['IMAP4rev1'],
      aside: '',
      rest: '* 1 EXISTS\r\n',
    }));
  test('BYE and noise are told apart', () => {
    expect(ask([Buffer.from('* BYE gone\r\n')])).toEqual({ type: 'bye', line: '* BYE gone' });
    expect(ask([Buffer.alloc(20_000, 'x')])).toMatchObject({ type: 'noise' });
    expect(ask(Array.from({ length: 9000 }, () => Buffer.from('* 1 EXISTS\r\n')))).toMatchObject({ type: 'noise' });
  });
});
