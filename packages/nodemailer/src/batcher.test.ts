import {
  type Courier,
  deferred,
  type Entry,
  type EntryId,
  type ForwardPath,
  type Outcome,
  systemEnv,
} from '@postern/core';
import { expect, test } from 'vitest';
import { Batcher } from './batcher.ts';

const TO = 'ann@x.example' as ForwardPath;
const SENT: Outcome = { type: 'delivered', reply: { code: 250, lines: ['ok'] } };

function entry(id: string): Entry {
  const envelope = {
    from: '' as Entry['envelope']['from'],
    recipients: [{ to: TO }],
    body: '7BIT',
    smtputf8: false,
  } as const;
  return { id: id as EntryId, envelope, size: 0, unresolved: [], open: async function* () {} };
}

/**
 * Delivers one entry, asks for the next, and then ends as a courier does whose session is lost: without waiting for the
 * batch.
 */
const oneEach: Courier = async (batch, report) => {
  const entries = batch[Symbol.asyncIterator]();
  const { value } = await entries.next();
  if (value === undefined) return;
  await report.outcome(value.id, TO, SENT);
  void entries.next();
  void entries.return?.();
  throw new Error('the link was lost');
};

test('a message that comes when the kept session has ended goes out in the next', async () => {
  const batcher = new Batcher({ courier: oneEach, env: systemEnv });
  for (const id of ['one', 'two', 'three']) {
    const outcomes = await batcher.send(entry(id), { done: () => {} });
    expect(outcomes.get(TO)).toBe(SENT);
  }
  await batcher.close();
});

test('an abort leaves the entry readable until the courier is done with it', async () => {
  const answer = deferred<void>();
  const taken = deferred<void>();
  const courier: Courier = async (batch, report) => {
    for await (const { id } of batch) {
      taken.resolve();
      await answer.promise;
      await report.outcome(id, TO, SENT);
    }
  };
  const batcher = new Batcher({ courier, env: systemEnv });
  const abort = new AbortController();
  let done = 0;
  const sending = batcher.send(entry('one'), { signal: abort.signal, done: () => void done++ });
  await taken.promise;
  abort.abort(new Error('enough'));
  await expect(sending).rejects.toMatchObject({ code: 'aborted' });
  expect(done).toBe(0);
  answer.resolve();
  await batcher.close();
  expect(done).toBe(1);
});
