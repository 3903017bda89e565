import type { Courier, Entry, EntryId, ForwardPath, Outcome } from '@postern/core';
import { expect, test } from 'vitest';
import { Backlog } from './backlog.ts';
import { Delivery } from './delivery.ts';
import type { AttemptDesk, Destination, Item, Job } from './job.ts';

const to = 'a@x.example' as ForwardPath;
const reply: Outcome = { type: 'delivered', reply: { code: 250, lines: ['ok'] } };

function deliveryOf(count: number, courier: Courier): Delivery {
  const backlog = new Backlog<Item>();
  for (let at = 0; at < count; at++) {
    const item = { id: String(at) as EntryId, due: 0, busy: false, deferrals: 0 };
    backlog.add(item as Item);
  }
  const desk: AttemptDesk = {
    prepare: (destination, item) =>
      ({ item, destination, entry: { id: item.id } as Entry, outcomes: new Map() }) as unknown as Job,
    attempting: async () => {},
    notAccepted: async () => {},
    async outcome(job, recipient, outcome) {
      job.outcomes.set(recipient, outcome);
      job.finished = true;
    },
    unsent: async () => {},
    sweepOld: () => {},
  };
  return new Delivery({
    destination: { host: 'gate' } as Destination,
    target: { host: 'gate', courier },
    backlog,
    desk,
    isolated: new WeakSet<Item>(),
    onReply: () => {},
    signal: new AbortController().signal,
    env: { monotonicNow: () => 0 },
  });
}

test('keeps nothing of entries that have their replies', async () => {
  const kept: number[] = [];
  const delivery = deliveryOf(50, async (batch, report) => {
    for await (const { id } of batch) {
      kept.push(delivery.jobs.length);
      await report.outcome(id, to, reply);
    }
  });
  await delivery.run();
  expect(kept).toEqual(Array.from({ length: 50 }, () => 1));
  expect([delivery.pulled, delivery.answered, delivery.jobs]).toEqual([50, true, []]);
});

test('remembers what got no reply, in order', async () => {
  const delivery = deliveryOf(3, async (batch, report) => {
    for await (const { id } of batch) {
      if (id === '0') await report.outcome(id, to, { type: 'uncertain' });
      if (id === '1') await report.outcome(id, to, reply);
    }
    throw new Error('the session fell over');
  });
  await expect(delivery.run()).rejects.toThrow('fell over');
  expect(delivery.unanswered.map(({ item }) => item.id)).toEqual(['0', '2']);
});
