import {
  type Courier,
  deferred,
  type EntryId,
  type ForwardPath,
  LinkError,
  type Outcome,
  raceAbort,
  SpoolError,
} from '@postern/core';
import { settle } from '@postern/core/testing';
import { describe, expect, test } from 'vitest';
import type { RelayEvent } from '../event.ts';
import {
  body,
  delivered,
  down,
  envelope,
  HOUR,
  later,
  MINUTE,
  refused,
  rig,
  scriptedCourier,
  stateLink,
} from './queue.test-util.ts';

const lost = (): LinkError => new LinkError('gone', { code: 'lost', layer: 'channel' });
const sent = (events: RelayEvent[]) =>
  events.flatMap((event) => (event.type === 'outcome' && event.status === 'sent' ? [event.to] : []));
const addresses = (count: number): string[] => Array.from({ length: count }, (_, at) => `a${at}@x.example`);

/** Pulls as far ahead as it is let, as a streaming dialogue does; `poison@` ends the session in place of its reply. */
function streaming(o: { attempts: boolean; done: string[] }): Courier {
  return async (batch, report) => {
    const open: { id: EntryId; to: ForwardPath }[] = [];
    const iterator = batch[Symbol.asyncIterator]();
    let next = iterator.next();
    for (;;) {
      const pulled = await Promise.race([next, settle().then(() => undefined)]);
      if (pulled?.done === true && open.length === 0) return;
      if (pulled !== undefined && pulled.done !== true) {
        next = iterator.next();
        const { id, envelope: of } = pulled.value;
        if (o.attempts) await report.attempting(id, {});
        open.push({ id, to: of.recipients[0]?.to as ForwardPath });
        continue;
      }
      const first = open.shift();
      if (first === undefined) continue;
      if (first.to === 'poison@x.example') throw new Error('the session fell over');
      if (!o.attempts) await report.attempting(first.id, {});
      o.done.push(first.to);
      await report.outcome(first.id, first.to, delivered);
    }
  };
}

describe('one bad message', () => {
  test.each([false, true])('takes no other along for long, with attempts recorded ahead: %s', async (attempts) => {
    const done: string[] = [];
    const r = await rig(streaming({ attempts, done }), {
      before: async (spool) => {
        for (const to of ['poison@x.example', ...addresses(30)]) await spool.accept(envelope(to), body());
      },
    });
    await r.advance(4 * MINUTE);
    expect(done.sort()).toEqual(addresses(30).sort());
    await r.advance(HOUR);
    for (const { recipients, held } of r.spool.entries())
      expect([recipients[0]?.to, held]).toEqual(['poison@x.example', attempts]);
  });

  test('behind good ones does not make the host wait', async () => {
    const done: string[] = [];
    const r = await rig(streaming({ attempts: false, done }), {
      before: async (spool) => {
        for (const to of ['a0@x.example', 'poison@x.example', 'a1@x.example', 'a2@x.example'])
          await spool.accept(envelope(to), body());
      },
    });
    await r.rest();
    expect(done).toEqual(['a0@x.example', 'a1@x.example', 'a2@x.example']);
    expect(r.events.filter(({ type }) => type === 'host-deferred')).toEqual([]);
  });

  test('that is tried in vain for hours keeps new mail waiting for a minute at most', async () => {
    const done: string[] = [];
    const r = await rig(streaming({ attempts: false, done }));
    await r.spool.accept(envelope('poison@x.example'), body());
    await r.advance(2 * HOUR + 1_000);
    await r.spool.accept(envelope('a0@x.example'), body());
    await r.advance(MINUTE);
    expect(done).toEqual(['a0@x.example']);
  });
});

describe('an entry that a courier waits with for its link', () => {
  /** Waits for a link that never comes; other hosts take everything. */
  const waiting =
    (taken: string[]): Courier =>
    async (batch, report) => {
      for await (const { id, envelope: of } of batch) {
        const to = of.recipients[0]?.to as ForwardPath;
        if (to.endsWith('@away.example')) await raceAbort(new Promise<never>(() => {}), report.signal);
        await report.attempting(id, {});
        taken.push(to);
        await report.outcome(id, to, delivered);
      }
    };

  test('goes another way at once when its route changes, and alone', async () => {
    const routes = [{ match: ['*'], host: 'away' }];
    const gate = scriptedCourier(() => delivered);
    const away = waiting([]);
    // Whose it is, its route says.
    const r = await rig((batch, report) => (r.routes === routes ? away : gate)(batch, report), {
      routes,
      links: { away: stateLink('away') },
    });
    const id = await r.spool.accept(envelope('a@away.example'), body());
    while (!r.runner.waiting(id)?.active) await settle();
    r.routes = [{ match: ['*'], host: 'gate' }];
    r.runner.reload();
    await r.rest();
    expect(gate.seen).toHaveLength(1);
    expect([...r.spool.entries()]).toEqual([]);
    expect(r.events.filter(({ type }) => type === 'host-deferred')).toEqual([]);
  });

  test('is not sent when it is held meanwhile', async () => {
    const taken: string[] = [];
    const r = await rig(waiting(taken));
    const held = await r.spool.accept(envelope('a@away.example'), body());
    while (!r.runner.waiting(held)?.active) await settle();
    await r.spool.accept(envelope('b@x.example'), body());
    expect(await r.runner.hold(held)).toBe(true);
    await r.rest();
    expect(taken).toEqual(['b@x.example']);
    expect([...r.spool.entries()]).toMatchObject([{ id: held, held: true, attempts: 0 }]);
  });
});

describe('an entry that a courier has', () => {
  async function slow(o: { finish: (r: Awaited<ReturnType<typeof rig>>, id: EntryId) => Promise<unknown> }) {
    const given: string[] = [];
    const answer = deferred<void>();
    const courier: Courier = async (batch, report) => {
      for await (const entry of batch) {
        given.push(entry.id);
        await report.attempting(entry.id, {});
        if (given.length === 1) await answer.promise;
        for (const { to } of entry.envelope.recipients) await report.outcome(entry.id, to, delivered);
      }
    };
    const r = await rig(courier);
    const id = await r.spool.accept(envelope('a@x.example'), body());
    while (given.length === 0) await settle();
    await o.finish(r, id);
    await r.env.advance(10_000);
    await settle();
    expect(given).toEqual([id]);
    answer.resolve();
    await r.rest();
    expect(given).toEqual([id]);
    expect([...r.spool.entries()]).toEqual([]);
  }

  test('is not given to another when it is held and released', () =>
    slow({
      finish: async (r, id) => {
        await r.runner.hold(id);
        await r.runner.release(id);
      },
    }));

  test('is not given to another when its route changes', () =>
    slow({
      finish: async (r) => {
        r.routes = [{ match: ['*'], host: 'other' }];
        r.runner.reload();
      },
    }));
});

describe('a link that is lost in mid-message', () => {
  test.each(['down', 'up again'])('twenty times charges no attempt, and it is %s when that is told', async (when) => {
    const charged: unknown[] = [];
    const courier: Courier = async (batch, report) => {
      for await (const entry of batch) {
        const { attempts, held } = r.spool.get(entry.id) ?? {};
        charged.push({ attempts, held });
        await report.attempting(entry.id, { receipt: 'r' });
        const { to } = entry.envelope.recipients[0] as { to: ForwardPath };
        if (charged.length > 20) {
          await report.outcome(entry.id, to, delivered);
          continue;
        }
        r.link.setState({ type: 'down', error: down(), retryAt: 0 });
        if (when === 'up again') r.link.setState({ type: 'up' });
        await report.outcome(entry.id, to, { type: 'deferred', reason: 'the link was lost' });
        throw lost();
      }
    };
    const r = await rig(courier);
    const id = await r.spool.accept(envelope('a@x.example'), body());
    while (r.spool.get(id) !== undefined) {
      await r.advance(2 * MINUTE);
      r.link.setState({ type: 'up' });
    }
    expect(charged).toEqual(Array.from({ length: 21 }, () => ({ attempts: 0, held: false })));
    expect(sent(r.events)).toEqual(['a@x.example']);
  });
});

test('an uncertain attempt that is shown not to have been accepted before the next is no attempt, however often', async () => {
  let tries = 0;
  const courier: Courier = async (batch, report) => {
    for await (const { id, envelope: of, unresolved, needsProof } of batch) {
      const { to } = of.recipients[0] as { to: ForwardPath };
      expect([r.spool.get(id)?.attempts, needsProof?.size]).toEqual([tries === 0 ? 0 : 1, 0]);
      for (const { recipients } of unresolved) await report.notAccepted?.(id, recipients[0] as ForwardPath);
      await report.attempting(id, { receipt: 'r' });
      await report.outcome(id, to, ++tries < 10 ? { type: 'uncertain', receipt: 'r' } : delivered);
    }
  };
  const r = await rig(courier);
  await r.spool.accept(envelope('a@x.example'), body());
  await r.advance(3 * HOUR);
  expect(tries).toBe(10);
  expect(sent(r.events)).toEqual(['a@x.example']);
});

describe('a disk that is nearly full', () => {
  test('delays a DSN, and does not lose it', async () => {
    let full = true;
    const courier = scriptedCourier((entry) => (entry.envelope.from === '' ? delivered : refused));
    const r = await rig(courier, {
      spool: {
        async beforeAccept() {
          if (full && courier.seen.length > 0) throw new SpoolError('the disk is full', { code: 'no-space' });
        },
      },
    });
    await r.spool.accept(envelope('a@x.example'), body());
    await r.advance(5 * MINUTE);
    expect(courier.seen).toHaveLength(1);
    full = false;
    await r.advance(2 * MINUTE);
    expect(courier.seen.map(({ to }) => to[0])).toEqual(['a@x.example', 'me@work.example']);
    expect([...r.spool.entries()]).toEqual([]);
  });
});

describe('many entries that grow old', () => {
  test('get their notices one after the other', async () => {
    let drafts = 0;
    let most = 0;
    const courier: Courier = async (batch) => {
      for await (const _entry of batch) throw new Error('554 go away');
    };
    const r = await rig(courier, {
      spool: {
        async beforeAccept() {
          most = Math.max(most, ++drafts);
          await settle();
          drafts--;
        },
      },
    });
    for (const to of addresses(40)) await r.spool.accept(envelope(to), body());
    most = 0;
    await r.advance(5 * HOUR);
    expect(r.events.filter(({ type }) => type === 'notified')).toHaveLength(40);
    expect(most).toBeLessThan(4);
  });
});

test('what grows old at a host that refuses every session is given up for that host alone', async () => {
  const courier: Courier = async (batch) => {
    for await (const _entry of batch) throw new Error('554 go away');
  };
  const away = stateLink('away');
  away.setState({ type: 'down', error: down(), retryAt: 0 });
  const r = await rig(courier, {
    links: { away },
    schedule: { expireMs: 5 * HOUR },
    routes: [
      { match: ['away.example'], host: 'away' },
      { match: ['*'], host: 'gate' },
    ],
  });
  const old: EntryId[] = [];
  for (let at = 0; at < 6; at++)
    old.push(await r.spool.accept(envelope(['a@x.example', 'b@away.example'], ''), body()));
  await r.advance(4 * HOUR);
  for (const to of addresses(6)) await r.spool.accept(envelope(to, ''), body());
  await r.advance(3 * HOUR);
  for (const id of old) {
    expect(r.spool.get(id)?.recipients.map(({ to, outcome }) => [to, outcome?.type])).toEqual([
      ['a@x.example', 'failed'],
      ['b@away.example', undefined],
    ]);
  }
});

test('an entry that has grown old elsewhere is tried before it is given up', async () => {
  let seen = 0;
  const r = await rig(
    scriptedCourier(() => {
      seen++;
      return later;
    }),
    {
      before: async (spool) => {
        const id = await spool.accept(envelope('a@x.example', ''), body());
        await spool.record(id, { type: 'next', at: 0, due: 0, reason: 'the other host', elapsed: 200 * HOUR });
      },
    },
  );
  await r.rest();
  expect(seen).toBe(1);
  expect(r.events.flatMap((event) => (event.type === 'outcome' ? [event.status] : []))).toEqual([
    'deferred',
    'expired',
  ]);
});

describe('uncertain outcomes', () => {
  const uncertain: Outcome = { type: 'uncertain' };
  test('of a plain smarthost that was out of reach wait like any other', async () => {
    let tries = 0;
    const courier: Courier = async (batch, report) => {
      for await (const entry of batch) {
        if (++tries === 1) throw down();
        await report.attempting(entry.id, {});
        await report.outcome(entry.id, 'a@x.example' as ForwardPath, uncertain);
      }
    };
    const r = await rig(courier, { smarthost: true });
    await r.spool.accept(envelope('a@x.example'), body());
    await r.advance(MINUTE);
    expect(tries).toBe(2);
    await r.advance(MINUTE);
    expect(tries).toBe(3);
  });
});
