import { type ChildProcessWithoutNullStreams, spawn } from 'node:child_process';
import { homedir } from 'node:os';
import { join } from 'node:path';
import type { Gate, ProgramOptions } from './index.ts';

/** Cached programs only, whatever this machine has installed: as on a fresh one. */
export function cachedPrograms(): ProgramOptions {
  const own = process.getuid?.() === 0 ? '/var/cache' : join(homedir(), '.cache');
  const base = process.env.XDG_CACHE_HOME ?? own;
  return { cacheDir: join(base, 'postern', 'debs'), prefer: 'cache' };
}

/** A dialogue with a command: send lines, wait for what comes back. */
export class Talk implements Disposable {
  readonly child: ChildProcessWithoutNullStreams;
  readonly exit: Promise<number | null>;
  #text = '';
  #errors = '';
  #ended = false;
  #check: () => void = () => undefined;

  constructor(command: string, args: readonly string[]) {
    this.child = spawn(command, args);
    this.child.stdin.on('error', () => undefined);
    this.child.stdout.setEncoding('latin1').on('data', (text: string) => {
      this.#text += text;
      this.#check();
    });
    this.child.stderr.on('data', (text: Buffer) => {
      this.#errors += text.toString();
    });
    this.exit = new Promise((resolve) => {
      this.child.once('close', (code) => {
        this.#ended = true;
        this.#check();
        resolve(code);
      });
    });
  }

  send(...lines: string[]): void {
    this.child.stdin.write(lines.map((line) => `${line}\r\n`).join(''), 'latin1');
  }

  /** What came up to and including the match; the rest stays for the next call. Rejects when the command ends first. */
  expect(pattern: RegExp): Promise<string> {
    return new Promise((resolve, reject) => {
      this.#check = () => {
        const match = pattern.exec(this.#text);
        if (match !== null) {
          const end = match.index + match[0].length;
          const seen = this.#text.slice(0, end);
          this.#text = this.#text.slice(end);
          this.#check = () => undefined;
          resolve(seen);
        } else if (this.#ended) reject(new Error(`ended before ${pattern}: ${this.#text}\n${this.#errors}`));
      };
      this.#check();
    });
  }

  [Symbol.dispose](): void {
    this.child.kill('SIGKILL');
  }
}

/** `ssh -F config gate ARGS…` */
export function ssh(gate: Gate, ...args: string[]): Talk {
  return new Talk('ssh', ['-F', gate.client.configFile, ...args]);
}

/** The reply to one SMTP command, all its lines. */
export async function command(talk: Talk, line: string): Promise<string> {
  talk.send(line);
  return talk.expect(/^\d{3} .*\r\n/m);
}
