import { mkdtempSync, rmSync } from 'node:fs';
import { createServer, type Socket } from 'node:net';
import { tmpdir } from 'node:os';
import { join } from 'node:path';
import { deferred } from '@postern/core';
import { virtualEnv } from '@postern/testkit';
import { afterEach, beforeEach, expect, it } from 'vitest';
import { PosternError } from '../base/errors.ts';
import { ANSWER_MS, borrow } from './client.ts';
import { parseAsk } from './request.ts';

let dir: string;
let close: () => void = () => {};
beforeEach(() => {
  dir = mkdtempSync(join(tmpdir(), 'borrow-'));
});
afterEach(() => {
  close();
  close = () => {};
  rmSync(dir, { recursive: true });
});

const ask = { host: 'gate', want: { type: 'imap' } } as const;
const signal = new AbortController().signal;

/** Asks something at a socket that does `serve` with whoever connects. */
async function at(serve: (socket: Socket) => void, env = virtualEnv(), abort = signal) {
  const path = join(dir, 's');
  const server = createServer((socket) => {
    socket.on('error', () => {});
    serve(socket);
  });
  close = () => server.close();
  await new Promise<void>((resolve) => server.listen(path, resolve));
  return borrow(path, ask, { env, signal: abort });
}

/** A daemon that answers the request's line with these pieces. */
const answering =
  (...pieces: string[]) =>
  (socket: Socket): void =>
    void socket.once('data', () => {
      for (const piece of pieces) socket.write(piece);
    });

it('asks in one line, which reads back as it was meant', async () => {
  const asked = deferred<string>();
  const borrowed = await at((socket) =>
    socket.once('data', (line) => {
      asked.resolve(line.toString());
      socket.write('{"result":null}\n');
    }),
  );
  const { method, params } = JSON.parse(await asked.promise);
  expect([method, parseAsk(params)]).toEqual(['pipe', ask]);
  if (borrowed.type === 'lent') borrowed.socket.destroy();
});

it('hands over the socket with what came behind the answer', async () => {
  const borrowed = await at(answering('{"resu', 'lt":null}\nfra', 'mes'));
  expect(borrowed.type).toBe('lent');
  if (borrowed.type !== 'lent') return;
  const rest = [borrowed.leftover];
  borrowed.socket.on('data', (chunk) => rest.push(chunk));
  borrowed.socket.resume();
  await expect.poll(() => Buffer.concat(rest).toString()).toBe('frames');
  borrowed.socket.destroy();
});

it.each([
  ['has no such link', '{"result":{"lent":false}}\n'],
  ['is older and knows no pipes', '{"error":{"code":"usage","message":"unknown"}}\n'],
])('tells that nothing is lent when the daemon %s', async (_, line) => {
  expect(await at(answering(line))).toEqual({ type: 'none', why: 'the daemon has no such link' });
});

it('tells that nothing is lent when no daemon is there', async () => {
  const borrowed = await borrow(join(dir, 'none'), ask, { env: virtualEnv(), signal });
  expect(borrowed).toEqual({ type: 'none', why: 'no daemon answers (ENOENT)' });
});

it('does not wait for a daemon that is frozen', async () => {
  const env = virtualEnv();
  const connected = deferred<void>();
  const borrowed = at(() => connected.resolve(), env);
  await connected.promise;
  await env.advance(ANSWER_MS);
  expect(await borrowed).toEqual({ type: 'none', why: 'the daemon does not answer' });
  expect(env.pending).toBe(0);
});

it('does not read an answer without end', async () => {
  const borrowed = await at((socket) => void socket.write(Buffer.alloc(200_000, 'x')));
  expect(borrowed).toEqual({ type: 'none', why: 'the daemon answers without end' });
});

it('passes a refusal on', async () => {
  const refused = at(answering('{"error":{"code":"config","message":"no"}}\n'));
  await expect(refused).rejects.toThrow(new PosternError('unavailable', 'no'));
});

it('stops at a signal', async () => {
  const stop = new AbortController();
  const borrowed = at(() => stop.abort(new Error('enough')), virtualEnv(), stop.signal);
  await expect(borrowed).rejects.toThrow('enough');
});

it.each([
  ['no host', { want: { type: 'imap' } }],
  ['no want', { host: 'gate' }],
  ['an unknown want', { host: 'gate', want: { type: 'pop' } }],
  ['a target that is none', { host: 'gate', want: { type: 'target', target: { type: 'exec' } } }],
  ['arguments that are no list of words', { host: 'gate', want: { type: 'imap' }, sshArgs: [1] }],
])('a request with %s is none', (_, params) => {
  expect(() => parseAsk(params)).toThrow(PosternError);
});
