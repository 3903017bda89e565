import { MAX_TEXT_LINE_OCTETS as LINE_OCTETS } from '@postern/core';
import { splits } from '@postern/testkit';
import fc from 'fast-check';
import { describe, expect, test } from 'vitest';
import { textReader } from './text.ts';

function read(chunks: readonly Uint8Array[], dotEnds = false): Buffer {
  const reader = textReader({ dotEnds });
  return Buffer.concat([...chunks.map((chunk) => reader.push(chunk)), reader.finish()]);
}

const bytes = (text: string): Buffer => Buffer.from(text, 'latin1');

describe('text on standard input', () => {
  const cases: [input: string, output: string][] = [
    ['a\nb\n', 'a\r\nb\r\n'],
    ['a\r\nb\r\n', 'a\r\nb\r\n'],
    ['a\r\nb\nc', 'a\r\nb\r\nc'],
    ['', ''],
    ['\n\n', '\r\n\r\n'],
    ['.\n..\n', '.\r\n..\r\n'],
    ['\xe4\xff\x01\n', '\xe4\xff\x01\r\n'],
    [`${'x'.repeat(LINE_OCTETS)}\r\n`, `${'x'.repeat(LINE_OCTETS)}\r\n`],
  ];
  for (const [input, output] of cases) {
    test.each(splits(bytes(input)))(`${JSON.stringify(input.slice(0, 20))} becomes CRLF text, %s`, (_how, chunks) => {
      expect(read(chunks).toString('latin1')).toBe(output);
    });
  }

  const ends: [input: string, output: string][] = [
    ['a\n.\nrest\n', 'a\r\n'],
    ['a\r\n.\r\nrest', 'a\r\n'],
    ['a\n.', 'a\r\n'],
    ['a\n..\n. \n.', 'a\r\n..\r\n. \r\n'],
  ];
  for (const [input, output] of ends) {
    test.each(splits(bytes(input)))(`a lone dot ends ${JSON.stringify(input)}, %s`, (_how, chunks) => {
      expect(read(chunks, true).toString('latin1')).toBe(output);
    });
  }

  const refused: [input: string, why: string][] = [
    ['a\rb\n', 'line 1 .* carriage return'],
    ['a\n\r\r\n', 'line 2 .* carriage return'],
    ['a\r', 'line 1 .* carriage return'],
    ['a\nb\n\0\n', 'line 3 .* NUL'],
    ['\0', 'line 1 .* NUL'],
    [`a\n${'x'.repeat(LINE_OCTETS + 1)}\n`, 'line 2 .* more than 998 octets'],
    ['x'.repeat(LINE_OCTETS + 1), 'line 1 .* more than 998 octets'],
  ];
  for (const [input, why] of refused) {
    test.each(splits(bytes(input)))(`${JSON.stringify(input.slice(0, 20))} is refused, %s`, (_how, chunks) => {
      expect(() => read(chunks)).toThrow(new RegExp(why));
    });
  }

  test('a line without end is refused before it fills the memory', () => {
    const reader = textReader({ dotEnds: false });
    reader.push(Buffer.alloc(900, 0x61));
    expect(() => reader.push(Buffer.alloc(200, 0x61))).toThrow('the most mail allows');
  });

  test('whatever passes has no bare CR, bare LF, NUL or long line, and the same lines', () => {
    const text = fc.string({ unit: fc.constantFrom('\r', '\n', '\r\n', '\0', 'a', '.'), maxLength: 30 });
    fc.assert(
      fc.property(text, fc.nat(30), (input, at) => {
        const all = bytes(input);
        let out: string;
        try {
          out = read([all.subarray(0, at), all.subarray(at)]).toString('latin1');
        } catch {
          expect(/\0|\r(?!\n)/.test(input)).toBe(true);
          return;
        }
        expect(out).not.toMatch(/\r(?!\n)|(?<!\r)\n|\0/);
        expect(out.split('\r\n')).toEqual(input.split(/\r?\n/));
      }),
      { numRuns: 500 },
    );
  });
});
