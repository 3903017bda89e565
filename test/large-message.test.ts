import { once } from 'node:events';
import { accessSync, constants, readFileSync, writeFileSync } from 'node:fs';
import { startRig } from '@postern/testkit/rig';
import { expect, test } from 'vitest';
import { type LineClient, talkTo } from './support/line-client.ts';
import { makePlace, up } from './support/postern.ts';

/**
 * What a large message costs the daemon, by the kernel's own count of its peak (`VmHWM`, proc(5)). Nearly all of it is chunks that were read and wait for the
 * collector: 27 to 29 MB on an idle machine (Node 20; with `--max-semi-space-size=1` 9 MB), 15 to 39 on a busy one with Node 26. A message that is kept whole
 * costs its size at least, and two thirds leave the collector its room.
 */
const MB = 1_000_000;
const SIZE = 100 * MB;
/** A host that is down, at first. */
const CONFIG = `
[smtp]
listen = ["127.0.0.1:0"]
[[route]]
match = ["*"]
host = "away"
[host.away]
destination = "127.0.0.1:1"
`;
const BLOCK = Buffer.from(`${'x'.repeat(76)}\r\n`.repeat(840));

function canMeasure(): boolean {
  try {
    accessSync('/proc/self/clear_refs', constants.W_OK);
    return true;
  } catch {
    return false;
  }
}

/** Memory of a process from now on: resolves to the growth of its peak, octets. */
function watchMemory(pid: number): () => number {
  const field = (name: string): number =>
    1024 * Number(new RegExp(`^${name}:\\s+(\\d+)`, 'm').exec(readFileSync(`/proc/${pid}/status`, 'latin1'))?.[1]);
  // Resets the peak.
  writeFileSync(`/proc/${pid}/clear_refs`, '5');
  const before = field('VmRSS');
  return () => field('VmHWM') - before;
}

async function send(client: LineClient, size: number): Promise<void> {
  await client.ask('MAIL FROM:<ada@x.test>', '\r\n250 ');
  await client.ask('RCPT TO:<gate@gate.test>', '\r\n250 ');
  await client.ask('DATA', '\r\n354 ');
  client.socket.write('Subject: large\r\n\r\n');
  for (let sent = 0; sent < size; sent += BLOCK.length) {
    if (!client.socket.write(BLOCK)) await once(client.socket, 'drain');
  }
  await client.ask('.', 'queued as ');
}

test.skipIf(!canMeasure())(
  'taking a message of 100 MB costs the daemon less than two thirds of its size, and so does delivering it',
  async () => {
    await using gate = await startRig({ imapd: false, smtp: { sizeLimit: 2 * SIZE } });
    const place = await makePlace(gate, CONFIG, 'large');
    await using daemon = await up(place, []);
    const pid = daemon.child.pid ?? 0;
    const client = talkTo(daemon.smtp[0]);
    await client.said('220 ');
    await client.ask('EHLO x', '\r\n250 ');
    // Code is loaded and compiled once.
    for (let at = 0; at < 3; at++) await send(client, MB / 10);
    const taking = watchMemory(pid);
    await send(client, SIZE);
    const taken = taking();
    const delivering = watchMemory(pid);
    writeFileSync(place.config, readFileSync(place.config, 'utf8').replace('host = "away"', 'host = "gate"'));
    daemon.child.kill('SIGHUP');
    await daemon.logged(/(?:status=sent[\s\S]*){4}/);
    const delivered = delivering();
    process.stdout.write(
      `100 MB: taken with ${Math.round(taken / MB)} MB, delivered with ${Math.round(delivered / MB)} MB\n`,
    );
    expect(taken).toBeLessThan((2 / 3) * SIZE);
    expect(delivered).toBeLessThan((2 / 3) * SIZE);
  },
);
