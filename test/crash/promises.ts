import { createInterface } from 'node:readline';
import { type EntryId, type Envelope, type ForwardPath, type ReversePath, systemEnv } from '@postern/core';
import { nodeDisk, openSpool } from '@postern/spool';
import { type Planted, plant } from './model.ts';

/** Makes promises on the spool of its first argument, one a line, and goes on at each line it is sent. The second argument plants a fault. */
const to = 'a@x.example' as ForwardPath;
const envelope: Envelope = {
  from: 'me@work.example' as ReversePath,
  recipients: [{ to }],
  body: '7BIT',
  smtputf8: false,
};
const disk = plant(nodeDisk, (process.argv[3] || undefined) as Planted | undefined);
const answers = createInterface({ input: process.stdin })[Symbol.asyncIterator]();

async function promise(type: 'kept' | 'removed' | 'attempt', id: EntryId): Promise<void> {
  process.stdout.write(`${JSON.stringify({ type, id })}\n`);
  await answers.next();
}

async function* message(): AsyncGenerator<Uint8Array> {
  yield Buffer.from(`Subject: x\r\n\r\n${'x'.repeat(6000)}\r\n`);
}

const spool = await openSpool({ dir: process.argv[2] ?? '', env: systemEnv, disk, keepFreeBytes: 0 });
for (let round = 0; round < 4; round++) {
  const id = await spool.accept(envelope, message());
  await promise('kept', id);
  await spool.record(id, { type: 'attempt', at: 1, n: 1, host: 'gate', to: [to] });
  await promise('attempt', id);
  const other = await spool.accept(envelope, message());
  await spool.remove(other);
  await promise('removed', other);
}
process.exit(0);
