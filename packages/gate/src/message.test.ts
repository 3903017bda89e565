import { expect, test } from 'vitest';
import { makeMessage } from './index.ts';

test('the same index and seed give the same bytes, another seed others', () => {
  expect(makeMessage(7, 3).bytes).toEqual(makeMessage(7, 3).bytes);
  expect(makeMessage(7, 3).bytes).not.toEqual(makeMessage(7, 4).bytes);
});

test('every message ends its lines with CRLF, has no long line, an ASCII header and a blank line after it', () => {
  for (let index = 0; index < 200; index += 1) {
    const text = makeMessage(index).bytes.toString('latin1');
    expect(text).toMatch(/\r\n$/);
    expect(text.replaceAll('\r\n', '')).not.toMatch(/[\r\n\0]/);
    expect(Math.max(...text.split('\r\n').map((line) => line.length))).toBeLessThan(998);
    expect(text.slice(0, text.indexOf('\r\n\r\n'))).toMatch(/^[\t\r\n\u0020-\u007e]+$/);
  }
});

test('every fourth message answers the one before it, every fifth carries an attachment', () => {
  const answer = makeMessage(3);
  expect(answer.subject).toBe(`Re: ${makeMessage(2).subject}`);
  expect(answer.bytes.toString()).toContain(`In-Reply-To: ${makeMessage(2).messageId}`);
  expect(makeMessage(4).bytes.toString()).toContain('filename="plan.bin"');
});
