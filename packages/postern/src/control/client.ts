/** Asks the daemon one thing over its control socket. */
import { connect } from 'node:net';
import { EXIT_STATUS, errnoOf, PosternError, type PosternErrorCode } from '../base/errors.ts';
import { RESPONSE_MAX_BYTES } from './protocol.ts';

/**
 * Asks the running daemon. Throws {@link PosternError}: `unavailable` when none runs (its `cause` has the system's error), else what the
 * daemon answered.
 */
export function callControl(path: string, method: string, params: Record<string, unknown> = {}): Promise<unknown> {
  return new Promise((resolve, reject) => {
    const socket = connect(path);
    const chunks: Buffer[] = [];
    let size = 0;
    const fail = (error: PosternError): void => {
      socket.destroy();
      reject(error);
    };
    socket.once('connect', () => socket.write(`${JSON.stringify({ method, params })}\n`));
    socket.on('data', (chunk: Buffer) => {
      chunks.push(chunk);
      size += chunk.length;
      if (size > RESPONSE_MAX_BYTES) return fail(new PosternError('software', 'the daemon answered without end'));
      if (!chunk.includes(0x0a)) return;
      socket.destroy();
      settle(Buffer.concat(chunks).toString('utf8'), resolve, reject);
    });
    socket.once('error', (error) => {
      const errno = errnoOf(error);
      if (errno === 'EACCES') fail(new PosternError('no-permission', `${path} is not ours to use`, { cause: error }));
      else fail(new PosternError('unavailable', 'no postern is running here', { fix: 'postern up', cause: error }));
    });
    socket.once('close', () => reject(new PosternError('temporary', 'the daemon ended without an answer')));
  });
}

function settle(text: string, resolve: (value: unknown) => void, reject: (error: PosternError) => void): void {
  try {
    const { result, error } = JSON.parse(text) as {
      result?: unknown;
      error?: Record<'code' | 'message' | 'fix', unknown>;
    };
    if (error === undefined) {
      resolve(result);
      return;
    }
    const code = Object.hasOwn(EXIT_STATUS, String(error.code)) ? (error.code as PosternErrorCode) : 'software';
    const fix = typeof error.fix === 'string' ? error.fix : undefined;
    reject(new PosternError(code, String(error.message), { fix }));
  } catch (cause) {
    reject(new PosternError('software', 'the daemon answered something that is no JSON', { cause }));
  }
}
