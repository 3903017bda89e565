import { type ChildProcess, spawn } from 'node:child_process';
import { chmod, mkdir, writeFile } from 'node:fs/promises';
import { createRequire } from 'node:module';
import { join, resolve } from 'node:path';
import { quoteAll } from '@postern/core';
import type { Place } from './postern.ts';

const SRC = resolve(import.meta.dirname, '../../packages/postern/src');
const TSX = createRequire(import.meta.url).resolve('tsx');

/** The two commands that lend a link, as programs with a path: what other programs want to be given. */
export interface Programs {
  readonly dir: string;
  readonly postern: string;
  readonly posternSsh: string;
}

/** Puts them into `dir`. They read the configuration of `place` and leave everything else as it is. */
export async function makePrograms(place: Place): Promise<Programs> {
  const dir = join(place.dir, 'bin');
  await mkdir(dir, { recursive: true });
  const { XDG_RUNTIME_DIR, XDG_STATE_HOME, XDG_CONFIG_HOME } = place.env;
  const env = Object.entries({ XDG_RUNTIME_DIR, XDG_STATE_HOME, XDG_CONFIG_HOME, POSTERN_CONFIG: place.config });
  const make = async (name: string, source: string): Promise<string> => {
    const path = join(dir, name);
    const node = [process.execPath, '--conditions=@postern/source', '--import', TSX, join(SRC, source)];
    const words = ['exec', 'env', ...env.map(([key, value]) => `${key}=${value}`), ...node];
    await writeFile(path, `#!/bin/sh\n${quoteAll(words)} "$@"\n`);
    await chmod(path, 0o755);
    return path;
  };
  return {
    dir,
    postern: await make('postern', 'main.ts'),
    posternSsh: await make('postern-ssh', 'ssh-cli/main.ts'),
  };
}

/** A program that runs: its streams, and how it ends. */
export interface Started {
  readonly child: ChildProcess & {
    stdin: NonNullable<ChildProcess['stdin']>;
    stdout: NonNullable<ChildProcess['stdout']>;
  };
  /** Exit status, or the signal's name. */
  readonly ended: Promise<number | string | null>;
  /** Resolves when stdout has shown `pattern`; rejects with both outputs when it ends before. */
  shown(pattern: RegExp): Promise<string>;
  stdout(): string;
  stderr(): string;
}

/** Starts a program and leaves its input open. */
export function start(command: string, args: readonly string[], env: NodeJS.ProcessEnv = process.env): Started {
  const child = spawn(command, args, { env, stdio: ['pipe', 'pipe', 'pipe'] });
  let out = '';
  let err = '';
  let look = (): void => {};
  child.stdout.on('data', (chunk: Buffer) => {
    out += chunk.toString('latin1');
    look();
  });
  child.stderr.on('data', (chunk: Buffer) => {
    err += chunk.toString('latin1');
  });
  child.stdin.on('error', () => {});
  const ended = new Promise<number | string | null>((done) =>
    child.once('close', (code, signal) => done(code ?? signal)),
  );
  return {
    child,
    ended,
    stdout: () => out,
    stderr: () => err,
    shown: (pattern) =>
      new Promise((found, fail) => {
        look = () => {
          const match = pattern.exec(out);
          if (match !== null) found(match[0]);
        };
        look();
        void ended.then((how) => fail(new Error(`ended (${how}) before ${pattern}\n${out}\n${err}`)));
      }),
  };
}
