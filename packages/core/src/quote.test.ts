import { execFileSync } from 'node:child_process';
import { describe, expect, test } from 'vitest';
import { printable, quote, quoteAll } from './quote.ts';

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
