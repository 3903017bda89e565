import { expect, test } from 'vitest';
import { deferred } from '../env.ts';
import type { Envelope, ForwardPath, ReversePath } from '../envelope.ts';
import { SpoolError } from '../spool.ts';
import { settle, virtualEnv } from './clock.ts';
import { memorySpool } from './memory-spool.ts';

const to = 'a@x.example' as ForwardPath;
const envelope: Envelope = { from: '' as ReversePath, recipients: [{ to }], body: '7BIT', smtputf8: false };
async function* message(): AsyncGenerator<Uint8Array> {
  yield Buffer.from('Subject: a\r\n\r\n');
}

test('what a dead process was about to keep never comes, and it says nothing more', async () => {
  const env = virtualEnv();
  const gate = deferred<void>();
  const dead = memorySpool({ env, beforeRecord: () => gate.promise });
  const id = await dead.accept(envelope, message());
  const said: string[] = [];
  void dead.record(id, { type: 'hold', at: 1, reason: 'late' }).then(() => said.push('recorded'));
  void dead.remove(id).then(() => said.push('removed'));
  await settle();
  const next = memorySpool({ env, after: dead });
  gate.resolve();
  void dead.accept(envelope, message()).then(() => said.push('accepted'));
  await settle();
  expect(said).toEqual([]);
  expect(dead.get(id)).toMatchObject({ held: false });
  expect([...next.entries()]).toMatchObject([{ id, held: false }]);
});

test('what a hook rejects with is what the caller gets, and nothing is kept', async () => {
  const full = new SpoolError('the disk is full', { code: 'no-space' });
  let refuse = true;
  const refusing = async (): Promise<void> => {
    if (refuse) throw full;
  };
  const spool = memorySpool({ env: virtualEnv(), beforeAccept: refusing, beforeRecord: refusing });
  await expect(spool.accept(envelope, message())).rejects.toBe(full);
  expect([...spool.entries()]).toEqual([]);
  refuse = false;
  const id = await spool.accept(envelope, message());
  refuse = true;
  await expect(spool.record(id, { type: 'hold', at: 1, reason: 'no' })).rejects.toBe(full);
  expect(spool.get(id)).toMatchObject({ held: false });
});

test('what is done to one entry waits for what was asked before, other entries do not', async () => {
  const gate = deferred<void>();
  const spool = memorySpool({
    env: virtualEnv(),
    beforeRecord: (id) => (id === slow ? gate.promise : Promise.resolve()),
  });
  const slow = await spool.accept(envelope, message());
  const quick = await spool.accept(envelope, message());
  const said: string[] = [];
  void spool.record(slow, { type: 'hold', at: 1, reason: 'first' }).then(() => said.push('slow'));
  void spool.remove(slow).then(() => said.push('gone'));
  void spool.record(quick, { type: 'hold', at: 1, reason: 'other' }).then(() => said.push('quick'));
  await settle();
  expect(said).toEqual(['quick']);
  gate.resolve();
  await settle();
  expect(said).toEqual(['quick', 'slow', 'gone']);
});

test('bytes that were damaged are given to nobody, and the entry is gone', async () => {
  const spool = memorySpool({ env: virtualEnv() });
  const id = await spool.accept(envelope, message());
  spool.damage(id);
  await expect(spool.read(id)[Symbol.asyncIterator]().next()).rejects.toMatchObject({ code: 'corrupt' });
  expect(spool.get(id)).toBeUndefined();
});
