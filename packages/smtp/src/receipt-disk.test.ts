import { execFile } from 'node:child_process';
import { readdir, writeFile } from 'node:fs/promises';
import { join } from 'node:path';
import { promisify } from 'node:util';
import { type Entry, type Link, systemEnv, type Target } from '@postern/core';
import { type Gate, makeOwned, readMaildir } from '@postern/gate';
import { startSimulator } from '@postern/testkit';
import { startRig } from '@postern/testkit/rig';
import { describe, expect, test } from 'vitest';
import { makeEntry, makeReport, type Told, toBatch } from './courier.test-util.ts';
import { createCourier } from './courier.ts';
import { processLink } from './real.test-util.ts';

const NETCAT: Target = { type: 'exec', command: 'netcat localhost smtp' };
const MESSAGES = 60;
const run = promisify(execFile);

/** Makes the receipts of a gate run out of room after `octets` or so; returns what undoes it. */
interface FullDisk {
  readonly name: string;
  readonly possible: boolean;
  /** Goes before every far command. */
  readonly before: string;
  fill(gate: Gate, octets: number): Promise<() => Promise<void>>;
}
const DISKS: readonly FullDisk[] = [
  {
    name: 'a file system without room (mounted by root)',
    possible: process.getuid?.() === 0 && process.platform === 'linux',
    before: '',
    async fill(gate, octets) {
      const path = join(gate.home, '.postern');
      await makeOwned(gate.account, path);
      const owner = `uid=${gate.account.uid},gid=${gate.account.gid},mode=700`;
      // A page for the receipt's pid goes off.
      await run('mount', ['-t', 'tmpfs', '-o', `size=${octets + 4096},${owner}`, 'tmpfs', path]);
      if (octets === 0) await writeFile(join(path, 'filler'), 'x'.repeat(4096));
      return async () => void (await run('umount', ['-l', path]));
    },
  },
  {
    name: 'a limit on the size of files',
    possible: true,
    before: 'ulimit -f 4; trap "" XFSZ; ',
    fill: async () => async () => {},
  },
];

for (const disk of DISKS) {
  describe.skipIf(!disk.possible)(`disk full over there: ${disk.name}`, () => {
    const linked = (gate: Gate, port: number): Link => {
      const link = processLink(gate, { ssh: true, port });
      const open: Link['open'] = (target, o) =>
        link.open(target.type === 'exec' ? { type: 'exec', command: disk.before + target.command } : target, o);
      return { ...link, open };
    };
    const messages = (count: number): Entry[] =>
      Array.from({ length: count }, (_, at) => makeEntry({ id: `${at}`, message: `Subject: m${at}\r\n\r\nx\r\n` }));
    async function send(entries: readonly Entry[], o: { link: Link; strike?: () => void }): Promise<Told> {
      const told = makeReport();
      const attempting: Told['report']['attempting'] = async (id, about) => {
        await told.report.attempting(id, about);
        if (id === '45') o.strike?.();
      };
      const courier = createCourier({ link: o.link, target: NETCAT, helo: 'home.test', env: systemEnv });
      await courier(toBatch(entries), { ...told.report, attempting }).catch((error: unknown) =>
        expect(error).toMatchObject({ name: 'LinkError', code: 'lost' }),
      );
      return told;
    }
    const subjects = async (gate: Gate, least: number): Promise<(string | undefined)[]> => {
      for (;;) {
        const all = (await readMaildir(gate.maildir)).map((bytes) => /^Subject: (m\d+)/m.exec(String(bytes))?.[1]);
        if (new Set(all).size >= least) return all;
        await new Promise((resolve) => setTimeout(resolve, 50));
      }
    };

    test('a session that ends well delivers everything all the same', async () => {
      await using gate = await startRig({ imapd: false });
      const undo = await disk.fill(gate, 0);
      try {
        const told = await send(messages(MESSAGES), { link: linked(gate, gate.ssh.port) });
        expect([...told.outcomes.values()].map(({ type }) => type)).toEqual(messages(MESSAGES).map(() => 'delivered'));
        expect(await subjects(gate, MESSAGES)).toHaveLength(MESSAGES);
      } finally {
        await undo();
      }
    });
    /** Resolves when no far session keeps a receipt any more. */
    const ended = async (gate: Gate): Promise<void> => {
      const path = join(gate.home, '.postern/receipts');
      while ((await readdir(path)).some((name) => name.endsWith('.in'))) {
        await new Promise((resolve) => setTimeout(resolve, 50));
      }
    };

    test('a lost link loses nothing, and what the cut-off receipt does not prove is sent again', async () => {
      // The far session ends when the server is tired of waiting.
      await using gate = await startRig({ imapd: false, smtp: { settings: { smtp_receive_timeout: '3s' } } });
      await using line = await startSimulator({ port: gate.ssh.port, delayMs: 10 });
      const undo = await disk.fill(gate, 4096);
      try {
        let uncertain = 0;
        let rest = messages(MESSAGES);
        for (let round = 0; rest.length > 0 && round < 5; round++) {
          const told = await send(rest, {
            link: linked(gate, line.port),
            ...(round === 0 ? { strike: () => line.reset() } : {}),
          });
          rest = rest.flatMap((entry): Entry[] => {
            const outcome = told.outcomes.get(`${entry.id} joe@gate.test`);
            if (outcome?.type === 'delivered') return [];
            if (outcome?.type !== 'uncertain') return [entry];
            uncertain++;
            const recipients = entry.envelope.recipients.map(({ to }) => to);
            return [
              { ...entry, unresolved: outcome.receipt === undefined ? [] : [{ receipt: outcome.receipt, recipients }] },
            ];
          });
          await ended(gate);
        }
        expect(rest).toEqual([]);
        expect(uncertain).toBeGreaterThan(0);
        const arrived = await subjects(gate, MESSAGES);
        expect(arrived.length - MESSAGES).toBeLessThanOrEqual(uncertain);
      } finally {
        await undo();
      }
    });
  });
}
