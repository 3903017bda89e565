import { describe, expect, test } from 'vitest';
import { Ghosts } from './ghosts.ts';
import { expandSet, formatSet, parseSet, setHas } from './sets.ts';
import { flagsHash, View } from './view.ts';
import { readCommandHead, readResponseHead, readWords } from './words.ts';

describe('a view', () => {
  const view = (): View => {
    const one = new View();
    one.exists(4);
    one.name([3, 7, 8, 20]);
    return one;
  };
  test('finds by number and by UID', () => {
    expect([view().uid(2), view().find(20), view().find(9), view().uid(5), view().lastUid]).toEqual([7, 4, 0, 0, 20]);
  });
  test('moves up when a message goes, and its flags with it', () => {
    const one = view();
    one.tell(3, '\\Seen');
    one.expunge(2);
    expect([one.count, one.uid(2), one.isNews(2, '\\Seen'), one.isNews(2, '')]).toEqual([3, 8, false, true]);
  });
  test('takes no UIDs that do not ascend, or that are too many', () => {
    const one = view();
    expect([one.name([19]), one.name([21])]).toEqual([false, false]);
    one.exists(5);
    expect([one.name([20]), one.name([21]), one.known]).toEqual([false, true, 5]);
  });
  test('never shrinks by EXISTS', () => {
    const one = view();
    one.exists(2);
    expect(one.count).toBe(4);
  });
  test('has no news for who was told nothing, and always some for who set flags silently', () => {
    const one = view();
    expect(one.isNews(1, '\\Seen')).toBe(false);
    one.tell(1, '');
    one.doubt(1);
    expect(one.isNews(1, '')).toBe(true);
  });
  test('knows flags in any order and case, and leaves Recent out', () => {
    expect(flagsHash('\\Seen $x')).toBe(flagsHash('$X \\SEEN \\Recent'));
    expect(flagsHash('\\Seen')).not.toBe(flagsHash('\\Flagged'));
  });
});

test.each([
  [[], 3, 3, 3],
  [[1], 1, 2, 0],
  [[2, 4], 1, 1, 1],
  [[2, 4], 2, 3, 0],
  [[2, 4], 3, 5, 2],
])(
  "ghosts %j: the far side's %i is the client's %i, and the client's own of that number is there %i",
  (gone, far, client, back) => {
    const ghosts = new Ghosts();
    for (const n of gone) ghosts.add(n);
    expect([ghosts.toClient(far), ghosts.toFar(client), ghosts.toFar(far)]).toEqual([client, far, back]);
  },
);

test.each([
  ['1:3', 2, 9, true],
  ['5:*', 9, 9, true],
  ['5:*', 4, 9, false],
  ['20:*', 9, 9, true],
  ['20:*', 8, 9, false],
  ['*', 9, 9, true],
  ['*', 8, 9, false],
  ['*:4', 5, 9, true],
  ['1,3', 2, 9, false],
])('%s names %i when the last is %i: %s', (set, value, last, isNamed) => {
  expect(setHas(parseSet(set) ?? [], value, last)).toBe(isNamed);
});

test('sets are written as they are read', () => {
  expect(formatSet([1, 2, 3, 5, 9, 10])).toBe('1:3,5,9:10');
  expect(expandSet(parseSet('3:1,7') ?? [], 10)).toEqual([1, 2, 3, 7]);
  expect(expandSet(parseSet('1:100') ?? [], 10)).toBeUndefined();
  expect(parseSet('$')).toBeUndefined();
});

test.each([
  ['a1 UID  fetch 1:* (FLAGS)\r\n', { tag: 'a1', name: 'UID FETCH' }],
  ['a1 NOOP\r\n', { tag: 'a1', name: 'NOOP' }],
  ['+ NOOP\r\n', undefined],
  ['\r\n', undefined],
])('the head of %j', (line, head) => {
  const read = readCommandHead(Buffer.from(line));
  if (head === undefined) expect(read).toBeUndefined();
  else expect(read).toMatchObject(head);
});

test('arguments are atoms, strings, literals and lists', () => {
  const text = 'a X INBOX "a \\"b\\"" (x "(" y) {3}\r\nabc BODY[HEADER.FIELDS (A B)]\r\n';
  expect(readWords(text, 4).map(({ value }) => value)).toEqual([
    'INBOX',
    'a "b"',
    '(x "(" y)',
    'abc',
    'BODY[HEADER.FIELDS (A B)]',
  ]);
});

test.each([
  ['* 12 EXISTS\r\n', { type: 'numbered', n: 12, word: 'EXISTS' }],
  ['* SEARCH\r\n', { type: 'untagged', word: 'SEARCH' }],
  ['+ go\r\n', { type: 'continue' }],
  ['a1 NO [X] no\r\n', { type: 'tagged', tag: 'a1', status: 'NO' }],
  ['noise\r\n', { type: 'other' }],
])('%j is %j', (line, head) => expect(readResponseHead(Buffer.from(line))).toEqual(head));
