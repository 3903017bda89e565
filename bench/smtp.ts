/**
 * Postern's dialogues against the old recipe (everything at once into `netcat -w 1`), Nodemailer over the same link and through `ssh -L`, Exim
 * and Postfix as clients through `ssh -L`: from the first message to the last verdict, at real Exim and Postfix behind a real sshd, on loopback and over
 * longer lines. Every arrival is counted; a figure without all of them says so. `npm run bench -- smtp [--quick] [--no-exim] [--no-postfix]`
 */
import { once } from 'node:events';
import { type Dialogue, type Link, type Outcome, systemEnv } from '@postern/core';
import type { SmtpServer } from '@postern/gate';
import { createCourier } from '@postern/smtp';
import { createLink, resolveHost } from '@postern/ssh';
import { createTransport } from 'nodemailer';
import { startDelay } from './lib/delay.ts';
import { type FarMail, RECIPIENT, startFarMail } from './lib/far-mail.ts';
import { batchOf, entriesOf, type Load, messageOf } from './lib/mail.ts';
import { eximClient, type MtaClient, postfixClient } from './lib/mta-clients.ts';
import { median, Report } from './lib/report.ts';
import { sshExec, startForward } from './lib/rivals.ts';

const quick = process.argv.includes('--quick');
const MB = 1_000_000;
const FEW = quick ? 25 : 100;
const MANY = 1_000;
const LARGE = quick ? 4 : 20;
const LINES = (quick ? [0, 200] : [0, 50, 200]).map((roundTripMs) => ({
  roundTripMs,
  label: roundTripMs === 0 ? 'on loopback' : `at ${roundTripMs} ms`,
}));
/** Who needs longer for the few messages is left out of the many, ms. */
const TOO_SLOW_MS = 5_000;
const SERVERS = (['postfix', 'exim'] as const).filter((kind) => !process.argv.includes(`--no-${kind}`));
const NETCAT = 'netcat localhost smtp';
const never = new AbortController().signal;
const report = new Report('smtp');

/** One way to send a load. */
interface Way {
  readonly who: string;
  readonly ours?: boolean;
  /** On a longer line it mostly waits: such ones are measured at the same time. */
  readonly waits?: boolean;
  /** Before the clock starts. */
  prepare?(load: Load): Promise<void>;
  /** Resolves when it has heard of every message; with `blind` when it has done its part, and the last arrival ends the time. */
  send(load: Load): Promise<void>;
  readonly blind?: 'until the last arrival' | 'until it ends';
}

let loads = 0;
function makeLoad(count: number, octets: number): Load {
  return { count, octets, sender: `load${++loads}@home.test` };
}

function ours(link: Link, dialogue: Dialogue): Way {
  return {
    who: `postern ${dialogue}`,
    ours: true,
    waits: dialogue !== 'stream',
    async send(load) {
      let delivered = 0;
      const target = { type: 'exec', command: NETCAT } as const;
      const courier = createCourier({ link, target, dialogue, helo: 'home.test', env: systemEnv });
      await courier(entriesOf(load), {
        signal: never,
        async attempting() {},
        async outcome(_id, _to, outcome: Outcome) {
          if (outcome.type === 'delivered') delivered++;
          else console.error(`${dialogue}:`, outcome);
        },
      });
      if (delivered !== load.count) throw new Error(`${dialogue}: ${delivered} of ${load.count} delivered`);
    },
  };
}

/** What people had: no greeting waited for, no reply read. */
function oldRecipe(config: string): Way {
  return {
    who: 'netcat -w 1, all at once',
    blind: 'until it ends',
    async send(load) {
      const far = sshExec(['-F', config], 'netcat -w 1 localhost smtp');
      far.output.resume();
      far.input.end(batchOf(load, { hello: true }));
      await far.done;
    },
  };
}

type PoolOptions = Parameters<typeof createTransport>[0] & object;

async function sendPooled(options: PoolOptions, load: Load): Promise<void> {
  const common = { pool: true, maxMessages: Number.POSITIVE_INFINITY, ignoreTLS: true, name: 'home.test' };
  const transport = createTransport({ ...common, ...options } as PoolOptions);
  const envelope = { from: load.sender, to: [RECIPIENT] };
  const sent = Array.from({ length: load.count }, (_, index) =>
    transport.sendMail({ envelope, raw: messageOf(load, index) }),
  );
  await Promise.all(sent);
  transport.close();
}

/** Nodemailer over one channel of a link like ours. */
function nodemailerOn(link: Link): Way {
  return {
    who: 'nodemailer, one channel',
    waits: true,
    async send(load) {
      const channel = await link.open({ type: 'exec', command: NETCAT }, { signal: never });
      // It wants a socket's timeout, which a channel has not.
      const connection = Object.assign(channel.stream, {
        setTimeout: () => connection,
        setKeepAlive: () => connection,
      });
      const getSocket = (_options: unknown, callback: (error: null, o: object) => void): void =>
        callback(null, { connection });
      await sendPooled({ host: 'localhost', maxConnections: 1, getSocket } as unknown as PoolOptions, load);
      channel.abort(new Error('done'));
    },
  };
}

function nodemailerPool(port: number): Way {
  return {
    who: 'ssh -L, nodemailer pool of 5',
    waits: true,
    send: (load) => sendPooled({ host: '127.0.0.1', port, maxConnections: 5 } as PoolOptions, load),
  };
}

function mta(who: string, client: MtaClient, o: { waits: boolean }): Way {
  return {
    who,
    ...o,
    blind: 'until the last arrival',
    prepare: (load) => client.queue(load),
    send: (load) => client.deliver(load),
  };
}

/** Sends a load; milliseconds, and how many arrived. */
async function measure(way: Way, load: Load, far: FarMail): Promise<{ ms: number; arrived: number }> {
  await way.prepare?.(load);
  const start = performance.now();
  const sending = way.send(load);
  const arriving =
    way.blind === 'until the last arrival'
      ? far.arrivals.reach(load.sender, load.count, { quietMs: 30_000 })
      : undefined;
  await sending;
  const ended = performance.now();
  const { count, at } = await (arriving ?? far.arrivals.reach(load.sender, load.count));
  if (way.ours && count !== load.count) throw new Error(`${way.who}: ${count} of ${load.count} arrived`);
  return { ms: (arriving === undefined ? ended : at) - start, arrived: count };
}

/** Measures each way, those that mostly wait together; gives the milliseconds of each. */
async function round(
  ways: readonly Way[],
  o: { count: number; octets: number; together: boolean; far: FarMail },
): Promise<Map<string, { ms: number; arrived: number }>> {
  const results = new Map<string, { ms: number; arrived: number }>();
  const one = async (way: Way): Promise<void> => {
    const result = await measure(way, makeLoad(o.count, o.octets), o.far).catch((error: unknown) => {
      if (way.ours) throw error;
      console.error(`${way.who}: ${error instanceof Error ? error.message : error}`);
      return { ms: Number.NaN, arrived: 0 };
    });
    results.set(way.who, result);
  };
  for (const way of ways.filter(({ waits }) => !o.together || waits !== true)) await one(way);
  if (o.together) await Promise.all(ways.filter(({ waits }) => waits).map(one));
  await o.far.clear();
  return results;
}

/** Rounds, the order turned round every time, and their medians. */
async function compare(
  ways: readonly Way[],
  o: { count: number; octets: number; together: boolean; far: FarMail; rounds: number; what: string },
): Promise<Map<string, number>> {
  const results = [];
  for (let index = 0; index < o.rounds; index++) {
    results.push(await round(index % 2 === 0 ? ways : [...ways].reverse(), o));
  }
  const medians = new Map<string, number>();
  for (const { who } of ways) {
    const all = results.flatMap((result) => result.get(who) ?? []);
    const ms = median(all.map((one) => one.ms));
    const arrived = Math.min(...all.map((one) => one.arrived));
    const mark = arrived === o.count ? '' : ` (${arrived} OF ${o.count} ARRIVED)`;
    report.add({ what: o.what, who: who + mark, value: ms / 1000, unit: 's', samples: all.length });
    medians.set(who, ms);
  }
  return medians;
}

async function overLine(far: FarMail, { roundTripMs, label }: (typeof LINES)[number]): Promise<void> {
  const { gate, server } = far;
  await using delayed = roundTripMs === 0 ? undefined : await startDelay(gate, { roundTripMs });
  const config = delayed?.configFile ?? gate.client.configFile;
  const link = createLink(await resolveHost('gate', { sshConfig: config }), { env: systemEnv });
  const warmUp = await link.open({ type: 'exec', command: 'true' }, { signal: never });
  await once(warmUp.stream.resume(), 'end');
  await using forward = await startForward(config, server.port);
  await using exim = await eximClient(gate, forward.port);
  await using postfix = await postfixClient(forward.port);
  const ways: Way[] = [
    ...(['stream', 'pipelined', 'lockstep'] as const).map((dialogue) => ours(link, dialogue)),
    oldRecipe(config),
    nodemailerOn(link),
    nodemailerPool(forward.port),
    mta('ssh -L, exim -qq', exim, { waits: true }),
    mta('ssh -L, postfix', postfix, { waits: false }),
  ];
  const together = roundTripMs > 0;
  const rounds = together || quick ? 1 : 3;
  const of = (count: number, size: string): string => `${server.kind}, ${count} of ${size} ${label}`;
  await round(
    ways.filter(({ waits }) => !together || !waits),
    { count: 3, octets: 4096, together: false, far },
  );
  const few = { count: FEW, octets: 4096, together, far, rounds, what: of(FEW, '4 KB') };
  const took = await compare(ways, few);
  const fast = ways.filter(({ who }) => (took.get(who) ?? 0) < TOO_SLOW_MS);
  if (!quick) await compare(fast, { ...few, count: MANY, rounds: 1, what: of(MANY, '4 KB') });
  await compare(ways, { ...few, count: LARGE, octets: MB, rounds: 1, what: of(LARGE, '1 MB') });
  await link.close();
}

async function atServer(kind: SmtpServer['kind']): Promise<void> {
  const far = await startFarMail(kind);
  try {
    for (const line of LINES) await overLine(far, line);
  } finally {
    await far.gate.stop();
  }
}

for (const kind of SERVERS) await atServer(kind);
report.close(
  SERVERS.flatMap((kind) => {
    const ours = 'postern stream';
    const far = { what: `${kind}, ${FEW} of 4 KB at 200 ms`, ours };
    return [
      { ...far, factor: 2.5 },
      ...['ssh -L, nodemailer pool of 5', 'ssh -L, postfix'].map((rival) => ({ ...far, rival, factor: 0.5 })),
      ...['nodemailer, one channel', 'ssh -L, exim -qq'].map((rival) => ({ ...far, rival, factor: 0.1 })),
      {
        what: `${kind}, ${FEW} of 4 KB on loopback`,
        ours,
        rival: 'ssh -L, nodemailer pool of 5',
        factor: 0.5,
      },
    ];
  }),
);
