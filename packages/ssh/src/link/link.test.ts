import { once } from 'node:events';
import { type AddressInfo, createServer, type Server, type Socket } from 'node:net';
import { type Channel, LinkError } from '@postern/core';
import { settle, virtualEnv } from '@postern/testkit';
import { afterAll, beforeAll, describe, expect, test } from 'vitest';
import { dialHost } from '../backends/auto.ts';
import { readAll, streamError } from '../conformance.test-util.ts';
import type { Connection } from '../connection.ts';
import type { LinkEvent } from '../event.ts';
import type { ResolvedHost } from '../host/resolved-host.ts';
import { openAtOnce, reached, recordedLink, resolveRig, type SshRig, startSshRig } from '../rig.test-util.ts';
import type { HostLink } from './link.ts';

const signal = new AbortController().signal;
const exec = (command: string): { type: 'exec'; command: string } => ({ type: 'exec', command });

/** Waits for an event that fits, past or to come. */
async function seen(events: LinkEvent[], fits: (event: LinkEvent) => boolean): Promise<LinkEvent> {
  for (;;) {
    const found = events.find(fits);
    if (found !== undefined) return found;
    await settle();
  }
}

describe('a link to a real sshd', () => {
  let rig: SshRig;
  let host: ResolvedHost;
  beforeAll(async () => {
    rig = await startSshRig();
    host = await resolveRig(rig);
  });
  afterAll(() => rig?.stop());

  test('dials only when wanted, once for many channels, and says how it went', async () => {
    const { link, events } = recordedLink(host);
    expect(link.state).toEqual({ type: 'idle' });
    const channels = await Promise.all([1, 2, 3, 4].map((n) => link.open(exec(`echo ${n}`), { signal })));
    expect((await Promise.all(channels.map(readAll))).map(String)).toEqual(['1\n', '2\n', '3\n', '4\n']);
    expect(link.state.type).toBe('up');
    expect(events.map((event) => event.type).filter((type) => type !== 'channel-close')).toEqual([
      'dialling',
      'passed',
      'passed',
      'passed',
      'passed',
      'up',
      ...Array<string>(4).fill('channel-open'),
    ]);
    await link.close();
    expect(link.state).toEqual({ type: 'idle' });
  });

  test('measures the round trip', async () => {
    const { link } = recordedLink(host);
    await (await link.open(exec('true'), { signal })).exit;
    expect(link.state).toMatchObject({ type: 'up', rttMs: expect.any(Number) });
    await link.close();
  });

  test('lost, it tells why, comes back by itself, and serves who waited', async () => {
    const { link, events } = recordedLink(host);
    const channel = await link.open(exec('cat'), { signal });
    const failing = streamError(channel);
    await rig.ssh.stop();
    expect(await failing).toMatchObject({ code: 'lost', message: expect.stringContaining('gate') });
    await seen(events, (event) => event.type === 'down' && event.error.code === 'refused');
    const waiting = link.open(exec('echo back'), { signal });
    await rig.ssh.start();
    link.wake('flush');
    expect((await readAll(await waiting)).toString()).toBe('back\n');
    await link.close();
  });

  test('a waiter leaves with its own reason', async () => {
    await rig.ssh.stop();
    const { link } = recordedLink(host);
    const leaving = new AbortController();
    const waiting = link.open(exec('true'), { signal: leaving.signal });
    await reached(link, 'down');
    leaving.abort(new Error('had enough'));
    await expect(waiting).rejects.toThrow('had enough');
    await link.close();
    await rig.ssh.start();
  });

  describe('given other settings', () => {
    let other: SshRig;
    beforeAll(async () => {
      other = await startSshRig();
    });
    afterAll(() => other?.stop());
    /** A link that keeps its connections for the test to see, and a channel on the first. */
    async function used(): Promise<{ link: HostLink; made: Connection[]; channel: Channel }> {
      const made: Connection[] = [];
      const { link } = recordedLink(host, {
        async dial(...to) {
          const connection = await dialHost(...to);
          made.push(connection);
          return connection;
        },
      });
      return { link, made, channel: await link.open(exec('cat'), { signal }) };
    }
    const portOf = async (link: HostLink): Promise<number> => {
      const text = await readAll(await link.open(exec('echo $SSH_CONNECTION'), { signal }));
      return Number(text.toString().trim().split(' ').at(-1));
    };

    test('connects by them, while what runs goes on where it is', async () => {
      const { link, made, channel } = await used();
      const next = await resolveRig(other);
      link.redirect(next);
      expect(await portOf(link)).toBe(next.port);
      while (link.channels > 1) await settle();
      expect(link.channels).toBe(1);
      channel.stream.end('still');
      expect((await readAll(channel)).toString()).toBe('still');
      expect(await made[0]?.closed).toMatchObject({ code: 'lost', message: 'the settings of gate have changed' });
      while (link.channels > 0) await settle();
      expect(link.state.type).toBe('up');
      await link.close();
    });

    test('gives up a dial that was under way by the old ones', async () => {
      const silent = createServer().listen(0, '127.0.0.1');
      await once(silent, 'listening');
      const { link } = recordedLink({ ...host, port: (silent.address() as AddressInfo).port });
      const waiting = portOf(link);
      await once(silent, 'connection');
      link.redirect(host);
      expect(await waiting).toBe(host.port);
      await link.close();
      silent.close();
    });

    test('closed, it ends what still ran by the old ones', async () => {
      const { link, channel } = await used();
      const failing = streamError(channel);
      link.redirect(await resolveRig(other));
      await link.close();
      expect(await failing).toMatchObject({ code: 'aborted' });
    });

    test('retired, it opens nothing more and closes with its last channel', async () => {
      const { link, made, channel } = await used();
      const retired = link.retire();
      await expect(link.open(exec('true'), { signal })).rejects.toMatchObject({ code: 'aborted' });
      channel.stream.end('still');
      expect((await readAll(channel)).toString()).toBe('still');
      await retired;
      await made[0]?.closed;
      expect(link.state.type).toBe('idle');
    });
  });

  test('closed while dialling leaves nothing behind, and its waiters go', async () => {
    const { link } = recordedLink(host);
    const waiting = link.open(exec('true'), { signal });
    await link.close();
    await expect(waiting).rejects.toMatchObject({ code: 'aborted' });
    await expect(link.open(exec('true'), { signal })).rejects.toBeInstanceOf(LinkError);
  });

  describe('with a server that falls silent', () => {
    /** A link on a virtual clock, up, with one open channel. */
    async function standing(): Promise<{
      env: ReturnType<typeof virtualEnv>;
      link: ReturnType<typeof recordedLink>['link'];
      channel: Channel;
    }> {
      const env = virtualEnv();
      const { link } = recordedLink(host, { env });
      const channel = await openAtOnce(link, exec('echo ready; cat'));
      await once(channel.stream, 'data');
      while ((link.state as { rttMs?: number }).rttMs === undefined) await settle();
      return { env, link, channel };
    }

    test.each([0, 1, 2, 3, 4, 4.9])(
      'a stall of 8 s that begins %s s after the last word drops nothing',
      async (after) => {
        const { env, link, channel } = await standing();
        await env.advance(after * 1000);
        await rig.ssh.pause();
        await env.advance(8000);
        expect(link.state.type).toBe('up');
        await rig.ssh.resume();
        channel.stream.end('still');
        expect((await readAll(channel)).toString()).toBe('still');
        await link.close();
      },
    );

    test('a black hole is noticed within 15 s, not before 9.5 s', async () => {
      const { env, link, channel } = await standing();
      await rig.ssh.pause();
      const failing = streamError(channel);
      await env.advance(9_400);
      expect(link.state.type).toBe('up');
      await env.advance(5_600);
      expect(link.state.type).not.toBe('up');
      expect(await failing).toMatchObject({ code: 'lost', message: expect.stringContaining('silent') });
      await rig.ssh.resume();
      await link.close();
    });

    test('it tells when the far side was last heard', async () => {
      const { env, link, channel } = await standing();
      await rig.ssh.pause();
      const heard = link.heardAt;
      await env.advance(4_000);
      expect(link.heardAt).toBe(heard);
      await rig.ssh.resume();
      channel.stream.write('x');
      await once(channel.stream, 'data');
      expect(link.heardAt).toBe(env.monotonicNow());
      await link.close();
      expect(link.heardAt).toBeUndefined();
    });

    test('a sleep of this side is not taken for silence of the other', async () => {
      const { env, link, channel } = await standing();
      await rig.ssh.pause();
      await env.advance(5_000); // a probe is on its way
      // The clock leaps while nothing runs, as when this process is stopped, and its timers come late.
      env.leap(20_000);
      await rig.ssh.resume();
      await env.advance(1_000);
      expect(link.state.type).toBe('up');
      channel.stream.end();
      await readAll(channel);
      await link.close();
    });
  });
});

describe('MaxSessions', () => {
  let rig: SshRig;
  beforeAll(async () => {
    rig = await startSshRig({ sshd: { config: ['MaxSessions 3'] } });
  });
  afterAll(() => rig?.stop());

  test('is gone beyond with further connections, which are given back when idle', async () => {
    const env = virtualEnv();
    const { link, events } = recordedLink(await resolveRig(rig), { env });
    const channels = await Promise.all(Array.from({ length: 10 }, () => link.open(exec('cat'), { signal })));
    const ups = events.filter((event) => event.type === 'up');
    expect(ups.map((event) => event.connections)).toEqual([1, 2, 3, 4]);
    for (const channel of channels) channel.stream.end('x');
    expect((await Promise.all(channels.map(readAll))).map(String)).toEqual(Array(10).fill('x'));
    await Promise.all(channels.map((channel) => channel.exit));
    const again = await Promise.all(Array.from({ length: 10 }, () => link.open(exec('true'), { signal })));
    await Promise.all(again.map((channel) => channel.exit));
    expect(events.filter((event) => event.type === 'up')).toHaveLength(4);
    // The far side answers in real time: give it some for each step of ours.
    for (let step = 0; step < 10; step++) {
      await env.advance(4_000);
      await (await link.open(exec('true'), { signal })).exit;
    }
    expect(events.filter((event) => event.type === 'connection-ended')).toHaveLength(3);
    expect(link.state.type).toBe('up');
    await link.close();
  });

  test('is an error where no further connection may be made', async () => {
    const { link } = recordedLink(await resolveRig(rig), { maxConnections: 1 });
    const three = await Promise.all([1, 2, 3].map(() => link.open(exec('cat'), { signal })));
    await expect(link.open(exec('cat'), { signal })).rejects.toMatchObject({ code: 'channel-limit', layer: 'channel' });
    for (const channel of three) channel.stream.end();
    await Promise.all(three.map((channel) => channel.exit));
    await (await link.open(exec('true'), { signal })).exit;
    await link.close();
  });

  test('is asked after no more once it is known: each refusal is a line in the far log', async () => {
    await using one = await startSshRig({ sshd: { config: ['MaxSessions 1'] } });
    const { link } = recordedLink(await resolveRig(one));
    const burst = async (): Promise<void> => {
      const channels = await Promise.all(Array.from({ length: 12 }, () => link.open(exec('cat'), { signal })));
      for (const channel of channels) channel.stream.end();
      await Promise.all(channels.map((channel) => channel.exit));
    };
    const refusals = (): number => one.ssh.log().filter((line) => /no more sessions/.test(line)).length;
    await burst();
    const first = refusals();
    expect(first).toBeGreaterThan(0);
    expect(first).toBeLessThanOrEqual(11);
    await burst();
    // The far side may still count a session that has just ended here.
    expect(refusals() - first).toBeLessThanOrEqual(2);
    await link.close();
  });

  test('does not count TCP channels', async () => {
    const server = createServer((socket) => socket.end('hi')).listen(0, '127.0.0.1');
    await once(server, 'listening');
    const { port } = server.address() as { port: number };
    const { link, events } = recordedLink(await resolveRig(rig));
    const sessions = await Promise.all([1, 2, 3].map(() => link.open(exec('cat'), { signal })));
    const channel = await link.open({ type: 'tcp', host: '127.0.0.1', port }, { signal });
    expect((await readAll(channel)).toString()).toBe('hi');
    expect(events.filter((event) => event.type === 'up')).toHaveLength(1);
    for (const session of sessions) session.abort(new Error('done'));
    await link.close();
    server.close();
  });
});

test('100 sessions at a sshd with its own defaults: none fails', async () => {
  await using rig = await startSshRig();
  const { link, events } = recordedLink(await resolveRig(rig));
  const channels = await Promise.all(Array.from({ length: 100 }, () => link.open(exec('cat'), { signal })));
  for (const channel of channels) channel.stream.end('x');
  expect((await Promise.all(channels.map(readAll))).map(String)).toEqual(Array(100).fill('x'));
  expect(events.filter((event) => event.type === 'up')).toHaveLength(10);
  await link.close();
});

describe('dialling what is no sshd', () => {
  let rig: SshRig;
  beforeAll(async () => {
    rig = await startSshRig();
  });
  afterAll(() => rig?.stop());

  /** Dials a server that does this with each connection. */
  async function dialFake(
    serve: (socket: Socket) => void,
    o: { handshakeTimeoutMs?: number } = {},
  ): Promise<LinkError> {
    const server = createServer(serve).listen(0, '127.0.0.1');
    await once(server, 'listening');
    const error = await dialPort((server.address() as { port: number }).port, o);
    server.close();
    return error;
  }

  async function dialPort(
    port: number,
    o: { handshakeTimeoutMs?: number; hostname?: string } = {},
  ): Promise<LinkError> {
    const host = { ...(await resolveRig(rig)), port, ...(o.hostname === undefined ? {} : { hostname: o.hostname }) };
    const { link } = recordedLink(host, o);
    link.wake('flush');
    const state = await reached(link, 'down');
    await link.close();
    return (state as { error: LinkError }).error;
  }

  test('a server that says who it is and closes', async () => {
    const error = await dialFake((socket) => socket.end('SSH-2.0-OpenSSH_9.2\r\n'));
    expect(error).toMatchObject({ code: 'handshake', layer: 'tcp', permanent: false });
    expect(error.message).toContain('hung up');
  });

  test('a server that closes at once', async () => {
    expect(await dialFake((socket) => socket.destroy())).toMatchObject({ code: 'handshake', layer: 'tcp' });
  });

  test('a server that never speaks', async () => {
    const error = await dialFake(() => {}, { handshakeTimeoutMs: 100 });
    expect(error).toMatchObject({
      code: 'timeout',
      layer: 'tcp',
      message: expect.stringContaining('does not speak SSH'),
    });
  });

  test.each(['Exceeded MaxStartups\r\n', 'Not allowed at this time\r\n'])(
    'a server that says %j and hangs up',
    async (words) => {
      const error = await dialFake((socket) => socket.end(words));
      expect(error).toMatchObject({ code: 'handshake', message: expect.stringContaining(`and said: ${words.trim()}`) });
    },
  );

  test('a web server', async () => {
    const error = await dialFake((socket) => socket.end('HTTP/1.1 400 Bad Request\r\n\r\n<html>'));
    expect(error).toMatchObject({ code: 'handshake', layer: 'tcp' });
  });

  test('a server with nothing in common', async () => {
    await using old = await startSshRig({ sshd: { config: ['KexAlgorithms diffie-hellman-group14-sha1'] } });
    const { link } = recordedLink(await resolveRig(old, { backend: 'ssh2' }));
    link.wake('flush');
    const { error } = (await reached(link, 'down')) as { error: LinkError };
    expect(error).toMatchObject({
      code: 'handshake',
      layer: 'kex',
      message: expect.stringContaining('no algorithm in common'),
    });
    expect(error.fix).toContain('openssh');
    await link.close();
  });

  test('a port nobody listens on', async () => {
    const server: Server = createServer().listen(0, '127.0.0.1');
    await once(server, 'listening');
    const { port } = server.address() as { port: number };
    server.close();
    await once(server, 'close');
    expect(await dialPort(port)).toMatchObject({ code: 'refused', layer: 'tcp' });
  });

  test('a name that does not exist', async () => {
    expect(await dialPort(22, { hostname: 'no-such-host.invalid' })).toMatchObject({ code: 'not-found', layer: 'dns' });
  });
});
