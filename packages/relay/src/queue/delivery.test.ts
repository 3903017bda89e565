import type { Courier, Entry, EntryId, ForwardPath, Outcome } from '@postern/core';
import { expect, test } from 'vitest';
import { Backlog } from './backlog.ts';
import { Delivery, type DeliveryOptions } from './delivery.ts';
import type { AttemptDesk, Destination, Item, Job } from './job.ts';

const to = 'a@x.example' as ForwardPath;
const reply: Outcome = { type: 'delivered', reply: { code: 250, lines: ['ok'] } };

function deliveryOf(count: number, courier: Courier, o: Partial<DeliveryOptions> = {}): Delivery {
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
    ...o,
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

test('tells of each reply, and isolates no longer what has one', async () => {
  const isolated = new WeakSet<Item>();
  const still: boolean[] = [];
  let replies = 0;
  const delivery = deliveryOf(
    2,
    async (batch, report) => {
      for await (const { id } of batch) {
        const { item } = delivery.jobs.at(-1) as Job;
        isolated.add(item);
        await report.outcome(id, to, id === '0' ? reply : { type: 'uncertain' });
        still.push(isolated.has(item));
      }
    },
    { isolated, onReply: () => void replies++ },
  );
  await delivery.run();
  expect([still, replies]).toEqual([[false, true], 1]);
});

test('counts outages from the last attempt on, not from when it was pulled', async () => {
  const destination = { host: 'gate', outages: 1 };
  const counted: number[] = [];
  const delivery = deliveryOf(
    1,
    async (batch, report) => {
      for await (const { id } of batch) {
        for (destination.outages of [2, 3]) {
          await report.attempting(id, {});
          counted.push((delivery.jobs[0] as Job).outages);
        }
      }
    },
    { destination: destination as Destination },
  );
  await delivery.run();
  expect(counted).toEqual([2, 3]);
  expect(delivery.jobs).toMatchObject([{ attempted: true }]);
});
