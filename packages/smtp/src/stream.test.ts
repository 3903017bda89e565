import { describe, expect, test } from 'vitest';
import { deliver, makeEntry } from './courier.test-util.ts';

const OPENING = `
  S:220 gate.test ESMTP
  C:EHLO home.test
  S:250-gate.test
  S:250-PIPELINING
  S:250 CHUNKING
`;
const message = (from: string, to = 'joe'): string => `
  C:MAIL FROM:<${from}@home.test>
  C:RCPT TO:<${to}@gate.test>
  C:BDAT 21 LAST
  C:Subject: x
  C:
  C:hello
`;
const entry = (id: string, to = 'joe'): ReturnType<typeof makeEntry> =>
  makeEntry({ id, from: `${id}@home.test`, to: [`${to}@gate.test`] });
const TAKEN = 'S:250 ok\nS:250 ok\nS:250 taken\n';
const NOBODY = 'S:250 ok\nS:550 5.1.1 no\nS:503 no valid recipients\n';

describe('stream', () => {
  test('writes transactions without waiting, with RSET before every MAIL but the first', async () => {
    const run = deliver(
      [
        `${OPENING}${message('a')}C:RSET${message('b')}C:RSET${message('c')}${TAKEN}S:250 reset\n${TAKEN}S:250 reset\n${TAKEN}C:QUIT`,
      ],
      { entries: [entry('a'), entry('b'), entry('c')] },
    );
    expect(await run.done).toBeUndefined();
    await run.played;
    expect([...run.outcomes.values()].map(({ type }) => type)).toEqual(['delivered', 'delivered', 'delivered']);
  });
  test('has no more messages unanswered than its window', async () => {
    const run = deliver(
      [
        `${OPENING}${message('a')}C:RSET${message('b')}${TAKEN}C:RSET${message('c')}S:250 reset\n${TAKEN}S:250 reset\n${TAKEN}C:QUIT`,
      ],
      { entries: [entry('a'), entry('b'), entry('c')], window: 2 },
    );
    expect(await run.done).toBeUndefined();
    await run.played;
  });
  test('is not spoken when EHLO does not list CHUNKING, whatever was asked for', async () => {
    const run = deliver(
      [
        `S:220 hi\nC:EHLO home.test\nS:250-hi\nS:250 PIPELINING\nC:MAIL FROM:<a@home.test>\nC:RCPT TO:<joe@gate.test>\nC:DATA\nS:421 bye\nS! close`,
      ],
      { entries: [entry('a')], dialogue: 'stream' },
    );
    await run.done;
    await run.played;
  });
  test('after a message for nobody waits for the replies to RCPT, for three messages', async () => {
    const careful = (from: string): string => `C:RSET\nC:MAIL FROM:<${from}@home.test>\nC:RCPT TO:<joe@gate.test>\n`;
    const body = 'C:BDAT 21 LAST\nC:Subject: x\nC:\nC:hello\n';
    const taken = (from: string): string => `${careful(from)}S:250 reset\nS:250 ok\nS:250 ok\n${body}S:250 taken\n`;
    const run = deliver(
      [
        `${OPENING}${message('a', 'no')}${NOBODY}${taken('b')}${taken('c')}${taken('d')}C:RSET\n${message('e')}S:250 reset\n${TAKEN}C:QUIT`,
      ],
      { entries: [entry('a', 'no'), entry('b'), entry('c'), entry('d'), entry('e')], window: 1 },
    );
    expect(await run.done).toBeUndefined();
    await run.played;
    expect(run.lines.filter((line) => line.includes('delivered'))).toHaveLength(4);
  });
  test('a refused only recipient: its message is for nobody, and the next goes under its own sender', async () => {
    const run = deliver([`${OPENING}${message('a', 'no')}C:RSET${message('b')}${NOBODY}S:250 reset\n${TAKEN}C:QUIT`], {
      entries: [entry('a', 'no'), entry('b')],
    });
    expect(await run.done).toBeUndefined();
    await run.played;
    expect(run.outcomes.get('a no@gate.test')).toMatchObject({ type: 'failed', reply: { code: 550 } });
    expect(run.outcomes.get('b joe@gate.test')?.type).toBe('delivered');
  });
  test('a MAIL that stays open over there is noticed at the next recipient, and nothing is taken for delivered', async () => {
    const run = deliver(
      [
        `${OPENING}${message('a', 'no')}C:RSET${message('b')}${NOBODY}S:250 reset\nS:503 sender already given\nS:250 ok\nS:250 taken`,
      ],
      { entries: [entry('a', 'no'), entry('b')] },
    );
    await run.done;
    expect(run.outcomes.get('b joe@gate.test')?.type).toBe('uncertain');
    expect(run.events.find((event) => event.type === 'closed')).toMatchObject({ error: { code: 'protocol' } });
  });
  test('a message taken for nobody is out of step', async () => {
    const run = deliver([`${OPENING}${message('a', 'no')}S:250 ok\nS:550 no\nS:250 taken`], {
      entries: [entry('a', 'no')],
    });
    await run.done;
    expect(run.outcomes.get('a no@gate.test')?.type).toBe('uncertain');
  });
  test('a RSET that is refused ends the session, and what it did not answer goes into the next', async () => {
    const run = deliver(
      [
        `${OPENING}${message('a')}C:RSET${message('b')}${TAKEN}S:554 Too many nonmail commands\nS! close`,
        `${OPENING}C:MAIL FROM:<b@home.test>\nC:RCPT TO:<joe@gate.test>\nS:250 ok\nS:250 ok\nC:BDAT 21 LAST\nC:Subject: x\nC:\nC:hello\nS:250 taken\nC:QUIT`,
      ],
      { entries: [entry('a'), entry('b')] },
    );
    expect(await run.done).toBeUndefined();
    await run.played;
    expect(run.lines.filter((line) => line.includes('delivered'))).toHaveLength(2);
  });
  test('what follows 552 in mid-chunk and a close was not answered, and is uncertain', async () => {
    const run = deliver(
      [
        `${OPENING}${message('a')}C:RSET${message('b')}S:250 ok\nS:250 ok\nS:552 too large\nS:554 synchronization error\nS! close`,
      ],
      { entries: [entry('a'), entry('b')] },
    );
    await run.done;
    expect(run.outcomes.get('a joe@gate.test')).toMatchObject({ type: 'failed', reply: { code: 552 } });
    expect(run.outcomes.get('b joe@gate.test')?.type).not.toBe('delivered');
  });
});
