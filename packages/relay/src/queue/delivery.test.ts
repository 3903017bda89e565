import type { Courier, Entry, EntryId, ForwardPath, Outcome } from '@postern/core';
import { expect, test } from 'vitest';
import { Backlog } from './backlog.ts';
import { type Job, Run } from './delivery.ts';
import type { Item } from './destination.ts';

const to = 'a@x.example' as ForwardPath;
const reply: Outcome = { type: 'delivered', reply: { code: 250, lines: ['ok'] } };

function runOf(count: number, courier: Courier): Run {
  const backlog = new Backlog<Item>();
  for (let at = 0; at < count; at++) {
    const item = { id: String(at) as EntryId, due: 0, busy: false, deferrals: 0 };
    backlog.add(item as Item);
  }
  return new Run({
    ...{
      target: { host: 'gate', courier },
      backlog,
      alone: new WeakSet<Item>(),
      signal: new AbortController().signal,
      now: () => 0,
    },
    prepare: (item) => ({ item, entry: { id: item.id } as Entry, outcomes: new Map() }) as unknown as Job,
    attempting: async () => {},
    disproved: async () => {},
    async outcome(job, recipient, outcome) {
      job.outcomes.set(recipient, outcome);
      job.finished = true;
    },
  });
}

test('keeps nothing of entries that have their replies', async () => {
  const kept: number[] = [];
  const run = runOf(50, async (batch, report) => {
    for await (const { id } of batch) {
      kept.push(run.jobs.length);
      await report.outcome(id, to, reply);
    }
  });
  await run.deliver();
  expect(kept).toEqual(Array.from({ length: 50 }, () => 1));
  expect([run.pulled, run.answered, run.jobs]).toEqual([50, true, []]);
});

test('remembers what got no reply, in order', async () => {
  const run = runOf(3, async (batch, report) => {
    for await (const { id } of batch) {
      if (id === '0') await report.outcome(id, to, { type: 'uncertain' });
      if (id === '1') await report.outcome(id, to, reply);
    }
    throw new Error('the session fell over');
  });
  await expect(run.deliver()).rejects.toThrow('fell over');
  expect(run.unanswered.map(({ item }) => item.id)).toEqual(['0', '2']);
});
