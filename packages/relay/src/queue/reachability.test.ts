import { type Link, LinkError, type LinkState } from '@postern/core';
import { virtualEnv } from '@postern/testkit';
import { expect, test } from 'vitest';
import { Way } from './reachability.ts';

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
  const way = new Way(env, () => ({ host: 'gate', courier: async () => {}, link: link as unknown as Link }), {
    opened: () => heard.push('opened'),
    changed: () => heard.push('changed'),
  });
  way.look();
  const tell = (): void => {
    for (const listener of listeners) listener();
  };
  return { env, link, heard, way, tell };
}

test('counts only the time for which it is open', async () => {
  const { env, link, way, tell } = setUp();
  await env.advance(100);
  link.state = DOWN;
  tell();
  await env.advance(10_000);
  expect(way.uptime).toBe(100);
  link.state = { type: 'up' };
  tell();
  await env.advance(50);
  expect(way.uptime).toBe(150);
  expect(way.downs).toBe(1);
});

test('says once that it is open again, also when that was seen before the link told', () => {
  const { link, heard, way, tell } = setUp();
  link.state = DOWN;
  tell();
  heard.length = 0;
  link.state = { type: 'up' };
  way.look();
  expect(heard).toEqual(['opened']);
  tell();
  expect(heard).toEqual(['opened', 'changed']);
});
