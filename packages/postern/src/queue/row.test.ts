import type { EntryId, EntryState, ForwardPath, ReversePath } from '@postern/core';
import { expect, test } from 'vitest';
import { formatQueue } from './format.ts';
import { type RouteOf, toRow } from './row.ts';

function entry(o: Partial<EntryState> = {}): EntryState {
  const recipients = ['ann@here.example', 'bob@lost.example'].map((to) => ({ to: to as ForwardPath }));
  const deferred = { type: 'deferred', reason: '451 later' } as const;
  return {
    ...{
      id: '1k82ahplgvtv9aq' as EntryId,
      size: 1,
      arrived: 0,
      held: false,
      attempts: 1,
      due: 0,
      elapsed: 0,
      unresolved: [],
    },
    envelope: { from: '' as ReversePath, recipients, body: '7BIT', smtputf8: false },
    recipients: recipients.map(({ to }) => ({ to, outcome: deferred, notified: false })),
    reason: '451 later',
    ...o,
  } as EntryState;
}

const here: RouteOf = (_from, to) =>
  to.endsWith('@here.example') ? { route: 'here.example', host: 'gate' } : undefined;
const nowhere: RouteOf = () => undefined;

test('an entry whose route is lost says so, not what an earlier attempt said', () => {
  const now = { now: 1, active: false, reason: '' };
  expect(toRow(entry(), { ...now, routeOf: here }).reason).toBe('451 later; no route takes bob@lost.example');
  expect(toRow(entry(), { ...now, routeOf: nowhere }).reason).toBe('no route takes ann@here.example, bob@lost.example');
  expect(toRow(entry({ held: true, reason: 'held by hand' }), { ...now, routeOf: nowhere }).reason).toBe(
    'held by hand',
  );
});

test('without a daemon its HOST is not known, and nothing is said of routes', () => {
  expect(toRow(entry(), { now: 1, routeOf: nowhere }).reason).toBe('451 later');
});

test('what an attempt waits for is told while it runs', () => {
  const now = Date.parse('2026-01-02T03:04:05Z');
  const wait = { for: 'final', ms: 40_123 } as const;
  const row = toRow(entry(), { now, active: true, routeOf: here, wait });
  expect(row.waits).toEqual({ for: 'final', since: '2026-01-02T03:03:24.877Z' });
  expect(formatQueue([row], now)).toContain('    waits for the reply to the end of data since 40 s');
  expect(toRow(entry(), { now, active: false, routeOf: here, wait })).not.toHaveProperty('waits');
  expect(toRow(entry(), { now, active: true, routeOf: here })).not.toHaveProperty('waits');
});

test('a row of a daemon that does not tell it yet is shown without', () => {
  const { waits: _, ...older } = toRow(entry(), { now: 0, active: true, routeOf: here });
  expect(formatQueue([older as never], 0).join('\n')).not.toContain('waits for');
});
