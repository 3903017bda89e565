/**
 * Postern's IMAP endpoint against a direct LOGIN at Dovecot, `ssh gate imapd`, the same over a ControlMaster, and a LOGIN through
 * `ssh -L`: connect to selected INBOX, bulk fetch, IDLE push, mbsync, memory of idle sessions; on loopback, at 200 ms round trip
 * and on a line of 2 Mbit/s. `npm run build && npm run bench -- imap [--quick]`
 */
import { mkdir, writeFile } from 'node:fs/promises';
import { join } from 'node:path';
import { type Gate, run } from '@postern/gate';
import { fetchTool, type LoginServer, startDovecot, startRig } from '@postern/testkit/rig';
import { type BenchDaemon, startPostern } from './lib/daemon.ts';
import { delayPort, startDelay } from './lib/delay.ts';
import { ImapClient } from './lib/imap-client.ts';
import { deliver, makeMailboxes } from './lib/mailboxes.ts';
import { memoryOfAll } from './lib/memory.ts';
import { alternately, type Contender, lasting, median, Report } from './lib/report.ts';
import { type Background, dialTcp, type Far, sshExec, startForward, startMaster } from './lib/rivals.ts';

const quick = process.argv.includes('--quick');
const MB = 1_000_000;
const INBOX = quick ? 2_000 : 10_000;
const SYNC = quick ? 500 : 5_000;
const FEW = quick ? 100 : 1_000;
const BULK = quick ? 100 : 500;
const COUNTS = quick ? [20] : [20, 100];
const DELIVERIES = quick ? 5 : 20;
const CONNECT = 'connect to selected INBOX';

/** A line to the gate, and what is done over it. `bulk` in messages of a megabyte. */
interface Line {
  readonly label: string;
  readonly roundTripMs?: number;
  readonly megabits?: number;
  readonly connects: number;
  readonly bulk: number;
  readonly bulkRounds: number;
  readonly folder: 'Sync' | 'Few';
}

const LINES: readonly Line[] = [
  { label: 'on loopback', connects: quick ? 5 : 15, bulk: BULK, bulkRounds: quick ? 1 : 3, folder: 'Sync' },
  {
    label: 'at 200 ms',
    roundTripMs: 200,
    connects: quick ? 2 : 7,
    bulk: quick ? 40 : 200,
    bulkRounds: 1,
    folder: quick ? 'Few' : 'Sync',
  },
  {
    label: 'at 2 Mbit/s, 40 ms',
    roundTripMs: 40,
    megabits: 2,
    connects: quick ? 2 : 7,
    bulk: 1,
    bulkRounds: quick ? 1 : 3,
    folder: 'Few',
  },
];
const SIZES = { Sync: SYNC, Few: FEW };

const report = new Report('imap');

/** One way in. `store` is how mbsync goes it. */
interface Way {
  readonly who: string;
  /** What must be so before a measurement, a spare session for one. */
  prepare?(): Promise<void>;
  open(): Promise<Far>;
  readonly store: string;
  /** The process all its sessions share, beside those of each. */
  readonly pid?: number;
}

/** Everything that leads over one line, opened and to be ended. */
interface Ways extends AsyncDisposable {
  readonly all: readonly Way[];
  readonly postern: Way;
}

async function openWays(gate: Gate, dovecot: LoginServer, line: Line): Promise<Ways> {
  const { roundTripMs } = line;
  const far = roundTripMs === undefined ? undefined : { ...line, roundTripMs };
  const delayed = far && (await startDelay(gate, far));
  const delayedLogin = far && (await delayPort(dovecot.port, far));
  const config = delayed?.configFile ?? gate.client.configFile;
  const daemon = await startPostern(gate, config);
  const socket = join(gate.dir, `master-${delayed?.port ?? ''}`);
  const master = await startMaster(config, socket);
  const forward = await startForward(config, dovecot.port);
  const postern = tcpWay('postern', daemon.imapPort, dovecot);
  const ours: Way = { ...postern, pid: daemon.pid, prepare: () => daemon.spare() };
  const all: Way[] = [
    ours,
    tcpWay('direct LOGIN', delayedLogin?.port ?? dovecot.port, dovecot),
    execWay('ssh', ['-F', config]),
    { ...execWay('ssh -S', ['-F', config, '-S', socket]), pid: master.pid },
    { ...tcpWay('ssh -L', forward.port, dovecot), pid: forward.pid },
  ];
  const open: (AsyncDisposable | Background | BenchDaemon | undefined)[] = [
    forward,
    master,
    daemon,
    delayedLogin,
    delayed,
  ];
  return {
    all,
    postern: ours,
    async [Symbol.asyncDispose]() {
      for (const one of open) await one?.[Symbol.asyncDispose]();
    },
  };
}

function tcpWay(who: string, port: number, dovecot: LoginServer): Way {
  const store = `Host 127.0.0.1\nPort ${port}\nUser reader\nPass ${dovecot.password}\nSSLType None\nAuthMechs PLAIN\n`;
  return { who, open: () => dialTcp(port), store };
}

function execWay(who: string, args: readonly string[]): Way {
  return {
    who,
    open: async () => sshExec(args, 'imapd'),
    store: `Tunnel "ssh ${args.join(' ')} gate imapd"\n`,
  };
}

async function select(way: Way, dovecot: LoginServer, mailbox = 'INBOX'): Promise<ImapClient> {
  const client = new ImapClient(await way.open());
  await client.logIn('reader', dovecot.password);
  await client.command(`SELECT ${mailbox}`);
  return client;
}

async function connects(ways: Ways, dovecot: LoginServer, line: Line): Promise<void> {
  const contender = (way: Way): Contender => ({
    who: way.who,
    async run() {
      await way.prepare?.();
      let client: ImapClient | undefined;
      const ms = await lasting(async () => {
        client = await select(way, dovecot);
      });
      await client?.close();
      return ms;
    },
  });
  const { prepare: _, ...bare } = ways.postern;
  /** On the heels of another, which has taken a spare; after some such openings two are kept. */
  const second: Contender = {
    who: 'postern, second client',
    async run() {
      await ways.postern.prepare?.();
      const first = await select(ways.postern, dovecot);
      const ms = await contender(bare).run();
      await first.close();
      return ms;
    },
  };
  const how = { what: `${CONNECT} ${line.label}`, unit: 'ms', rounds: line.connects };
  await alternately(report, [...ways.all.map(contender), second], how);
}

async function bulk(ways: Ways, dovecot: LoginServer, line: Line): Promise<void> {
  const contenders = ways.all.map((way) => ({
    who: way.who,
    async run() {
      const client = await select(way, dovecot, 'Bulk');
      let octets = 0;
      const ms = await lasting(async () => {
        octets = await client.command(`FETCH 1:${line.bulk} BODY.PEEK[]`);
      });
      await client.close();
      if (octets < line.bulk * 0.99 * MB) throw new Error(`${way.who}: only ${octets} octets`);
      return octets / MB / (ms / 1000);
    },
  }));
  const how = { what: `bulk fetch ${line.label}`, unit: 'MB/s', rounds: line.bulkRounds, cold: true };
  await alternately(report, contenders, how);
}

/** All ways watch at once, so that each delivery comes to all of them from the same moment. */
async function idlePush(gate: Gate, ways: Ways, dovecot: LoginServer, line: Line): Promise<void> {
  const clients = new Map<string, ImapClient>();
  const delays = new Map<string, number[]>(ways.all.map(({ who }) => [who, []]));
  for (const way of ways.all) {
    const client = await select(way, dovecot);
    await client.idle();
    clients.set(way.who, client);
  }
  for (let count = 0; count < DELIVERIES; count++) {
    const heard = [...clients].map(async ([who, client]) => {
      await client.heard(/\* \d+ EXISTS\r\n/);
      return { who, at: performance.now() };
    });
    const sent = await deliver(gate);
    const arrivals = await Promise.all(heard);
    const direct = arrivals.find(({ who }) => who === 'direct LOGIN')?.at ?? Number.NaN;
    for (const { who, at } of arrivals) delays.get(who)?.push(who === 'direct LOGIN' ? at - sent : at - direct);
  }
  for (const client of clients.values()) await client.close();
  for (const [who, values] of delays) {
    const what = `IDLE push ${line.label}${who === 'direct LOGIN' ? '' : ', beyond direct LOGIN'}`;
    report.add({ what, who, value: median(values), unit: 'ms', samples: values.length });
  }
}

async function mbsync(gate: Gate, ways: Ways, line: Line): Promise<void> {
  const tool = await fetchTool('mbsync');
  const homes = new Map<string, string>();
  const sync = async (way: Way, home: string): Promise<number> => {
    await way.prepare?.();
    return lasting(async () => {
      const ended = await run(tool.command, [...tool.args, '-q', '-c', join(home, 'rc'), 'all'], {
        env: { ...process.env, ...tool.env, HOME: home },
      });
      if (ended.code !== 0) throw new Error(`mbsync over ${way.who}: ${ended.stderr}`);
    });
  };
  const full = ways.all.map((way, index) => ({
    who: way.who,
    async run() {
      const home = join(gate.dir, `mbsync-${line.label.replaceAll(/\W+/g, '-')}-${index}`);
      await mkdir(join(home, 'mail'), { recursive: true });
      await writeFile(join(home, 'rc'), mbsyncConfig(home, way, line.folder));
      homes.set(way.who, home);
      return sync(way, home);
    },
  }));
  const again = ways.all.map((way) => ({ who: way.who, run: () => sync(way, homes.get(way.who) ?? '') }));
  const count = SIZES[line.folder];
  await alternately(report, full, { what: `mbsync of ${count} ${line.label}`, unit: 'ms', rounds: 1, cold: true });
  await alternately(report, again, {
    what: `mbsync no-op of ${count} ${line.label}`,
    unit: 'ms',
    rounds: 3,
    cold: true,
  });
}

/** Both sides' disks would drown the line. */
function mbsyncConfig(home: string, way: Way, folder: string): string {
  return `FSync no
IMAPAccount gate
${way.store}
IMAPStore far
Account gate

MaildirStore near
Path ${home}/mail/
Inbox ${home}/mail/INBOX

Channel all
Far :far:
Near :near:
Patterns ${folder}
Create Near
Sync Pull
SyncState *
`;
}

async function memory(ways: Ways, dovecot: LoginServer): Promise<void> {
  for (const way of ways.all.filter(({ who }) => who !== 'direct LOGIN')) {
    const clients: ImapClient[] = [];
    for (const count of COUNTS) {
      while (clients.length < count) {
        const client = await select(way, dovecot);
        await client.idle();
        clients.push(client);
      }
      const pids = [way.pid, ...clients.map(({ far }) => far.pid)].filter((pid) => pid !== undefined);
      const { rss, pss } = memoryOfAll(pids);
      report.add({ what: `${count} idle sessions, resident`, who: way.who, unit: 'MB', value: rss / MB });
      report.add({ what: `${count} idle sessions, proportional share`, who: way.who, unit: 'MB', value: pss / MB });
    }
    await Promise.all(clients.map((client) => client.close()));
  }
}

await using gate = await startRig({ smtp: false });
await makeMailboxes(gate, { inbox: INBOX, sync: SYNC, few: FEW, bulk: BULK });
const dovecot = await startDovecot(gate, {
  settings: ['default_process_limit = 1000', 'protocol imap {', '  mail_max_userip_connections = 1000', '}'],
});
// The first to fetch a folder would pay for Dovecot's index of it.
for (const mailbox of ['INBOX', 'Sync', 'Few', 'Bulk']) {
  const client = new ImapClient(await dialTcp(dovecot.port));
  await client.logIn('reader', dovecot.password);
  await client.command(`SELECT ${mailbox}`);
  await client.command('FETCH 1:* (UID FLAGS RFC822.SIZE BODY.PEEK[])');
  await client.close();
}
for (const line of LINES) {
  await using ways = await openWays(gate, dovecot, line);
  if (line.roundTripMs === undefined) await memory(ways, dovecot);
  await connects(ways, dovecot, line);
  await idlePush(gate, ways, dovecot, line);
  await bulk(ways, dovecot, line);
  await mbsync(gate, ways, line);
}
report.close([
  { what: `${CONNECT} on loopback`, ours: 'postern', rival: 'direct LOGIN', factor: 1 },
  { what: `${CONNECT} at 200 ms`, ours: 'postern', factor: 220 },
  { what: 'IDLE push on loopback, beyond direct LOGIN', ours: 'postern', factor: 2 },
  { what: 'IDLE push at 200 ms, beyond direct LOGIN', ours: 'postern', factor: 2 },
  { what: 'bulk fetch on loopback', ours: 'postern', rival: 'ssh -L', factor: 1, atLeast: true },
  ...['ssh', 'ssh -S', 'ssh -L'].map((rival) => ({
    what: 'bulk fetch at 200 ms',
    ours: 'postern',
    rival,
    factor: 6,
    atLeast: true,
  })),
  { what: '100 idle sessions, resident', ours: 'postern', factor: 120 },
]);
