/** The wrapper on the far side, in real shells: what it keeps and how long it lives have a bound. */
import { type ChildProcess, spawn, spawnSync } from 'node:child_process';
import {
  mkdirSync,
  mkdtempSync,
  readdirSync,
  readFileSync,
  rmSync,
  statSync,
  symlinkSync,
  writeFileSync,
} from 'node:fs';
import { tmpdir } from 'node:os';
import { join } from 'node:path';
import { parseForwardPath } from '@postern/core';
import { afterEach, describe, expect, test } from 'vitest';
import {
  formatPlace,
  judge,
  MAX_RECEIPT_OCTETS,
  newReceiptName,
  parsePlace,
  parseReceipt,
  receiptCommand,
} from './receipt.ts';

const SHELLS: readonly string[][] = [['dash'], ['bash'], ['busybox', 'sh']];
const isThere = (name: string): boolean => spawnSync('sh', ['-c', `command -v ${name}`]).status === 0;

const dirs: string[] = [];
const sessions: number[] = [];
afterEach(() => {
  for (const pid of sessions.splice(0)) {
    try {
      process.kill(-pid, 'SIGKILL');
    } catch {
      // It has ended, as it should.
    }
  }
  for (const dir of dirs.splice(0)) rmSync(dir, { recursive: true, force: true });
});

interface Far {
  readonly name: string;
  readonly child: ChildProcess;
  /** Resolves when the wrapper and all that it started have ended. */
  readonly ended: Promise<void>;
  receipt(): Buffer;
  list(): string[];
}

/** Runs `command` with a receipt, as sshd runs it (in a session of its own), with `shell` as the far `sh`. */
function start(shell: readonly string[], command: string, path: Readonly<Record<string, string>> = {}): Far {
  const home = mkdtempSync(join(tmpdir(), 'postern-far-'));
  dirs.push(home);
  const bin = join(home, 'bin');
  mkdirSync(bin);
  const [program = '', ...rest] = shell;
  const real = spawnSync('sh', ['-c', `command -v ${program}`], { encoding: 'utf8' }).stdout.trim();
  if (rest.length === 0) symlinkSync(real, join(bin, 'sh'));
  else writeFileSync(join(bin, 'sh'), `#!/bin/sh\nexec ${real} ${rest.join(' ')} "$@"\n`, { mode: 0o755 });
  for (const [name, text] of Object.entries(path)) writeFileSync(join(bin, name), text, { mode: 0o755 });
  const name = newReceiptName();
  const env = { HOME: home, PATH: `${bin}:${process.env.PATH}` };
  const child = spawn(join(bin, 'sh'), ['-c', receiptCommand(command, name)], { env, cwd: home, detached: true });
  if (child.pid !== undefined) sessions.push(child.pid);
  child.stdin?.on('error', () => {});
  child.stderr?.resume();
  const ended = new Promise<void>((resolve) => void child.once('close', () => resolve()));
  const receipts = join(home, '.postern/receipts');
  return {
    ...{ name, child, ended },
    receipt: () => readFileSync(join(receipts, name)),
    list: () => readdirSync(receipts),
  };
}

/** Reads the wrapper's output until there is enough of it. */
async function read(child: ChildProcess, octets: number): Promise<number> {
  let total = 0;
  for await (const chunk of child.stdout ?? []) {
    total += (chunk as Buffer).length;
    if (total >= octets) break;
  }
  return total;
}

for (const shell of SHELLS) {
  describe.skipIf(!isThere(shell[0] ?? ''))(`in ${shell.join(' ')}, a far server`, () => {
    test('that never stops talking is ended at the bound, and its receipt proves nothing', async () => {
      const far = start(shell, 'cat >/dev/null & exec yes 220-xxxxxxxxxxxxxxxxxxxxxxxxxxxxxxxxxxxxxxxxxx');
      far.child.stdin?.write('EHLO home.test\r\n');
      expect(await read(far.child, Number.POSITIVE_INFINITY)).toBeLessThanOrEqual(2 * MAX_RECEIPT_OCTETS);
      await far.ended;
      const place = parsePlace(formatPlace({ name: far.name, mail: 2, final: 4, end: 500 }, [parseForwardPath('a@b')]));
      if (place === undefined) throw new Error('no place');
      const found = judge(parseReceipt(far.receipt()), { place, recipients: [parseForwardPath('a@b')] });
      expect(['unknown', 'running']).toContain(found[0]?.type);
      expect(far.receipt().length).toBeLessThan(MAX_RECEIPT_OCTETS);
    });
    test('that talks on after its link has gone is ended in time, quiet or not', async () => {
      // Thirty seconds pass in a moment over there.
      const sleep = '#!/bin/sh\nexec /bin/sleep 0.05\n';
      const far = start(shell, 'while echo 220-still here; do /bin/sleep 0.02; done', { sleep });
      far.child.stdin?.end();
      await read(far.child, Number.POSITIVE_INFINITY);
      await far.ended;
      expect(far.list().filter((name) => name.endsWith('.in'))).toEqual([]);
      expect(statSync(join(dirs[0] ?? '', '.postern/receipts', far.name)).size).toBeLessThan(100_000);
    });
    test('that ends well leaves nothing', async () => {
      const far = start(shell, 'echo 220 hi; read x; echo 221 bye');
      far.child.stdin?.write('QUIT\r\n');
      expect(await read(far.child, Number.POSITIVE_INFINITY)).toBe('220 hi\n221 bye\n'.length);
      far.child.stdin?.end();
      await far.ended;
      expect(far.list()).toEqual([]);
    });
  });
}
