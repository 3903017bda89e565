import { appendFileSync, existsSync, readdirSync, readFileSync } from 'node:fs';
import { join } from 'node:path';
import {
  type Courier,
  type Entry,
  type Envelope,
  type ForwardPath,
  type Outcome,
  type ReversePath,
  type Spool,
  systemEnv,
} from '@postern/core';
import { compileRoutes, createRunner, type Runner } from '@postern/relay';
import { type Disk, maildirWriter, nodeDisk, openSpool } from '@postern/spool';

/**
 * A small world for crashes: a spool and a runner on a real disk, a far side that writes down what it took, and messages whose recipients
 * have each their fate by name: `ok`, `no` (refused), `late` (deferred once, the sender hears of it), `lost` (uncertain once), `told` (relayed, and the sender
 * wants to know). A client's 250 is a line in `acked`. DSNs to `sender@x.example` are sent, those to `sender@away.example`, where no route leads, are kept
 * in the bounces Maildir.
 */
export const FATES = ['ok', 'no', 'late', 'lost', 'told'] as const;

/** Syncs that cost nothing, where it is not about power cuts. */
export const quickDisk: Disk = { ...nodeDisk, sync: async () => {}, syncData: async () => {} };

/** Files of a world, all in one directory. */
export interface World {
  readonly dir: string;
  readonly spool: string;
  readonly far: string;
  readonly acked: string;
}

export function worldAt(dir: string): World {
  return { dir, spool: join(dir, 'spool'), far: join(dir, 'far.log'), acked: join(dir, 'acked.log') };
}

/** Lines of a log, without a torn last one. */
export function logLines(path: string): string[] {
  return existsSync(path) ? readFileSync(path, 'utf8').split('\n').slice(0, -1) : [];
}

async function textOf(source: AsyncIterable<Uint8Array>): Promise<string> {
  const chunks: Uint8Array[] = [];
  for await (const chunk of source) chunks.push(chunk);
  return Buffer.concat(chunks).toString('latin1');
}

export function markersIn(text: string): string[] {
  return [...text.matchAll(/X-Marker: (\S+)/g)].map(([, marker]) => marker as string);
}

/** What a message is: mail, or the action a DSN tells of (RFC 3464 §2.3.3). */
function kindOf(text: string): string {
  return /^Action: (\S+)/m.exec(text)?.[1] ?? 'mail';
}

/** A far side that keeps what it says it took (`kind marker recipient life`), whoever dies. */
function farSide(world: World, onTaken: () => void): Courier {
  const life = Math.random().toString(36).slice(2);
  const reply = { code: 250, lines: ['taken'] };
  const fate = (entry: Entry, to: ForwardPath, tries: number): Outcome => {
    const name = to.split('@')[0];
    if (name === 'no') return { type: 'failed', reply: { code: 550, lines: ['no'] }, reason: '550 no' };
    if (name === 'late' && tries === 0)
      return { type: 'deferred', reply: { code: 451, lines: ['later'] }, reason: '451 later' };
    if (name === 'lost' && tries === 0) return { type: 'uncertain', receipt: `r-${entry.id}` };
    return { type: 'delivered', reply, ...(name === 'told' ? { relayed: true } : {}) };
  };
  const tries = new Map<string, number>();
  return async (batch, report) => {
    for await (const entry of batch) {
      const text = await textOf(entry.open());
      await report.attempting(entry.id, {});
      const kind = kindOf(text);
      const told = entry.envelope.recipients.map(({ to }): [ForwardPath, Outcome] => {
        const key = `${entry.id} ${to}`;
        const outcome = fate(entry, to, tries.get(key) ?? 0);
        tries.set(key, (tries.get(key) ?? 0) + 1);
        if (outcome.type === 'delivered') {
          appendFileSync(
            world.far,
            markersIn(text)
              .map((marker) => `${kind} ${marker} ${to} ${life}\n`)
              .join(''),
          );
          onTaken();
        }
        return [to, outcome];
      });
      for (const [to, outcome] of told) await report.outcome(entry.id, to, outcome);
    }
  };
}

/** A world that runs. */
export interface Life {
  readonly spool: Spool;
  readonly runner: Runner;
  /** Takes one message; its line is in `acked` once it is accepted. */
  send(marker: string): Promise<void>;
  close(): Promise<void>;
}

/** Starts a life. `onProgress` hears of every message acknowledged and every one the far side took. */
export async function live(
  world: World,
  disk: Disk,
  { onProgress = () => {}, ...o }: { deliver?: boolean; onProgress?: (what: 'acknowledged' | 'taken') => void } = {},
): Promise<Life> {
  const spool = await openSpool({ dir: world.spool, env: systemEnv, disk, keepFreeBytes: 0 });
  const bounces = await maildirWriter({ dir: join(world.dir, 'bounces'), hostname: 'laptop', disk });
  const routes = compileRoutes([{ match: ['x.example'], host: 'gate' }]);
  const courier = farSide(world, () => onProgress('taken'));
  const runner = createRunner({
    ...{ spool, routes: () => routes, bounces, env: systemEnv, hostname: 'laptop.example' },
    courierFor: () => (o.deliver === false ? undefined : { host: 'gate', courier }),
    schedule: { firstRetryMs: 2, longestRetryMs: 10, delayNoticeMs: 0 },
  });
  let sent = 0;
  return {
    spool,
    runner,
    async send(marker) {
      const envelope: Envelope = {
        from: `sender@${sent++ % 2 === 0 ? 'x' : 'away'}.example` as ReversePath,
        recipients: FATES.map((name) => ({
          to: `${name}@x.example` as ForwardPath,
          notify: name === 'told' ? ['SUCCESS'] : ['FAILURE', 'DELAY'],
        })),
        ...{ body: '7BIT', smtputf8: false },
      };
      async function* message(): AsyncGenerator<Uint8Array> {
        yield Buffer.from(`X-Marker: ${marker}\r\n\r\n`);
        yield Buffer.alloc(3000, 'x');
      }
      await spool.accept(envelope, message());
      appendFileSync(world.acked, `${marker}\n`);
      onProgress('acknowledged');
    },
    async close() {
      await runner.close({ graceMs: 0 });
      await spool.close();
      await bounces.close();
    },
  };
}

/** Lets a world come to rest: nothing in the spool but what is held. */
export async function drain(world: World, disk: Disk): Promise<void> {
  const life = await live(world, disk);
  const busy = (): boolean => [...life.spool.entries()].some((state) => !state.held);
  while (busy()) {
    await life.runner.idle();
    await new Promise<void>((resolve) => setTimeout(resolve, 1));
  }
  await life.close();
}

/** Recipients of acknowledged messages that are neither delivered, bounced, queued nor held; a sender who was not told counts as one. */
export async function missing(world: World, disk: Disk): Promise<string[]> {
  const seen = new Set<string>();
  for (const line of logLines(world.far)) {
    const [kind, marker, to] = line.split(' ');
    seen.add(kind === 'mail' ? `${marker} ${to}` : `${kind} ${marker}`);
  }
  const kept = join(world.dir, 'bounces', 'new');
  for (const name of existsSync(kept) ? readdirSync(kept) : []) {
    const text = readFileSync(join(kept, name), 'latin1');
    for (const marker of markersIn(text)) seen.add(`${kindOf(text)} ${marker}`);
  }
  const spool = await openSpool({ dir: world.spool, env: systemEnv, disk, keepFreeBytes: 0 });
  const queued = new Set<string>();
  for (const { id } of spool.entries())
    for (const marker of markersIn(await textOf(spool.read(id)))) queued.add(marker);
  await spool.close();
  const lost: string[] = [];
  for (const marker of logLines(world.acked)) {
    if (queued.has(marker)) continue;
    for (const name of FATES) {
      const to = `${name}@x.example`;
      if (!seen.has(name === 'no' ? `failed ${marker}` : `${marker} ${to}`)) lost.push(`${marker} ${to}`);
    }
    if (!seen.has(`relayed ${marker}`)) lost.push(`${marker} relayed`);
  }
  return lost;
}

/** Mail the far side took more than once: after a death in between that may be, within one life it may not. */
export function repeated(world: World): { twice: number; inOneLife: string[] } {
  const taken = new Set<string>();
  const inLife = new Set<string>();
  const inOneLife: string[] = [];
  let twice = 0;
  for (const line of logLines(world.far)) {
    const [kind, marker, to] = line.split(' ');
    if (kind !== 'mail') continue;
    if (inLife.has(line)) inOneLife.push(line);
    inLife.add(line);
    const mail = `${marker} ${to}`;
    if (taken.has(mail)) twice++;
    taken.add(mail);
  }
  return { twice, inOneLife };
}
