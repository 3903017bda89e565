import { readdirSync, truncateSync } from 'node:fs';
import { mkdtemp, rm } from 'node:fs/promises';
import { tmpdir } from 'node:os';
import { join } from 'node:path';
import {
  type Courier,
  type EntryId,
  type Env,
  type ForwardPath,
  LinkError,
  newEntryId,
  type Outcome,
  type Spool,
} from '@postern/core';
import { compileRoutes, createRunner, type RelayEvent, type Runner } from '@postern/relay';
import { type Disk, openSpool } from '@postern/spool';
import { seededRandom, settle, type VirtualEnv, virtualEnv } from '@postern/testkit';
import { expect, test } from 'vitest';
import { setting } from './size.ts';
import {
  body,
  DAY,
  delivered,
  down,
  envelope,
  later,
  MINUTE,
  quickDisk,
  refused,
  stateLink,
  textOf,
} from './support.ts';

/**
 * Random histories of a queue on a virtual clock: mail comes, the link goes up and down, the far side takes, defers, refuses, loses its replies or drops
 * the session, the disk fills up, the process dies. Then all is well again and a week passes. `POSTERN_HISTORIES=10000` for the long run,
 * `POSTERN_SEED` to see one again.
 */
const HISTORIES = setting('POSTERN_HISTORIES', 200);
const SEED = setting('POSTERN_SEED', 1);
const STEPS = 14;

/** What really happened, kept outside of everything that can die. */
interface Truth {
  readonly accepted: Map<EntryId, ForwardPath[]>;
  /** How often the far side took `id to`. */
  readonly taken: Map<string, number>;
  /** Excuses for another delivery of an entry: an answer that was lost, a death, a disk that did not take it down. */
  readonly excuses: Map<EntryId, number>;
  /** The DSNs, by name, that told of `id to kind`. */
  readonly told: Map<string, Set<string>>;
  /** Messages that nobody could be told of, kept as they were. */
  readonly kept: Set<string>;
  readonly faults: string[];
  /** The link was up for so long altogether, ms. */
  upFor: number;
}

class History {
  readonly truth: Truth = {
    accepted: new Map(),
    taken: new Map(),
    excuses: new Map(),
    told: new Map(),
    kept: new Set(),
    faults: [],
    upFor: 0,
  };
  readonly env: VirtualEnv;
  readonly link = stateLink();
  readonly #random: () => number;
  readonly #dir: string;
  #well = false;
  #full = false;
  /** Everything of a dead process hangs: its generation is not the present one. */
  #generation = 0;
  /** Disk operations after which the process dies. */
  #fuse = Number.POSITIVE_INFINITY;
  #upAt = 0;
  #spool: Spool | undefined;
  #runner: Runner | undefined;
  readonly log: string[] = [];

  constructor(seed: number, dir: string) {
    this.#random = seededRandom(seed);
    this.env = virtualEnv({ seed });
    this.#dir = dir;
  }

  #pick<T>(...choices: T[]): T {
    return choices[Math.floor(this.#random() * choices.length)] as T;
  }

  #disk(): Disk {
    const generation = this.#generation;
    const entries = Object.entries(quickDisk).map(([name, real]) => [
      name,
      async (...args: unknown[]) => {
        if (generation === this.#generation && --this.#fuse < 0) this.#generation++;
        if (generation !== this.#generation) return await new Promise<never>(() => {});
        if (this.#full && ['create', 'write', 'openForWrite', 'link'].includes(name)) {
          throw Object.assign(new Error('ENOSPC'), { code: 'ENOSPC' });
        }
        return await (real as (...args: unknown[]) => Promise<unknown>)(...args);
      },
    ]);
    return Object.fromEntries(entries) as Disk;
  }

  #excuse(id: EntryId): void {
    this.truth.excuses.set(id, (this.truth.excuses.get(id) ?? 0) + 1);
  }

  #verdict(): Outcome | 'drop' | 'lose' {
    if (this.#well) return delivered;
    const roll = this.#random();
    if (roll < 0.45) return delivered;
    if (roll < 0.65) return later;
    if (roll < 0.75) return refused;
    if (roll < 0.85) return { type: 'uncertain', receipt: 'r' };
    return roll < 0.93 ? 'drop' : 'lose';
  }

  #courier(): Courier {
    const generation = this.#generation;
    return async (batch, report) => {
      if (this.link.state.type === 'down') this.truth.faults.push('tried while the link was down');
      const lost = (): LinkError => new LinkError('lost', { code: 'lost', layer: 'channel' });
      for await (const entry of batch) {
        if (this.link.state.type === 'down') throw lost();
        const verdict = this.#verdict();
        if (verdict === 'drop') throw new Error('the session was dropped');
        const text = await textOf(entry.open());
        await report.attempting(entry.id, { receipt: 'r' });
        if (generation !== this.#generation) return;
        for (const { to } of entry.envelope.recipients) {
          // A lost reply: the far side took it, or not, and nobody knows.
          const outcome = verdict === 'lose' ? undefined : verdict;
          const took =
            outcome?.type === 'delivered' ||
            (outcome?.type !== 'failed' && outcome?.type !== 'deferred' && this.#random() < 0.5);
          if (took) this.#took(entry.id, to, entry.envelope.from === '' ? text : undefined);
          if (outcome === undefined || outcome.type === 'uncertain') this.#excuse(entry.id);
          if (outcome !== undefined) await report.outcome(entry.id, to, outcome);
        }
        if (verdict === 'lose') {
          this.link.setState({ type: 'down', error: down(), retryAt: 0 });
          this.#clockLink();
          throw lost();
        }
      }
    };
  }

  #took(id: EntryId, to: ForwardPath, dsn: string | undefined): void {
    const key = `${id} ${to}`;
    this.truth.taken.set(key, (this.truth.taken.get(key) ?? 0) + 1);
    if (dsn !== undefined) this.#tell(dsn);
  }

  /** A DSN somebody can read. */
  #tell(dsn: string): void {
    const about = /known here as ([0-9a-v]{15})/.exec(dsn)?.[1];
    const name = /^Message-ID: (\S+)/m.exec(dsn)?.[1] ?? '';
    for (const [, to, action] of dsn.matchAll(/^Final-Recipient: rfc822; (\S+)\r\nAction: (\S+)/gm)) {
      const key = `${about} ${to} ${action}`;
      this.truth.told.set(key, (this.truth.told.get(key) ?? new Set()).add(name));
    }
    if (/^Status: 4\.4\.7/m.test(dsn) && this.truth.upFor + this.#upNow() < 5 * DAY)
      this.truth.faults.push('expired too early');
  }

  #upNow(): number {
    return this.link.state.type === 'up' ? this.env.monotonicNow() - this.#upAt : 0;
  }

  #clockLink(): void {
    if (this.link.state.type === 'up') this.#upAt = this.env.monotonicNow();
  }

  #setLink(up: boolean): void {
    if (!up) this.truth.upFor += this.#upNow();
    this.link.setState(up ? { type: 'up' } : { type: 'down', error: down(), retryAt: 0 });
    this.#clockLink();
  }

  async start(): Promise<void> {
    for (const name of readdirSync(this.#dir)) if (name.startsWith('owner.')) truncateSync(join(this.#dir, name), 0);
    const still: Env = { ...this.env, schedule: () => ({ [Symbol.dispose]() {} }) };
    const spool = await openSpool({ dir: this.#dir, env: still, disk: this.#disk(), keepFreeBytes: 0 });
    this.#spool = spool;
    const courier = this.#courier();
    const generation = this.#generation;
    this.#runner = createRunner({
      ...{ spool, env: this.env, hostname: 'laptop.example' },
      routes: () => compileRoutes([{ match: ['*'], host: 'gate' }]),
      courierFor: () => ({ host: 'gate', courier, link: this.link }),
      bounces: {
        deliver: async (message) => {
          const text = await textOf(message);
          if (generation !== this.#generation) return await new Promise<never>(() => {});
          this.#tell(text);
          this.truth.kept.add(/^X-Name: (\S+)/.exec(text)?.[1] ?? '');
          return 'kept';
        },
      },
      onEvent: (event) => this.#heard(event),
    });
  }

  #heard(event: RelayEvent): void {
    if (event.type === 'outcome') this.log.push(`${event.id} ${event.to} ${event.status}`);
    if (event.type === 'error' && event.id !== undefined) this.#excuse(event.id);
  }

  async rest(): Promise<void> {
    for (let quiet = 0; quiet < 2; quiet++) {
      await settle();
      await this.#runner?.idle();
    }
  }

  async arrive(): Promise<void> {
    const to = Array.from({ length: this.#pick(1, 1, 2, 3) }, (_, at) => `r${at}@x.example`);
    const id = newEntryId(this.env);
    const message = body(`X-Name: ${id}\r\n\r\nbody\r\n`);
    await this.#spool?.accept(envelope(to, this.#pick('me@work.example', 'me@work.example', '')), message, { id }).then(
      () => this.truth.accepted.set(id, to as ForwardPath[]),
      () => this.log.push('refused at the door'),
    );
  }

  /** The process dies, at once or in the middle of something; another takes its place. */
  async crash(): Promise<void> {
    if (this.#random() < 0.7) {
      this.#fuse = Math.floor(this.#random() * 60);
      this.#runner?.flush();
      for (let mails = 0; mails < 3; mails++) void this.arrive();
      const dying = this.#generation;
      for (let turns = 0; turns < 100 && dying === this.#generation; turns++) await settle();
    }
    this.#fuse = Number.POSITIVE_INFINITY;
    this.#generation++;
    for (const id of this.truth.accepted.keys()) this.#excuse(id);
    const runner = this.#runner;
    this.#runner = undefined;
    void runner?.close({ graceMs: 0 });
    await settle();
    await this.start();
  }

  async advance(ms: number): Promise<void> {
    const stride = ms > DAY ? 30 * MINUTE : 5 * MINUTE;
    for (let left = ms; left > 0; left -= stride) {
      await this.env.advance(Math.min(stride, left));
      await this.rest();
    }
  }

  async step(): Promise<void> {
    const what = this.#pick(
      'mail',
      'mail',
      'mail',
      'link',
      'link',
      'wait',
      'wait',
      'long',
      'crash',
      'full',
      'flush',
      'hold',
      'jump',
    );
    this.log.push(what);
    const some = [...(this.#spool?.entries() ?? [])][0]?.id;
    if (what === 'mail') await this.arrive();
    else if (what === 'link') this.#setLink(this.link.state.type !== 'up');
    else if (what === 'wait') await this.advance(this.#pick(1, 5, 20) * MINUTE);
    else if (what === 'long') await this.advance(6 * 60 * MINUTE);
    else if (what === 'full') this.#full = !this.#full;
    else if (what === 'flush') this.#runner?.flush();
    else if (what === 'hold' && some !== undefined) await this.#runner?.hold(some).catch(() => {});
    else if (what === 'jump') this.env.jumpWall(this.#pick(-365, 365) * DAY);
    else if (what === 'crash' && !this.#full) await this.crash();
    if (this.#random() < 0.6) await this.rest();
  }

  /** Everything is well again, for a week. */
  async heal(): Promise<void> {
    this.#well = true;
    this.#full = false;
    await this.rest();
    if (this.link.state.type !== 'up') this.#setLink(true);
    await this.advance(3 * 15 * MINUTE);
    for (const { id, held } of [...(this.#spool?.entries() ?? [])]) if (held) await this.#runner?.release(id);
    await this.advance(3 * 15 * MINUTE);
    await this.rest();
    for (const { id, reason } of this.#spool?.entries() ?? []) this.truth.faults.push(`${id} is still here: ${reason}`);
    await this.#runner?.close({ graceMs: 0 });
    await this.#spool?.close();
  }

  verify(): string[] {
    const { accepted, taken, excuses, told, kept, faults } = this.truth;
    for (const [id, recipients] of accepted) {
      for (const to of recipients) {
        const key = `${id} ${to}`;
        const times = taken.get(key) ?? 0;
        const bounced = told.has(`${key} failed`);
        if (times === 0 && !bounced && !kept.has(id)) faults.push(`${key} is lost`);
        if (times > 1 + (excuses.get(id) ?? 0)) faults.push(`${key} was delivered ${times} times`);
      }
    }
    for (const [what, dsns] of told) if (dsns.size > 1) faults.push(`${what}: told by ${dsns.size} DSNs`);
    return faults;
  }
}

async function run(seed: number): Promise<{ seed: number; faults: string[]; log: string[] }> {
  const dir = await mkdtemp(join(tmpdir(), 'history-'));
  try {
    const history = new History(seed, dir);
    await history.start();
    for (let at = 0; at < STEPS; at++) await history.step();
    await history.heal();
    return { seed, faults: history.verify(), log: history.log };
  } finally {
    await rm(dir, { recursive: true, force: true });
  }
}

test(`${HISTORIES} random histories lose nothing, repeat nothing without excuse and bounce nothing too early`, async () => {
  for (let seed = SEED; seed < SEED + HISTORIES; seed++) {
    const { faults, log } = await run(seed);
    expect({ seed, faults, log: faults.length > 0 ? log : [] }).toEqual({ seed, faults: [], log: [] });
  }
}, 3_600_000);
