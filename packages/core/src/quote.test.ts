import { execFileSync } from 'node:child_process';
import { describe, expect, test } from 'vitest';
import { printable, printableJson, quote, quoteAll } from './quote.ts';

describe('quote', () => {
  test.each(['', 'a', "it's", '$(id)', '`id`', 'a b', '"', '\\', '*', '-n', 'a\nb', '!x', 'é', '~', '#', ';ls'])(
    'a shell gives %j back as one argument',
    (argument) => {
      const out = execFileSync('/bin/sh', ['-c', `printf %s ${quote(argument)}`], { encoding: 'utf8' });
      expect(out).toBe(argument);
    },
  );
  test('plain words stay readable', () =>
    expect(quoteAll(['netcat', '-w', '600', 'localhost'])).toBe('netcat -w 600 localhost'));
  test('a NUL is refused', () => expect(() => quote('a\0b')).toThrow(RangeError));
});

describe('printable', () => {
  test.each([
    ['plain text stays', 'plain text stays'],
    ['\u001b[31mred', '\\x1b[31mred'],
    ['a\r\nb', 'a\\x0d\\x0ab'],
    ['\u202egnp.exe', '\\u{202e}gnp.exe'],
    ['\u009b1m', '\\x9b1m'],
  ])('%j becomes %j', (text, want) => expect(printable(text)).toBe(want));
  test('long text is cut', () => expect(printable('x'.repeat(10), 4)).toBe('xxxx…'));
});

test('JSON for a terminal has nothing a terminal obeys, and means the same', () => {
  const value = { text: '\u001b[2J \u007f \u009b31m \u202egnp.exe \u2028 é' };
  const json = printableJson(value);
  expect(json).not.toMatch(/[\u0000-\u001f\u007f-\u009f\u2028\u202e]/);
  expect(json).toContain('é');
  expect(JSON.parse(json)).toEqual(value);
});
