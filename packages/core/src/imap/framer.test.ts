import fc from 'fast-check';
import { describe, expect, test } from 'vitest';
import { splits } from '../testing/index.ts';
import { BEFORE_LOGIN, type Frame, Framer } from './framer.ts';

/** Feeds the chunks and collects frames in a comparable form. */
function frames(chunks: readonly Uint8Array[], limits = BEFORE_LOGIN): unknown[] {
  const framer = new Framer(limits);
  const found: unknown[] = [];
  const show = (frame: Frame): unknown =>
    frame.type === 'command' ? frame.parts.map((part) => part.toString('latin1')) : frame.type;
  for (const chunk of chunks) {
    framer.push(chunk);
    for (let frame = framer.next(); frame !== undefined; frame = framer.next()) {
      if (frame.type === 'hopeless') return [...found, frame.reason];
      found.push(show(frame));
    }
  }
  return found;
}

const CASES: [string, string, unknown[]][] = [
  ['a line', 'a NOOP\r\n', [['a NOOP']]],
  ['a bare LF as people type it', 'a NOOP\nb NOOP\n', [['a NOOP'], ['b NOOP']]],
  [
    'a synchronizing literal',
    'a LOGIN {3}\r\nbob {2}\r\npw\r\n',
    ['continue', 'continue', ['a LOGIN ', 'bob', ' ', 'pw', '']],
  ],
  ['a non-synchronizing literal', 'a LOGIN {3+}\r\nbob {2+}\r\npw\r\n', [['a LOGIN ', 'bob', ' ', 'pw', '']]],
  ['an empty literal', 'a LOGIN {0+}\r\n x\r\n', [['a LOGIN ', '', ' x']]],
  [
    'a command inside a literal stays a literal',
    'a LOGIN {8+}\r\nb NOOP\r\n x\r\n',
    [['a LOGIN ', 'b NOOP\r\n', ' x']],
  ],
  ['braces inside a line', 'a LOGIN {x} b\r\n', [['a LOGIN {x} b']]],
  ['an HTTP request', 'GET / HTTP/1.1\r\n', ['http']],
  ['a NUL in a line', 'a NO\0OP\r\n', ['nul']],
  ['a NUL in a literal', 'a LOGIN {1+}\r\n\0 x\r\n', ['nul']],
  ['a giant literal sent unasked', 'a LOGIN {99999999999999999999+}\r\n', ['too-large', 'literal-too-large']],
  [
    'a giant literal that waits to be asked for, and the command behind it',
    'a LOGIN {65536}\r\nb NOOP\r\n',
    ['too-large', ['b NOOP']],
  ],
];

describe('framing', () => {
  for (const [name, input, want] of CASES) {
    test.each(splits(Buffer.from(input, 'latin1')))(`${name}, fed %s`, (_how, chunks) =>
      expect(frames(chunks)).toEqual(want),
    );
  }

  test('a NUL ends a line that has no end yet', () => expect(frames([Buffer.from('a\0')])).toEqual(['nul']));

  test.each(splits(Buffer.alloc(6000, 'x'), 2))('a line without end is given up, fed %s', (_how, chunks) =>
    expect(frames(chunks)).toEqual(['line-too-long']),
  );

  test.each(splits(Buffer.from('a NOOP\r\n'.repeat(1025)), 2))(
    'all input together has a cap, fed %s',
    (_how, chunks) => {
      const found = frames(chunks);
      expect(found.at(-1)).toBe('too-much-input');
      expect(found.length).toBe(1025);
    },
  );

  test('what follows the last command asked for is given back untouched and is not counted', () => {
    const framer = new Framer();
    const behind = Buffer.alloc(100_000, '\0');
    framer.push(Buffer.concat([Buffer.from('a NOOP\r\n'), behind]));
    expect(framer.next()?.type).toBe('command');
    expect(framer.rest().equals(behind)).toBe(true);
    expect(framer.held).toBe(0);
  });

  test('a SASL response line has no literals', () => {
    const framer = new Framer();
    framer.push(Buffer.from('{5}\r\n'));
    expect(framer.next('line')).toEqual({ type: 'command', parts: [Buffer.from('{5}')] });
  });
});

test('whatever comes in, the frames do not depend on how it was cut, and memory is bounded', () => {
  const pieces = fc.constantFrom('a LOGIN ', '{3}\r\n', '{2+}\r\n', '\r\n', '\n', 'xyz', '"q"', ' ', '\0', '{', '}');
  const input = fc
    .array(fc.oneof(pieces, fc.string({ unit: 'binary', maxLength: 9 })), { maxLength: 40 })
    .map((parts) => Buffer.from(parts.join(''), 'latin1'));
  fc.assert(
    fc.property(input, (bytes) => {
      const whole = frames([bytes]);
      for (const [, chunks] of splits(bytes, 3)) expect(frames(chunks)).toEqual(whole);
    }),
    { numRuns: 300 },
  );
});
