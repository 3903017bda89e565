import { connect, type Socket } from 'node:net';
import type { Env } from '@postern/core';
import { PosternError } from '../errors.ts';
import type { PipeAsk } from './ask.ts';

/** How long a daemon that accepted the connection may take to answer, milliseconds; one that is frozen must not keep us. */
export const ANSWER_MS = 5000;

/** Longest answer, octets. */
const MAX_ANSWER_BYTES = 64 * 1024;

/** What came of asking the daemon. */
export type Borrowed =
  /** Frames from here on. */
  | { readonly type: 'lent'; readonly socket: Socket; readonly leftover: Buffer }
  /** No daemon, or none that has such a link; `why` is for `-v`. */
  | { readonly type: 'none'; readonly why: string };

/** Asks the daemon behind `path` for a channel. Rejects with the signal's reason, or the `PosternError` it answered. */
export function borrow(path: string, ask: PipeAsk, o: { env: Env; signal: AbortSignal }): Promise<Borrowed> {
  return new Promise((resolve, reject) => {
    const socket = connect(path);
    let answer: Buffer = Buffer.alloc(0);
    const end = (settle: () => void): void => {
      late[Symbol.dispose]();
      o.signal.removeEventListener('abort', onAbort);
      socket.off('data', onData).off('error', onGone).off('close', onGone);
      settle();
    };
    const none = (why: string): void =>
      end(() => {
        socket.on('error', () => {});
        socket.destroy();
        resolve({ type: 'none', why });
      });
    const onGone = (error?: Error | boolean): void =>
      none(
        error instanceof Error ? `no daemon answers (${(error as NodeJS.ErrnoException).code})` : 'the daemon hung up',
      );
    const onAbort = (): void =>
      end(() => {
        socket.on('error', () => {});
        socket.destroy();
        reject(o.signal.reason);
      });
    const onData = (chunk: Buffer): void => {
      answer = Buffer.concat([answer, chunk]);
      const newline = answer.indexOf(0x0a);
      if (newline === -1) {
        if (answer.length > MAX_ANSWER_BYTES) none('the daemon answers without end');
        return;
      }
      const said = read(answer.subarray(0, newline).toString());
      if (said === 'none') none('the daemon has no such link');
      else end(() => settle(said, answer.subarray(newline + 1)));
    };
    const settle = (said: 'lent' | PosternError, leftover: Buffer): void => {
      socket.pause();
      if (said === 'lent') {
        resolve({ type: 'lent', socket, leftover });
      } else {
        socket.destroy();
        reject(said);
      }
    };
    const late = o.env.schedule(ANSWER_MS, () => none('the daemon does not answer'));
    socket.on('data', onData).on('error', onGone).on('close', onGone);
    o.signal.addEventListener('abort', onAbort);
    if (o.signal.aborted) onAbort();
    socket.write(`${JSON.stringify({ method: 'pipe', params: ask })}\n`);
  });
}

function read(line: string): 'lent' | 'none' | PosternError {
  const { result, error } = JSON.parse(line) as { result?: unknown; error?: { code: string; message: string } };
  if (result === null) return 'lent';
  // An older daemon does not know the request.
  if (error === undefined || error.code === 'usage') return 'none';
  return new PosternError('unavailable', error.message);
}
