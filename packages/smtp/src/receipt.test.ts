import type { ForwardPath, Reply } from '@postern/core';
import { formatReply, parseForwardPath } from '@postern/core';
import { describe, expect, test } from 'vitest';
import { formatPlace, judge, parsePlace, parseReceipt, type ReceiptPlace } from './receipt.ts';

const NAME = '0123456789abcdef01234567';
const joe = parseForwardPath('joe@gate.test');
const ann = parseForwardPath('ann@gate.test');

function receipt(lines: readonly string[], trailer = ''): Parameters<typeof judge>[0] {
  const replies = lines.map((line): Reply => ({ code: Number(line.slice(0, 3)), lines: [line.slice(4)] }));
  return parseReceipt(Buffer.concat([...replies.map(formatReply), Buffer.from(trailer)]));
}
const ENDED = '\npostern end\n';
const sent = (octets: number): string => `\npostern sent ${octets}\n`;
const OPENING = ['220 hi', '250 EHLO'];
/** The first transaction of a session with one recipient: MAIL 2, RCPT 3, final 4; its last octet is the 500th. */
const FIRST: ReceiptPlace = place({ mail: 2, final: 4 });
function place(o: { mail: number; final: number; recipients?: readonly ForwardPath[] }): ReceiptPlace {
  const parsed = parsePlace(formatPlace({ name: NAME, end: 500, ...o }, o.recipients ?? [joe]));
  if (parsed === undefined) throw new Error('not a place');
  return parsed;
}
const find = (lines: readonly string[], trailer?: string): string => {
  const [finding] = judge(receipt([...OPENING, ...lines], trailer), { place: FIRST, recipients: [joe] });
  return finding?.type === 'known' ? finding.outcome.type : (finding?.type ?? '');
};

describe('a place', () => {
  test('is one word, and comes back', () => {
    const word = formatPlace({ name: NAME, mail: 2, final: 6, end: 99 }, [joe, ann]);
    expect(word).toMatch(/^[\w:-]+$/);
    expect(parsePlace(word)).toMatchObject({ name: NAME, mail: 2, final: 6, end: 99, recipients: [/./, /./] });
    for (const bad of ['', 'x', `${NAME}:1:2:3:`, `${NAME}:a:2:3:abcd`, '../../etc/passwd:1:2:3:abcd']) {
      expect(parsePlace(bad)).toBeUndefined();
    }
  });
});

describe('a receipt proves', () => {
  const ok = ['250 mail', '250 rcpt', '250 taken'];
  test('an outcome by the reply that is in it, ended or not', () => {
    for (const trailer of ['', ENDED, sent(1000), `${sent(1000)}postern end\n`]) {
      expect(find(ok, trailer)).toBe('delivered');
      expect(find([...ok, '250 rset', '250 mail', '250 rcpt', '250 x'], trailer)).toBe('delivered');
      expect(find(['250 mail', '250 rcpt', '552 too large'], trailer)).toBe('failed');
      expect(find(['250 mail', '550 no', '554 no'], trailer)).toBe('failed');
      expect(find(['250 mail', '250 rcpt', '451 later', '421 bye'], trailer)).toBe('deferred');
    }
  });
  test('for each recipient its own', () => {
    const two = place({ mail: 2, final: 5, recipients: [joe, ann] });
    const found = receipt([...OPENING, '250 mail', '550 not joe', '250 ann', '250 taken'], ENDED);
    expect(judge(found, { place: two, recipients: [ann, joe] })).toMatchObject([
      { type: 'known', outcome: { type: 'delivered', reply: { code: 250 } } },
      { type: 'known', outcome: { type: 'failed', reply: { code: 550 } } },
    ]);
    expect(judge(found, { place: two, recipients: [parseForwardPath('x@y.org')] })).toEqual([{ type: 'unknown' }]);
  });
  test('that a message was not accepted, when not all of it was sent', () => {
    for (const trailer of [sent(499), `${sent(499)}postern end\n`]) {
      expect(find(['250 mail', '250 rcpt'], trailer)).toBe('absent');
      expect(find([], trailer)).toBe('absent');
    }
    expect(find(['250 mail', '250 rcpt'], sent(500))).toBe('running');
  });
  test('that a message was not accepted, when the server said goodbye before', () => {
    expect(find(['250 mail', '250 rcpt', '421 timeout'], ENDED)).toBe('absent');
    expect(find(['421 shutting down'], `${sent(900)}postern end\n`)).toBe('absent');
    expect(find(['250 mail', '421 timeout', '250 odd'], ENDED)).toBe('absent');
  });
  test('nothing, when it ends without goodbye, is not there, or its session goes on', () => {
    expect(find(['250 mail', '250 rcpt'], ENDED)).toBe('unknown');
    expect(find(['250 mail', '250 rcpt'], `${sent(900)}postern end\n`)).toBe('unknown');
    expect(find(['250 mail', '250 rcpt'])).toBe('running');
    expect(judge(undefined, { place: FIRST, recipients: [joe] })).toEqual([{ type: 'unknown' }]);
  });
  test('nothing by a reply that is cut off or that no server gives there', () => {
    expect(find(['250 mail', '250 rcpt', '354 what'])).toBe('running');
    const cut = parseReceipt(Buffer.from('220 hi\r\n250 EHLO\r\n250 mail\r\n250 rcpt\r\n25'));
    expect(judge(cut, { place: FIRST, recipients: [joe] })).toEqual([{ type: 'running' }]);
  });
});
