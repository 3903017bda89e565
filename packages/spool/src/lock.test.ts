import { spawn } from 'node:child_process';
import { once } from 'node:events';
import { existsSync, mkdirSync, readdirSync, readFileSync, utimesSync, writeFileSync } from 'node:fs';
import { join } from 'node:path';
import { type VirtualEnv, virtualEnv } from '@postern/core/testing';
import { describe, expect, onTestFinished, test } from 'vitest';
import type { SpoolEvent } from './event.ts';
import { WATCH_MS } from './lock.ts';
import { ownMark, type ProcessMark } from './process.ts';
import { bytes, envelopeTo, scratch } from './spool.test-util.ts';
import { openSpool } from './spool.ts';

const YEAR_S = 365 * 86400;

/** A spool directory whose last owner left this mark. */
async function leftBy(mark: ProcessMark | object) {
  const dir = join(await scratch(onTestFinished), 'spool');
  mkdirSync(dir);
  const owner = join(dir, 'owner.1');
  writeFileSync(owner, `${JSON.stringify(mark)}\n`);
  const events: SpoolEvent[] = [];
  const open = async (env: VirtualEnv = virtualEnv()) => {
    const spool = await openSpool({ dir, env, keepFreeBytes: 0, onEvent: (e) => void events.push(e) });
    onTestFinished(() => spool.close().catch(() => {}));
    return spool;
  };
  const owners = (): string[] => readdirSync(dir).filter((name) => name.startsWith('owner.'));
  return { dir, owner, events, open, owners };
}

/** Lets virtual time pass until a promise settles; tells what came of it and how long it took. */
async function passing<T>(env: VirtualEnv, promise: Promise<T>, each: () => void = () => {}) {
  let settled = false;
  const done = (): void => {
    settled = true;
  };
  promise.then(done, done);
  const start = env.monotonicNow();
  while (!settled) {
    await env.step();
    if (!settled) each();
    await new Promise<void>((resolve) => setImmediate(resolve));
  }
  const [result] = await Promise.allSettled([promise]);
  return { result, waited: env.monotonicNow() - start };
}

const elsewhere: ProcessMark = { ...ownMark(), space: '1' };
const otherMachine: ProcessMark = { ...ownMark(), boot: 'another', host: 'another.example' };

describe('an owner that is dead beyond doubt is replaced at once', () => {
  test.each([
    ['of an earlier boot', { ...ownMark(), boot: 'another' }],
    [
      'of an earlier boot, marked by a version that named no machine',
      { ...ownMark(), boot: 'another', host: undefined },
    ],
    ['whose number was given to another process', { ...ownMark(), start: '1' }],
  ])('%s', async (_, mark) => {
    const { events, open, owners } = await leftBy(mark);
    await open();
    expect(events[0]).toEqual({ type: 'taken-over', pid: process.pid });
    expect(owners()).toEqual(['owner.2']);
  });

  test.skipIf(!existsSync('/proc/self/stat'))('that was killed and that nobody has waited for', async () => {
    // The shell becomes a program that waits for no child.
    const parent = spawn('sh', ['-c', 'sleep 1000 & echo $!; exec sleep 1000'], {
      stdio: ['ignore', 'pipe', 'inherit'],
    });
    onTestFinished(() => void parent.kill());
    const [output] = (await once(parent.stdout, 'data')) as [Buffer];
    const pid = Number(output.toString());
    const fields = (): string[] => readFileSync(`/proc/${pid}/stat`, 'latin1').split(') ')[1]?.split(' ') ?? [];
    const start = fields()[19] ?? '';
    while (readFileSync(`/proc/${parent.pid}/comm`, 'latin1').trim() !== 'sleep')
      await new Promise<void>((resolve) => setImmediate(resolve));
    process.kill(pid, 'SIGKILL');
    while (fields()[0] !== 'Z') await new Promise<void>((resolve) => setImmediate(resolve));
    const { events, open } = await leftBy({ ...ownMark(), pid, start });
    await open();
    expect(events[0]).toEqual({ type: 'taken-over', pid });
  });
});

describe.each([
  ['in another pid namespace', elsewhere],
  ['on another machine', otherMachine],
])('an owner %s', (_, mark) => {
  test.each([
    ['last touched now', 0],
    ['last touched a year ago', -YEAR_S],
    ['last touched a year from now, by a clock that was set back', YEAR_S],
  ])('%s is dead when it stays silent', async (_when, offset) => {
    const { owner, events, open, owners } = await leftBy(mark);
    const touched = Date.now() / 1000 + offset;
    utimesSync(owner, touched, touched);
    const env = virtualEnv();
    const { result, waited } = await passing(env, open(env));
    expect(result.status).toBe('fulfilled');
    expect(waited).toBeGreaterThanOrEqual(WATCH_MS);
    expect(events[0]).toEqual({ type: 'taken-over', pid: process.pid });
    expect(owners()).toEqual(['owner.2']);
  });

  test('lives when it touches its file, even by a clock that is a year late', async () => {
    const { owner, open, owners } = await leftBy(mark);
    const env = virtualEnv();
    const long = Date.now() / 1000 - YEAR_S;
    utimesSync(owner, long, long);
    const { result, waited } = await passing(env, open(env), () => {
      if (env.monotonicNow() >= 15_000) utimesSync(owner, long + 15, long + 15);
    });
    expect(result).toMatchObject({ status: 'rejected', reason: { name: 'SpoolError', code: 'busy' } });
    expect(waited).toBeLessThan(WATCH_MS);
    expect(owners()).toEqual(['owner.1']);
  });

  test('that is dead is replaced by exactly one of many who watch it', async () => {
    const { open, owners } = await leftBy(mark);
    const env = virtualEnv();
    const tries = Promise.allSettled(Array.from({ length: 8 }, () => open(env)));
    await passing(env, tries);
    expect((await tries).filter(({ status }) => status === 'fulfilled')).toHaveLength(1);
    expect(owners()).toHaveLength(1);
  });
});

test('an owner that slept until another took over writes nothing more, and leaves the other its place', async () => {
  const { dir, events, open, owners } = await leftBy({});
  const env = virtualEnv();
  const first = await open(env);
  expect(owners()).toEqual(['owner.2']);
  writeFileSync(join(dir, 'owner.2'), JSON.stringify(elsewhere));
  const another = virtualEnv();
  const { result } = await passing(another, open(another));
  expect(result.status).toBe('fulfilled');
  await env.advance(15_000);
  const accepted = passing(env, first.accept(envelopeTo('a@x.example'), bytes('Subject: x\r\n\r\n')));
  expect((await accepted).result).toMatchObject({ reason: { name: 'SpoolError', code: 'busy' } });
  expect(events.filter(({ type }) => type === 'fault')).toHaveLength(1);
  await first.close();
  expect(owners()).toEqual(['owner.3']);
  await expect(open()).rejects.toMatchObject({ code: 'busy' });
});

test('what a process left that was killed while it took over or released is swept', async () => {
  const { dir, open } = await leftBy({});
  const dead = JSON.stringify({ ...ownMark(), start: '1' });
  writeFileSync(join(dir, 'draft.17.abc'), dead);
  writeFileSync(join(dir, 'draft.18.released'), dead);
  writeFileSync(join(dir, 'draft.19.abc'), JSON.stringify(ownMark()));
  const spool = await open();
  await spool.close();
  expect(readdirSync(dir).filter((name) => name.startsWith('draft'))).toEqual(['draft.19.abc']);
});

test('a spool that waits for an owner keeps its process alive', async () => {
  const { dir } = await leftBy(elsewhere);
  const script = `
    import { openSpool } from '@postern/spool';
    import { systemEnv } from '@postern/core';
    process.stdout.write('waits');
    await openSpool({ dir: ${JSON.stringify(dir)}, env: systemEnv, keepFreeBytes: 0 }).catch((error) => process.stdout.write(error.code));
    process.exit(7);
  `;
  const child = spawn(
    process.execPath,
    ['--conditions=@postern/source', '--import', 'tsx', '--input-type=module', '-e', script],
    { cwd: join(import.meta.dirname, '../../..'), stdio: ['ignore', 'pipe', 'inherit'] },
  );
  let output = '';
  child.stdout.on('data', (chunk: Buffer) => {
    output += chunk.toString();
  });
  const exit = once(child, 'exit');
  await once(child.stdout, 'data');
  // Touched until the child sees it.
  const touching = setInterval(() => utimesSync(join(dir, 'owner.1'), new Date(), new Date()), 100);
  onTestFinished(() => clearInterval(touching));
  expect(await exit).toEqual([7, null]);
  expect(output).toBe('waitsbusy');
});
