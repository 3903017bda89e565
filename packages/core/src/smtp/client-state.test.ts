/** The client's states: each conversation a table of turns, with what the server said, what was written and told, and where that leaves it. */
import { inspect } from 'node:util';
import { describe, expect, test } from 'vitest';
import type { Envelope, ForwardPath, ReversePath } from '../envelope.ts';
import { splits } from '../testing/index.ts';
import { createClient } from './client.ts';
import { type ClientEvent, type ClientOptions, formatState } from './client-state.ts';
import { createReplyParser } from './reply.ts';

/** The server's replies, or `(end)`, the client's lines and events in return, the state then. */
type Turn = readonly [server: string, client: string, state: string];

interface Play extends Partial<ClientOptions> {
  /** Recipients of each message, as letters: `['ab', 'c']`. */
  readonly mail?: readonly string[];
  readonly octets?: number;
  /** Reverse-path. */
  readonly from?: string;
}

const envelopeFor = (letters: string, from: string): Envelope => ({
  from: from as ReversePath,
  recipients: [...letters].map((letter) => ({ to: `${letter}@far.test` as ForwardPath })),
  body: '7BIT',
  smtputf8: false,
});

/** Plays the server's part of each turn, cut by `cut`, and says what came of it. */
function play(o: Play, turns: readonly Turn[], cut: (bytes: Uint8Array) => readonly Uint8Array[]): Turn[] {
  const { mail = [], octets = 10, from = 'me@home.test', ...options } = o;
  const machine = createClient({ helo: 'home', dialogue: 'auto', ...options });
  const parser = createReplyParser();
  const waiting = [...mail];
  return turns.map(([server]) => {
    const said: string[] = [];
    const drain = (): void => {
      for (let step = machine.next(); step.type !== 'wait' && step.type !== 'over'; step = machine.next()) {
        if (step.type === 'write') said.push(Buffer.from(step.bytes).toString().trim());
        else if (step.type === 'upgrade') {
          said.push('(tls)');
          machine.upgraded();
        } else if (step.type === 'message') {
          said.push(`${Buffer.from(step.head).toString().trim()}(message ${step.key})`);
          machine.left(step.key);
        } else {
          const letters = waiting.shift();
          if (letters === undefined) machine.finish();
          else machine.submit({ envelope: envelopeFor(letters, from), size: octets });
        }
      }
    };
    drain();
    const events: string[] = [];
    const tell = (told: ClientEvent): void => {
      const verdicts = told.type === 'settled' ? ` ${told.verdicts.map(({ type }) => type).join(' ')}` : '';
      events.push(`<${told.type}${verdicts}>`);
    };
    if (server === '(end)') {
      machine.end().forEach(tell);
      return [server, events.join(' | '), formatState(machine.state)];
    }
    for (const chunk of cut(Buffer.from(server.replaceAll(' | ', '\r\n').concat(server === '' ? '' : '\r\n')))) {
      for (const event of parser.push(chunk)) {
        if (event.type !== 'reply') throw new Error(`no reply in ${server}`);
        machine.receive(event.reply).forEach(tell);
      }
      drain();
    }
    return [server, [...events, ...said].join(' | '), formatState(machine.state)];
  });
}

const EHLO: Turn = ['220 hi', 'EHLO home', 'opening lockstep; awaits hello'];
const TABLE: Readonly<Record<string, readonly [Play, readonly Turn[]]>> = {
  'lockstep: one after the other': [
    { mail: ['ab'] },
    [
      EHLO,
      ['250 far', '<ready> | MAIL FROM:<me@home.test>', 'ready lockstep; awaits mail 0; open 0 rcpt'],
      ['250 ok', 'RCPT TO:<a@far.test>', 'ready lockstep; awaits rcpt 0.0; open 0 rcpt'],
      ['250 ok', 'RCPT TO:<b@far.test>', 'ready lockstep; awaits rcpt 0.1; open 0 rcpt'],
      ['550 no', 'DATA', 'ready lockstep; awaits data 0; open 0 message'],
      ['354 go', '(message 0)', 'ready lockstep; awaits final 0; open 0 done left'],
      ['250 ok', '<settled delivered failed> | QUIT', 'quitting lockstep finishing quit; awaits quit'],
      ['221 bye', '', 'over lockstep finishing quit'],
    ],
  ],
  'lockstep: a refused MAIL is the end of its transaction, and needs no RSET': [
    { mail: ['a', 'b'] },
    [
      EHLO,
      ['250 far', '<ready> | MAIL FROM:<me@home.test>', 'ready lockstep; awaits mail 0; open 0 rcpt'],
      [
        '550 5.1.8 no',
        '<settled failed> | MAIL FROM:<me@home.test>',
        'ready lockstep; careful 3; awaits mail 1; open 1 rcpt',
      ],
    ],
  ],
  'lockstep: a refusal that may be for everybody asks for the null sender; taken, it was this sender': [
    { mail: ['a', 'b'] },
    [
      EHLO,
      ['250 far', '<ready> | MAIL FROM:<me@home.test>', 'ready lockstep; awaits mail 0; open 0 rcpt'],
      ['550 denied', 'MAIL FROM:<>', 'ready lockstep; careful 3; awaits mail; open 0 done; doubted 0'],
      ['250 ok', '<settled failed> | RSET', 'ready lockstep; careful 3; awaits reset; open 1 mail'],
      ['250 ok', 'MAIL FROM:<me@home.test>', 'ready lockstep; careful 3; awaits mail 1; open 1 rcpt'],
    ],
  ],
  'lockstep: where the null sender is refused as well, the session is': [
    { mail: ['a', 'b'] },
    [
      EHLO,
      ['250 far', '<ready> | MAIL FROM:<me@home.test>', 'ready lockstep; awaits mail 0; open 0 rcpt'],
      ['550 denied', 'MAIL FROM:<>', 'ready lockstep; careful 3; awaits mail; open 0 done; doubted 0'],
      ['550 denied', '<refused>', 'over lockstep shut; careful 3; open 0 done; doubted 0'],
      ['(end)', '<settled unsent>', 'over lockstep shut; careful 3'],
    ],
  ],
  'lockstep: where it is deferred, nobody knows': [
    { mail: ['a'] },
    [
      EHLO,
      ['250 far', '<ready> | MAIL FROM:<me@home.test>', 'ready lockstep; awaits mail 0; open 0 rcpt'],
      ['550 5.7.1 denied', 'MAIL FROM:<>', 'ready lockstep; careful 3; awaits mail; open 0 done; doubted 0'],
      ['450 later', '<settled deferred> | QUIT', 'quitting lockstep finishing quit; careful 3; awaits quit'],
    ],
  ],
  'lockstep: 421 in answer is the end, and the letter stays': [
    { mail: ['a'] },
    [
      EHLO,
      ['250 far', '<ready> | MAIL FROM:<me@home.test>', 'ready lockstep; awaits mail 0; open 0 rcpt'],
      ['550 denied', 'MAIL FROM:<>', 'ready lockstep; careful 3; awaits mail; open 0 done; doubted 0'],
      ['421 bye', '<closing> | <settled deferred>', 'ready lockstep closing; careful 3'],
    ],
  ],
  'lockstep: the null sender that was refused is no proof against itself': [
    { mail: ['a', 'b'], from: '' },
    [
      EHLO,
      ['250 far', '<ready> | MAIL FROM:<>', 'ready lockstep; awaits mail 0; open 0 rcpt'],
      ['550 denied', '<settled deferred> | MAIL FROM:<>', 'ready lockstep; careful 3; awaits mail 1; open 1 rcpt'],
    ],
  ],
  'stream: a MAIL that is taken later says enough': [
    { mail: ['a', 'b'] },
    [
      EHLO,
      [
        '250-far | 250-PIPELINING | 250 CHUNKING',
        '<ready> | MAIL FROM:<me@home.test> | RCPT TO:<a@far.test> | BDAT 10 LAST(message 0) | RSET | ' +
          'MAIL FROM:<me@home.test> | RCPT TO:<b@far.test> | BDAT 10 LAST(message 1)',
        'ready stream finishing; awaits mail 0, rcpt 0.0, final 0, reset, mail 1, rcpt 1.0, final 1; ' +
          'open 0 done left, 1 done left',
      ],
      [
        '550 denied | 503 no | 503 no | 250 ok',
        '',
        'ready stream finishing; careful 3; awaits mail 1, rcpt 1.0, final 1; ' +
          'open 0 done left, 1 done left; doubted 0',
      ],
      [
        '250 ok | 250 ok | 250 ok',
        '<settled failed> | <settled delivered> | QUIT',
        'quitting stream finishing quit; careful 2; awaits quit',
      ],
    ],
  ],
  'stream: all of them refused, and the null sender: nothing more is offered, and each stays': [
    { mail: ['a', 'b'] },
    [
      EHLO,
      [
        '250-far | 250-PIPELINING | 250 CHUNKING',
        '<ready> | MAIL FROM:<me@home.test> | RCPT TO:<a@far.test> | BDAT 10 LAST(message 0) | RSET | ' +
          'MAIL FROM:<me@home.test> | RCPT TO:<b@far.test> | BDAT 10 LAST(message 1)',
        'ready stream finishing; awaits mail 0, rcpt 0.0, final 0, reset, mail 1, rcpt 1.0, final 1; ' +
          'open 0 done left, 1 done left',
      ],
      [
        '530 log in | 503 no | 503 no | 250 ok | 530 log in | 503 no | 503 no',
        'MAIL FROM:<>',
        'ready stream finishing; careful 3; awaits mail; open 0 done left, 1 done left; doubted 0, 1',
      ],
      ['530 log in', '<refused>', 'over stream finishing shut; careful 3; open 0 done left, 1 done left; doubted 0, 1'],
      ['(end)', '<settled unsent> | <settled unsent>', 'over stream finishing shut; careful 3'],
    ],
  ],
  'lockstep: MAIL for nobody is reset': [
    { mail: ['a', 'b'] },
    [
      EHLO,
      ['250 far', '<ready> | MAIL FROM:<me@home.test>', 'ready lockstep; awaits mail 0; open 0 rcpt'],
      ['250 ok', 'RCPT TO:<a@far.test>', 'ready lockstep; awaits rcpt 0.0; open 0 rcpt'],
      ['450 later', '<settled deferred> | RSET', 'ready lockstep; careful 3; awaits reset; open 1 mail'],
      ['250 ok', 'MAIL FROM:<me@home.test>', 'ready lockstep; careful 3; awaits mail 1; open 1 rcpt'],
    ],
  ],
  'pipelined: the envelope at once, a lone dot for nobody': [
    { mail: ['ab'], dialogue: 'pipelined' },
    [
      EHLO,
      [
        '250-far | 250 PIPELINING',
        '<ready> | MAIL FROM:<me@home.test> | RCPT TO:<a@far.test> | RCPT TO:<b@far.test> | DATA',
        'ready pipelined; awaits mail 0, rcpt 0.0, rcpt 0.1, data 0; open 0 message',
      ],
      ['250 ok | 550 no | 550 no | 354 go', '.', 'ready pipelined finishing; awaits final 0; open 0 done'],
      ['554 nobody', '<settled failed failed> | QUIT', 'quitting pipelined finishing quit; careful 3; awaits quit'],
    ],
  ],
  'stream: two messages without waiting': [
    { mail: ['a', 'b'] },
    [
      EHLO,
      [
        '250-far | 250-PIPELINING | 250 CHUNKING',
        '<ready> | MAIL FROM:<me@home.test> | RCPT TO:<a@far.test> | BDAT 10 LAST(message 0) | RSET | ' +
          'MAIL FROM:<me@home.test> | RCPT TO:<b@far.test> | BDAT 10 LAST(message 1)',
        'ready stream finishing; awaits mail 0, rcpt 0.0, final 0, reset, mail 1, rcpt 1.0, final 1; ' +
          'open 0 done left, 1 done left',
      ],
      [
        '250 ok | 250 ok | 250 ok | 250 ok | 250 ok | 250 ok | 250 ok',
        '<settled delivered> | <settled delivered> | QUIT',
        'quitting stream finishing quit; awaits quit',
      ],
    ],
  ],
  'stream: a careful one waits for its recipients': [
    { mail: ['a'], careful: true },
    [
      ['220 hi', 'EHLO home', 'opening lockstep; careful 3; awaits hello'],
      [
        '250-far | 250-PIPELINING | 250 CHUNKING',
        '<ready> | MAIL FROM:<me@home.test> | RCPT TO:<a@far.test>',
        'ready stream; careful 3; awaits mail 0, rcpt 0.0; open 0 data',
      ],
      [
        '250 ok | 250 ok',
        'BDAT 10 LAST(message 0)',
        'ready stream finishing; careful 3; awaits final 0; open 0 done left',
      ],
      ['250 ok', '<settled delivered> | QUIT', 'quitting stream finishing quit; careful 2; awaits quit'],
    ],
  ],
  'bsmtp: nothing waits, and the first surprise ends the matching': [
    { mail: ['a'], dialogue: 'bsmtp' },
    [
      [
        '',
        'EHLO home | MAIL FROM:<me@home.test> | RCPT TO:<a@far.test> | DATA | (message 0) | QUIT',
        'quitting bsmtp finishing quit; awaits greeting, hello, mail 0, rcpt 0.0, data 0, final 0, quit; open 0 done left',
      ],
      [
        '220 hi | 250 far | 250 ok | 550 no | 354 go',
        '<out-of-step>',
        'derailed bsmtp finishing quit; awaits data 0, final 0, quit; open 0 done left',
      ],
    ],
  ],
  'lmtp: a final reply for each recipient that was accepted': [
    { mail: ['ab'], protocol: 'lmtp' },
    [
      ['220 hi', 'LHLO home', 'opening lockstep; awaits hello'],
      ['250 far', '<ready> | MAIL FROM:<me@home.test>', 'ready lockstep; awaits mail 0; open 0 rcpt'],
      ['250 ok', 'RCPT TO:<a@far.test>', 'ready lockstep; awaits rcpt 0.0; open 0 rcpt'],
      ['250 ok', 'RCPT TO:<b@far.test>', 'ready lockstep; awaits rcpt 0.1; open 0 rcpt'],
      ['250 ok', 'DATA', 'ready lockstep; awaits data 0; open 0 message'],
      ['354 go', '(message 0)', 'ready lockstep; awaits final 0; open 0 done left'],
      ['250 ok', '', 'ready lockstep; awaits final 0; open 0 done left'],
      ['452 full', '<settled delivered deferred> | QUIT', 'quitting lockstep finishing quit; awaits quit'],
    ],
  ],
  'STARTTLS, then EHLO again': [
    { startTls: true },
    [
      EHLO,
      ['250-far | 250 STARTTLS', 'STARTTLS', 'opening lockstep; awaits starttls'],
      ['220 go', '(tls) | EHLO home', 'opening lockstep secured; awaits hello'],
      ['250 far', '<ready> | QUIT', 'quitting lockstep secured finishing quit; awaits quit'],
    ],
  ],
  'STARTTLS that is not offered': [{ startTls: true }, [EHLO, ['250 far', '<refused>', 'over lockstep']]],
  'a server without EHLO': [
    {},
    [
      EHLO,
      ['502 what', 'HELO home', 'opening lockstep older; awaits hello'],
      ['250 far', '<ready> | QUIT', 'quitting lockstep older finishing quit; awaits quit'],
    ],
  ],
  'a reply that cannot answer': [{}, [EHLO, ['354 go', '<out-of-step>', 'over lockstep']]],
  '421 between two messages': [
    { mail: ['a', 'b'], dialogue: 'pipelined' },
    [
      EHLO,
      [
        '250-far | 250 PIPELINING',
        '<ready> | MAIL FROM:<me@home.test> | RCPT TO:<a@far.test> | DATA',
        'ready pipelined; awaits mail 0, rcpt 0.0, data 0; open 0 message',
      ],
      ['421 bye | 250 ok', '<closing> | <out-of-step>', 'over pipelined closing; awaits data 0; open 0 done'],
    ],
  ],
};

describe('a conversation, turn by turn', () => {
  for (const [name, [o, turns]] of Object.entries(TABLE)) {
    const cuts = splits(Buffer.from('x')).map(([how], at): [string, (bytes: Uint8Array) => Uint8Array[]] => [
      how,
      (bytes) => splits(bytes)[at]?.[1] ?? [],
    ]);
    test.each(cuts)(`${name}, fed %s`, (_how, cut) => expect(play(o, turns, cut)).toEqual(turns));
  }
});

test('a state that is printed has no secret in it', () => {
  const machine = createClient({ helo: 'home', dialogue: 'auto', credentials: { user: 'me', password: 'sesame' } });
  const shown: string[] = [];
  for (const lines of [['hi'], ['far', 'AUTH PLAIN']]) {
    machine.receive({ code: lines.length > 1 ? 250 : 220, lines });
    shown.push(inspect(machine.state, { depth: null }), JSON.stringify(machine.state), formatState(machine.state));
    if (lines.length === 1) machine.next();
  }
  expect(formatState(machine.state)).toBe('opening lockstep; queued auth');
  const secrets = ['sesame', Buffer.from('\0me\0sesame').toString('base64')];
  expect(shown.filter((text) => secrets.some((secret) => text.includes(secret)))).toEqual([]);
  const step = machine.next();
  expect(step.type === 'write' && Buffer.from(step.bytes).toString()).toContain(secrets[1]);
});
