import { once } from 'node:events';
import type { Channel, Link } from '@postern/core';
import { type Simulator, settle, startSimulator, virtualEnv } from '@postern/testkit';
import { afterAll, afterEach, beforeAll, beforeEach, describe, expect, test } from 'vitest';
import { readAll, streamError } from '../conformance.test-util.ts';
import type { LinkEvent } from '../event.ts';
import type { ResolvedHost } from '../host/resolved-host.ts';
import { openAtOnce, reached, recordedLink, resolveRig, type SshRig, startSshRig } from '../rig.test-util.ts';

const signal = new AbortController().signal;
const exec = (command: string): { type: 'exec'; command: string } => ({ type: 'exec', command });

describe('a link whose network changes', () => {
  let rig: SshRig;
  let line: Simulator;
  let env: ReturnType<typeof virtualEnv>;
  let boot: number;
  let addresses: string;
  let link: Link;
  let events: LinkEvent[];
  let host: ResolvedHost;
  beforeAll(async () => {
    rig = await startSshRig();
  });
  afterAll(() => rig?.stop());
  beforeEach(async () => {
    line = await startSimulator({ port: rig.ssh.port });
    host = { ...(await resolveRig(rig)), hostKeyAlias: `[127.0.0.1]:${rig.ssh.port}`, port: line.port };
    env = virtualEnv();
    boot = 0;
    addresses = 'eth0 10.0.0.1';
    const view = { bootMs: () => env.monotonicNow() + boot, addresses: () => addresses };
    ({ link, events } = recordedLink(host, { env, view }));
  });
  afterEach(async () => {
    const closing = link.close();
    await env.advance(2_000);
    await closing;
    await line[Symbol.asyncDispose]();
  });

  /** A channel of a link that is up and has answered. */
  async function standing(): Promise<Channel> {
    const channel = await openAtOnce(link, exec('echo ready; cat'));
    await once(channel.stream, 'data');
    while ((link.state as { rttMs?: number }).rttMs === undefined) await settle();
    return channel;
  }
  const ended = (): LinkEvent | undefined => events.find((event) => event.type === 'connection-ended');

  /** Lets real I/O go on until this holds. */
  async function until(holds: () => boolean): Promise<void> {
    while (!holds()) await settle();
  }

  const disturbances: [string, () => void][] = [
    [
      'its addresses',
      () => {
        addresses = 'wlan0 10.1.1.1';
      },
    ],
    [
      'a suspend',
      () => {
        boot += 600_000;
      },
    ],
  ];

  test.each(disturbances)('%s: a connection that still answers is kept', async (_name, disturb) => {
    const channel = await standing();
    disturb();
    await env.advance(1_000);
    await until(() => events.some((event) => event.type === 'probing'));
    channel.stream.write('x');
    await once(channel.stream, 'data');
    await env.advance(4_000);
    expect(ended()).toBeUndefined();
    expect(line.accepted).toBe(1);
    channel.stream.end('kept');
    expect((await readAll(channel)).toString()).toBe('kept');
  });

  test.each(disturbances)(
    '%s: a dead connection is replaced within 5 s, and who waits is served by the new one',
    async (_name, disturb) => {
      const channel = await standing();
      const failing = streamError(channel);
      line.strand();
      disturb();
      const from = env.monotonicNow();
      await env.advance(1_000);
      const waiting = link.open(exec('echo new'), { signal });
      await env.advance(PROBE_AND_A_BIT);
      expect(await failing).toMatchObject({ code: 'lost', message: expect.stringContaining('network changed') });
      expect((await readAll(await waiting)).toString()).toBe('new\n');
      expect(env.monotonicNow() - from).toBeLessThanOrEqual(5_000);
      expect(link.state.type).toBe('up');
      expect(line.accepted).toBe(2);
    },
  );

  test('a stall of 8 s in which the network changes drops nothing', async () => {
    const channel = await standing();
    line.blackHole();
    addresses = 'eth0 10.0.0.2';
    for (let second = 0; second < 8; second++) await env.advance(1_000);
    expect(link.state.type).toBe('up');
    line.pass();
    channel.stream.write('x');
    await once(channel.stream, 'data');
    await env.advance(500);
    channel.stream.end('still here');
    expect((await readAll(channel)).toString()).toBe('still here');
    expect(ended()).toBeUndefined();
  });

  test('a network that is unusable for a while: the connection is replaced within 5 s of its return', async () => {
    const channel = await standing();
    const failing = streamError(channel);
    line.strand();
    line.refuse();
    addresses = '';
    await env.advance(9_000);
    await line.accept();
    const from = env.monotonicNow();
    addresses = 'wlan0 10.2.2.2';
    // The clock stands while the dial goes on in real time.
    while (line.accepted === 1 && env.monotonicNow() - from < 60_000) await env.advance(100);
    expect(env.monotonicNow() - from).toBeLessThanOrEqual(5_000);
    expect(await failing).toMatchObject({ code: 'lost' });
    expect((await readAll(await link.open(exec('echo back'), { signal }))).toString()).toBe('back\n');
    expect(env.monotonicNow() - from).toBeLessThanOrEqual(5_000);
  });

  test('down and backing off, a new address dials at once', async () => {
    line.refuse();
    link.wake('flush');
    await reached(link, 'down');
    for (let n = 0; n < 20; n++) await env.advance(10_000);
    await line.accept();
    const from = env.monotonicNow();
    addresses = 'wlan0 10.2.2.2';
    await env.advance(1_000);
    await until(() => link.state.type === 'up');
    expect(env.monotonicNow() - from).toBe(1_000);
  });

  test.each(['reset', 'hangUp'] as const)('%s is noticed at once, without a tick of the clock', async (how) => {
    const channel = await standing();
    const failing = streamError(channel);
    const from = env.monotonicNow();
    line[how]();
    expect(await failing).toMatchObject({ code: 'lost' });
    expect(env.monotonicNow()).toBe(from);
  });
});

/** The probe's time, and some for the dial. */
const PROBE_AND_A_BIT = 1_600;
