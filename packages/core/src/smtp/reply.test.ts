import fc from 'fast-check';
import { describe, expect, test } from 'vitest';
import { splits } from '../testing/index.ts';
import { createReplyParser, formatReply, MAX_NOISE_OCTETS, MAX_REPLY_LINE_OCTETS, type ReplyEvent } from './reply.ts';

function parse(chunks: readonly Uint8Array[], o?: { skipNoise: boolean }): ReplyEvent[] {
  const parser = createReplyParser(o);
  return chunks.flatMap((chunk) => parser.push(chunk));
}
const whole = (text: string, o?: { skipNoise: boolean }): ReplyEvent[] => parse([Buffer.from(text, 'latin1')], o);

describe('the reply parser', () => {
  const session =
    '220 mx.example ESMTP\r\n250-mx.example\r\n250-SIZE 1000\r\n250 PIPELINING\r\n250 2.1.0 Ok\r\n' +
    '550-5.1.1 No such\r\n550 5.1.1 user\r\n354 go\r\n250\r\n452 4.5.3 Too many\r\n250 5.1.1 odd class\r\n';
  for (const [name, chunks] of splits(Buffer.from(session))) {
    test(`yields the same replies fed ${name}`, () => {
      expect(parse(chunks)).toEqual([
        { type: 'reply', reply: { code: 220, lines: ['mx.example ESMTP'] } },
        { type: 'reply', reply: { code: 250, lines: ['mx.example', 'SIZE 1000', 'PIPELINING'] } },
        { type: 'reply', reply: { code: 250, enhanced: '2.1.0', lines: ['Ok'] } },
        { type: 'reply', reply: { code: 550, enhanced: '5.1.1', lines: ['No such', 'user'] } },
        { type: 'reply', reply: { code: 354, lines: ['go'] } },
        { type: 'reply', reply: { code: 250, lines: [''] } },
        { type: 'reply', reply: { code: 452, enhanced: '4.5.3', lines: ['Too many'] } },
        { type: 'reply', reply: { code: 250, lines: ['5.1.1 odd class'] } },
      ]);
    });
  }

  for (const line of ['hello', '2500 ok', '25 ok', '150 ok', '650 ok', '', ' 250 ok', '250_ok', '* OK IMAP']) {
    test(`ends at the malformed line ${JSON.stringify(line)}`, () => {
      const events = whole(`250 a\r\n${line}\r\n250 b\r\n`);
      expect(events.map((event) => event.type)).toEqual(['reply', 'malformed']);
    });
  }
  test('ends when the code changes within a reply', () => {
    expect(whole('250-a\r\n550 b\r\n250 c\r\n')).toEqual([
      { type: 'malformed', reason: 'the code changes within a reply', line: '550 b' },
    ]);
  });
  test('takes lines that end in LF alone', () => {
    expect(whole('250-a\n250 b\n')).toEqual([{ type: 'reply', reply: { code: 250, lines: ['a', 'b'] } }]);
  });
  test('caps a line, whether or not it ever ends', () => {
    const endless = createReplyParser();
    const chunk = Buffer.alloc(1000, 'x');
    const events = Array.from({ length: 10 }, () => endless.push(chunk)).flat();
    expect(events).toHaveLength(1);
    expect(events[0]).toMatchObject({ type: 'malformed', reason: 'reply line too long' });
    expect(whole(`250 ${'x'.repeat(MAX_REPLY_LINE_OCTETS)}\r\n`)[0]).toMatchObject({ reason: 'reply line too long' });
  });
  test('caps a reply of endless lines', () => {
    expect(whole('250-x\r\n'.repeat(20_000))).toMatchObject([{ type: 'malformed', reason: 'reply too long' }]);
  });
  test('skips what a login shell prints before the greeting, within a bound', () => {
    expect(whole('Welcome!\n\n2 new mails\r\n220 mx\r\n', { skipNoise: true })).toMatchObject([
      { reply: { code: 220 } },
    ]);
    expect(whole('Welcome!\n220 mx\r\n')).toMatchObject([{ type: 'malformed' }]);
    expect(whole('x\n'.repeat(MAX_NOISE_OCTETS), { skipNoise: true })).toMatchObject([{ type: 'malformed' }]);
    expect(whole('x'.repeat(MAX_NOISE_OCTETS + 1), { skipNoise: true })).toMatchObject([{ type: 'malformed' }]);
  });
  for (const noise of ['\x1b]0;gate\x07', '\x1b[0m', 'gate$ ', 'Welcome!\ngate> ', 'you have 220 new mails\ngate$ ']) {
    for (const [name, chunks] of splits(Buffer.from(`${noise}220 mx ready\r\n250 ok\r\n`, 'latin1'))) {
      test(`finds the greeting behind ${JSON.stringify(noise)}, which has no line end, fed ${name}`, () => {
        expect(parse(chunks, { skipNoise: true })).toEqual([
          { type: 'reply', reply: { code: 220, lines: ['mx ready'] } },
          { type: 'reply', reply: { code: 250, lines: ['ok'] } },
        ]);
      });
    }
  }
  test('takes no number in what a shell prints for a greeting', () => {
    expect(whole('you have 220 new mails\n1220 mx\r\n220 mx\r\n', { skipNoise: true })).toMatchObject([
      { reply: { lines: ['mx'] } },
    ]);
    expect(whole('gate$ 220 mx\r\n')).toMatchObject([{ type: 'malformed' }]);
  });
  test('shows what came instead of a greeting, until one begins', () => {
    const parser = createReplyParser({ skipNoise: true });
    for (const [chunk, noise] of [
      ['Welcome\n', 'Welcome\n'],
      ['login: ', 'Welcome\nlogin: '],
      ['\n220-', ''],
      ['wait\r\n', ''],
    ] as const) {
      parser.push(Buffer.from(chunk));
      expect(parser.noise).toBe(noise);
    }
  });
  test('reads back every reply it formats', () => {
    const text = fc.string({ maxLength: 60 }).map((line) => line.replace(/[\r\n\u0100-\uffff]/g, ''));
    const plain = text.filter((line) => !/^[245]\.\d/.test(line));
    const reply = fc.record({
      code: fc.integer({ min: 200, max: 599 }),
      lines: fc.array(plain, { minLength: 1, maxLength: 5 }),
    });
    fc.assert(
      fc.property(fc.array(reply, { maxLength: 6 }), (replies) => {
        const bytes = Buffer.concat(replies.map(formatReply));
        for (const [, chunks] of splits(bytes, 2)) {
          expect(parse(chunks)).toEqual(replies.map((reply) => ({ type: 'reply', reply })));
        }
      }),
    );
  });
  test('gives a value on any bytes, and never throws', () => {
    fc.assert(
      fc.property(fc.array(fc.uint8Array({ maxLength: 80 }), { maxLength: 8 }), (chunks) => {
        for (const event of parse(chunks)) expect(['reply', 'malformed']).toContain(event.type);
      }),
    );
  });
});
