import { virtualEnv } from '@postern/testkit';
import { beforeEach, describe, expect, test } from 'vitest';
import { type Disturbance, type SystemView, systemView, watchSystem } from './system-watch.ts';

describe('the watch over the system', () => {
  let env: ReturnType<typeof virtualEnv>;
  let seen: Disturbance[];
  let boot: number;
  let addresses: string;
  let watch: Disposable;
  beforeEach(() => {
    env = virtualEnv();
    seen = [];
    boot = 0;
    addresses = 'eth0 10.0.0.1';
    const view: SystemView = { bootMs: () => env.monotonicNow() + boot, addresses: () => addresses };
    watch = watchSystem({ env, view, onDisturbance: (what) => seen.push(what) });
  });

  test('sees nothing where nothing happens', async () => {
    await env.advance(100_000);
    env.jumpWall(3_600_000);
    await env.advance(5_000);
    expect(seen).toEqual([]);
  });

  test('sees a suspend by the clock that goes on in it, once', async () => {
    await env.advance(5_000);
    boot += 60_000;
    await env.advance(5_000);
    expect(seen).toEqual(['suspended']);
  });

  test('sees that this process was stopped by ticks that came late, once', async () => {
    await env.advance(5_000);
    env.leap(30_000);
    await env.advance(5_000);
    expect(seen).toEqual(['stopped']);
  });

  test('sees addresses come and go', async () => {
    addresses = '';
    await env.advance(1_000);
    addresses = 'wlan0 192.168.1.7';
    await env.advance(3_000);
    expect(seen).toEqual(['addresses', 'addresses']);
  });

  test('ends, and leaves no timer', async () => {
    watch[Symbol.dispose]();
    addresses = '';
    await env.advance(5_000);
    expect(seen).toEqual([]);
    expect(env.pending).toBe(0);
  });

  test('reads this machine', () => {
    expect(systemView.bootMs()).toBeGreaterThan(0);
    expect(systemView.addresses()).toBe(systemView.addresses());
  });
});
