import { type Entry, type ForwardPath, systemEnv, type Target } from '@postern/core';
import { type Gate, readMaildir } from '@postern/gate';
import { seededRandom } from '@postern/testkit';
import { startPostfix, startRig } from '@postern/testkit/rig';
import { afterAll, beforeAll, describe, expect, test } from 'vitest';
import { makeEntry, makeReport, toBatch } from './courier.test-util.ts';
import { createCourier } from './courier.ts';
import { cuttingProxy, processLink } from './real.test-util.ts';

/** Link cuts per server; 100 each is the figure to quote. */
const CUTS = Number(process.env.POSTERN_CUTS ?? 4);
const MESSAGES = 25;
/** Octets that ssh needs until the far command runs, roughly, and for the messages. */
const OPENING_OCTETS = 3_500;
const SPREAD_OCTETS = 24_000;
const TARGET: Target = { type: 'exec', command: 'netcat localhost smtp' };

for (const kind of ['exim', 'postfix'] as const) {
  describe(`links cut while mail streams to the real ${kind}`, () => {
    let gate: Gate;
    beforeAll(async () => {
      gate = await startRig({ imapd: false });
      if (kind === 'postfix') await startPostfix(gate);
    });
    afterAll(() => gate?.stop());

    /** Sends over a link that breaks after `budget` octets; what is left, with what is unresolved. */
    async function send(entries: readonly Entry[], o: { budget: number; receipts: boolean }): Promise<Result> {
      using proxy = await cuttingProxy(gate.ssh.port, o.budget);
      const told = makeReport();
      const link = processLink(gate, { ssh: true, port: proxy.port });
      const courier = createCourier({
        ...{ link, target: TARGET, helo: 'home.test', env: systemEnv, receipts: o.receipts },
      });
      const error = await courier(toBatch(entries), told.report).then(
        () => undefined,
        (error: unknown) => error,
      );
      const left: Entry[] = [];
      let uncertain = 0;
      for (const entry of entries) {
        const to = entry.envelope.recipients[0]?.to as ForwardPath;
        const outcome = told.outcomes.get(`${entry.id} ${to}`);
        if (outcome?.type === 'delivered') continue;
        const receipt = outcome?.type === 'uncertain' ? outcome.receipt : undefined;
        if (outcome?.type === 'uncertain') uncertain++;
        const unresolved = receipt === undefined ? entry.unresolved : [{ receipt, recipients: [to] }];
        left.push({ ...entry, unresolved });
      }
      return { left, uncertain, error };
    }
    type Result = { left: Entry[]; uncertain: number; error: unknown };

    async function copies(prefix: string, least: number): Promise<Map<string, number>> {
      for (;;) {
        const counts = new Map<string, number>();
        for (const message of (await readMaildir(gate.maildir)).map(String)) {
          const subject = /^Subject: (.*?)\r?$/m.exec(message)?.[1] ?? '';
          if (subject.startsWith(prefix)) counts.set(subject, (counts.get(subject) ?? 0) + 1);
        }
        if (counts.size >= least) return counts;
        await new Promise((resolve) => setTimeout(resolve, 50));
      }
    }

    for (let seed = 1; seed <= CUTS; seed++) {
      for (const receipts of seed % 3 === 0 ? [true, false] : [true]) {
        test(`cut ${seed}, ${receipts ? 'with receipts: none lost, none twice' : 'without: none lost, none twice but the uncertain'}`, async () => {
          const random = seededRandom(seed);
          const prefix = `cut-${seed}-${receipts} `;
          const filler = 'x'.repeat(70).concat('\r\n').repeat(10);
          let left: readonly Entry[] = Array.from({ length: MESSAGES }, (_, at) =>
            makeEntry({ message: `Subject: ${prefix}${at}\r\n\r\n${filler}` }),
          );
          let uncertain = 0;
          let budget = OPENING_OCTETS + Math.floor(random() * SPREAD_OCTETS);
          for (let round = 0; left.length > 0 && round < 10; round++) {
            const result = await send(left, { budget, receipts });
            left = result.left;
            uncertain += result.uncertain;
            budget = Number.MAX_SAFE_INTEGER;
          }
          expect(left).toEqual([]);
          const counts = await copies(prefix, MESSAGES);
          const twice = [...counts].filter(([, count]) => count > 1);
          if (receipts) expect(twice).toEqual([]);
          else expect(twice.length).toBeLessThanOrEqual(uncertain);
        });
      }
    }
  });
}
