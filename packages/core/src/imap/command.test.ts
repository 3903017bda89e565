import { inspect } from 'node:util';
import fc from 'fast-check';
import { describe, expect, test } from 'vitest';
import { parseCommand, parsePlain } from './command.ts';
import { Framer } from './framer.ts';

/** Parses one command as it stands on the wire; secrets revealed, for comparison. */
function parse(wire: string): Record<string, unknown> {
  const framer = new Framer();
  framer.push(Buffer.from(wire, 'utf8'));
  let frame = framer.next();
  while (frame?.type === 'continue') frame = framer.next();
  if (frame?.type !== 'command') throw new Error(`not a command: ${JSON.stringify(frame)}`);
  const command = parseCommand(frame.parts);
  if (command.type === 'login') return { ...command, password: command.password.reveal() };
  if (command.type === 'authenticate' && command.initial !== undefined) {
    return { ...command, initial: command.initial.reveal() };
  }
  return { ...command };
}

const login = (user: string, password: string) => ({ type: 'login', tag: 'a', user, password });

describe('commands before login', () => {
  test.each<[string, Record<string, unknown>]>([
    ['a CAPABILITY\r\n', { type: 'capability', tag: 'a' }],
    ['A.1 capability\r\n', { type: 'capability', tag: 'A.1' }],
    ['00000001 Noop\r\n', { type: 'noop', tag: '00000001' }],
    ['a LOGOUT\r\n', { type: 'logout', tag: 'a' }],
    ['a StartTLS\r\n', { type: 'starttls', tag: 'a' }],
    ['a ID NIL\r\n', { type: 'id', tag: 'a' }],
    ['a ID ("name" "x" "os" {3+}\r\nfoo)\r\n', { type: 'id', tag: 'a' }],
    ['a LOGIN bob pw\r\n', login('bob', 'pw')],
    ['a login "bob" "p w"\r\n', login('bob', 'p w')],
    ['a LOGIN "b\\"o\\\\b" ""\r\n', login('b"o\\b', '')],
    ['a LOGIN {3}\r\nbob {3}\r\np w\r\n', login('bob', 'p w')],
    ['a LOGIN {3+}\r\nbob pw\r\n', login('bob', 'pw')],
    ['a LOGIN bob {2+}\r\npw\r\n', login('bob', 'pw')],
    ['a LOGIN bob@x.example p%*]ä\r\n', login('bob@x.example', 'p%*]ä')],
    ['a LOGIN bob {4+}\r\n\r\nx \r\n', login('bob', '\r\nx ')],
    ['a AUTHENTICATE PLAIN\r\n', { type: 'authenticate', tag: 'a', mechanism: 'PLAIN' }],
    ['1 authenticate plain =\r\n', { type: 'authenticate', tag: '1', mechanism: 'PLAIN', initial: '=' }],
    ['a AUTHENTICATE XOAUTH2 abc\r\n', { type: 'authenticate', tag: 'a', mechanism: 'XOAUTH2', initial: 'abc' }],
    ['a SELECT INBOX\r\n', { type: 'other', tag: 'a', name: 'SELECT' }],
    ['a uid FETCH 1 (FLAGS)\r\n', { type: 'other', tag: 'a', name: 'UID' }],
  ])('%j is understood', (wire, want) => expect(parse(wire)).toEqual(want));

  test.each([
    'a LOGIN\r\n',
    'a LOGIN bob\r\n',
    'a LOGIN bob \r\n',
    'a LOGIN bob pw \r\n',
    'a LOGIN bob pw more\r\n',
    'a LOGIN  bob pw\r\n',
    'a LOGIN "bob pw\r\n',
    'a LOGIN "b\\ob" pw\r\n',
    'a LOGIN "bob"pw x\r\n',
    'a LOGIN{3+}\r\nbob pw\r\n',
    'a LOGIN bob{2+}\r\npw\r\n',
    'a LOGIN (bob) pw\r\n',
    'a AUTHENTICATE\r\n',
    'a AUTHENTICATE {5+}\r\nPLAIN\r\n',
    'a NOOP now\r\n',
    'a ID\r\n',
    'a  NOOP\r\n',
  ])('%j is a tagged BAD', (wire) => expect(parse(wire)).toMatchObject({ type: 'bad', tag: 'a' }));

  test.each([
    '\r\n',
    ' NOOP\r\n',
    '+ NOOP\r\n',
    'a+b NOOP\r\n',
    '(a NOOP\r\n',
    'a\x1b[2J NOOP\r\n',
    '* NOOP\r\n',
    'ä NOOP\r\n',
  ])('%j has no tag that could be sent back', (wire) =>
    expect(parse(wire)).toEqual({ type: 'bad', reason: 'A command starts with a tag' }),
  );

  test.each(['c2VjcmV0\r\n', 'a \r\n'])('%j, a word alone, is not said back as a tag: it may be a password', (wire) =>
    expect(parse(wire)).toEqual({ type: 'bad', reason: 'A command is a tag and a name' }),
  );

  test.each<[string, object]>([
    ['a NOOP \r\n', { type: 'noop', tag: 'a' }],
    ['a CAPABILITY  \r\n', { type: 'capability', tag: 'a' }],
    ['a AUTHENTICATE PLAIN \r\n', { type: 'authenticate', tag: 'a', mechanism: 'PLAIN' }],
  ])('%j: blanks at the end count for nothing', (wire, expected) => expect(parse(wire)).toEqual(expected));

  test('a password shows nowhere', () => {
    const framer = new Framer();
    framer.push(Buffer.from('a LOGIN bob hunter2\r\n'));
    const frame = framer.next();
    const command = parseCommand(frame?.type === 'command' ? frame.parts : []);
    const shown = [inspect(command, { depth: 9, showHidden: true }), JSON.stringify(command)];
    for (const text of [...shown, command.type === 'login' ? `${command.password}` : ''])
      expect(text).not.toContain('hunter2');
  });

  test('anything at all parses to a command, without throwing', () => {
    fc.assert(
      fc.property(fc.array(fc.uint8Array({ maxLength: 60 }), { minLength: 1, maxLength: 5 }), (parts) => {
        expect(typeof parseCommand(parts.map((part) => Buffer.from(part))).type).toBe('string');
      }),
    );
  });

  test('every string a client can quote comes back', () => {
    const text = fc.string({ unit: 'grapheme', maxLength: 40 }).filter((value) => !/[\r\n\0]/.test(value));
    fc.assert(
      fc.property(text, text, (user, password) => {
        const quote = (value: string): string => `"${value.replace(/["\\]/g, '\\$&')}"`;
        expect(parse(`a LOGIN ${quote(user)} ${quote(password)}\r\n`)).toEqual(login(user, password));
      }),
    );
  });
});

describe('PLAIN', () => {
  const base64 = (text: string): string => Buffer.from(text).toString('base64');
  test.each<[string, string[]]>([
    [base64('\0bob\0pw'), ['', 'bob', 'pw']],
    [base64('bob\0bob\0pw'), ['bob', 'bob', 'pw']],
    [base64('\0\0'), ['', '', '']],
    [base64('\0bøb\0p w'), ['', 'bøb', 'p w']],
  ])('%s is read', (response, want) => {
    const { authzid, user, password } = parsePlain(response) ?? {};
    expect([authzid, user, password?.reveal()]).toEqual(want);
  });
  test.each(['', '=', 'a', '!!!!', base64('bob'), base64('\0bob'), base64('\0a\0b\0c'), 'AGI= '])(
    '%j is not',
    (response) => expect(parsePlain(response)).toBeUndefined(),
  );
});
