import { mkdtemp, rm } from 'node:fs/promises';
import { tmpdir } from 'node:os';
import { join } from 'node:path';
import type { Envelope, ForwardPath, ReversePath } from '@postern/core';
import { type Disk, nodeDisk } from './durable.ts';

/** An envelope from `me@work.example` to the given addresses. */
export function envelopeTo(...to: string[]): Envelope {
  return {
    from: 'me@work.example' as ReversePath,
    recipients: to.map((address) => ({ to: address as ForwardPath })),
    body: '7BIT',
    smtputf8: false,
  };
}

/** A message in one chunk or more. */
export async function* bytes(...chunks: (string | Uint8Array)[]): AsyncGenerator<Uint8Array> {
  for (const chunk of chunks) yield Buffer.from(chunk as string);
}

/** Everything an iterable gives, as one string. */
export async function text(source: AsyncIterable<Uint8Array>): Promise<string> {
  const chunks: Uint8Array[] = [];
  for await (const chunk of source) chunks.push(chunk);
  return Buffer.concat(chunks).toString('latin1');
}

/** A fresh directory, removed when the test ends. */
export async function scratch(onFinished: (clean: () => Promise<void>) => void): Promise<string> {
  const dir = await mkdtemp(join(tmpdir(), 'spool-'));
  onFinished(() => rm(dir, { recursive: true, force: true }));
  return dir;
}

/** The real disk, telling each call's name and paths; `fail` may throw instead of it. */
export function watchedDisk(onCall: (call: string) => void | Promise<void>): Disk {
  const names = new Map<number, string>();
  const short = (path: unknown): string =>
    typeof path === 'number' ? (names.get(path) ?? '?') : String(path).split('/').slice(-2).join('/');
  const wrapped = Object.entries(nodeDisk).map(([name, real]) => [
    name,
    async (...args: unknown[]) => {
      const paths = args
        .filter((arg) => typeof arg === 'string' || name !== 'write')
        .slice(0, name === 'rename' ? 2 : 1);
      await onCall(`${name} ${(name === 'write' ? [args[0]] : paths).map(short).join(' ')}`);
      const result: unknown = await (real as (...args: unknown[]) => Promise<unknown>)(...args);
      if (typeof result === 'number' && name !== 'freeBytes') names.set(result, short(args[0]));
      return result;
    },
  ]);
  return Object.fromEntries(wrapped) as Disk;
}
