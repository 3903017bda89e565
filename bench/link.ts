/**
 * The link against `ssh`, `ssh -S` (ControlMaster) and `ssh -L`: cold start, channel open on a warm link, 100-octet echo, bulk both ways,
 * bulk at 200 ms round trip, memory of idle channels. `npm run bench -- link [--quick]`
 */
import { spawn } from 'node:child_process';
import { once } from 'node:events';
import { appendFile } from 'node:fs/promises';
import { createServer } from 'node:net';
import { join, resolve } from 'node:path';
import { type Link, systemEnv } from '@postern/core';
import { createLink, resolveHost } from '@postern/ssh';
import { startRig } from '@postern/testkit/rig';
import { startDelay } from './lib/delay.ts';
import { memoryOfAll } from './lib/memory.ts';
import { alternately, lasting, Report, timed } from './lib/report.ts';
import { dialTcp, type Far, sshExec, startForward, startMaster } from './lib/rivals.ts';

const quick = process.argv.includes('--quick');
const STARTS = quick ? 5 : 15;
const ECHOES = quick ? 100 : 500;
const MB = 1_000_000;
const BULK = (quick ? 100 : 500) * MB;
const FAR_BULK = (quick ? 100 : 300) * MB;
const ROUNDS = quick ? 1 : 3;
const COUNTS = quick ? [1, 20] : [1, 20, 100];
/** What both sides would choose without post-quantum key exchange, which ssh2 lacks: the cost of the exchange left aside. */
const SAME_KEX = ['-o', 'KexAlgorithms=curve25519-sha256'];
const never = new AbortController().signal;
const report = new Report('link');

/** One way to run a far command, rivals and ours alike. */
interface Way {
  readonly who: string;
  exec(command: string): Promise<Far>;
}

function ours(link: Link): Way {
  return {
    who: 'postern',
    async exec(command) {
      const channel = await link.open({ type: 'exec', command }, { signal: never });
      const { stream, exit, release } = channel;
      return { input: stream, output: stream, done: exit, release, kill: () => channel.abort(new Error('enough')) };
    },
  };
}

function rival(who: string, args: readonly string[]): Way {
  return { who, exec: async (command) => sshExec(args, command) };
}

async function linkTo(config: string): Promise<Link> {
  return createLink(await resolveHost('gate', { sshConfig: config }), { env: systemEnv });
}

async function finish(way: Way, command: string): Promise<void> {
  const far = await way.exec(command);
  far.output.resume();
  far.input.end();
  await far.done;
}

async function coldStart(config: string): Promise<void> {
  const ssh = rival('ssh', ['-F', config]);
  const sameKex = rival('ssh, curve25519', ['-F', config, ...SAME_KEX]);
  const cold = async (): Promise<void> => {
    const link = await linkTo(config);
    await finish(ours(link), 'true');
    await link.close();
  };
  const contenders = [
    { who: 'postern', run: () => lasting(cold) },
    ...[ssh, sameKex].map((way) => ({ who: way.who, run: () => lasting(() => finish(way, 'true')) })),
  ];
  await alternately(report, contenders, { what: 'cold start: dial, exec true, end', unit: 'ms', rounds: STARTS });
}

/** Median round trip of 100 octets through `cat`, ms. */
function echo(far: Pick<Far, 'input' | 'output'>): Promise<number> {
  const octets = Buffer.alloc(100, 'x');
  let missing = 0;
  let arrived: () => void = () => {};
  far.output.on('data', (chunk: Buffer) => {
    missing -= chunk.length;
    if (missing <= 0) arrived();
  });
  return timed(ECHOES, () => {
    missing = octets.length;
    return new Promise<void>((resolve) => {
      arrived = resolve;
      far.input.write(octets);
    });
  });
}

/** One after the other, as a bulk transfer beside each would slow down the others. */
async function echoes(ways: readonly Way[], what: string, o: { busy: boolean }): Promise<void> {
  for (const way of ways) {
    const bulk = o.busy ? await way.exec('exec cat /dev/zero') : undefined;
    bulk?.output.resume();
    const far = await way.exec('cat');
    report.add({ what, who: way.who, unit: 'ms', samples: ECHOES, value: await echo(far) });
    far.input.end();
    await far.done;
    bulk?.kill();
    await bulk?.done;
  }
}

/** Everything about latency on a link that is up. */
async function warm(config: string, dir: string): Promise<void> {
  const link = await linkTo(config);
  const socket = join(dir, 'master');
  await using _master = await startMaster(config, socket);
  const ways = [ours(link), rival('ssh -S', ['-F', config, '-S', socket])];
  await alternately(
    report,
    ways.map((way) => ({ who: way.who, run: () => lasting(() => finish(way, 'true')) })),
    { what: 'warm link: exec true', unit: 'ms', rounds: STARTS * 2 },
  );
  const echoServer = createServer((peer) => peer.pipe(peer)).listen(0, '127.0.0.1');
  await once(echoServer, 'listening');
  await using forward = await startForward(config, (echoServer.address() as { port: number }).port);
  const all = [...ways, rival('ssh', ['-F', config])];
  const what = 'echo of 100 octets';
  await echoes([...all, { who: 'ssh -L', exec: () => dialTcp(forward.port) }], what, { busy: false });
  await echoes(all, `${what} beside a bulk transfer`, { busy: true });
  echoServer.close();
  await link.close();
}

/** Starts a far command that says `up` first, and runs `move` once it has; gives megabytes per second from there on. */
async function rate(
  way: Way,
  o: { command: string; octets: number },
  move: (far: Far) => Promise<number>,
): Promise<number> {
  const far = await way.exec(`echo up; ${o.command}`);
  await once(far.output, 'data');
  let moved = 0;
  const ms = await lasting(async () => {
    moved = await move(far);
  });
  await far.done;
  if (moved !== o.octets) throw new Error(`${way.who}: ${moved} of ${o.octets} octets`);
  return o.octets / MB / (ms / 1000);
}

function download(way: Way, octets: number): Promise<number> {
  return rate(way, { command: `read go; head -c ${octets} /dev/zero`, octets }, async ({ input, output, release }) => {
    let got = 0;
    output.on('data', (chunk: Buffer) => {
      got += chunk.length;
      release?.(chunk);
    });
    input.end('go\n');
    await once(output, 'end');
    return got;
  });
}

/** Until the far side has said how much it got. */
function upload(way: Way, octets: number): Promise<number> {
  return rate(way, { command: 'wc -c', octets }, async ({ input, output }) => {
    const chunk = Buffer.alloc(64 * 1024);
    for (let left = octets; left > 0; left -= chunk.length) {
      if (!input.write(left < chunk.length ? chunk.subarray(0, left) : chunk)) await once(input, 'drain');
    }
    input.end();
    const [count] = (await once(output, 'data')) as [Buffer];
    return Number(count.toString());
  });
}

async function bulk(config: string, label: string, o: { octets: number; rounds: number }): Promise<void> {
  const link = await linkTo(config);
  await finish(ours(link), 'true');
  const ways = [ours(link), rival('ssh', ['-F', config])];
  const contenders = (move: typeof download) => ways.map((way) => ({ who: way.who, run: () => move(way, o.octets) }));
  const how = { unit: 'MB/s', rounds: o.rounds, cold: true };
  await alternately(report, contenders(download), { what: `download ${label}`, ...how });
  await alternately(report, contenders(upload), { what: `upload ${label}`, ...how });
  await link.close();
}

async function memory(config: string): Promise<void> {
  const holder = resolve(import.meta.dirname, 'lib/idle-channels.mjs');
  for (const count of COUNTS) {
    const child = spawn(process.execPath, [holder, config, String(count)], { stdio: ['ignore', 'pipe', 'inherit'] });
    await once(child.stdout, 'data');
    addMemory('postern', count, [child.pid ?? 0]);
    child.kill();
    await once(child, 'close');

    const channels: Far[] = [];
    for (let index = 0; index < count; index++) {
      const far = sshExec(['-F', config], 'echo up; cat');
      await once(far.output, 'data');
      channels.push(far);
    }
    addMemory(
      'ssh',
      count,
      channels.map(({ pid }) => pid ?? 0),
    );
    for (const far of channels) far.kill();
    await Promise.all(channels.map(({ done }) => done));
  }
}

function addMemory(who: string, count: number, pids: readonly number[]): void {
  const { rss, pss } = memoryOfAll(pids);
  report.add({ what: `${count} idle channels, resident`, who, unit: 'MB', value: rss / MB });
  report.add({ what: `${count} idle channels, proportional share`, who, unit: 'MB', value: pss / MB });
}

await using gate = await startRig({ imapd: false, smtp: false });
const config = gate.client.configFile;
// Ours would choose this one of those the server has; ssh by itself a slower one.
await appendFile(config, '\n  Ciphers aes128-gcm@openssh.com\n');
await coldStart(config);
await warm(config, gate.dir);
await bulk(config, 'on loopback', { octets: BULK, rounds: ROUNDS });
{
  await using delayed = await startDelay(gate, { roundTripMs: 200 });
  await bulk(delayed.configFile, 'at 200 ms', { octets: FAR_BULK, rounds: 1 });
}
await memory(config);
report.close([
  { what: 'cold start: dial, exec true, end', ours: 'postern', rival: 'ssh', factor: 0.5 },
  { what: 'warm link: exec true', ours: 'postern', rival: 'ssh -S', factor: 0.5 },
  { what: 'download on loopback', ours: 'postern', rival: 'ssh', factor: 0.9, atLeast: true },
  { what: 'upload on loopback', ours: 'postern', rival: 'ssh', factor: 0.9, atLeast: true },
  { what: 'download at 200 ms', ours: 'postern', rival: 'ssh', factor: 6, atLeast: true },
  { what: `${COUNTS.at(-1)} idle channels, resident`, ours: 'postern', rival: 'ssh', factor: 0.15 },
]);
