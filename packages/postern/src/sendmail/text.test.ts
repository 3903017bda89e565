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
    // For others to encode.
    ['a\rb\n', 'a\rb\r\n'],
    ['a\r', 'a\r'],
    ['\0', '\0'],
    [`${'x'.repeat(LINE_OCTETS + 1)}\n`, `${'x'.repeat(LINE_OCTETS + 1)}\r\n`],
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

  test('whatever comes has no bare LF, and the same lines', () => {
    const text = fc.string({ unit: fc.constantFrom('\r', '\n', '\r\n', '\0', 'a', '.'), maxLength: 30 });
    fc.assert(
      fc.property(text, fc.nat(30), (input, at) => {
        const all = bytes(input);
        const out = read([all.subarray(0, at), all.subarray(at)]).toString('latin1');
        expect(out).not.toMatch(/(?<!\r)\n/);
        expect(out.split('\r\n')).toEqual(input.split(/\r?\n/));
      }),
      { numRuns: 500 },
    );
  });
});
