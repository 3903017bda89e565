import { describe, expect, test } from 'vitest';
import { deliver, makeEntry, type Run } from './courier.test-util.ts';
import { DeliveryError } from './error.ts';

const PIPELINING = `
  S:220 gate.test ESMTP
  C:EHLO home.test
  S:250-gate.test
  S:250 PIPELINING
`;
const LOCKSTEP = `
  S:220 gate.test ESMTP
  C:EHLO home.test
  S:250-gate.test
  S:250 SIZE 1000
`;
const MESSAGE = `
  C:Subject: x
  C:
  C:hello
  C:.
`;
/** The message and its verdict. */
const TAKEN = `${MESSAGE}
  S:250 taken
`;
/** One recipient and the message, a command at a time. */
const TO_JOE = `
  C:RCPT TO:<joe@gate.test>
  S:250 ok
  C:DATA
  S:354 go
  ${TAKEN}
`;
const QUIT = `
  C:QUIT
  S:221 bye
`;
const a = makeEntry({ id: 'a' });
const b = makeEntry({ id: 'b', from: 'bob@home.test' });

/** To its end, on both sides. */
async function finished(run: Run): Promise<void> {
  expect(await run.done).toBeUndefined();
  await run.played;
}

describe('lockstep', () => {
  test('waits for every reply', async () => {
    const run = deliver(
      [
        `${LOCKSTEP}
        C:MAIL FROM:<ann@home.test> SIZE=21
        S:250 ok
        ${TO_JOE}
        C:MAIL FROM:<bob@home.test> SIZE=21
        S:250 ok
        ${TO_JOE}
        ${QUIT}`,
      ],
      { entries: [a, b] },
    );
    await finished(run);
    expect(run.lines).toEqual([
      ...['a attempting', 'a joe@gate.test delivered 250', 'b attempting', 'b joe@gate.test delivered 250'],
    ]);
  });
  test('falls back to HELO, and then uses no extension', async () => {
    const run = deliver(
      [
        `S:220 gate.test
        C:EHLO home.test
        S:502 what?
        C:HELO home.test
        S:250 gate.test
        C:MAIL FROM:<ann@home.test>
        S:250 ok
        ${TO_JOE}
        ${QUIT}`,
      ],
      { entries: [a], dialogue: 'stream' },
    );
    await finished(run);
  });
  test('sends no message for which every recipient was refused, and RSET before the next', async () => {
    const run = deliver(
      [
        `${LOCKSTEP}
        C:MAIL FROM:<ann@home.test> SIZE=21
        S:250 ok
        C:RCPT TO:<no@gate.test>
        S:550 5.1.1 no such user
        C:RCPT TO:<later@gate.test>
        S:451 4.3.0 not now
        C:RSET
        S:250 ok
        C:MAIL FROM:<bob@home.test> SIZE=21
        S:552 5.2.2 no
        ${QUIT}`,
      ],
      { entries: [makeEntry({ id: 'a', to: ['no@gate.test', 'later@gate.test'] }), b] },
    );
    await finished(run);
    expect(run.lines.toSorted()).toEqual([
      'a attempting',
      'a later@gate.test deferred 451',
      'a no@gate.test failed 550',
      'b attempting',
      'b joe@gate.test failed 552',
    ]);
  });
  test('a recipient refused and one accepted have each their own outcome', async () => {
    const run = deliver(
      [
        `${LOCKSTEP}
        C:MAIL FROM:<ann@home.test> SIZE=21
        S:250 ok
        C:RCPT TO:<no@gate.test>
        S:550 5.1.1 no such user
        ${TO_JOE}
        ${QUIT}`,
      ],
      { entries: [makeEntry({ id: 'a', to: ['no@gate.test', 'joe@gate.test'] })] },
    );
    expect(await run.done).toBeUndefined();
    expect(run.lines).toEqual(['a attempting', 'a no@gate.test failed 550', 'a joe@gate.test delivered 250']);
  });
});

const ENVELOPE_A = `
  C:MAIL FROM:<ann@home.test>
  C:RCPT TO:<joe@gate.test>
  C:DATA
`;
const ENVELOPE_B = `
  C:MAIL FROM:<bob@home.test>
  C:RCPT TO:<joe@gate.test>
  C:DATA
`;
const ACCEPTED = `
  S:250 ok
  S:250 ok
  S:354 go
`;

describe('pipelined', () => {
  test('writes the final dot and the next envelope at once', async () => {
    const run = deliver(
      [`${PIPELINING}${ENVELOPE_A}${ACCEPTED}${MESSAGE}${ENVELOPE_B}S:250 taken${ACCEPTED}${TAKEN}${QUIT}`],
      { entries: [a, b] },
    );
    await finished(run);
    expect(run.lines.filter((line) => line.includes('delivered'))).toHaveLength(2);
  });
  test('answers a 354 after zero accepted recipients with a lone dot, and counts it failed', async () => {
    const run = deliver(
      [
        `${PIPELINING}${ENVELOPE_A}
        S:250 ok
        S:550 5.1.1 no
        S:354 go
        C:.
        ${ENVELOPE_B}
        S:250 taken, whatever it was
        ${ACCEPTED}${TAKEN}
        C:QUIT`,
      ],
      { entries: [a, b] },
    );
    await finished(run);
    expect(run.outcomes.get('a joe@gate.test')).toMatchObject({ type: 'failed', reply: { code: 550 } });
    expect(run.outcomes.get('b joe@gate.test')?.type).toBe('delivered');
  });
  test('writes RSET after a transaction that ended without its message', async () => {
    const run = deliver(
      [
        `${PIPELINING}${ENVELOPE_A}
        S:250 ok
        S:451 4.7.1 greylisted
        S:503 no valid recipients
        C:RSET
        ${ENVELOPE_B}
        S:250 ok
        ${ACCEPTED}${MESSAGE}
        S:452 4.3.1 disk full
        C:QUIT`,
      ],
      { entries: [a, b] },
    );
    await finished(run);
    expect(run.outcomes.get('a joe@gate.test')).toMatchObject({ type: 'deferred', reply: { code: 451 } });
    expect(run.outcomes.get('b joe@gate.test')).toMatchObject({ type: 'deferred', reply: { code: 452 } });
  });
  test('a refusal of MAIL counts for every recipient, whatever RCPT is told', async () => {
    const run = deliver(
      [
        `${PIPELINING}${ENVELOPE_A}
        S:553 5.1.8 bad sender
        S:503 MAIL first
        S:503 MAIL first
        ${ENVELOPE_B}${ACCEPTED}${TAKEN}
        C:QUIT`,
      ],
      { entries: [a, b] },
    );
    await finished(run);
    expect(run.outcomes.get('a joe@gate.test')).toMatchObject({ type: 'failed', reply: { code: 553 } });
  });
  test('a refusal of DATA counts for those who were accepted', async () => {
    const run = deliver([`${PIPELINING}${ENVELOPE_A}S:250 ok\nS:250 ok\nS:451 not now\nC:QUIT`], { entries: [a] });
    expect(await run.done).toBeUndefined();
    expect(run.outcomes.get('a joe@gate.test')).toMatchObject({ type: 'deferred', reply: { code: 451 } });
  });
});

describe('a session out of step', () => {
  const cases: [string, string][] = [
    ['a malformed reply', 'S:hello'],
    ['a recipient accepted after its MAIL was refused', 'S:503 sender already given\nS:250 ok'],
    ['a DATA that is answered with 250', 'S:250 ok\nS:250 ok\nS:250 ok'],
    ['a MAIL that is answered with 354', 'S:354 go'],
  ];
  for (const [what, replies] of cases) {
    test(`is closed at ${what}: nothing is guessed, what was not sent is not reported`, async () => {
      const run = deliver([`${PIPELINING}${ENVELOPE_A}${replies}`], { entries: [a, b] });
      expect(await run.done).toMatchObject({ name: 'DeliveryError', code: 'protocol' });
      expect(run.lines.filter((line) => line.includes('delivered') || line.includes('failed'))).toEqual([]);
      expect(run.lines.filter((line) => line.includes('attempting'))).toEqual([]);
      expect((await run.pairs[0]?.channel.exit)?.type).toBe('lost');
    });
  }
  test('a message acknowledged before its end is out of step, and not delivered', async () => {
    const run = deliver([`${PIPELINING}${ENVELOPE_A}${ACCEPTED.trimEnd()}\nS:250 taken`], {
      entries: [makeEntry({ id: 'a', message: 'x'.repeat(900).concat('\r\n').repeat(1000) })],
    });
    expect(await run.done).toMatchObject({ code: 'protocol' });
    expect([...run.outcomes.values()].filter((outcome) => outcome.type === 'delivered')).toEqual([]);
  });
});

describe('421', () => {
  test('to the greeting is no session, and nothing is reported', async () => {
    const run = deliver(['S:421 busy'], { entries: [a] });
    expect(await run.done).toMatchObject({ code: 'refused', reply: { code: 421 }, permanent: false });
    expect(run.lines).toEqual([]);
  });
  test('to MAIL after some success leads to another session', async () => {
    const run = deliver(
      [
        `${PIPELINING}${ENVELOPE_A}${ACCEPTED}${MESSAGE}${ENVELOPE_B}S:250 taken
        S:421 too many messages
        S:503 what
        S:503 what
        S! close`,
        `${PIPELINING}${ENVELOPE_B}${ACCEPTED}${TAKEN}C:QUIT`,
      ],
      { entries: [a, b] },
    );
    await finished(run);
    expect(run.lines).toEqual([
      ...['a attempting', 'a joe@gate.test delivered 250', 'b attempting', 'b joe@gate.test delivered 250'],
    ]);
    expect(run.events.filter((event) => event.type === 'closing')).toHaveLength(1);
  });
  test('as the reply to a whole message means it was not taken', async () => {
    const run = deliver([`${PIPELINING}${ENVELOPE_A}${ACCEPTED}${MESSAGE}S:421 4.3.2 shutting down\nS! close`], {
      entries: [a],
    });
    expect(await run.done).toBeInstanceOf(DeliveryError);
    expect(run.lines).toEqual(['a attempting', 'a joe@gate.test deferred']);
  });
  test('out of the blue ends an idle session', async () => {
    const run = deliver([`${LOCKSTEP}C:MAIL FROM:<ann@home.test> SIZE=21\nS:421 idle\nS! close`], { entries: [a] });
    expect(await run.done).toMatchObject({ code: 'closed' });
    expect(run.lines).toEqual([]);
  });
});

describe('a session that ends early', () => {
  test('before the last byte: the entry was not sent, and is not reported', async () => {
    const run = deliver([`${PIPELINING}${ENVELOPE_A}S:250 ok\nS! close`], { entries: [a] });
    expect(await run.done).toMatchObject({ code: 'closed' });
    expect(run.lines).toEqual([]);
  });
  test('after the last byte: the outcome is uncertain', async () => {
    const run = deliver([`${PIPELINING}${ENVELOPE_A}${ACCEPTED}${MESSAGE}S! close`], { entries: [a] });
    expect(await run.done).toBeUndefined();
    expect(run.lines).toEqual(['a attempting', 'a joe@gate.test uncertain']);
    expect(run.events.at(-1)).toMatchObject({ type: 'closed', error: { code: 'closed' } });
  });
  test('by a lost link: it is the link that is to blame', async () => {
    const run = deliver([`${PIPELINING}${ENVELOPE_A}${ACCEPTED}${MESSAGE}`], { entries: [a] });
    await run.reached();
    run.pairs[0]?.lose();
    expect(await run.done).toMatchObject({ name: 'LinkError', code: 'lost' });
    expect(run.lines).toEqual(['a attempting', 'a joe@gate.test uncertain']);
  });
  test('a 5yz that was its very last word, with commands unanswered, is no final refusal', async () => {
    const run = deliver([`${PIPELINING}${ENVELOPE_A}S:250 ok\nS:554 5.7.1 go away\nS! close`], {
      entries: [a],
    });
    expect(await run.done).toBeUndefined();
    expect(run.lines).toEqual(['a attempting', 'a joe@gate.test deferred 554']);
  });
  test('a far command that is missing is told with what it wrote on stderr', async () => {
    const run = deliver([''], { entries: [a], target: { type: 'exec', command: 'netcat localhost smtp' } });
    while (run.pairs[0] === undefined) await new Promise((resolve) => setImmediate(resolve));
    run.pairs[0].stderr(Buffer.from('postern: receipt x\nsh: 1: netcat: not found\u001b[31m\n'));
    run.pairs[0].exit({ type: 'exit', code: 127 });
    const error = await run.done;
    expect(error).toMatchObject({ code: 'command', layer: 'command' });
    expect(String(error)).toMatch(/exit status 127: sh: 1: netcat: not found\\x1b\[31m$/);
  });
  test('an exit status is never a delivery', async () => {
    const run = deliver([`${PIPELINING}${ENVELOPE_A}${ACCEPTED}${MESSAGE}`], {
      entries: [a],
      target: { type: 'exec', command: 'netcat localhost smtp' },
    });
    await run.reached();
    run.pairs[0]?.exit({ type: 'exit', code: 0 });
    await run.done;
    expect(run.lines).toEqual(['a attempting', 'a joe@gate.test uncertain']);
  });
});

describe('silence', () => {
  const cases: [string, string, number][] = [
    ['the greeting', '', 300_000],
    ['EHLO', 'S:220 hi\nC:EHLO home.test', 300_000],
    ['MAIL', `${LOCKSTEP}C:MAIL FROM:<ann@home.test> SIZE=21`, 300_000],
    ['the final dot', `${PIPELINING}${ENVELOPE_A}${ACCEPTED}${MESSAGE}`, 600_000],
  ];
  for (const [what, transcript, ms] of cases) {
    test(`instead of an answer to ${what} is borne for ${ms / 60_000} minutes`, async () => {
      const run = deliver([transcript], { entries: [a] });
      await run.reached();
      await run.env.advance(ms - 1000);
      expect(run.events.filter((event) => event.type === 'closed')).toEqual([]);
      await run.env.advance(2000);
      expect(await run.done).toMatchObject({ code: 'timeout' });
    });
  }
});

describe('what the server cannot take', () => {
  test('fails without being sent: too large, SMTPUTF8', async () => {
    const run = deliver(
      [
        `${LOCKSTEP}
        C:QUIT`,
      ],
      {
        entries: [
          makeEntry({ id: 'large', message: `${'x'.repeat(90)}\r\n`.repeat(20) }),
          makeEntry({ id: 'utf8', envelope: { smtputf8: true } }),
        ],
      },
    );
    await finished(run);
    expect(run.outcomes.get('large joe@gate.test')).toMatchObject({ type: 'failed', reason: /^5\.3\.4/ });
    expect(run.outcomes.get('utf8 joe@gate.test')).toMatchObject({ type: 'failed', reason: /^5\.6\.7/ });
  });
});

describe('a message that needs to be made fit', () => {
  const LABELS = (charset: string): string[] => [
    `C:Content-Type: text/plain; charset=${charset}`,
    'C:MIME-Version: 1.0',
    'C:Content-Transfer-Encoding: quoted-printable',
    'C:',
  ];
  const long = `${'x'.repeat(1500)}\r\n`;
  const fits: [string, Parameters<typeof makeEntry>[0], string[]][] = [
    [
      'signed and 8-bit, as no server without 8BITMIME takes it',
      { message: 'DKIM-Signature: v=1\r\n\r\nso \xe9\r\n', envelope: { body: '8BITMIME' } },
      ['C:DKIM-Signature: v=1', ...LABELS('unknown-8bit'), 'C:so =E9'],
    ],
    [
      'with a long line',
      { message: `Subject: x\r\n\r\n${long}`, envelope: { longLines: true } },
      [
        'C:Subject: x',
        ...LABELS('utf-8'),
        ...Array<string>(20)
          .fill(`C:${'x'.repeat(75)}=`)
          .with(19, `C:${'x'.repeat(75)}`),
      ],
    ],
    [
      'signed, with a long line, which stays',
      { message: `DKIM-Signature: v=1\r\n\r\n${long}`, envelope: { longLines: true } },
      ['C:DKIM-Signature: v=1', 'C:', `C:${'x'.repeat(1500)}`],
    ],
    [
      'with a long line that is to be kept',
      { message: `Subject: x\r\n\r\n${long}` },
      ['C:Subject: x', 'C:', `C:${'x'.repeat(1500)}`],
    ],
  ];
  test.each(fits)('%s', async (_what, entry, wire) => {
    // `C:` is as long as the line end it stands for.
    const octets = wire.reduce((sum, line) => sum + line.length, 0);
    const run = deliver(
      [
        `${LOCKSTEP.replace('SIZE 1000', 'SIZE')}
        C:MAIL FROM:<ann@home.test> SIZE=${octets}
        S:250 ok
        C:RCPT TO:<joe@gate.test>
        S:250 ok
        C:DATA
        S:354 go
        ${wire.join('\n')}
        C:.
        S:250 taken
        ${QUIT}`,
      ],
      { entries: [makeEntry({ id: 'a', ...entry })] },
    );
    await finished(run);
    expect(run.outcomes.get('a joe@gate.test')).toMatchObject({ type: 'delivered' });
  });
});

describe('more recipients than the server takes at once', () => {
  test('go into further transactions', async () => {
    const run = deliver(
      [
        `${PIPELINING}
        C:MAIL FROM:<ann@home.test>
        C:RCPT TO:<r1@gate.test>
        C:RCPT TO:<r2@gate.test>
        C:RCPT TO:<r3@gate.test>
        C:DATA
        S:250 ok
        S:250 ok
        S:452 4.5.3 too many
        S:452 4.5.3 too many
        S:354 go
        ${TAKEN}
        C:MAIL FROM:<ann@home.test>
        C:RCPT TO:<r2@gate.test>
        C:RCPT TO:<r3@gate.test>
        C:DATA
        S:250 ok
        S:250 ok
        S:250 ok
        S:354 go
        ${TAKEN}
        C:QUIT`,
      ],
      { entries: [makeEntry({ id: 'a', to: ['r1@gate.test', 'r2@gate.test', 'r3@gate.test'] })] },
    );
    await finished(run);
    expect(run.lines).toEqual([
      'a attempting',
      'a r1@gate.test delivered 250',
      'a r2@gate.test delivered 250',
      'a r3@gate.test delivered 250',
    ]);
  });
  test('a 452 for the only recipient is a deferral', async () => {
    const run = deliver([`${PIPELINING}${ENVELOPE_A}S:250 ok\nS:452 4.5.3 too many\nS:503 no\nC:QUIT`], {
      entries: [a],
    });
    expect(await run.done).toBeUndefined();
    expect(run.lines).toEqual(['a attempting', 'a joe@gate.test deferred 452']);
  });
});

describe('a message that cannot be read', () => {
  test('is never completed over there; the next goes in another session', async () => {
    const broken = { ...a, size: a.size + 5 };
    const run = deliver(
      [
        `${PIPELINING}${ENVELOPE_A}${ACCEPTED.trimEnd()}\nC! close`,
        `${PIPELINING}${ENVELOPE_B}${ACCEPTED}${TAKEN}C:QUIT`,
      ],
      { entries: [broken, b] },
    );
    await finished(run);
    expect(run.lines).toEqual([
      ...['a attempting', 'a joe@gate.test deferred', 'b attempting', 'b joe@gate.test delivered 250'],
    ]);
  });
});

describe('the signal', () => {
  test('takes no further entry, and lets the one at hand finish', async () => {
    const abort = new AbortController();
    const run = deliver([`${PIPELINING}${ENVELOPE_A}${ACCEPTED}${TAKEN}C:QUIT`], {
      entries: [a],
      signal: abort.signal,
    });
    while (!run.lines.includes('a attempting')) await new Promise((resolve) => setImmediate(resolve));
    abort.abort(new Error('stop'));
    expect(await run.done).toBeUndefined();
    expect(run.lines).toEqual(['a attempting', 'a joe@gate.test delivered 250']);
  });
  test('ends a wait for a reply after a while, uncertain', async () => {
    const abort = new AbortController();
    const run = deliver([`${PIPELINING}${ENVELOPE_A}${ACCEPTED}${MESSAGE}`], { entries: [a], signal: abort.signal });
    await run.reached();
    abort.abort(new Error('stop'));
    await run.env.advance(5000);
    expect(await run.done).toMatchObject({ message: 'stop' });
    expect(run.lines).toEqual(['a attempting', 'a joe@gate.test uncertain']);
  });
});
