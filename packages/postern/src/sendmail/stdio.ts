/** `sendmail -bs`: SMTP on standard input and output. */
import { mkdtempSync, rmSync } from 'node:fs';
import { connect, createServer } from 'node:net';
import { tmpdir } from 'node:os';
import { join } from 'node:path';
import type { Readable, Writable } from 'node:stream';
import { defined, type Env, type SpoolWriter } from '@postern/core';
import { type CompiledRoutes, createIntake, type LongLines } from '@postern/relay';

/** What {@link serveStdio} joins. */
export interface StdioOptions {
  readonly input: Readable;
  readonly output: Writable;
  readonly spool: SpoolWriter;
  readonly routes: CompiledRoutes;
  readonly hostname: string;
  /** Octets; the intake's own limit when absent. */
  readonly sizeLimit?: number | undefined;
  readonly longLines?: LongLines | undefined;
  readonly env: Env;
}

/**
 * `sendmail -bs`: the relay's own intake on two streams, over a socket in a directory of ours that is gone once it is connected. Resolves when
 * the session has ended and its last reply is written. Rejects when the socket cannot be had.
 */
export async function serveStdio(o: StdioOptions): Promise<void> {
  const server = createServer({ allowHalfOpen: true });
  const directory = mkdtempSync(join(tmpdir(), 'postern-'));
  const path = join(directory, 'smtp');
  try {
    await new Promise<void>((resolve, reject) => {
      server.once('error', reject);
      server.listen(path, resolve);
    });
    const intake = createIntake({
      server,
      spool: o.spool,
      routes: () => o.routes,
      admit: () => Promise.resolve({ type: 'open', who: 'stdio' }),
      hostname: o.hostname,
      ...defined({ sizeLimit: o.sizeLimit, longLines: o.longLines }),
      env: o.env,
    });
    await session(path, o);
    await intake.close({ graceMs: 0 });
  } finally {
    server.close();
    rmSync(directory, { recursive: true, force: true });
  }
}

function session(path: string, o: StdioOptions): Promise<void> {
  return new Promise((resolve, reject) => {
    const socket = connect({ path, allowHalfOpen: true });
    socket.once('error', reject);
    // Replies are on their way out when the socket has ended: what is still in our input then is nobody's.
    socket.once('end', () => {
      o.input.unpipe(socket);
      o.input.pause();
      socket.destroy();
      resolve();
    });
    o.output.once('error', () => socket.destroy(new Error('nobody reads the replies')));
    o.input.once('error', () => socket.destroy());
    o.input.pipe(socket);
    socket.pipe(o.output, { end: false });
  });
}
