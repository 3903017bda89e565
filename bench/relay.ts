/**
 * Postern's intake against Postfix's, Exim's and OpenSMTPD's under Postfix's load generator, each durable before its 250 (OpenSMTPD once made so) and delivering nothing meanwhile; beside them a
 * bare loop of the same fsyncs. Then a queue drained into a real Postfix, and memory and restart with a long queue.
 * `npm run build && npm run bench -- relay [--quick]`
 */
import { mkdir, readdir, readFile, rm, writeFile } from 'node:fs/promises';
import { join, resolve } from 'node:path';
import { setTimeout as wait } from 'node:timers/promises';
import { parseForwardPath, parseReversePath, systemEnv } from '@postern/core';
import { freePort, type Gate, run } from '@postern/gate';
import { nodeDisk, spoolWriter } from '@postern/spool';
import { type FarMail, RECIPIENT, startFarMail } from './lib/far-mail.ts';
import { eximIntake, type Intake, opensmtpdIntake, postfixIntake } from './lib/intakes.ts';
import type { Load } from './lib/mail.ts';
import { memoryOf } from './lib/memory.ts';
import { eximClient, postfixClient, smtpSource } from './lib/mta-clients.ts';
import { spoolOf, startRelay } from './lib/relay-daemon.ts';
import { alternately, type Contender, lasting, Report } from './lib/report.ts';
import { startForward } from './lib/rivals.ts';

const quick = process.argv.includes('--quick');
const MB = 1_000_000;
const OCTETS = 4096;
const ROUNDS = quick ? 1 : 3;
const DRAIN = quick ? 500 : 5_000;
const QUEUED = quick ? 10_000 : 100_000;
const QUEUED_OCTETS = 1024;
const WRITERS = 32;
/** With a connection each, for those who would take minutes for all. */
const SLOW = quick ? 40 : 100;
const LOADS = [
  { sessions: 1, count: quick ? 200 : 1_000 },
  { sessions: 20, count: quick ? 400 : 3_000 },
];
/** One file after the other, each with its own two syncs. */
const LOOP = 'bare fsync loop';
const report = new Report('relay');

let loads = 0;
function makeLoad(count: number): Load {
  return { count, octets: OCTETS, sender: `load${++loads}@home.test` };
}

/** An ssh_config whose gate is down, so that mail waits. */
async function unreachable(gate: Gate): Promise<string> {
  const path = join(gate.dir, 'unreachable');
  await writeFile(path, `Host gate\n  HostName 127.0.0.1\n  Port ${await freePort()}\n`);
  return path;
}

async function intake(gate: Gate): Promise<void> {
  await using postern = await startRelay(join(gate.dir, 'intake'), await unreachable(gate));
  await using postfix = await postfixIntake();
  await using exim = await eximIntake();
  await using synced = await opensmtpdIntake(true);
  await using unsynced = await opensmtpdIntake(false);
  const intakes: (Intake | undefined)[] = [{ who: 'postern', port: postern.smtpPort }, postfix, exim, synced, unsynced];
  const fsyncs = join(gate.dir, 'fsyncs');
  await mkdir(fsyncs);
  for (const { sessions, count } of LOADS) {
    for (const keepOpen of [true, false]) {
      const takers = intakes
        .filter((each) => each !== undefined)
        .map((each) => ({
          who: each.who,
          async run() {
            const sent = !keepOpen && each.slow?.(sessions) ? SLOW : count;
            const ms = await lasting(() => smtpSource(each.port, makeLoad(sent), { sessions, keepOpen }));
            await each.clear?.();
            return sent / (ms / 1000);
          },
        }));
      await alternately(report, [...takers, ...loops(fsyncs, { sessions, count })], {
        what: intakeName(sessions, keepOpen),
        unit: 'msg/s',
        rounds: ROUNDS,
      });
    }
  }
}

function loops(dir: string, o: { sessions: number; count: number }): Contender[] {
  const at = (who: string, sessions: number, how: string): Contender => ({
    who,
    run: () => bareLoop(dir, { count: o.count, sessions, how }),
  });
  const alone = at(LOOP, 1, 'own');
  if (o.sessions === 1) return [alone];
  const name = `${LOOP}, ${o.sessions} at once`;
  return [alone, at(name, o.sessions, 'own'), at(`${name}, grouped`, o.sessions, 'shared')];
}

function intakeName(sessions: number, keepOpen: boolean): string {
  return `intake, ${sessions} session${sessions > 1 ? 's' : ''}, ${keepOpen ? 'kept open' : 'a connection each'}`;
}

/** Messages per second of a process that does nothing but sync. */
async function bareLoop(dir: string, o: { count: number; sessions: number; how: string }): Promise<number> {
  const script = resolve(import.meta.dirname, 'lib/fsync-loop.mjs');
  const octets = OCTETS + 400;
  const args = [dir, String(o.count), String(o.sessions), String(octets), o.how];
  const { stdout, stderr } = await run(process.execPath, [script, ...args]);
  const ms = Number(stdout);
  if (!(ms > 0)) throw new Error(`fsync-loop: ${stderr}`);
  return o.count / (ms / 1000);
}

/** What waited while the link was down, and what comes in and goes out at the same time. */
async function drain(far: FarMail): Promise<void> {
  const { gate, arrivals, server } = far;
  const dir = join(gate.dir, 'drain');
  const rate = (count: number, ms: number): number => count / (ms / 1000);
  const arrived = async (load: Load): Promise<number> => {
    const { count, at } = await arrivals.reach(load.sender, load.count, { quietMs: 60_000 });
    if (count !== load.count) throw new Error(`${count} of ${load.count} arrived`);
    return at;
  };
  const load = makeLoad(DRAIN);
  {
    await using down = await startRelay(dir, await unreachable(gate));
    await smtpSource(down.smtpPort, load, { sessions: 20, keepOpen: true });
  }
  const drained = `${DRAIN} queued, drained`;
  const unit = 'msg/s';
  const before = performance.now();
  await using postern = await startRelay(dir, gate.client.configFile);
  const ready = before + postern.readyMs;
  report.add({ what: drained, who: 'postern', unit, value: rate(DRAIN, (await arrived(load)) - ready) });
  await emptied(dir);
  report.add({ what: `${drained} and forgotten`, who: 'postern', unit, value: rate(DRAIN, performance.now() - ready) });

  await using forward = await startForward(gate.client.configFile, server.port);
  {
    await using exim = await eximClient(gate, forward.port);
    // At its pace all of them would take minutes.
    const queued = makeLoad(DRAIN / 10);
    await exim.queue(queued);
    const start = performance.now();
    const delivering = exim.deliver(queued);
    report.add({ what: drained, who: 'exim -qq', unit, value: rate(queued.count, (await arrived(queued)) - start) });
    await delivering;
  }
  await using postfix = await postfixClient(forward.port);
  const passing = async (send: (load: Load) => Promise<void>): Promise<number> => {
    const load = makeLoad(DRAIN);
    const start = performance.now();
    const sending = send(load);
    const at = await arrived(load);
    await sending;
    await emptied(dir);
    return rate(DRAIN, at - start);
  };
  const toPostern = (load: Load): Promise<void> => smtpSource(postern.smtpPort, load, { sessions: 20, keepOpen: true });
  await alternately(
    report,
    [
      { who: 'postern', run: () => passing(toPostern) },
      { who: 'postfix', run: () => passing(postfix.deliver) },
    ],
    { what: `${DRAIN} in and out`, unit, rounds: ROUNDS, cold: true },
  );
}

/** Until every entry is gone from the spool in `dir`. */
async function emptied(dir: string): Promise<void> {
  while ((await readdir(join(spoolOf(dir), 'queue'))).length > 0) await wait(10);
}

/** Writes entries as the daemon would, but syncs nothing. */
async function fill(dir: string, count: number): Promise<void> {
  const disk = { ...nodeDisk, async sync() {}, async syncData() {} };
  const writer = await spoolWriter({ dir: spoolOf(dir), env: systemEnv, disk });
  const [user, domain] = RECIPIENT.split('@');
  let left = count;
  const write = async (): Promise<void> => {
    while (left-- > 0) {
      const envelope = {
        from: parseReversePath(`sender${left}@home.test`),
        recipients: [{ to: parseForwardPath(`${user}+${left}@${domain}`) }],
        body: '7BIT',
        smtputf8: false,
      } as const;
      await writer.accept(envelope, message(left));
    }
  };
  await Promise.all(Array.from({ length: WRITERS }, write));
  await writer.close();
}

async function* message(index: number): AsyncGenerator<Uint8Array> {
  yield Buffer.from(`Subject: ${index}\r\n\r\n${'x'.repeat(76)}\r\n`.padEnd(QUEUED_OCTETS, `${'y'.repeat(76)}\r\n`));
}

async function longQueue(gate: Gate): Promise<void> {
  const config = await unreachable(gate);
  for (const count of [0, QUEUED]) {
    const dir = join(gate.dir, `queue-${count}`);
    if (count > 0) await fill(dir, count);
    const times: number[] = [];
    for (let index = 0; index < ROUNDS; index++) {
      await using daemon = await startRelay(dir, config);
      times.push(daemon.readyMs);
      if (index < ROUNDS - 1) continue;
      const rss = await settledMemory(daemon.pid);
      const what = `${count} queued, `;
      report.add({
        what: `${what}start to ready`,
        who: 'postern',
        unit: 's',
        value: Math.min(...times) / 1000,
        samples: times.length,
      });
      report.add({ what: `${what}resident`, who: 'postern', unit: 'MB', value: rss / MB });
      report.add({
        what: `${what}resident at most`,
        who: 'postern',
        unit: 'MB',
        value: (await peakOf(daemon.pid)) / MB,
      });
    }
    await rm(dir, { recursive: true });
  }
}

/** Resident bytes once they have stood still for two seconds, give or take 1 %. */
async function settledMemory(pid: number): Promise<number> {
  for (let last = memoryOf(pid).rss; ; ) {
    await wait(2_000);
    const { rss } = memoryOf(pid);
    if (Math.abs(rss - last) < last / 100) return rss;
    last = rss;
  }
}

async function peakOf(pid: number): Promise<number> {
  const status = await readFile(`/proc/${pid}/status`, 'utf8');
  return Number(/^VmHWM:\s+(\d+) kB/m.exec(status)?.[1]) * 1024;
}

const parts = ['intake', 'drain', 'queue'].filter((part) => !process.argv.includes(`--no-${part}`));
const far = await startFarMail('postfix');
try {
  if (parts.includes('intake')) await intake(far.gate);
  if (parts.includes('drain')) await drain(far);
  if (parts.includes('queue')) await longQueue(far.gate);
} finally {
  await far.gate.stop();
}
report.close([
  ...[true, false].flatMap((keepOpen) =>
    ['postfix', 'exim', LOOP].map((rival) => ({
      what: intakeName(20, keepOpen),
      ours: 'postern',
      rival,
      factor: 1,
      atLeast: true,
    })),
  ),
  { what: intakeName(1, true), ours: 'postern', rival: LOOP, factor: 0.4, atLeast: true },
  { what: intakeName(1, false), ours: 'postern', rival: LOOP, factor: 0.4, atLeast: true },
  { what: `${DRAIN} in and out`, ours: 'postern', rival: 'postfix', factor: 1, atLeast: true },
  { what: `${QUEUED} queued, start to ready`, ours: 'postern', factor: 2 },
  { what: `${QUEUED} queued, resident`, ours: 'postern', factor: 150 },
]);
