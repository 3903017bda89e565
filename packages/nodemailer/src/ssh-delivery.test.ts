import { readFileSync } from 'node:fs';
import { LinkError } from '@postern/core';
import { memoryLink, virtualEnv } from '@postern/core/testing';
import { expect, test } from 'vitest';
import { sshTransport, TransportError } from './index.ts';
import { withTimeout } from './ssh-delivery.ts';

const smtp = { type: 'exec', command: 'smtp' } as const;
const never = new AbortController().signal;

test('a link with a time limit is given up after it, with the reason there is', async () => {
  const env = virtualEnv();
  const link = memoryLink(() => new Promise<never>(() => {}));
  const limited = withTimeout(link, { connectTimeoutMs: 500, smtp: 'smtp' }, env);
  const silent = limited.open(smtp, { signal: never }).catch((error: unknown) => error);
  await env.advance(500);
  expect(await silent).toMatchObject({ code: 'timeout', message: 'no session with smtp on gate in 500 ms' });
  expect(await silent).toBeInstanceOf(TransportError);
  const dead = new LinkError('the line is dead', { code: 'unreachable', layer: 'tcp' });
  const late = limited.open(smtp, { signal: never }).catch((error: unknown) => error);
  link.setState({ type: 'down', error: dead });
  await env.advance(500);
  expect(await late).toBe(dead);
});

test('a link with a time limit knows when the far side was last heard', () => {
  let heardAt = 1;
  const link = Object.defineProperty(
    memoryLink(() => {}),
    'heardAt',
    { get: () => heardAt },
  );
  const limited = withTimeout(link, {}, virtualEnv());
  expect(limited.heardAt).toBe(1);
  heardAt = 2;
  expect(limited.heardAt).toBe(2);
});

test('the version told to Nodemailer is that of the package', () => {
  const { version } = JSON.parse(readFileSync(new URL('../package.json', import.meta.url), 'utf8')) as {
    version: string;
  };
  expect(sshTransport({ link: memoryLink(() => {}) }).version).toBe(version);
});
