import { expect, test } from 'vitest';
import { defined } from './defined.ts';

test('leaves out what is undefined, and nothing else', () => {
  const value = { a: undefined, b: null, c: 0, d: '', e: false };
  expect(Object.entries(defined(value))).toEqual([
    ['b', null],
    ['c', 0],
    ['d', ''],
    ['e', false],
  ]);
});
