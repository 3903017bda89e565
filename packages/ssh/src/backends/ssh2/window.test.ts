import { createHash } from 'node:crypto';
import { once } from 'node:events';
import { startSimulator } from '@postern/testkit';
import { afterAll, beforeAll, describe, expect, test } from 'vitest';
import { readAll } from '../../conformance.test-util.ts';
import type { LinkEvent } from '../../event.ts';
import { recordedLink, resolveRig, type SshRig, startSshRig } from '../../rig.test-util.ts';

const signal = new AbortController().signal;
const exec = (command: string): { type: 'exec'; command: string } => ({ type: 'exec', command });
const MB = 1024 * 1024;
const sha256 = (bytes: Buffer): string => createHash('sha256').update(bytes).digest('hex');
/** Deterministic bytes made over there, and their digest made here. */
const NOISE = 'seq 1 99999999';
const digestOver = (command: string): string => `${command} | sha256sum | cut -d" " -f1`;

describe('over a line with 200 ms round trip', () => {
  let rig: SshRig;
  beforeAll(async () => {
    rig = await startSshRig();
  });
  afterAll(() => rig?.stop());

  test('the window grows until the line is full, and the bytes are the same', async () => {
    await using line = await startSimulator({ port: rig.ssh.port, delayMs: 100 });
    const { link } = recordedLink({
      ...(await resolveRig(rig)),
      hostKeyAlias: `[127.0.0.1]:${rig.ssh.port}`,
      port: line.port,
    });
    const command = `${NOISE} | head -c ${96 * MB}`;
    const bytes = await readAll(await link.open(exec(command), { signal }));
    const digest = await readAll(await link.open(exec(digestOver(command)), { signal }));
    expect(sha256(bytes)).toBe(digest.toString().trim());
    // ssh2 as it comes never has more than 2 MiB on the way.
    expect(line.peakHeld.down).toBeGreaterThan(4 * MB);
    expect(line.peakHeld.down).toBeLessThan(34 * MB);
    await link.close();
  });

  test('named bounds hold, for one channel and for all', async () => {
    await using line = await startSimulator({ port: rig.ssh.port, delayMs: 100 });
    const host = { ...(await resolveRig(rig)), hostKeyAlias: `[127.0.0.1]:${rig.ssh.port}`, port: line.port };
    const limits = { channelWindowBytes: 8 * MB, connectionWindowBytes: 8 * MB };
    const { link } = recordedLink(host, { limits });
    const command = `head -c ${32 * MB} /dev/zero`;
    const channels = await Promise.all([1, 2, 3].map(() => link.open(exec(command), { signal })));
    const lengths = (await Promise.all(channels.map(readAll))).map((bytes) => bytes.length);
    expect(lengths).toEqual([32 * MB, 32 * MB, 32 * MB]);
    // Three times 2 MiB, and 8 MiB for them all.
    expect(line.peakHeld.down).toBeGreaterThan(6 * MB);
    expect(line.peakHeld.down).toBeLessThan(15 * MB);
    await link.close();
  });

  test('a reader that stops after the window has grown holds the far side back', async () => {
    await using line = await startSimulator({ port: rig.ssh.port, delayMs: 100 });
    const host = { ...(await resolveRig(rig)), hostKeyAlias: `[127.0.0.1]:${rig.ssh.port}`, port: line.port };
    const { link } = recordedLink(host, { limits: { channelWindowBytes: 16 * MB } });
    const channel = await link.open(exec(`head -c ${90 * MB} /dev/zero`), { signal });
    let taken = 0;
    channel.stream.on('data', (chunk: Buffer) => {
      taken += chunk.length;
      if (taken - chunk.length < 60 * MB && taken >= 60 * MB) channel.stream.pause();
    });
    await once(channel.stream, 'pause');
    // Everything on the way arrives before the answer to this does.
    for (let round = 0; round < 3; round++) await readAll(await link.open(exec('true'), { signal }));
    expect(line.carried.down - taken).toBeLessThan(17 * MB);
    channel.stream.resume();
    await once(channel.stream, 'end');
    expect(taken).toBe(90 * MB);
    await link.close();
  });
});

describe('new keys in mid-stream', () => {
  const rekeys = (events: LinkEvent[]): number => events.filter((event) => event.type === 'rekeyed').length;

  test.each([
    ['asked for by us', [], { rekeyBytes: 4 * MB }],
    ['asked for by sshd', ['RekeyLimit 4M'], {}],
    ['asked for by both', ['RekeyLimit 3M'], { rekeyBytes: 2 * MB }],
  ])('%s change no byte, either way', async (_name, config, limits) => {
    await using rig = await startSshRig({ sshd: { config } });
    const { link, events } = recordedLink(await resolveRig(rig), { limits });
    const down = await readAll(await link.open(exec(`${NOISE} | head -c ${40 * MB}`), { signal }));
    const digest = await readAll(await link.open(exec(digestOver(`${NOISE} | head -c ${40 * MB}`)), { signal }));
    expect(sha256(down)).toBe(digest.toString().trim());
    const echo = await link.open(exec('cat'), { signal });
    const back = readAll(echo);
    for (let at = 0; at < down.length; at += 200_000) {
      if (!echo.stream.write(down.subarray(at, at + 200_000))) await once(echo.stream, 'drain');
    }
    echo.stream.end();
    expect(sha256(await back)).toBe(sha256(down));
    expect(rekeys(events)).toBeGreaterThan(4);
    await link.close();
  });

  test('an hour is enough for new keys', async () => {
    await using rig = await startSshRig();
    const { link, events } = recordedLink({ ...(await resolveRig(rig)), keepaliveMs: 20 }, { limits: { rekeyMs: 50 } });
    link.wake('flush');
    while (rekeys(events) < 3) await new Promise((resolve) => setImmediate(resolve));
    expect((await readAll(await link.open(exec('echo on'), { signal }))).toString()).toBe('on\n');
    await link.close();
  });
});
