import { readdir } from 'node:fs/promises';
import { join } from 'node:path';
import { type Entry, type Link, systemEnv, type Target } from '@postern/core';
import { type Gate, readMaildir, type SmtpServer } from '@postern/gate';
import { type Simulator, startSimulator } from '@postern/testkit';
import { startPostfix, startRig } from '@postern/testkit/rig';
import { afterAll, afterEach, beforeAll, describe, expect, test } from 'vitest';
import { makeEntry, makeReport, type Told, toBatch } from './courier.test-util.ts';
import { createCourier } from './courier.ts';
import { processLink } from './real.test-util.ts';

const NETCAT: Target = { type: 'exec', command: 'netcat localhost smtp' };
const MESSAGES = 50;
/** Each way: replies travel long enough for a fault to strike meanwhile. */
const DELAY_MS = 60;
/** The fault strikes after this message's attempt is recorded: others are under way. */
const STRIKE_AT = 25;

for (const kind of ['exim', 'postfix'] as const) {
  describe(`a fault while mail streams to the real ${kind}`, () => {
    let gate: Gate;
    let server: SmtpServer;
    let line: Simulator;
    beforeAll(async () => {
      gate = await startRig({ imapd: false });
      server = kind === 'exim' ? (gate.smtp as SmtpServer) : await startPostfix(gate);
    });
    afterEach(() => line?.[Symbol.asyncDispose]());
    afterAll(() => gate?.stop());

    const messages = (name: string): Entry[] =>
      Array.from({ length: MESSAGES }, (_, at) =>
        makeEntry({ id: `${at}`, message: `Subject: ${name} ${at}\r\n\r\n${'x'.repeat(70)}\r\n` }),
      );
    /** One call of a courier; `strike` runs once, at message {@link STRIKE_AT}. */
    async function send(
      entries: readonly Entry[],
      o: { link: Link; strike?: () => unknown },
    ): Promise<Told & { error: unknown }> {
      const told = makeReport();
      const attempting: Told['report']['attempting'] = async (id, about) => {
        await told.report.attempting(id, about);
        if (id === `${STRIKE_AT}`) void o.strike?.();
      };
      const courier = createCourier({ link: o.link, target: NETCAT, helo: 'home.test', env: systemEnv });
      const error = await courier(toBatch(entries), { ...told.report, attempting }).then(
        () => undefined,
        (cause: unknown) => cause,
      );
      return { ...told, error };
    }
    /** What is to be sent again, knowing what is unresolved. */
    function left(entries: readonly Entry[], told: Told): Entry[] {
      return entries.flatMap((entry): Entry[] => {
        const outcome = told.outcomes.get(`${entry.id} joe@gate.test`);
        if (outcome?.type === 'delivered') return [];
        const recipients = entry.envelope.recipients.map(({ to }) => to);
        const receipt = outcome?.type === 'uncertain' ? outcome.receipt : undefined;
        return [{ ...entry, unresolved: receipt === undefined ? entry.unresolved : [{ receipt, recipients }] }];
      });
    }
    const uncertain = (told: Told): number =>
      [...told.outcomes.values()].filter((outcome) => outcome.type === 'uncertain').length;
    const toSshd = (): Link => processLink(gate, { ssh: true, port: line.port });
    /** Sends until nothing is left, as a queue does. */
    async function sendAll(entries: readonly Entry[], link: () => Link): Promise<void> {
      line.shape({});
      let rest = [...entries];
      for (let round = 0; rest.length > 0 && round < 10; round++) rest = left(rest, await send(rest, { link: link() }));
      expect(rest).toEqual([]);
    }
    /** How often each message arrived. */
    async function copies(name: string): Promise<number[]> {
      for (;;) {
        const counts = new Map<string, number>();
        for (const message of (await readMaildir(gate.maildir)).map(String)) {
          const subject = /^Subject: (.*?)\r?$/m.exec(message)?.[1] ?? '';
          if (subject.startsWith(`${name} `)) counts.set(subject, (counts.get(subject) ?? 0) + 1);
        }
        if (counts.size >= MESSAGES) return [...counts.values()];
        await new Promise((resolve) => setTimeout(resolve, 50));
      }
    }
    /** Runs `strike` when a message more has been taken over there: its reply is still on its way. */
    const whenTaken = (strike: () => unknown) => async (): Promise<void> => {
      const count = async (): Promise<number> => (await readdir(join(gate.maildir, 'new'))).length;
      const before = await count();
      while ((await count()) === before) await new Promise((resolve) => setTimeout(resolve, 5));
      await strike();
    };
    const ONCE = Array.from({ length: MESSAGES }, () => 1);

    test('black hole: the line falls silent for good, and after the redial each message is there once', async () => {
      line = await startSimulator({ port: gate.ssh.port, delayMs: DELAY_MS });
      const entries = messages('hole');
      const told = await send(entries, { link: toSshd(), strike: whenTaken(() => line.strand()) });
      expect(told.error).toMatchObject({ name: 'LinkError', code: 'lost' });
      expect(uncertain(told)).toBeGreaterThan(0);
      await sendAll(left(entries, told), toSshd);
      expect(await copies('hole')).toEqual(ONCE);
    });
    test('reset: each message is there once', async () => {
      line = await startSimulator({ port: gate.ssh.port, delayMs: DELAY_MS });
      const entries = messages('reset');
      const told = await send(entries, { link: toSshd(), strike: whenTaken(() => line.reset()) });
      expect(told.error).toMatchObject({ name: 'LinkError', code: 'lost' });
      expect(uncertain(told)).toBeGreaterThan(0);
      await sendAll(left(entries, told), toSshd);
      expect(await copies('reset')).toEqual(ONCE);
    });
    test('far sshd killed: each message is there once', async () => {
      line = await startSimulator({ port: gate.ssh.port, delayMs: DELAY_MS });
      const entries = messages('killed');
      const told = await send(entries, { link: toSshd(), strike: whenTaken(() => gate.ssh.dropConnections()) });
      expect(told.error).toMatchObject({ name: 'LinkError', code: 'lost' });
      expect(uncertain(told)).toBeGreaterThan(0);
      await sendAll(left(entries, told), toSshd);
      expect(await copies('killed')).toEqual(ONCE);
    });
    test('the server hangs up with a reset: none is lost, and only what was uncertain may be there twice', async () => {
      line = await startSimulator({ port: server.port, delayMs: 10 });
      await gate.useSmtpPort(line.port);
      const entries = messages('hang-up');
      const told = await send(entries, { link: processLink(gate), strike: () => line.reset() });
      await gate.useSmtpPort(server.port);
      await sendAll(left(entries, told), () => processLink(gate));
      const counts = await copies('hang-up');
      expect(counts.filter((count) => count > 1).length).toBeLessThanOrEqual(uncertain(told));
    });
  });
}
