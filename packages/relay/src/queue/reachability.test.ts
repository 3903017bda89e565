import { type Link, LinkError, type LinkState } from '@postern/core';
import { virtualEnv } from '@postern/core/testing';
import { expect, test } from 'vitest';
import { Reachability } from './reachability.ts';

const DOWN: LinkState = { type: 'down', error: new LinkError('dead', { code: 'unreachable', layer: 'tcp' }) };

function setUp() {
  const env = virtualEnv();
  const listeners: (() => void)[] = [];
  const link = {
    state: { type: 'up' } as LinkState,
    watch(listener: () => void) {
      listeners.push(listener);
      return { [Symbol.dispose]() {} };
    },
  };
  const heard: string[] = [];
  const reachability = new Reachability(
    env,
    () => ({ host: 'gate', courier: async () => {}, link: link as unknown as Link }),
    {
      opened: () => heard.push('opened'),
      changed: () => heard.push('changed'),
    },
  );
  reachability.look();
  const tell = (): void => {
    for (const listener of listeners) listener();
  };
  return { env, link, heard, reachability, tell };
}

test('counts only the time for which it is open', async () => {
  const { env, link, reachability, tell } = setUp();
  await env.advance(100);
  link.state = DOWN;
  tell();
  await env.advance(10_000);
  expect(reachability.uptime).toBe(100);
  link.state = { type: 'up' };
  tell();
  await env.advance(50);
  expect(reachability.uptime).toBe(150);
  expect(reachability.outages).toBe(1);
});

test('says once that it is open again, also when that was seen before the link told', () => {
  const { link, heard, reachability, tell } = setUp();
  link.state = DOWN;
  tell();
  heard.length = 0;
  link.state = { type: 'up' };
  reachability.look();
  expect(heard).toEqual(['opened']);
  tell();
  expect(heard).toEqual(['opened', 'changed']);
});
