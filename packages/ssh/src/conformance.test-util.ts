import { createHash, randomBytes } from 'node:crypto';
import { once } from 'node:events';
import { chmod } from 'node:fs/promises';
import { createServer, type Socket } from 'node:net';
import { join } from 'node:path';
import { Writable } from 'node:stream';
import { pipeline } from 'node:stream/promises';
import { type Channel, deferred, type Link, LinkError, type Target } from '@postern/core';
import { afterAll, beforeAll, describe, expect, test } from 'vitest';

/** A link under test, and what the suite needs to know of its far side. */
export interface Subject {
  readonly link: Link;
  /** Cuts the link from underneath, as a dying network or server would. */
  cut(): Promise<void>;
  /** A directory both sides can write to. */
  readonly dir: string;
  /** Whether the far side has sftp. */
  readonly hasSftp: boolean;
  /** A link whose channels never open: connected, authenticated, silent from then on. Its open timeout is short. */
  silent?(): Promise<{ link: Link; end(): Promise<void> }>;
  end(): Promise<void>;
}

const LIVE = new AbortController().signal;

/** Reads a stream to its end and leaves it open for writing; rejects with its error. */
export function readAll(channel: Channel): Promise<Buffer> {
  const chunks: Buffer[] = [];
  return new Promise((resolve, reject) => {
    channel.stream.on('data', (chunk: Buffer) => chunks.push(chunk));
    channel.stream.once('end', () => resolve(Buffer.concat(chunks)));
    channel.stream.once('error', reject);
  });
}

/** The error a stream ends with. Reads on meanwhile. */
export function streamError(channel: Channel): Promise<Error> {
  channel.stream.resume();
  if (channel.stream.errored !== null) return Promise.resolve(channel.stream.errored);
  return new Promise((resolve, reject) => {
    channel.stream.once('error', resolve);
    channel.stream.once('end', () => reject(new Error('a clean end instead of an error')));
  });
}

const sha256 = (bytes: Buffer): string => createHash('sha256').update(bytes).digest('hex');

/** What every backend must do alike. */
export function conformance(name: string, make: () => Promise<Subject>): void {
  describe(`${name}: a channel`, () => {
    let subject: Subject;
    beforeAll(async () => {
      subject = await make();
    });
    afterAll(() => subject?.end());
    const exec = (command: string): Promise<Channel> => subject.link.open({ type: 'exec', command }, { signal: LIVE });

    test('echoes what is written, and ends when the far command does', async () => {
      const channel = await exec('cat');
      channel.stream.end('hello');
      expect((await readAll(channel)).toString()).toBe('hello');
      expect(await channel.exit).toEqual({ type: 'exit', code: 0 });
    });

    test('goes on reading after our end, and the far side sees EOF', async () => {
      const channel = await exec('cat >/dev/null; echo after');
      channel.stream.end('x');
      expect((await readAll(channel)).toString()).toBe('after\n');
    });

    test('goes on writing after the far end has sent its last', async () => {
      const got = deferred<string>();
      await using server = await serve(0, (socket) => {
        const chunks: Buffer[] = [];
        socket.on('data', (chunk) => chunks.push(chunk));
        socket.on('end', () => got.resolve(Buffer.concat(chunks).toString()));
        socket.end('only this');
      });
      const channel = await subject.link.open(server.target, { signal: LIVE });
      expect((await readAll(channel)).toString()).toBe('only this');
      channel.stream.write('12');
      channel.stream.end('345');
      expect(await got.promise).toBe('12345');
      expect(await channel.exit).toEqual({ type: 'closed' });
    });

    test('tells the exit status', async () => {
      const channel = await exec('exit 3');
      await readAll(channel);
      expect(await channel.exit).toEqual({ type: 'exit', code: 3 });
    });

    test('tells the exit status although nobody reads its output', async () => {
      const channel = await exec('echo unread; exit 4');
      expect(await channel.exit).toEqual({ type: 'exit', code: 4 });
      expect((await readAll(channel)).toString()).toBe('unread\n');
    });

    test('tells the exit status after `for await`, which destroys what it has read', async () => {
      const channel = await exec('echo text; cat >/dev/null & echo more; exit 5');
      const chunks: Buffer[] = [];
      for await (const chunk of channel.stream) chunks.push(chunk as Buffer);
      expect(Buffer.concat(chunks).toString()).toBe('text\nmore\n');
      expect(await channel.exit).toEqual({ type: 'exit', code: 5 });
    });

    test('tells the signal that ended the command', async () => {
      const channel = await exec('kill -TERM $$');
      await readAll(channel);
      expect(await channel.exit).toEqual({ type: 'signal', name: 'TERM' });
    });

    test('delivers a signal to the far command, also after our end of input', async () => {
      const channel = await exec('trap "echo got; exit 7" USR1; sleep 1000 >/dev/null 2>&1 & echo ready; wait');
      await once(channel.stream, 'data');
      channel.stream.end();
      channel.signal('USR1');
      expect((await readAll(channel)).toString()).toContain('got');
      expect(await channel.exit).toEqual({ type: 'exit', code: 7 });
    });

    test('is not stalled by 8 MB of stderr nobody reads, and keeps its end', async () => {
      const channel = await exec('head -c 8000000 /dev/zero | tr "\\0" e >&2; echo last >&2; echo done');
      expect((await readAll(channel)).toString()).toBe('done\n');
      await channel.exit;
      expect(channel.stderrTail().length).toBe(8192);
      expect(channel.stderrTail().toString().endsWith('last\n')).toBe(true);
    });

    test('hands stderr to a listener until that is disposed', async () => {
      const channel = await exec('read a; echo one >&2; read b; echo two >&2');
      const seen: string[] = [];
      const heard = new Promise<void>((resolve) => {
        const listener = channel.onStderr((chunk) => {
          seen.push(chunk.toString());
          listener[Symbol.dispose]();
          resolve();
        });
      });
      channel.stream.write('\n');
      await heard;
      channel.stream.end('\n');
      channel.stream.resume();
      await channel.exit;
      expect(seen).toEqual(['one\n']);
      expect(channel.stderrTail().toString()).toBe('one\ntwo\n');
    });

    test('carries 32 MB each way at the same time, byte for byte', async () => {
      const sent = randomBytes(32 * 1024 * 1024);
      const channel = await exec('cat');
      const reading = readAll(channel);
      await pipeline(
        (function* () {
          for (let at = 0; at < sent.length; at += 100_000) yield sent.subarray(at, at + 100_000);
        })(),
        new Writable({
          write: (chunk, _encoding, done) => void channel.stream.write(chunk, done),
          final: (done) => void channel.stream.end(done),
        }),
      );
      expect(sha256(await reading)).toBe(sha256(sent));
      expect(await channel.exit).toEqual({ type: 'exit', code: 0 });
    });

    test('holds the far side back when nobody reads, and stalls no other channel', async () => {
      const file = join(subject.dir, `count-${randomBytes(4).toString('hex')}`);
      const flood = await exec(
        `i=0; while [ $i -lt 64 ]; do head -c 1000000 /dev/zero; i=$((i+1)); echo $i > ${file}; done; echo; echo end`,
      );
      await once(flood.stream, 'readable');
      const written = await exec(
        `a=x; b=y; while [ "$a" != "$b" ]; do a=$b; sleep 0.3; b=$(cat ${file}); done; echo $b`,
      );
      // Steady for 0.3 s with 64 MB to give: blocked. Far pipes, sockets and windows hold some of it.
      expect(Number((await readAll(written)).toString()) * 1_000_000).toBeLessThan(40_000_000);
      const all = await readAll(flood);
      expect(all.length).toBe(64_000_000 + 5);
    });

    test.each(['tcp', 'unix'] as const)('reaches a %s server over there', async (kind) => {
      const at = kind === 'tcp' ? 0 : join(subject.dir, `s-${randomBytes(4).toString('hex')}`);
      await using server = await serve(at, (socket) => {
        const chunks: Buffer[] = [];
        socket.on('data', (chunk) => chunks.push(chunk));
        socket.on('end', () => socket.end(`hello ${Buffer.concat(chunks)}`));
      });
      const channel = await subject.link.open(server.target, { signal: LIVE });
      channel.stream.end('ping');
      expect((await readAll(channel)).toString()).toBe('hello ping');
      expect(await channel.exit).toEqual({ type: 'closed' });
    });

    test('speaks sftp', async ({ skip }) => {
      if (!subject.hasSftp) skip();
      const channel = await subject.link.open({ type: 'subsystem', name: 'sftp' }, { signal: LIVE });
      // SSH_FXP_INIT, version 3; the answer is SSH_FXP_VERSION.
      channel.stream.write(Buffer.from([0, 0, 0, 5, 1, 0, 0, 0, 3]));
      const [answer] = (await once(channel.stream, 'data')) as [Buffer];
      expect(answer[4]).toBe(2);
      channel.stream.end();
      channel.stream.resume();
      await channel.exit;
    });

    test('fails a write after the far command has ended, once its output is read', async () => {
      const channel = await exec('echo bye; exec 0<&-');
      await channel.exit;
      expect((await readAll(channel)).toString()).toBe('bye\n');
      const error = await new Promise((resolve) => channel.stream.write('late', resolve));
      expect(error).toMatchObject({ code: 'EPIPE' });
    });

    test.each(['tcp', 'unix'] as const)('is refused when no %s server listens there', async (kind) => {
      const server = await serve(kind === 'tcp' ? 0 : join(subject.dir, 'nobody'), () => {});
      await server[Symbol.asyncDispose]();
      const opening = subject.link.open(server.target, { signal: LIVE });
      await expect(opening).rejects.toMatchObject({ code: 'channel-refused', layer: 'channel' });
    });

    test('aborted by its owner: the stream errors with the reason, and the far command goes away', async () => {
      const channel = await exec('echo $$; exec sleep 1000');
      const [pid] = (await once(channel.stream, 'data')) as [Buffer];
      const failing = streamError(channel);
      channel.abort(new Error('enough'));
      expect((await failing).message).toBe('enough');
      expect(await channel.exit).toMatchObject({ type: 'lost', error: { code: 'aborted' } });
      await gone(pid);
    });

    test('destroyed by its owner ends the far command too', async () => {
      const channel = await exec('echo $$; exec sleep 1000');
      const [pid] = (await once(channel.stream, 'data')) as [Buffer];
      channel.stream.destroy();
      await gone(pid);
    });

    /** Resolves when the process over there has ended. */
    async function gone(pid: Buffer): Promise<void> {
      const waiting = await exec(`while kill -0 ${pid.toString().trim()} 2>/dev/null; do sleep 0.05; done; echo gone`);
      expect((await readAll(waiting)).toString()).toBe('gone\n');
    }

    test('is not opened for a signal that has aborted', async () => {
      const gone = AbortSignal.abort(new Error('too late'));
      await expect(subject.link.open({ type: 'exec', command: 'true' }, { signal: gone })).rejects.toThrow('too late');
    });

    test('a lost link errors every channel: no clean end, no exit status, no late write', async () => {
      const channels = await Promise.all([exec('cat'), exec('sleep 1000'), exec('echo x; cat')]);
      const failing = channels.map(streamError);
      await subject.cut();
      for (const error of await Promise.all(failing)) expect(error).toBeInstanceOf(LinkError);
      for (const channel of channels) {
        expect(await channel.exit).toMatchObject({ type: 'lost', error: { code: 'lost' } });
        const late = await new Promise((resolve) => channel.stream.write('late', resolve));
        expect(late).toBeInstanceOf(Error);
      }
    });

    test('opens again after the link was lost', async () => {
      const channel = await exec('echo again');
      expect((await readAll(channel)).toString()).toBe('again\n');
    });

    test('that never opens is given up after a time', async ({ skip }) => {
      if (subject.silent === undefined) skip();
      const silent = await subject.silent?.();
      const opening = silent?.link.open({ type: 'exec', command: 'true' }, { signal: LIVE });
      await expect(opening).rejects.toMatchObject({ code: 'timeout', layer: 'channel' });
      await silent?.end();
    });

    test('is not opened on a closed link', async () => {
      await subject.link.close();
      await expect(exec('true')).rejects.toBeInstanceOf(LinkError);
    });
  });
}

/** A server on a free port or a path, which may be half-open. */
async function serve(
  at: number | string,
  serveOne: (socket: Socket) => void,
): Promise<{ target: Target } & AsyncDisposable> {
  const server = createServer({ allowHalfOpen: true }, (socket) => {
    socket.on('error', () => {});
    serveOne(socket);
  });
  if (typeof at === 'string') server.listen(at);
  else server.listen(at, '127.0.0.1');
  await once(server, 'listening');
  // The far account may be another user.
  if (typeof at === 'string') await chmod(at, 0o777);
  const address = server.address();
  return {
    target:
      typeof address === 'object' && address !== null
        ? { type: 'tcp', host: '127.0.0.1', port: address.port }
        : { type: 'unix', path: String(address) },
    [Symbol.asyncDispose]: async () => {
      await new Promise((resolve) => server.close(resolve));
    },
  };
}
