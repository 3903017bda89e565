import { mkdir, mkdtemp, rm } from 'node:fs/promises';
import { tmpdir } from 'node:os';
import { join } from 'node:path';
import { type EntryId, type Envelope, type ForwardPath, type ReversePath, systemEnv } from '@postern/core';
import { type Disk, openSpool } from '@postern/spool';
import { expect, onTestFinished, test } from 'vitest';
import { createModel, type Planted, plant } from './model.ts';

const to = 'a@x.example' as ForwardPath;
const envelope: Envelope = {
  from: 'me@work.example' as ReversePath,
  recipients: [{ to }],
  body: '7BIT',
  smtputf8: false,
};

async function* message(): AsyncGenerator<Uint8Array> {
  yield Buffer.from('Subject: x\r\n\r\n');
  yield Buffer.alloc(200_000, 'x');
}

/** What the spool has promised so far. */
interface Promised {
  readonly kept: Set<EntryId>;
  readonly leaving: Set<EntryId>;
  readonly removed: Set<EntryId>;
  readonly attempts: Map<EntryId, number>;
}

/** One life of a spool: three messages, one journalled, one removed with a journal, one without. */
async function life(dir: string, disk: Disk, promised: Promised): Promise<void> {
  const spool = await openSpool({ dir, env: systemEnv, disk, keepFreeBytes: 0 });
  const accept = async (): Promise<EntryId> => {
    const id = await spool.accept(envelope, message());
    promised.kept.add(id);
    return id;
  };
  const remove = async (id: EntryId): Promise<void> => {
    promised.leaving.add(id);
    await spool.remove(id);
    promised.removed.add(id);
  };
  const ids = await Promise.all([accept(), accept(), accept()]);
  for (const [at, id] of ids.entries()) {
    if (at === 2) continue;
    await spool.record(id, { type: 'attempt', at: 1, n: 1, host: 'gate', to: [to], receipt: 'r' });
    promised.attempts.set(id, 1);
    await spool.record(id, { type: 'outcome', at: 2, n: 1, to, outcome: { type: 'deferred', reason: 'later' } });
  }
  await remove(ids[1] as EntryId);
  await remove(ids[2] as EntryId);
  await spool.close();
}

/** What a spool opened after a power cut lacks of what was promised. */
async function broken(dir: string, promised: Promised): Promise<string[]> {
  const spool = await openSpool({ dir, env: systemEnv, keepFreeBytes: 0 });
  const faults: string[] = [];
  for (const id of promised.kept) {
    if (promised.leaving.has(id)) continue;
    const state = spool.get(id);
    if (state === undefined) faults.push('lost');
    else if (state.attempts < (promised.attempts.get(id) ?? 0)) faults.push('forgot an attempt');
  }
  for (const id of promised.removed) if (spool.get(id) !== undefined) faults.push('came back');
  for (const { id } of spool.entries()) for await (const _ of spool.read(id));
  await spool.close();
  return faults;
}

/** Cuts the power before every step of a life, both ways, and once at its end. */
async function everyCut(fault?: Planted): Promise<{ cuts: number; faults: Set<string> }> {
  const root = await mkdtemp(join(tmpdir(), 'cut-'));
  onTestFinished(() => rm(root, { recursive: true, force: true }));
  const promised: Promised = { kept: new Set(), leaving: new Set(), removed: new Set(), attempts: new Map() };
  const faults = new Set<string>();
  let cuts = 0;
  let checking: Promise<void> = Promise.resolve();
  const check = async (step: string): Promise<void> => {
    for (const adversary of ['loses-names', 'keeps-names'] as const) {
      const into = join(root, 'after');
      model.cut(adversary, into);
      cuts++;
      for (const found of await broken(join(into, 'state', 'spool'), promised))
        faults.add(`${found} (${adversary}, ${step})`);
    }
  };
  const live = join(root, 'live');
  await mkdir(live);
  const model = createModel(live, (step) => {
    // Steps run side by side; the power goes once for all of them.
    checking = checking.then(() => check(step));
    return checking;
  });
  await life(join(live, 'state', 'spool'), plant(model.disk, fault), promised);
  await check('end');
  return { cuts, faults };
}

test('a power cut before any step of a message\u2019s life loses nothing that was promised', async () => {
  const { cuts, faults } = await everyCut();
  expect([...faults]).toEqual([]);
  expect(cuts).toBeGreaterThan(80);
});

test.each<[Planted, string]>([
  ['no file sync', 'lost'],
  ['no directory sync', 'lost'],
  ['parents not synced', 'lost'],
  ['removal not synced', 'came back'],
  ['journal not synced', 'forgot an attempt'],
])('the rig finds a spool with %s', async (fault, symptom) => {
  const { faults } = await everyCut(fault);
  expect([...faults].filter((found) => found.startsWith(symptom))).not.toEqual([]);
});
