import { writeFile } from 'node:fs/promises';
import { join } from 'node:path';
import { type Entry, systemEnv, type Target } from '@postern/core';
import { type Gate, readMaildir, type SmtpServerOptions } from '@postern/gate';
import { startPostfix, startRig } from '@postern/testkit/rig';
import { describe, expect, test } from 'vitest';
import { makeEntry, makeReport, type Told, toBatch } from './courier.test-util.ts';
import { createCourier } from './courier.ts';
import type { CourierEvent } from './event.ts';
import { processLink } from './real.test-util.ts';

const NETCAT: Target = { type: 'exec', command: 'netcat localhost smtp' };

async function start(kind: 'exim' | 'postfix', smtp: SmtpServerOptions): Promise<Gate> {
  if (kind === 'exim') return startRig({ imapd: false, smtp });
  const gate = await startRig({ imapd: false, smtp: false });
  await startPostfix(gate, smtp);
  return gate;
}
async function send(
  gate: Gate,
  entries: readonly Entry[],
  target = NETCAT,
): Promise<Told & { events: CourierEvent[] }> {
  const told = makeReport();
  const events: CourierEvent[] = [];
  const onEvent = (event: CourierEvent): void => void events.push(event);
  const link = processLink(gate);
  await createCourier({ link, target, helo: 'home.test', env: systemEnv, onEvent })(toBatch(entries), told.report);
  return { ...told, events };
}
async function copies(gate: Gate, count: number): Promise<string[]> {
  for (;;) {
    const found = (await readMaildir(gate.maildir)).map(String);
    if (found.length >= count) return found;
    await new Promise((resolve) => setTimeout(resolve, 50));
  }
}
const some = (count: number): Entry[] =>
  Array.from({ length: count }, (_, at) => makeEntry({ id: `${at}`, message: `Subject: m${at}\r\n\r\nx\r\n` }));
const types = (told: Told): string[] => [...told.outcomes.values()].map((outcome) => outcome.type);

describe('a far side with limits', () => {
  test('of messages a connection (Exim): goes on in another session, each message once', async () => {
    await using gate = await start('exim', { settings: { smtp_accept_max_per_connection: '5' } });
    const told = await send(gate, some(18));
    expect(types(told)).toEqual(Array.from({ length: 18 }, () => 'delivered'));
    // Newer ones announce it (RFC 9422), and need not say 421.
    expect(told.events.filter((event) => event.type === 'open').length).toBeGreaterThanOrEqual(4);
    expect(await copies(gate, 18)).toHaveLength(18);
  });
  test('of recipients a transaction (Postfix): goes on in another transaction, each recipient once', async () => {
    await using gate = await start('postfix', { settings: { smtpd_recipient_limit: '3' } });
    const to = Array.from({ length: 8 }, (_, at) => `r${at}@gate.test`);
    const told = await send(gate, [makeEntry({ id: 'a', to }), makeEntry({ id: 'b' })]);
    expect(types(told)).toEqual(Array.from({ length: 9 }, () => 'delivered'));
    const got = (await copies(gate, 9)).map((message) => /^X-Original-To: (.*)$/im.exec(message)?.[1]?.trim());
    expect(got.toSorted()).toEqual([...to, 'joe@gate.test'].toSorted());
  });
  test('of size that it does not announce (Postfix): the large one fails in mid-chunk, its neighbours arrive or are sent again', async () => {
    const settings = { smtpd_discard_ehlo_keywords: 'size' };
    await using gate = await start('postfix', { sizeLimit: 20_000, settings });
    const large = makeEntry({ id: 'large', message: `${'x'.repeat(98)}\r\n`.repeat(3000) });
    const [one, two] = some(2) as [Entry, Entry];
    const told = await send(gate, [one, large, two]);
    // Postfix 3.11 reads what it has refused as commands: what follows is out of step, and nothing of it is guessed.
    expect(told.outcomes.get('0 joe@gate.test')?.type).toBe('delivered');
    expect(['delivered', 'uncertain']).toContain(told.outcomes.get('1 joe@gate.test')?.type);
    expect(told.outcomes.get('large joe@gate.test')).toMatchObject({ reply: { code: 552 } });
  });
  test('of what it delivers at once (Exim after 10 messages): takes all of them, on its queue', async () => {
    await using gate = await start('exim', { settings: { smtp_accept_queue_per_connection: '10' } });
    const told = await send(gate, some(14));
    expect(types(told)).toEqual(Array.from({ length: 14 }, () => 'delivered'));
    expect((await copies(gate, 10)).length).toBeLessThanOrEqual(14);
  });
});

describe('a far home', () => {
  test('in which no receipt can be kept still gets its mail, in a smaller window', async () => {
    await using gate = await start('exim', {});
    await writeFile(join(gate.home, '.postern'), 'in the way');
    const told = await send(gate, some(8));
    expect(types(told)).toEqual(Array.from({ length: 8 }, () => 'delivered'));
    expect([...told.receipts.values()]).toEqual(Array.from({ length: 8 }, () => undefined));
  });
  test('keeps no receipt of a session that ended well', async () => {
    await using gate = await start('exim', {});
    const told = await send(gate, some(3));
    expect([...told.receipts.values()].every((receipt) => receipt !== undefined)).toBe(true);
    const link = processLink(gate);
    const list = async (): Promise<string> => {
      const command = 'ls .postern/receipts; stat -c %a .postern .postern/receipts';
      const channel = await link.open({ type: 'exec', command }, { signal: new AbortController().signal });
      let text = '';
      channel.stream.on('data', (chunk: Buffer) => {
        text += String(chunk);
      });
      await channel.exit;
      return text;
    };
    // The far wrapper ends a moment after QUIT was sent.
    let text = await list();
    while (text !== '700\n700\n') text = await list();
    expect(text).toBe('700\n700\n');
  });
});

describe('a far netcat that is killed', () => {
  for (const kind of ['exim', 'postfix'] as const) {
    test(`(${kind}): claims no more than its receipt proves, and no message is lost`, async () => {
      await using gate = await start(kind, {});
      const entries = some(25);
      // The server gets no more than 1500 octets, and then its netcat dies.
      const dying = 'dd bs=1 count=1500 2>/dev/null | timeout -s KILL 2 netcat localhost smtp';
      const told = makeReport();
      const link = processLink(gate);
      const dead = createCourier({ link, target: { type: 'exec', command: dying }, helo: 'home.test', env: systemEnv });
      await dead(toBatch(entries), told.report).catch((error: unknown) =>
        expect(error).toMatchObject({ code: 'closed' }),
      );
      const left = entries.flatMap((entry): Entry[] => {
        const outcome = told.outcomes.get(`${entry.id} joe@gate.test`);
        if (outcome?.type === 'delivered') return [];
        const receipt = outcome?.type === 'uncertain' ? outcome.receipt : undefined;
        const recipients = entry.envelope.recipients.map(({ to }) => to);
        return [{ ...entry, unresolved: receipt === undefined ? [] : [{ receipt, recipients }] }];
      });
      expect(left.length).toBeGreaterThan(0);
      expect(left.length).toBeLessThan(25);
      expect(types(await send(gate, left))).toEqual(left.map(() => 'delivered'));
      const subjects = (await copies(gate, 25)).map((message) => /^Subject: (m\d+)/m.exec(message)?.[1]);
      expect(new Set(subjects).size).toBe(25);
      expect(subjects).toHaveLength(25);
    });
  }
});

describe('a large message', () => {
  test('of 100 MB passes at constant memory', async () => {
    await using gate = await start('exim', { sizeLimit: 150_000_000 });
    const line = Buffer.from(`${'x'.repeat(98)}\r\n`);
    const block = Buffer.concat(Array.from({ length: 655 }, () => line));
    const blocks = 1527;
    const entry: Entry = {
      ...makeEntry({ id: 'large' }),
      size: block.length * blocks,
      async *open() {
        for (let at = 0; at < blocks; at++) yield block;
      },
    };
    const before = process.memoryUsage().rss;
    let peak = 0;
    const watch = setInterval(() => {
      peak = Math.max(peak, process.memoryUsage().rss);
    }, 20);
    const told = await send(gate, [entry]);
    clearInterval(watch);
    expect(types(told)).toEqual(['delivered']);
    expect(peak - before).toBeLessThan(64_000_000);
  });
});
