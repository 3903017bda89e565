import type { Entry, Target } from '@postern/core';
import { systemEnv } from '@postern/core';
import { type Gate, readMaildir, type SmtpServer } from '@postern/gate';
import { startPostfix, startRig } from '@postern/testkit/rig';
import { afterAll, beforeAll, describe, expect, test } from 'vitest';
import { brief, makeEntry, makeReport, type Told, toBatch } from './courier.test-util.ts';
import { createCourier } from './courier.ts';
import type { CourierEvent } from './event.ts';
import { processLink } from './real.test-util.ts';

const RULES = {
  refuse: { no: '5.1.1 no such user here' },
  defer: { later: '4.3.0 not now' },
  sizeLimit: 200_000,
};

for (const kind of ['exim', 'postfix'] as const) {
  describe(`against the real ${kind}`, () => {
    let gate: Gate;
    let server: SmtpServer;
    beforeAll(async () => {
      gate = await startRig({ imapd: false, smtp: RULES });
      server = kind === 'exim' ? (gate.smtp as SmtpServer) : await startPostfix(gate, RULES);
    });
    afterAll(() => gate?.stop());

    const NETCAT: Target = { type: 'exec', command: 'netcat localhost smtp' };
    async function send(
      entries: readonly Entry[],
      o: { dialogue?: 'auto' | 'pipelined' | 'lockstep' | 'stream' | 'bsmtp'; target?: Target; ssh?: boolean } = {},
    ): Promise<Told & { events: CourierEvent[] }> {
      const told = makeReport();
      const events: CourierEvent[] = [];
      const link = processLink(gate, { ssh: o.ssh === true });
      const courier = createCourier({
        ...{ link, target: o.target ?? NETCAT, dialogue: o.dialogue ?? 'auto', helo: 'home.test', env: systemEnv },
        onEvent: (event) => void events.push(event),
      });
      await courier(toBatch(entries), told.report);
      return { ...told, events };
    }
    /** Subjects of what arrived, by sender. */
    async function arrived(prefix: string, count: number): Promise<string[]> {
      for (;;) {
        const messages = (await readMaildir(gate.maildir)).map(String);
        const found = messages.flatMap((message) => {
          const subject = /^Subject: (.*)$/m.exec(message)?.[1]?.trim() ?? '';
          const from = /^Return-Path: <(.*)>/im.exec(message)?.[1] ?? '';
          return subject.startsWith(prefix) ? [`${subject} ${from}`] : [];
        });
        if (found.length >= count) return found.toSorted();
        await new Promise((resolve) => setTimeout(resolve, 50));
      }
    }
    const message = (subject: string): string => `Subject: ${subject}\r\n\r\n.\r\n..dots\r\nend`;

    for (const dialogue of ['lockstep', 'pipelined', 'stream'] as const) {
      test(`${dialogue}: a verdict for every recipient, and every message under its own sender`, async () => {
        const name = `${dialogue}-mix`;
        const told = await send(
          [
            makeEntry({ id: '1', from: 's1@home.test', message: message(`${name} 1`) }),
            makeEntry({ id: '2', from: 's2@home.test', to: ['no@gate.test'], message: message(`${name} 2`) }),
            makeEntry({ id: '3', from: 's3@home.test', message: message(`${name} 3`) }),
            makeEntry({ id: '4', from: 's4@home.test', to: ['later@gate.test'], message: message(`${name} 4`) }),
            makeEntry({
              id: '5',
              from: 's5@home.test',
              to: ['no@gate.test', 'joe@gate.test'],
              message: message(`${name} 5`),
            }),
            makeEntry({ id: '6', from: '', message: message(`${name} 6`) }),
            makeEntry({
              id: '7',
              from: 's7@home.test',
              message: `Subject: large\r\n\r\n${'x'.repeat(900)}\r\n`.repeat(300),
            }),
            makeEntry({ id: '8', from: 's8@home.test', message: message(`${name} 8`) }),
          ],
          { dialogue },
        );
        const outcomes = Object.fromEntries([...told.outcomes].map(([key, outcome]) => [key, brief(outcome)]));
        expect(outcomes).toEqual({
          '1 joe@gate.test': 'delivered 250',
          '2 no@gate.test': 'failed 550',
          '3 joe@gate.test': 'delivered 250',
          '4 later@gate.test': 'deferred 451',
          '5 no@gate.test': 'failed 550',
          '5 joe@gate.test': 'delivered 250',
          '6 joe@gate.test': 'delivered 250',
          '7 joe@gate.test': 'failed',
          '8 joe@gate.test': 'delivered 250',
        });
        expect(await arrived(name, 5)).toEqual([
          `${name} 1 s1@home.test`,
          `${name} 3 s3@home.test`,
          `${name} 5 s5@home.test`,
          `${name} 6 `,
          `${name} 8 s8@home.test`,
        ]);
        expect(told.events.at(-1)).not.toHaveProperty('error');
      });
    }

    test('through the real sshd', async () => {
      const told = await send([makeEntry({ id: '1', message: message('ssh 1') })], { ssh: true });
      expect(told.lines).toEqual(['1 attempting', '1 joe@gate.test delivered 250']);
    });
    test('to a TCP target, and by `sendmail -bs` without netcat', async () => {
      const target: Target = { type: 'tcp', host: '127.0.0.1', port: server.port };
      expect((await send([makeEntry({ id: '1' })], { target })).lines).toHaveLength(2);
      const stdio: Target = { type: 'exec', command: 'sendmail -bs' };
      const told = await send([makeEntry({ id: '2', message: message('stdio 2') })], { target: stdio });
      expect(told.lines).toEqual(['2 attempting', '2 joe@gate.test delivered 250']);
      expect(await arrived('stdio', 1)).toEqual(['stdio 2 ann@home.test']);
    });
    test('failing transactions without end: session after session, until all have their verdict', async () => {
      const entries = Array.from({ length: 40 }, (_, at) =>
        makeEntry({
          id: `${at}`,
          from: `f${at}@home.test`,
          to: [at % 5 === 4 ? 'joe@gate.test' : 'no@gate.test'],
          message: message(`fail ${100 + at}`),
        }),
      );
      for (const dialogue of ['stream', 'pipelined', 'lockstep'] as const) {
        const told = await send(entries, { dialogue });
        for (let at = 0; at < 40; at++) {
          const key = at % 5 === 4 ? `${at} joe@gate.test` : `${at} no@gate.test`;
          const outcome = told.outcomes.get(key);
          expect([key, outcome && brief(outcome)]).toEqual([key, at % 5 === 4 ? 'delivered 250' : 'failed 550']);
        }
      }
      const expected = [0, 1, 2].flatMap(() =>
        [4, 9, 14, 19, 24, 29, 34, 39].map((at) => `fail ${100 + at} f${at}@home.test`),
      );
      expect(await arrived('fail', 24)).toEqual(expected.toSorted());
    });
  });
}
