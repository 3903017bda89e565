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
import { type Disk, maildirWriter, openSpool } from '@postern/spool';

/**
 * A small world for crashes: a spool and a runner on a real disk, a far side that writes down what it took, and messages whose recipients
 * have each their fate by name: `ok`, `no` (refused), `late` (deferred once), `lost` (uncertain once). A client's 250 is a line in `acked`.
 */
export const FATES = ['ok', 'no', 'late', 'lost'] as const;

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

/** A far side that keeps what it says it took, whoever dies. */
function farSide(world: World): Courier {
  const reply = { code: 250, lines: ['taken'] };
  const fate = (entry: Entry, to: ForwardPath, tries: number): Outcome => {
    const name = to.split('@')[0];
    if (name === 'no') return { type: 'failed', reply: { code: 550, lines: ['no'] }, reason: '550 no' };
    if (name === 'late' && tries === 0)
      return { type: 'deferred', reply: { code: 451, lines: ['later'] }, reason: '451 later' };
    if (name === 'lost' && tries === 0) return { type: 'uncertain', receipt: `r-${entry.id}` };
    return { type: 'delivered', reply };
  };
  const tries = new Map<string, number>();
  return async (batch, report) => {
    for await (const entry of batch) {
      const text = await textOf(entry.open());
      await report.attempting(entry.id, {});
      const kind = entry.envelope.from === '' ? 'bounce' : 'mail';
      const told = entry.envelope.recipients.map(({ to }): [ForwardPath, Outcome] => {
        const key = `${entry.id} ${to}`;
        const outcome = fate(entry, to, tries.get(key) ?? 0);
        tries.set(key, (tries.get(key) ?? 0) + 1);
        if (outcome.type === 'delivered') {
          appendFileSync(
            world.far,
            markersIn(text)
              .map((marker) => `${kind} ${marker} ${to}\n`)
              .join(''),
          );
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

export async function live(world: World, disk: Disk, o: { deliver?: boolean } = {}): Promise<Life> {
  const spool = await openSpool({ dir: world.spool, env: systemEnv, disk, keepFreeBytes: 0 });
  const bounces = await maildirWriter({ dir: join(world.dir, 'bounces'), env: systemEnv, hostname: 'laptop', disk });
  const routes = compileRoutes([{ match: ['*'], host: 'gate' }]);
  const courier = farSide(world);
  const runner = createRunner({
    ...{ spool, routes: () => routes, bounces, env: systemEnv, hostname: 'laptop.example' },
    courierFor: () => (o.deliver === false ? undefined : { host: 'gate', courier }),
    schedule: { firstRetryMs: 2, longestRetryMs: 10 },
  });
  return {
    spool,
    runner,
    async send(marker) {
      const envelope: Envelope = {
        from: 'sender@x.example' as ReversePath,
        recipients: FATES.map((name) => ({ to: `${name}@x.example` as ForwardPath })),
        ...{ body: '7BIT', smtputf8: false },
      };
      async function* message(): AsyncGenerator<Uint8Array> {
        yield Buffer.from(`X-Marker: ${marker}\r\n\r\n`);
        yield Buffer.alloc(3000, 'x');
      }
      await spool.accept(envelope, message());
      appendFileSync(world.acked, `${marker}\n`);
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
    await new Promise<void>((resolve) => setImmediate(resolve));
  }
  await life.close();
}

/** Recipients of acknowledged messages that are neither delivered, bounced, queued nor held. */
export async function missing(world: World, disk: Disk): Promise<string[]> {
  const far = logLines(world.far);
  const delivered = new Set(far.filter((line) => line.startsWith('mail ')).map((line) => line.slice(5)));
  const bounced = new Set(far.filter((line) => line.startsWith('bounce ')).map((line) => line.split(' ')[1]));
  const kept = join(world.dir, 'bounces', 'new');
  for (const name of existsSync(kept) ? readdirSync(kept) : []) {
    for (const marker of markersIn(readFileSync(join(kept, name), 'latin1'))) bounced.add(marker);
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
      const there = name === 'no' ? bounced.has(marker) : delivered.has(`${marker} ${to}`);
      if (!there) lost.push(`${marker} ${to}`);
    }
  }
  return lost;
}
