import type { Courier, EntryId, ForwardPath, Outcome } from '@postern/core';
import { LinkError } from '@postern/core';
import { settle } from '@postern/core/testing';
import { describe, expect, test } from 'vitest';
import type { RelayEvent } from '../event.ts';
import {
  body,
  DAY,
  delivered,
  down,
  envelope,
  HOUR,
  later,
  MINUTE,
  refused,
  rig,
  scriptedCourier,
  textOf,
} from './queue.test-util.ts';

const outcomes = (events: RelayEvent[]) =>
  events.flatMap((event) => (event.type === 'outcome' ? [`${event.to} ${event.status} ${event.dsn}`] : []));
const types = (events: RelayEvent[]) => events.map((event) => event.type);

describe('delivery', () => {
  test('sends what arrives, tells of it and forgets it', async () => {
    const courier = scriptedCourier(() => delivered);
    const r = await rig(courier);
    const id = await r.spool.accept(envelope('a@x.example'), body());
    await r.rest();
    expect(courier.seen).toEqual([{ id, to: ['a@x.example'], text: 'Subject: hello\r\n\r\nbody\r\n' }]);
    expect(r.events).toEqual([
      {
        ...{ type: 'outcome', id, from: 'me@work.example', to: 'a@x.example', relay: 'gate', delayMs: 0 },
        ...{ outcome: delivered, dsn: '2.0.0', status: 'sent', text: '250 2.0.0 taken' },
      },
      { type: 'completed', id },
    ]);
    expect([...r.spool.entries()]).toEqual([]);
  });

  test('sends what was in the spool before, at once, oldest first', async () => {
    const ids: EntryId[] = [];
    const courier = scriptedCourier(() => delivered);
    const r = await rig(courier, {
      before: async (spool) => {
        for (let at = 0; at < 5; at++) ids.push(await spool.accept(envelope(`a${at}@x.example`), body()));
      },
    });
    await r.rest();
    expect(courier.seen.map(({ to }) => to[0])).toEqual([0, 1, 2, 3, 4].map((at) => `a${at}@x.example`));
  });

  test('splits one message by route and finishes it when the last part is done', async () => {
    const courier = scriptedCourier((_entry, to) => (to.endsWith('@late.example') ? later : delivered));
    const routes = [
      { match: ['late.example'], host: 'slow' },
      { match: ['*'], host: 'gate' },
    ];
    const r = await rig(courier, { routes });
    const id = await r.spool.accept(envelope(['a@x.example', 'b@late.example', 'c@y.example']), body());
    await r.rest();
    expect(courier.seen.map(({ to }) => to).sort()).toEqual([['a@x.example', 'c@y.example'], ['b@late.example']]);
    expect(r.spool.get(id)?.recipients.map(({ outcome }) => outcome?.type)).toEqual([
      'delivered',
      'deferred',
      'delivered',
    ]);
    await r.advance(MINUTE);
    expect(courier.seen.slice(2).map(({ to }) => to)).toEqual([['b@late.example']]);
  });

  test('one refused and one taken: the sender hears of the one, and the entry goes', async () => {
    const courier = scriptedCourier((_entry, to) => (to === 'no@x.example' ? refused : delivered));
    const r = await rig(courier);
    await r.spool.accept(envelope(['no@x.example', 'yes@x.example']), body());
    await r.rest();
    expect(outcomes(r.events)).toEqual([
      'no@x.example bounced 5.1.1',
      'yes@x.example sent 2.0.0',
      'me@work.example sent 2.0.0',
    ]);
    const dsn = courier.seen[1];
    expect(dsn?.to).toEqual(['me@work.example']);
    expect(dsn?.text).toContain('Final-Recipient: rfc822; no@x.example');
    expect(dsn?.text).not.toContain('yes@x.example');
    expect([...r.spool.entries()]).toEqual([]);
  });
});

describe('the schedule', () => {
  test('backs off 1, 2, 4, 8, 15, 15 minutes', async () => {
    const tries: number[] = [];
    const courier = scriptedCourier(() => {
      tries.push(r.env.monotonicNow() / MINUTE);
      return later;
    });
    const r = await rig(courier);
    await r.spool.accept(envelope('a@x.example'), body());
    await r.advance(HOUR);
    expect(tries).toEqual([0, 1, 3, 7, 15, 30, 45, 60]);
  });

  test('says when and why it waits', async () => {
    const r = await rig(scriptedCourier(() => later));
    const id = await r.spool.accept(envelope('a@x.example'), body());
    await r.rest();
    expect(r.runner.waiting(id)).toEqual({
      ...{ next: r.env.wallNow() + MINUTE, reason: '451 greylisted', active: false },
      recipients: [{ to: 'a@x.example', route: 0, host: 'gate' }],
    });
  });

  test('tells of the delay after 4 hours, once, and gives up after 5 days', async () => {
    const courier = scriptedCourier((entry) => (entry.envelope.from === '' ? delivered : later));
    const r = await rig(courier);
    await r.spool.accept(envelope('a@x.example'), body());
    await r.advance(4 * HOUR - MINUTE);
    expect(types(r.events)).not.toContain('notified');
    await r.advance(30 * MINUTE);
    expect(r.events.filter((event) => event.type === 'notified')).toMatchObject([{ kind: 'delayed' }]);
    await r.advance(5 * DAY);
    expect(r.events.filter((event) => event.type === 'notified')).toMatchObject([
      { kind: 'delayed' },
      { kind: 'expired' },
    ]);
    expect([...r.spool.entries()]).toEqual([]);
    const dsn = courier.seen.at(-1)?.text ?? '';
    expect(dsn).toContain('Status: 4.4.7');
    expect(dsn).toContain('Diagnostic-Code: smtp; 451 greylisted');
  });

  test.each([365 * DAY, -365 * DAY])('a wall clock that jumps by %d ms neither bounces nor stampedes', async (jump) => {
    let tries = 0;
    const r = await rig(
      scriptedCourier(() => {
        tries++;
        return later;
      }),
    );
    await r.spool.accept(envelope('a@x.example'), body());
    await r.advance(10 * MINUTE);
    const before = tries;
    r.env.jumpWall(jump);
    await r.advance(4 * MINUTE);
    expect(tries).toBe(before);
    expect(outcomes(r.events)).not.toContain('a@x.example expired 4.4.7');
    await r.advance(2 * MINUTE);
    expect(tries).toBe(before + 1);
  });

  test('flush makes it due now, wakes the link and forgets the back-off', async () => {
    let tries = 0;
    const r = await rig(
      scriptedCourier(() => {
        tries++;
        return later;
      }),
    );
    const id = await r.spool.accept(envelope('a@x.example'), body());
    await r.rest();
    expect(r.runner.flush(id)).toBe(true);
    await r.rest();
    expect(tries).toBe(2);
    expect(r.runner.flush('gate')).toBe(true);
    await r.rest();
    expect(tries).toBe(3);
    expect(r.runner.flush()).toBe(true);
    await r.rest();
    expect(tries).toBe(4);
    expect(r.link.wakes).toEqual(['flush', 'flush', 'flush']);
    expect(r.runner.flush('nowhere')).toBe(false);
  });
});

describe('the link', () => {
  test('down for weeks charges no attempt, counts no time and bounces nothing; up again, all goes at once', async () => {
    const courier = scriptedCourier(() => delivered);
    const r = await rig(courier);
    r.link.setState({ type: 'down', error: down(), retryAt: 0 });
    const id = await r.spool.accept(envelope('a@x.example'), body());
    await r.advance(20 * DAY);
    expect(courier.seen).toEqual([]);
    expect(r.spool.get(id)).toMatchObject({ attempts: 0, elapsed: 0, held: false });
    expect(r.runner.waiting(id)).toMatchObject({ reason: 'the line is dead' });
    expect(r.runner.waiting(id)).not.toHaveProperty('next');
    r.link.setState({ type: 'up' });
    await r.rest();
    expect(courier.seen).toHaveLength(1);
    expect(types(r.events)).toEqual(['outcome', 'completed']);
  }, 60_000);

  test('lost in a session defers nothing: it goes on when the link is back', async () => {
    let broken = true;
    const courier: Courier = async (batch, report) => {
      for await (const entry of batch) {
        if (broken) {
          r.link.setState({ type: 'down', error: down(), retryAt: 0 });
          throw new LinkError('gone', { code: 'lost', layer: 'channel' });
        }
        await report.attempting(entry.id, {});
        for (const { to } of entry.envelope.recipients) await report.outcome(entry.id, to, delivered);
      }
    };
    const r = await rig(courier);
    const id = await r.spool.accept(envelope('a@x.example'), body());
    await r.rest();
    expect(r.spool.get(id)).toMatchObject({ attempts: 0 });
    expect(r.events).toEqual([{ type: 'host-deferred', host: 'gate', reason: 'gone' }]);
    broken = false;
    r.link.setState({ type: 'up' });
    await r.advance(2_000);
    expect(types(r.events)).toEqual(['host-deferred', 'outcome', 'completed']);
  });

  test('up again makes due what a 4xx deferred, too', async () => {
    let tries = 0;
    const r = await rig(
      scriptedCourier(() => {
        tries++;
        return later;
      }),
    );
    await r.spool.accept(envelope('a@x.example'), body());
    await r.rest();
    r.link.setState({ type: 'down', error: down(), retryAt: 0 });
    r.link.setState({ type: 'up' });
    await r.rest();
    expect(tries).toBe(2);
  });

  test('a host that refuses every session backs off as a host, and its mail grows old', async () => {
    let sessions = 0;
    const courier: Courier = async (batch) => {
      for await (const _entry of batch) {
        sessions++;
        throw new Error('554 go away');
      }
    };
    const r = await rig(courier, { schedule: { expireMs: DAY, delayNoticeMs: 20 * HOUR } });
    for (let at = 0; at < 5; at++) await r.spool.accept(envelope(`a${at}@x.example`, ''), body());
    await r.advance(HOUR);
    expect(sessions).toBeLessThan(10);
    await r.advance(DAY);
    expect(outcomes(r.events)).toHaveLength(5);
    expect(r.bounced).toHaveLength(5);
    expect([...r.spool.entries()]).toEqual([]);
  });
});

describe('one bad message', () => {
  test('that ends every session does not block the others', async () => {
    const done: string[] = [];
    const courier: Courier = async (batch, report) => {
      for await (const entry of batch) {
        const to = entry.envelope.recipients[0]?.to as ForwardPath;
        if (to === 'poison@x.example') throw new Error('the session fell over');
        await report.attempting(entry.id, {});
        done.push(to);
        await report.outcome(entry.id, to, delivered);
      }
    };
    const r = await rig(courier, {
      before: async (spool) => {
        await spool.accept(envelope('poison@x.example'), body());
        for (let at = 0; at < 3; at++) await spool.accept(envelope(`a${at}@x.example`), body());
      },
    });
    await r.advance(2 * MINUTE);
    expect(done).toEqual(['a0@x.example', 'a1@x.example', 'a2@x.example']);
  });

  test('that takes long lets another session pass it', async () => {
    const done: string[] = [];
    const courier: Courier = async (batch, report) => {
      for await (const entry of batch) {
        const to = entry.envelope.recipients[0]?.to as ForwardPath;
        if (to === 'huge@x.example') await new Promise<void>((resolve) => r.env.schedule(HOUR, resolve));
        await report.attempting(entry.id, {});
        done.push(to);
        await report.outcome(entry.id, to, delivered);
      }
    };
    const r = await rig(courier);
    await r.spool.accept(envelope('huge@x.example'), body());
    await r.spool.accept(envelope('small@x.example'), body());
    await r.env.advance(5_000);
    while (done.length === 0) await settle();
    expect(done).toEqual(['small@x.example']);
  });

  test('whose bytes are damaged is set aside, and the rest goes on at once', async () => {
    const courier = scriptedCourier(() => delivered);
    const r = await rig(courier);
    r.link.setState({ type: 'down', error: down(), retryAt: 0 });
    const bad = await r.spool.accept(envelope('a@x.example'), body());
    await r.spool.accept(envelope('b@x.example'), body());
    r.spool.damage(bad);
    r.link.setState({ type: 'up' });
    await r.rest();
    expect(courier.seen.map(({ to }) => to[0])).toEqual(['b@x.example']);
    expect([...r.spool.entries()]).toEqual([]);
  });
});

describe('uncertain outcomes', () => {
  const lost: Outcome = { type: 'uncertain', receipt: 'r' };

  test('are tried again with their receipt, and after the third time held with a reason unless it proves something', async () => {
    const unresolved: unknown[] = [];
    const r = await rig(
      scriptedCourier((entry) => {
        unresolved.push([entry.unresolved, ...(entry.needsProof ?? [])]);
        return lost;
      }),
    );
    const id = await r.spool.accept(envelope('a@x.example'), body());
    await r.advance(10 * MINUTE);
    expect(unresolved).toEqual([
      [[]],
      [[{ receipt: `r-${id}`, recipients: ['a@x.example'] }]],
      [[{ receipt: `r-${id}`, recipients: ['a@x.example'] }]],
      [[{ receipt: `r-${id}`, recipients: ['a@x.example'] }], 'a@x.example'],
    ]);
    expect(r.spool.get(id)).toMatchObject({ held: true });
    expect(r.runner.waiting(id)?.reason).toContain('lost 3 times');
    expect(r.events.at(-1)).toMatchObject({ type: 'held', id });
    expect(await r.runner.release(id)).toBe(true);
    await r.rest();
    expect(unresolved).toHaveLength(5);
    expect(unresolved[4]).toHaveLength(1);
  });

  test('are also what a courier leaves behind that dies after attempting', async () => {
    let dies = true;
    const courier: Courier = async (batch, report) => {
      for await (const entry of batch) {
        await report.attempting(entry.id, { receipt: 'x' });
        if (dies) throw new Error('bug');
        await report.outcome(entry.id, 'a@x.example' as ForwardPath, delivered);
      }
    };
    const r = await rig(courier);
    const id = await r.spool.accept(envelope('a@x.example'), body());
    await r.rest();
    expect(r.spool.get(id)).toMatchObject({ recipients: [{ outcome: { type: 'uncertain' }, uncertain: 1 }] });
    dies = false;
    await r.advance(2 * MINUTE);
    expect(outcomes(r.events)).toEqual(['a@x.example uncertain 4.4.2', 'a@x.example sent 2.0.0']);
  });
});

describe('routes', () => {
  test('are asked again at every attempt: a lost one holds the mail, a new one moves it', async () => {
    const courier = scriptedCourier(() => later);
    const r = await rig(courier);
    const id = await r.spool.accept(envelope('a@x.example'), body());
    await r.rest();
    r.routes = [{ match: ['elsewhere.example'], host: 'gate' }];
    r.runner.reload();
    await r.advance(6 * DAY);
    expect(courier.seen).toHaveLength(1);
    expect(r.events.at(-1)).toEqual({ type: 'no-route', id, to: ['a@x.example'] });
    expect(r.runner.waiting(id)).toMatchObject({ recipients: [{ to: 'a@x.example' }] });
    r.routes = [{ match: ['*'], host: 'other' }];
    r.runner.reload();
    await r.rest();
    expect(r.events.at(-1)).toMatchObject({ type: 'outcome', relay: 'other', status: 'deferred' });
  }, 60_000);
});

describe('notifications', () => {
  test('none is made for the null reverse-path; what could not be delivered is kept', async () => {
    const r = await rig(scriptedCourier(() => refused));
    await r.spool.accept(envelope('a@x.example', ''), body('Subject: bounce\r\n\r\nx\r\n'));
    await r.rest();
    expect(r.bounced).toEqual(['Subject: bounce\r\n\r\nx\r\n']);
    expect([...r.spool.entries()]).toEqual([]);
  });

  test('a DSN that is refused itself ends in the bounces, and nowhere else', async () => {
    const r = await rig(scriptedCourier(() => refused));
    await r.spool.accept(envelope('a@x.example'), body());
    await r.rest();
    expect(outcomes(r.events)).toEqual(['a@x.example bounced 5.1.1', 'me@work.example bounced 5.1.1']);
    expect(r.bounced).toHaveLength(1);
    expect(r.bounced[0]).toContain('Final-Recipient: rfc822; a@x.example');
  });

  test('a DSN that no route takes is kept', async () => {
    const r = await rig(
      scriptedCourier(() => refused),
      { routes: [{ match: ['x.example'], host: 'gate' }] },
    );
    await r.spool.accept(envelope('a@x.example'), body());
    await r.rest();
    expect(r.bounced).toHaveLength(1);
    expect(r.events).toContainEqual(expect.objectContaining({ type: 'notified', kind: 'failed', kept: true }));
  });

  test('are one for a message, and ask NOTIFY', async () => {
    const courier = scriptedCourier((entry, to) =>
      entry.envelope.from === '' || to.startsWith('ok') ? { ...delivered, relayed: true } : refused,
    );
    const r = await rig(courier);
    await r.spool.accept(
      envelope([], 'me@work.example', {
        recipients: [
          { to: 'no1@x.example' as ForwardPath },
          { to: 'no2@x.example' as ForwardPath, notify: ['FAILURE'] },
          { to: 'quiet@x.example' as ForwardPath, notify: ['NEVER'] },
          { to: 'ok1@x.example' as ForwardPath },
          { to: 'ok2@x.example' as ForwardPath, notify: ['SUCCESS'] },
        ],
      }),
      body(),
    );
    await r.rest();
    const dsns = courier.seen
      .slice(1)
      .map(({ text }) =>
        [...text.matchAll(/Final-Recipient: rfc822; (\S+)\r\nAction: (\S+)/g)].map(
          ([, to, action]) => `${to} ${action}`,
        ),
      );
    expect(dsns).toEqual([['no1@x.example failed', 'no2@x.example failed'], ['ok2@x.example relayed']]);
    expect([...r.spool.entries()]).toEqual([]);
  });
});

describe('by hand', () => {
  test('hold, release and remove', async () => {
    const courier = scriptedCourier(() => later);
    const r = await rig(courier);
    const id = await r.spool.accept(envelope('a@x.example'), body());
    await r.rest();
    expect(await r.runner.hold(id)).toBe(true);
    await r.advance(DAY);
    expect(courier.seen).toHaveLength(1);
    expect(r.runner.waiting(id)).toMatchObject({ reason: 'held by hand' });
    expect(await r.runner.release(id)).toBe(true);
    await r.rest();
    expect(courier.seen).toHaveLength(2);
    expect(await r.runner.remove(id)).toBe(true);
    await r.advance(DAY);
    expect(courier.seen).toHaveLength(2);
    expect(await r.runner.remove(id)).toBe(false);
    expect(await textOf(r.spool.read(id)).catch((error: Error) => error.message)).toContain('no entry');
  });

  test('closing lets what is under way finish, and starts nothing more', async () => {
    const courier = scriptedCourier(() => delivered);
    const r = await rig(courier);
    await r.runner.close({ graceMs: 0 });
    await r.spool.accept(envelope('a@x.example'), body());
    await r.rest();
    expect(courier.seen).toEqual([]);
  });
});
