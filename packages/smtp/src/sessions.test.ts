import { type Entry, LinkError } from '@postern/core';
import { memoryLink, settle, virtualEnv } from '@postern/testkit';
import { describe, expect, test } from 'vitest';
import { makeEntry, makeReport } from './courier.test-util.ts';
import { createCourier } from './courier.ts';
import { createSmarthostCourier } from './smarthost.ts';

const PLACE = '0123456789abcdef01234567:2:4:500:abcd';

/** What the far side says, by the first word of a line. */
const ANSWERS: Readonly<Record<string, string>> = {
  EHLO: '250-gate.test\r\n250 PIPELINING\r\n',
  MAIL: '250 sender\r\n',
  RCPT: '250 recipient\r\n',
  DATA: '354 go\r\n',
  '.': '250 taken\r\n',
};

describe('a courier that has ended', () => {
  test('looks nothing up for an entry that the batch yields too late', async () => {
    let yieldSecond = (): void => {};
    const second = new Promise<void>((resolve) => {
      yieldSecond = resolve;
    });
    async function* batch(): AsyncGenerator<Entry> {
      yield makeEntry({ id: 'a' });
      await second;
      const recipients = makeEntry().envelope.recipients.map(({ to }) => to);
      yield makeEntry({ id: 'b', unresolved: [{ receipt: PLACE, recipients }] });
    }
    const opened: string[] = [];
    let lose = (): void => {};
    const link = memoryLink((target, pair) => {
      opened.push(target.type);
      lose = () => pair.lose();
      pair.far.write('220 gate.test\r\n');
      pair.far.on('data', (chunk: Buffer) => {
        for (const line of String(chunk).split('\r\n')) pair.far.write(ANSWERS[line.split(' ', 1)[0] ?? ''] ?? '');
      });
    });
    const told = makeReport();
    const target = { type: 'tcp', host: 'localhost', port: 25 } as const;
    const courier = createCourier({ link, target, helo: 'home.test', env: virtualEnv() });
    const done = courier(batch(), told.report).catch((error: unknown) => error);
    while (told.outcomes.size === 0) await settle();
    await settle();
    lose();
    expect(await done).toBeInstanceOf(LinkError);
    const lines = [...told.lines];
    const channels = opened.length;
    yieldSecond();
    await settle();
    expect(opened).toHaveLength(channels);
    expect(told.lines).toEqual(lines);
  });
  test('does not wait for a password that never comes', async () => {
    const stop = new AbortController();
    const told = makeReport(stop.signal);
    let asked = (): void => {};
    const asking = new Promise<void>((resolve) => {
      asked = resolve;
    });
    const courier = createSmarthostCourier({
      smarthost: { host: 'localhost', port: 1, tls: 'implicit', user: 'ann' },
      password() {
        asked();
        return new Promise(() => {});
      },
      ...{ helo: 'home.test', env: virtualEnv() },
    });
    async function* batch(): AsyncGenerator<Entry> {
      yield makeEntry({ id: 'a' });
    }
    const done = courier(batch(), told.report).catch((error: unknown) => error);
    await asking;
    stop.abort(new Error('stopped'));
    expect(await done).toMatchObject({ message: 'stopped' });
    expect(told.lines).toEqual([]);
  });
});
