import fc from 'fast-check';
import { describe, expect, test } from 'vitest';
import { splits } from '../testing/index.ts';
import { type GateAction, LoginGate, responseText } from './gate.ts';

const base64 = (text: string): string => Buffer.from(text).toString('base64');

/** Runs a client's input through a gate that accepts the password `pw` only, and tells what happened as a script. */
function dialogue(chunks: readonly Uint8Array[], o: { startTls?: boolean } = {}): string[] {
  const gate = new LoginGate(o);
  const script: string[] = [];
  const run = (actions: readonly GateAction[]): void => {
    for (const action of actions) {
      if (action.type === 'write')
        script.push(
          ...action.bytes
            .toString()
            .replace(/\r\n$/, '')
            .split('\r\n')
            .map((line) => `S: ${line}`),
        );
      else if (action.type === 'login') {
        const { user, password } = action.login;
        script.push(`login ${user} ${password.reveal()}`);
        if (password.reveal() === 'pw') run(gate.accept({ capabilities: ['IMAP4rev1', 'IDLE'] }));
        else run(gate.reject('AUTHENTICATIONFAILED', 'Wrong\r\npassword'));
      } else if (action.type === 'splice') script.push(`splice ${action.rest}`);
      else if (action.type === 'starttls') script.push('starttls');
      else script.push(`close${action.hopeless === undefined ? '' : ` ${action.hopeless}`}`);
    }
  };
  for (const [index, chunk] of chunks.entries()) {
    run(gate.receive(chunk));
    const last = script.at(-1);
    if (last?.startsWith('splice')) script[script.length - 1] = `${last}${Buffer.concat(chunks.slice(index + 1))}`;
    if (last?.startsWith('splice') || last?.startsWith('close') || last === 'starttls') break;
  }
  return script;
}

const OK = 'S: a OK [CAPABILITY IMAP4rev1 IDLE] Logged in';
const CAPABILITY = '* CAPABILITY IMAP4rev1 LITERAL+ SASL-IR ID AUTH=PLAIN';

describe('the login gate', () => {
  const CASES: [string, string, string[]][] = [
    ['a login with atoms', 'a LOGIN bob pw\r\n', ['login bob pw', OK, 'splice ']],
    [
      'literals are asked for one by one',
      'a LOGIN {3}\r\nbob {2}\r\npw\r\n',
      ['S: + OK', 'S: + OK', 'login bob pw', OK, 'splice '],
    ],
    [
      'what is pipelined behind the login is passed on',
      'a LOGIN bob pw\r\nb SELECT INBOX\r\nc APPEND x {3+}\r\n\0\0\0\r\n',
      ['login bob pw', OK, 'splice b SELECT INBOX\r\nc APPEND x {3+}\r\n\0\0\0\r\n'],
    ],
    [
      'a wrong password may be tried again',
      'a LOGIN bob no\r\na LOGIN bob pw\r\n',
      ['login bob no', 'S: a NO [AUTHENTICATIONFAILED] Wrong password', 'login bob pw', OK, 'splice '],
    ],
    [
      'PLAIN with an initial response',
      `a AUTHENTICATE PLAIN ${base64('bob\0bob\0pw')}\r\n`,
      ['login bob pw', OK, 'splice '],
    ],
    [
      'PLAIN without one',
      `a authenticate plain\r\n${base64('\0bob\0pw')}\r\n`,
      ['S: + ', 'login bob pw', OK, 'splice '],
    ],
    [
      'PLAIN cancelled',
      'a AUTHENTICATE PLAIN\r\n*\r\nb NOOP\r\n',
      ['S: + ', 'S: a BAD Cancelled', 'S: b OK Nothing done'],
    ],
    [
      'PLAIN for somebody else',
      `a AUTHENTICATE PLAIN ${base64('root\0bob\0pw')}\r\n`,
      ['S: a NO [AUTHORIZATIONFAILED] Nobody acts for somebody else here'],
    ],
    [
      'PLAIN that is garbage',
      'a AUTHENTICATE PLAIN ===\r\nb NOOP\r\n',
      ['S: a BAD That is no PLAIN response', 'S: b OK Nothing done'],
    ],
    ['PLAIN with an empty initial response', 'a AUTHENTICATE PLAIN =\r\n', ['S: a BAD That is no PLAIN response']],
    ['another mechanism', 'a AUTHENTICATE CRAM-MD5\r\n', ['S: a NO Only PLAIN is spoken here']],
    [
      'what else may come before a login',
      'a CAPABILITY\r\nb NOOP\r\nc ID NIL\r\nd SELECT INBOX\r\ne STARTTLS\r\n{\r\n',
      [
        `S: ${CAPABILITY}`,
        'S: a OK Capabilities listed',
        'S: b OK Nothing done',
        'S: * ID ("name" "Postern")',
        'S: c OK That is me',
        'S: d BAD SELECT needs a login first',
        'S: e BAD TLS is not to be had here',
        'S: * BAD A command starts with a tag',
      ],
    ],
    [
      'PLAIN with a blank behind it',
      `a AUTHENTICATE PLAIN \r\n${base64('\0bob\0pw')}\r\n`,
      ['S: + ', 'login bob pw', OK, 'splice '],
    ],
    [
      'what is said in an authentication that was refused already',
      `a AUTHENTICATE CRAM-MD5\r\n${base64('\0bob\0pw')}\r\n`,
      ['S: a NO Only PLAIN is spoken here', 'S: * BAD A command is a tag and a name'],
    ],
    [
      'a giant literal that waits for its +',
      'a LOGIN {65536}\r\nb NOOP\r\n',
      ['S: a NO [TOOBIG] No name and no password is that long', 'S: b OK Nothing done'],
    ],
    [
      'a giant literal that does not wait',
      'a LOGIN {65536+}\r\nxxx',
      ['S: * BYE [TOOBIG] No name and no password is that long', 'close'],
    ],
    ['logout', 'a LOGOUT\r\nb NOOP\r\n', ['S: * BYE Good bye', 'S: a OK Logged out', 'close']],
    ['a browser', 'GET / HTTP/1.1\r\nHost: x\r\n\r\n', ['close http']],
    ['a NUL', 'a NOOP\r\nb\0', ['S: a OK Nothing done', 'close nul']],
  ];
  for (const [name, input, want] of CASES) {
    test.each(splits(Buffer.from(input)))(`${name}, fed %s`, (_how, chunks) => expect(dialogue(chunks)).toEqual(want));
  }

  test('the greeting is OK and tells the capabilities', () => {
    const [action] = new LoginGate().greeting();
    expect(action?.type === 'write' && action.bytes.toString()).toBe(
      '* OK [CAPABILITY IMAP4rev1 LITERAL+ SASL-IR ID AUTH=PLAIN] Postern ready\r\n',
    );
  });

  test('before STARTTLS nobody logs in, and what is pipelined behind it is thrown away', () => {
    expect(
      dialogue(
        [Buffer.from('a CAPABILITY\r\nb LOGIN bob pw\r\nc AUTHENTICATE PLAIN\r\nd STARTTLS\r\ne LOGIN bob pw\r\n')],
        {
          startTls: true,
        },
      ),
    ).toEqual([
      'S: * CAPABILITY IMAP4rev1 LITERAL+ SASL-IR ID STARTTLS LOGINDISABLED',
      'S: a OK Capabilities listed',
      'S: b NO [PRIVACYREQUIRED] STARTTLS first',
      'S: c NO [PRIVACYREQUIRED] STARTTLS first',
      'S: d OK Begin TLS now',
      'starttls',
    ]);
    const gate = new LoginGate({ startTls: true });
    gate.receive(Buffer.from('a STARTTLS\r\nb LOGIN bob pw\r\n'));
    expect(gate.receive(Buffer.from('c LOGIN bob pw\r\n'))).toEqual([]);
    gate.secured();
    expect(gate.receive(Buffer.from(''))).toEqual([]);
    expect(gate.receive(Buffer.from('d LOGIN bob pw\r\n')).map((action) => action.type)).toEqual(['login']);
  });

  test('ten wrong passwords end the connection', () => {
    const script = dialogue([Buffer.from('a LOGIN bob no\r\n'.repeat(20))]);
    expect(script.filter((line) => line.startsWith('login')).length).toBe(10);
    expect(script.slice(-2)).toEqual(['S: * BYE Too many failed logins', 'close']);
  });

  test('BYE is said once', () => {
    const gate = new LoginGate();
    gate.receive(Buffer.from('a LOGIN bob pw\r\n'));
    expect(gate.bye('UNAVAILABLE', 'gate is down').map((action) => action.type)).toEqual(['write', 'close']);
    expect(gate.bye('UNAVAILABLE', 'gate is down')).toEqual([]);
  });

  test('a reason from afar cannot break out of its line', () =>
    expect(responseText('a\r\n* OK [X] \x1b[2Jé\0')).toBe('a * OK [X] ?[2J??'));

  test('whatever a client sends, every reply is a whole line with a tag or a star', () => {
    const word = fc.constantFrom(
      'a ',
      'LOGIN ',
      'bob ',
      'pw',
      '\r\n',
      '{2+}\r\n',
      '{1}\r\n',
      'AUTHENTICATE PLAIN',
      'NOOP',
      '*',
      '"',
      'STARTTLS',
      'LOGOUT',
    );
    fc.assert(
      fc.property(fc.array(fc.oneof(word, fc.string({ unit: 'binary', maxLength: 5 })), { maxLength: 60 }), (words) => {
        for (const line of dialogue([Buffer.from(words.join(''), 'latin1')])) {
          if (line.startsWith('S: '))
            expect(line).toMatch(/^S: (?:[^ +]+ (?:OK|NO|BAD|BYE|ID|CAPABILITY)\b|\+ )[ -~]*$/);
        }
      }),
      { numRuns: 500 },
    );
  });
});
