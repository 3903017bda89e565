/** What an entry waits for, asked in the middle of each wait. */
import { describe, expect, test } from 'vitest';
import { deliver, makeEntry } from './courier.test-util.ts';

const HELLO = `
  S:220 gate.test
  C:EHLO home.test`;
const READY = `${HELLO}
  S:250-gate.test
  S:250 PIPELINING`;
const ENVELOPE = `
  C:MAIL FROM:<ann@home.test>
  C:RCPT TO:<joe@gate.test>
  C:DATA`;
const BODY = `
  C:Subject: x
  C:
  C:hello
  C:.`;

describe('an entry waits for', () => {
  const cases: Readonly<Record<string, readonly [transcript: string, first: string, second: string]>> = {
    'the greeting': ['', 'greeting', 'greeting'],
    'the reply to EHLO': [HELLO, 'hello', 'hello'],
    'the reply to MAIL': [`${READY}${ENVELOPE}`, 'mail', 'turn'],
    'the reply to RCPT': [`${READY}${ENVELOPE}\n  S:250 ok`, 'rcpt', 'turn'],
    'the reply to DATA': [`${READY}${ENVELOPE}\n  S:250 ok\n  S:250 ok`, 'data', 'turn'],
    'the reply to the end of data, and the next one for its own': [
      `${READY}${ENVELOPE}\n  S:250 ok\n  S:250 ok\n  S:354 go${BODY}${ENVELOPE}`,
      'final',
      'mail',
    ],
  };
  for (const [name, [transcript, first, second]] of Object.entries(cases)) {
    test(name, async () => {
      const run = deliver([transcript], { entries: [makeEntry({ id: 'a' }), makeEntry({ id: 'b' })] });
      await run.reached();
      await run.env.advance(7_000);
      expect([run.waits('a'), run.waits('b')]).toEqual([`${first} 7000`, `${second} 7000`]);
      run.pairs[0]?.lose();
      await run.done;
      expect(run.waits('a')).toBeUndefined();
    });
  }

  test('a channel', async () => {
    const run = deliver([''], { entries: [makeEntry({ id: 'a' })] });
    run.link.open = () => new Promise(() => {});
    while (run.waits('a') === undefined) await new Promise(setImmediate);
    await run.env.advance(3_000);
    expect(run.waits('a')).toBe('channel 3000');
  });
});
