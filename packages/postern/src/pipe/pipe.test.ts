import { createHash, randomBytes } from 'node:crypto';
import { mkdtempSync, rmSync } from 'node:fs';
import { connect, createServer, type Server, type Socket } from 'node:net';
import { tmpdir } from 'node:os';
import { join } from 'node:path';
import { Readable, Writable } from 'node:stream';
import { finished } from 'node:stream/promises';
import { type Channel, deferred, LinkError } from '@postern/core';
import { type ChannelPair, channelPair, settle, virtualEnv } from '@postern/testkit';
import { afterEach, beforeEach, describe, expect, it } from 'vitest';
import { runPipe, SIGNAL_GRACE_MS } from './bridge.ts';
import { lentChannel } from './client.ts';
import { encodeFrame } from './protocol.ts';
import { type PipeEnd, servePipe } from './server.ts';

let dir: string;
let servers: Server[] = [];
beforeEach(() => {
  dir = mkdtempSync(join(tmpdir(), 'pipe-'));
});
afterEach(async () => {
  for (const server of servers) server.close();
  servers = [];
  rmSync(dir, { recursive: true });
});

/** Two ends of a real Unix socket: the daemon's and the client's. */
async function socketPair(): Promise<{ daemon: Socket; client: Socket }> {
  const path = join(dir, `s${servers.length}`);
  const accepted = deferred<Socket>();
  const server = createServer((socket) => accepted.resolve(socket));
  servers.push(server);
  await new Promise<void>((resolve) => server.listen(path, resolve));
  const client = connect(path);
  return { daemon: await accepted.promise, client };
}

const signal = new AbortController().signal;

/** A far command in memory, lent over a real socket. */
async function lend(): Promise<{
  pair: ChannelPair;
  channel: Channel;
  end: Promise<PipeEnd>;
  client: Socket;
  daemon: Socket;
}> {
  const { daemon, client } = await socketPair();
  const pair = channelPair();
  const end = servePipe(daemon, { open: async () => pair.channel });
  return { pair, channel: await lentChannel(client, { signal }), end, client, daemon };
}

/** All that is read until the end. (`toArray` of a Duplex waits for its writing side as well.) */
const collect = (stream: Readable): Promise<Buffer> =>
  new Promise((resolve, reject) => {
    const chunks: Buffer[] = [];
    stream.on('data', (chunk: Buffer) => chunks.push(chunk));
    stream.once('end', () => resolve(Buffer.concat(chunks)));
    stream.once('error', reject);
  });
const sha = (bytes: Uint8Array): string => createHash('sha256').update(bytes).digest('hex');

describe('a lent channel', () => {
  it('carries much in both directions, end of input, and the exit status', async () => {
    const { pair, channel, end } = await lend();
    pair.far.pipe(pair.far, { end: false });
    pair.far.once('end', () => pair.exit({ type: 'exit', code: 7 }));
    const bytes = randomBytes(5_000_000);
    channel.stream.end(bytes);
    expect(sha(await collect(channel.stream))).toBe(sha(bytes));
    expect(await channel.exit).toEqual({ type: 'exit', code: 7 });
    expect(await end).toEqual({ type: 'ended', exit: { type: 'exit', code: 7 } });
  });

  it('keeps half-close: input ended, output goes on', async () => {
    const { pair, channel } = await lend();
    channel.stream.end('question');
    expect((await collect(pair.far)).toString()).toBe('question');
    pair.far.write('answer');
    pair.exit({ type: 'exit', code: 0 });
    expect((await collect(channel.stream)).toString()).toBe('answer');
  });

  it('keeps half-close: output ended, input goes on', async () => {
    const { pair, channel } = await lend();
    pair.far.end('done');
    expect((await collect(channel.stream)).toString()).toBe('done');
    channel.stream.end('more');
    expect((await collect(pair.far)).toString()).toBe('more');
    pair.exit({ type: 'exit', code: 0 });
    expect(await channel.exit).toEqual({ type: 'exit', code: 0 });
  });

  it('delivers stderr and the exit while nobody reads stdout, and keeps stdout within its window', async () => {
    const { pair, channel } = await lend();
    const errors: Buffer[] = [];
    const heard = deferred<void>();
    channel.onStderr((chunk) => {
      errors.push(chunk);
      if (Buffer.concat(errors).length === 2_000_000) heard.resolve();
    });
    let written = 0;
    const flood = new Readable({
      read() {
        written += 65536;
        this.push(written > 50_000_000 ? null : Buffer.alloc(65536));
      },
    });
    flood.pipe(pair.far);
    for (let n = 0; n < 20; n++) pair.stderr(Buffer.alloc(100_000));
    await heard.promise;
    await settle();
    expect(written).toBeLessThan(3_000_000);
    channel.abort(new Error('enough'));
  });

  it('loses nothing of a far command that is over before anybody could listen', async () => {
    const { daemon, client } = await socketPair();
    const pair = channelPair();
    pair.stderr(Buffer.from('early '));
    void servePipe(daemon, {
      open: async () => {
        pair.far.write('out');
        queueMicrotask(() => pair.stderr(Buffer.from('late')));
        pair.exit({ type: 'exit', code: 1 });
        return pair.channel;
      },
    });
    // All frames are in the socket before the first is read.
    await settle();
    const channel = await lentChannel(client, { signal });
    const heard: Buffer[] = [];
    channel.onStderr((chunk) => heard.push(chunk));
    expect((await collect(channel.stream)).toString()).toBe('out');
    expect(await channel.exit).toEqual({ type: 'exit', code: 1 });
    expect(Buffer.concat(heard).toString()).toBe('early late');
  });

  it('holds a stderr back that its reader does not take', async () => {
    const { daemon, client } = await socketPair();
    const pair = channelPair();
    const held: (Promise<void> | undefined)[] = [];
    const onStderr = pair.channel.onStderr.bind(pair.channel);
    pair.channel.onStderr = (listener) => onStderr((chunk) => held.push(listener(chunk) as Promise<void> | undefined));
    void servePipe(daemon, { open: async () => pair.channel });
    const channel = await lentChannel(client, { signal });
    const free = deferred<void>();
    channel.onStderr(() => free.promise);
    for (let n = 0; n < 20; n++) pair.stderr(Buffer.alloc(100_000));
    await settle();
    const last = held.at(-1);
    expect(last).toBeInstanceOf(Promise);
    free.resolve();
    await last;
    channel.abort(new Error('enough'));
  });

  it('passes signals on even when the far side reads no input', async () => {
    const { pair, channel } = await lend();
    const signalled = deferred<string>();
    pair.channel.signal = signalled.resolve;
    channel.stream.write(Buffer.alloc(4_000_000));
    channel.signal('USR1');
    expect(await signalled.promise).toBe('USR1');
    channel.abort(new Error('enough'));
  });

  it('ends with an error, not an end, when the link is lost', async () => {
    const { pair, channel } = await lend();
    pair.far.write('half of');
    expect((await channel.stream.iterator({ destroyOnReturn: false }).next()).value.toString()).toBe('half of');
    pair.lose(new LinkError('the link to gate fell silent', { code: 'lost', layer: 'tcp', fix: 'wait' }));
    await expect(finished(channel.stream)).rejects.toMatchObject({ code: 'lost', layer: 'tcp', fix: 'wait' });
    expect(await channel.exit).toMatchObject({ type: 'lost', error: { message: 'the link to gate fell silent' } });
  });

  it('ends with an error when the daemon dies', async () => {
    const { channel, daemon } = await lend();
    daemon.destroy();
    expect(await channel.exit).toMatchObject({
      type: 'lost',
      error: { code: 'lost', message: 'the daemon went away' },
    });
    await expect(finished(channel.stream)).rejects.toBeInstanceOf(LinkError);
  });

  it('aborts the far side when its client goes away', async () => {
    const { pair, end, client } = await lend();
    client.destroy();
    expect(await end).toEqual({ type: 'abandoned' });
    expect(await pair.channel.exit).toMatchObject({ type: 'lost', error: { code: 'aborted' } });
  });

  it('that is refused says why', async () => {
    const { daemon, client } = await socketPair();
    const error = new LinkError('no such file', {
      code: 'channel-refused',
      layer: 'channel',
      fix: 'touch it',
      hop: 'b',
    });
    const end = servePipe(daemon, { open: () => Promise.reject(error) });
    await expect(lentChannel(client, { signal })).rejects.toMatchObject({
      code: 'channel-refused',
      layer: 'channel',
      message: 'no such file',
      fix: 'touch it',
      hop: 'b',
    });
    expect(await end).toEqual({ type: 'refused', error });
  });

  it('is no longer wanted when its client leaves before it opens', async () => {
    const { daemon, client } = await socketPair();
    const asked = deferred<AbortSignal>();
    const end = servePipe(daemon, {
      open: (o) =>
        new Promise((_, reject) => {
          o.signal.addEventListener('abort', () => reject(o.signal.reason));
          asked.resolve(o.signal);
        }),
    });
    const stop = new AbortController();
    const opened = lentChannel(client, { signal: stop.signal });
    await asked.promise;
    stop.abort(new Error('no patience'));
    await expect(opened).rejects.toThrow('no patience');
    expect(await end).toEqual({ type: 'abandoned' });
  });

  it('is closed on a peer that does not keep to its window', async () => {
    const { client, end, daemon } = await lend();
    const piece = encodeFrame({ type: 'data', stream: 'stdin', bytes: Buffer.alloc(65536) });
    for (let n = 0; n < 40; n++) for (const part of piece) client.write(part);
    expect(await end).toEqual({ type: 'abandoned' });
    expect(daemon.destroyed).toBe(true);
  });

  it('is closed on a peer that speaks something else', async () => {
    const { client, end } = await lend();
    client.write('GET / HTTP/1.1\r\n\r\n');
    expect(await end).toEqual({ type: 'abandoned' });
  });
});

describe('running a pipe', () => {
  const setup = () => {
    const pair = channelPair();
    const env = virtualEnv();
    const said: string[] = [];
    const out: Buffer[] = [];
    const err: Buffer[] = [];
    const sink = (to: Buffer[]): Writable =>
      new Writable({
        write(chunk, _encoding, done) {
          to.push(chunk);
          done();
        },
      });
    const stdin = new Readable({ read() {} });
    let raise: (name: string) => void = () => {};
    const o = {
      open: async () => pair.channel,
      stdin,
      stdout: sink(out),
      stderr: sink(err),
      env,
      plainEnd: false,
      say(line: string, fix?: string): number {
        said.push(line, ...(fix === undefined ? [] : [fix]));
        return 255;
      },
      signals: (listener: (name: string) => void) => {
        raise = listener;
        return { [Symbol.dispose]() {} };
      },
    };
    return { pair, env, said, out, err, stdin, o, raise: (name: string) => raise(name) };
  };

  it('returns the far status though its own input is still open', async () => {
    const { pair, said, out, err, o } = setup();
    const status = runPipe(o);
    await settle();
    pair.far.write('out');
    pair.stderr(Buffer.from('err'));
    pair.exit({ type: 'exit', code: 3 });
    expect(await status).toBe(3);
    expect([Buffer.concat(out).toString(), Buffer.concat(err).toString(), said]).toEqual(['out', 'err', []]);
  });

  it.each([
    [{ type: 'signal', name: 'KILL' }, 255, ['the far command was ended by signal KILL']],
    [{ type: 'closed' }, 255, ['the far side closed the channel without an exit status']],
  ] as const)('turns %o into 255, as ssh does, and says so', async (exit, status, lines) => {
    const { pair, said, o } = setup();
    const running = runPipe(o);
    await settle();
    pair.exit(exit);
    expect(await running).toBe(status);
    expect(said).toEqual(lines);
  });

  it('takes a plain end of a TCP channel for success', async () => {
    const { pair, o } = setup();
    const running = runPipe({ ...o, plainEnd: true });
    await settle();
    pair.exit({ type: 'closed' });
    expect(await running).toBe(0);
  });

  it('says in one line why the link failed, and what to do', async () => {
    const { said, o } = setup();
    const error = new LinkError('the \x1bhost key is unknown', {
      code: 'hostkey-unknown',
      layer: 'hostkey',
      fix: 'accept it',
    });
    expect(await runPipe({ ...o, open: () => Promise.reject(error) })).toBe(255);
    expect(said).toEqual(['the \\x1bhost key is unknown', 'accept it']);
  });

  it('forwards a signal and returns what the far command makes of it', async () => {
    const { pair, o, raise } = setup();
    const running = runPipe(o);
    await settle();
    pair.channel.signal = (name) => pair.exit({ type: 'exit', code: name === 'INT' ? 130 : 1 });
    raise('INT');
    expect(await running).toBe(130);
  });

  it('cuts the channel when the far command outlives its grace', async () => {
    const { pair, env, said, o, raise } = setup();
    const running = runPipe(o);
    await settle();
    raise('TERM');
    await env.advance(SIGNAL_GRACE_MS - 1);
    expect(pair.channel.stream.destroyed).toBe(false);
    await env.advance(1);
    expect(await running).toBe(255);
    expect(said).toEqual(['ended by signal TERM']);
  });

  it('cuts the channel at the second signal', async () => {
    const { o, raise } = setup();
    const running = runPipe(o);
    await settle();
    raise('INT');
    raise('INT');
    expect(await running).toBe(255);
  });

  it('stops waiting for the channel at a signal', async () => {
    const { o, raise } = setup();
    const running = runPipe({
      ...o,
      open: ({ signal }) => new Promise((_, reject) => signal.addEventListener('abort', () => reject(signal.reason))),
    });
    raise('HUP');
    expect(await running).toBe(255);
  });

  it('leaves the far side without a word when nobody reads its output', async () => {
    const { pair, said, o } = setup();
    const stdout = new Writable({
      write: (_chunk, _encoding, done) => done(Object.assign(new Error('write EPIPE'), { code: 'EPIPE' })),
    });
    const running = runPipe({ ...o, stdout });
    await settle();
    pair.far.write('y\n');
    expect(await running).toBe(255);
    expect(said).toEqual([]);
    expect(await pair.channel.exit).toMatchObject({ type: 'lost' });
  });

  it('gives an empty input where there is none', async () => {
    const { pair, o } = setup();
    const running = runPipe({ ...o, stdin: undefined });
    expect(await collect(pair.far)).toEqual(Buffer.alloc(0));
    pair.exit({ type: 'exit', code: 0 });
    expect(await running).toBe(0);
  });
});
