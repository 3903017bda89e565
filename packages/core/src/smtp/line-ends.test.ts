import { describe, expect, test } from 'vitest';
import { splits } from '../testing/index.ts';
import { createLineEnds } from './line-ends.ts';

function feed(chunks: readonly Uint8Array[]): string {
  const ends = createLineEnds();
  return Buffer.concat([...chunks.map((chunk) => ends.push(chunk)), ends.finish()]).toString('latin1');
}

describe.each([
  ['a\nb\n', 'a\r\nb\r\n'],
  ['a\r\nb\r\n', 'a\r\nb\r\n'],
  ['a\n\r\nb', 'a\r\n\r\nb'],
  ['a\rb', 'a\rb'],
  ['a\r\rb\r\r\n', 'a\r\rb\r\r\n'],
  ['ends in\r', 'ends in\r'],
  ['\n\n', '\r\n\r\n'],
  ['', ''],
  ['\xe9\x00\n', '\xe9\x00\r\n'],
])('%j', (text, want) => {
  test.each(splits(Buffer.from(text, 'latin1')))('%s', (_, chunks) => expect(feed(chunks)).toBe(want));
});
