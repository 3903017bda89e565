/** The client machine by itself: what it writes after each reply, and what it says of the session. */
import { describe, expect, test } from 'vitest';
import { createClient } from './client.ts';
import { mayAnswer } from './client-replies.ts';
import type { ClientOptions } from './client-state.ts';
import { createReplyParser } from './reply.ts';

const GREETED = ['220 hi', '250-far.test\r\n250-PIPELINING\r\n250 AUTH PLAIN LOGIN'];
const LOGIN_ONLY = ['220 hi', '250-far.test\r\n250 AUTH LOGIN'];
const credentials = { user: 'me', password: 'open sesame' };
const base64 = (text: string): string => Buffer.from(text).toString('base64');
const SECRET = base64('\0me\0open sesame');

/** Gives it these replies one after the other; what it wrote after each, and what it told. */
function play(o: Partial<ClientOptions>, replies: readonly string[]): { written: string[]; told: string[] } {
  const machine = createClient({ helo: 'home.test', dialogue: 'auto', ...o });
  const parser = createReplyParser();
  const written: string[] = [];
  const told: string[] = [];
  for (const text of replies) {
    for (const event of parser.push(Buffer.from(`${text}\r\n`))) {
      if (event.type !== 'reply') throw new Error(`no reply: ${text}`);
      for (const { type } of machine.receive(event.reply)) told.push(type);
    }
    for (let step = machine.next(); step.type === 'write'; step = machine.next()) {
      written.push(Buffer.from(step.bytes).toString().trim());
    }
  }
  return { written, told };
}

describe('a login', () => {
  const cases: Readonly<Record<string, { replies: readonly string[]; written: readonly string[]; told: string }>> = {
    'PLAIN with its initial response': {
      replies: [...GREETED, '235 welcome'],
      written: ['EHLO home.test', `AUTH PLAIN ${SECRET}`],
      told: 'ready',
    },
    'PLAIN, where the server overlooks the initial response and asks for it': {
      replies: [...GREETED, '334', '235 welcome'],
      written: ['EHLO home.test', `AUTH PLAIN ${SECRET}`, SECRET],
      told: 'ready',
    },
    'PLAIN, where the server asks twice': {
      replies: [...GREETED, '334', '334'],
      written: ['EHLO home.test', `AUTH PLAIN ${SECRET}`, SECRET],
      told: 'out-of-step',
    },
    'PLAIN, refused after it was asked for': {
      replies: [...GREETED, '334', '535 no'],
      written: ['EHLO home.test', `AUTH PLAIN ${SECRET}`, SECRET],
      told: 'refused',
    },
    LOGIN: {
      replies: [...LOGIN_ONLY, '334 VXNlcm5hbWU6', '334 UGFzc3dvcmQ6', '235 welcome'],
      written: ['EHLO home.test', 'AUTH LOGIN', base64('me'), base64('open sesame')],
      told: 'ready',
    },
    'LOGIN, where the server asks a third time': {
      replies: [...LOGIN_ONLY, '334 a', '334 b', '334 c'],
      written: ['EHLO home.test', 'AUTH LOGIN', base64('me'), base64('open sesame')],
      told: 'out-of-step',
    },
    'with a mechanism that is not spoken': {
      replies: ['220 hi', '250-far.test\r\n250 AUTH GSSAPI'],
      written: ['EHLO home.test'],
      told: 'refused',
    },
  };
  for (const [name, { replies, written, told }] of Object.entries(cases)) {
    test(name, () => expect(play({ credentials }, replies)).toEqual({ written, told: [told] }));
  }
});

describe('what may answer what', () => {
  const table: Readonly<Record<string, string>> = {
    greeting: '2 4 5',
    hello: '2 4 5',
    starttls: '2 4 5',
    auth: '2 3 4 5',
    reset: '2',
    mail: '2 4 5',
    rcpt: '2 4 5',
    data: '3 4 5',
    final: '2 4 5',
    noop: '2 4 5',
    quit: '2 4 5',
  };
  for (const [command, classes] of Object.entries(table)) {
    test(`${command}: ${classes}`, () => {
      const may = [2, 3, 4, 5].filter((kind) =>
        mayAnswer(command as Parameters<typeof mayAnswer>[0], { code: kind * 100, lines: [''] }),
      );
      expect(may.join(' ')).toBe(classes);
    });
  }
});
