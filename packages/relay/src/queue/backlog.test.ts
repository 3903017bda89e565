import type { EntryId } from '@postern/core';
import { expect, test } from 'vitest';
import { Backlog, type Waiter } from './backlog.ts';

const item = (id: string): Waiter => ({ id: id as EntryId, due: 0, busy: false });

test('gives what is ready in the order it became so, then what is due by its time', () => {
  const backlog = new Backlog<Waiter>();
  for (const id of ['a', 'b', 'c']) backlog.add(item(id));
  const [a, b] = [backlog.take(), backlog.take()] as [Waiter, Waiter];
  backlog.defer(a, 20);
  backlog.defer(b, 10);
  backlog.promote(20);
  expect([backlog.take(), backlog.take(), backlog.take(), backlog.take()].map((one) => one?.id)).toEqual([
    'c',
    'b',
    'a',
    undefined,
  ]);
});

test('passes over what was dropped, also when it came again', () => {
  const backlog = new Backlog<Waiter>();
  const first = item('a');
  backlog.add(first);
  backlog.drop(first);
  expect(backlog.peek()).toBeUndefined();
  const second = item('a');
  backlog.add(second);
  expect(backlog.take()).toBe(second);
  expect(backlog.take()).toBeUndefined();
});

test('keeps nothing of what was made ready before its time, however often that happens', () => {
  const backlog = new Backlog<Waiter>();
  const one = item('a');
  backlog.add(one);
  for (let round = 0; round < 1000; round++) {
    expect(backlog.take()).toBe(one);
    backlog.defer(one, 1_000_000 + round);
    backlog.promote();
    expect(backlog.nextDue).toBeUndefined();
  }
});

test('makes one ready and leaves the others', () => {
  const backlog = new Backlog<Waiter>();
  for (const id of ['a', 'b']) {
    const one = item(id);
    backlog.add(one);
    backlog.take();
    backlog.defer(one, 10);
  }
  backlog.hasten('b' as EntryId);
  expect(backlog.take()?.id).toBe('b');
  expect(backlog.take()).toBeUndefined();
  backlog.promote(10);
  expect(backlog.take()?.id).toBe('a');
  expect(backlog.take()).toBeUndefined();
});
