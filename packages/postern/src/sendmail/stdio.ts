import { mkdtempSync, rmSync } from 'node:fs';
import { connect, createServer } from 'node:net';
import { tmpdir } from 'node:os';
import { join } from 'node:path';
import type { Readable, Writable } from 'node:stream';
import { createReplyParser, type Env, type SpoolWriter } from '@postern/core';
import { type CompiledRoutes, createIntake } from '@postern/relay';

const END_OF_TEXT: Buffer = Buffer.from('\r\n.\r\n');

/** What {@link serveStdio} joins. */
export interface StdioOptions {
  readonly input: Readable;
  readonly output: Writable;
  readonly spool: SpoolWriter;
  readonly routes: CompiledRoutes;
  readonly hostname: string;
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
    const replies = createReplyParser();
    let lastOctets = Buffer.alloc(0);
    let endsOfText = 0;
    let textsAsked = 0;
    let eof = false;
    // smtp-server 3.21.6 drops the replies it still owes when its client half-closes: the end of input is told as QUIT instead, unless it
    // cut a message off.
    const onEof = (): void => {
      eof = true;
      if (textsAsked > endsOfText) socket.destroy();
      else socket.write('QUIT\r\n');
    };
    socket.once('error', reject);
    socket.once('close', () => resolve());
    socket.on('data', (chunk: Buffer) => {
      for (const event of replies.push(chunk)) if (event.type === 'reply' && event.reply.code === 354) textsAsked += 1;
      if (!o.output.write(chunk)) {
        socket.pause();
        o.output.once('drain', () => socket.resume());
      }
      if (eof && textsAsked > endsOfText) socket.destroy();
    });
    socket.once('end', () => socket.destroy());
    o.output.once('error', () => socket.destroy());
    o.input.on('data', (chunk: Buffer) => {
      lastOctets = Buffer.concat([lastOctets, chunk]);
      for (let at = lastOctets.indexOf(END_OF_TEXT); at >= 0; at = lastOctets.indexOf(END_OF_TEXT, at + 3))
        endsOfText += 1;
      lastOctets = lastOctets.subarray(-(END_OF_TEXT.length - 1));
    });
    o.input.once('end', onEof);
    o.input.once('error', () => socket.destroy());
    o.input.pipe(socket, { end: false });
  });
}
