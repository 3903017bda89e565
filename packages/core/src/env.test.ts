import { spawnSync } from 'node:child_process';
import { describe, expect, test } from 'vitest';
import { deadline, raceAbort, sleep, systemEnv } from './env.ts';
import { settle, virtualEnv } from './testing/index.ts';

describe('sleep', () => {
  test('ends when its time has come and not before', async () => {
    const env = virtualEnv();
    let done = false;
    void sleep(env, 1000, new AbortController().signal).then(() => {
      done = true;
    });
    await env.advance(999);
    expect(done).toBe(false);
    await env.advance(1);
    expect(done).toBe(true);
  });

  test('rejects with the reason of an abort and leaves no timer', async () => {
    const env = virtualEnv();
    const controller = new AbortController();
    const slept = sleep(env, 1000, controller.signal);
    const why = new Error('enough');
    controller.abort(why);
    await expect(slept).rejects.toBe(why);
    expect(env.pending).toBe(0);
  });
});

describe('deadline', () => {
  test('aborts with its own reason in time', async () => {
    const env = virtualEnv();
    const late = new Error('late');
    using guard = deadline(env, 50, { reason: () => late });
    await env.advance(50);
    expect(guard.signal.reason).toBe(late);
  });

  test('follows its parent, even one that had aborted before', () => {
    const env = virtualEnv();
    const why = new Error('parent');
    using guard = deadline(env, 50, { parent: AbortSignal.abort(why), reason: () => new Error('late') });
    expect(guard.signal.reason).toBe(why);
  });

  test('leaves nothing behind when disposed', () => {
    const env = virtualEnv();
    deadline(env, 50, { reason: () => new Error('late') })[Symbol.dispose]();
    expect(env.pending).toBe(0);
  });
});

describe('raceAbort', () => {
  test('hands what comes too late to its closer', async () => {
    const controller = new AbortController();
    let give: (value: string) => void = () => {};
    const closed: string[] = [];
    const race = raceAbort(new Promise<string>((resolve) => (give = resolve)), controller.signal, (value) =>
      closed.push(value),
    );
    controller.abort(new Error('gone'));
    await expect(race).rejects.toThrow('gone');
    give('late channel');
    await settle();
    expect(closed).toEqual(['late channel']);
  });
});

test('a wait longer than 24 days does not fire at once', async () => {
  let fired = false;
  const timer = systemEnv.schedule(2 ** 33, () => {
    fired = true;
  });
  // A delay past 2^31 ms would be clamped to 1 ms, and so run before this one.
  await new Promise((resolve) => setTimeout(resolve, 3));
  timer[Symbol.dispose]();
  expect(fired).toBe(false);
});

/** What a script of its own prints, and how it ended: 13 is a process that ran out of things to wait for. */
function script(text: string): [string, number | null] {
  const argv = ['--conditions=@postern/source', '--import', 'tsx', '--input-type=module', '-e', text];
  const { stdout, status } = spawnSync(process.execPath, argv, { cwd: import.meta.dirname, encoding: 'utf8' });
  return [stdout, status];
}

describe('a process with nothing else open', () => {
  test.each([
    ['sleep', 'await sleep(systemEnv, 20, new AbortController().signal)'],
    [
      'a deadline',
      "await raceAbort(new Promise(() => {}), deadline(systemEnv, 20, { reason: () => new Error('late') }).signal).catch(() => {})",
    ],
  ])('lives until %s is over', (_what, wait) => {
    const told = `import { deadline, raceAbort, sleep, systemEnv } from './env.ts'; ${wait}; console.log('told');`;
    expect(script(told)).toEqual(['told\n', 0]);
  });

  test('does not wait for a timer nobody awaits', () => {
    const told = `import { systemEnv } from './env.ts'; systemEnv.schedule(1e9, () => {}); console.log('told');`;
    expect(script(told)).toEqual(['told\n', 0]);
  });
});
