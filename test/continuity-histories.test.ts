import { type ChildProcess, spawn } from 'node:child_process';
import { once } from 'node:events';
import { connect, createServer, type Socket } from 'node:net';
import { Transform } from 'node:stream';
import { seededRandom, systemEnv, type Target } from '@postern/core';
import type { Gate } from '@postern/gate';
import { createEndpoint, createImapd, type Imapd } from '@postern/imap';
import { type ChannelPair, memoryLink } from '@postern/testkit';
import { startRig } from '@postern/testkit/rig';
import { afterAll, afterEach, beforeAll, expect, test } from 'vitest';

/** Random histories of one client over real imapds that die at any octet; a second client, undisturbed, changes the same mailbox. */
const settings = process.env as Readonly<Record<string, string | undefined>>;
const SEEDS = Number(settings.CARRIED_SEEDS ?? 6);
const FIRST = Number(settings.CARRIED_FIRST ?? 1);
const STEPS = Number(settings.CARRIED_STEPS ?? 120);
let gate: Gate;
const cleanups: (() => Promise<unknown> | unknown)[] = [];

beforeAll(async () => {
  gate = await startRig({ smtp: false });
});
afterEach(async () => {
  for (const cleanup of cleanups.splice(0).reverse()) await cleanup();
});
afterAll(() => gate?.stop());

interface World {
  readonly port: number;
  readonly imapd: Imapd;
  deaths: number;
  isCalm: boolean;
  /** A session that nobody kills. */
  direct(): Wire;
}

/** An endpoint over a link in memory: each channel is an imapd, and dies after so many octets. */
async function world(random: () => number): Promise<World> {
  const { context } = gate;
  const env = { ...context.baseEnv, ...context.account.env, HOME: gate.home, USER: gate.account.user };
  const state = { deaths: 0, isCalm: true };
  const run = (command: string): ChildProcess =>
    spawn('/bin/sh', ['-c', command], { stdio: 'pipe', env, cwd: gate.home, detached: true, ...context.account.as });
  const serve = (target: Target, pair: ChannelPair): void => {
    if (target.type !== 'exec') throw new Error('only commands');
    const child = run(target.command);
    child.stdin?.on('error', () => {});
    const isFence = !target.command.includes('imapd');
    let left = state.isCalm ? 20_000 : Math.floor(random() ** 2 * 4000) + 60;
    if (isFence) left = Number.POSITIVE_INFINITY;
    const die = (): void => {
      if (left === Number.NEGATIVE_INFINITY) return;
      left = Number.NEGATIVE_INFINITY;
      state.deaths++;
      // What was on its way still arrives; what comes back is lost.
      child.stdout?.destroy();
      setTimeout(() => child.stdin?.end(), random() * 20);
      pair.lose();
    };
    const counted = (): Transform =>
      new Transform({
        transform(chunk: Buffer, _encoding, done) {
          if (left > chunk.length) {
            left -= chunk.length;
            return done(null, chunk);
          }
          this.push(chunk.subarray(0, Math.max(0, left)));
          if (left > 0 || left === 0) setImmediate(die);
          left = 0;
          done();
        },
      });
    pair.far.pipe(counted()).pipe(child.stdin as NonNullable<ChildProcess['stdin']>, { end: false });
    pair.far.on('end', () => child.stdin?.end());
    child.stdout?.pipe(counted()).pipe(pair.far, { end: false });
    child.stdout?.on('error', () => {});
    child.stderr?.resume();
    child.once('close', (code, signal) =>
      pair.exit(signal === null ? { type: 'exit', code: code ?? 0 } : { type: 'signal', name: signal.slice(3) }),
    );
    void pair.channel.exit.then(() => setTimeout(() => child.stdin?.end(), 20));
  };
  const link = memoryLink(serve);
  const imapd = createImapd({ link, command: 'imapd', spare: 0, env: systemEnv, noted: true });
  const server = createServer().listen(0, '127.0.0.1');
  await once(server, 'listening');
  const admit = async () => ({ type: 'open', who: 'same-user' }) as const;
  const endpoint = createEndpoint({ server, imapd, admit, env: systemEnv, continuity: { patienceMs: 20_000 } });
  const address = server.address();
  const port = typeof address === 'object' && address !== null ? address.port : 0;
  cleanups.push(
    () => link.close(),
    () => new Promise((resolve) => server.close(resolve)),
    () => imapd.close(),
    () => endpoint.close(),
  );
  return Object.assign(state, {
    port,
    imapd,
    direct() {
      const child = run('exec imapd');
      cleanups.push(() => child.stdin?.end());
      const wire = new Wire((text) => void child.stdin?.write(text, 'latin1'));
      child.stdout?.setEncoding('latin1').on('data', (text: string) => wire.heard(text));
      child.once('close', () => wire.ended());
      return wire;
    },
  });
}

/** Responses as they come, each looked at by `watch` in its order. */
class Wire {
  readonly #send: (text: string) => void;
  #text = '';
  #isOver = false;
  #wake: () => void = () => {};
  #count = 0;
  watch: (response: string) => void = () => {};
  constructor(send: (text: string) => void) {
    this.#send = send;
  }
  heard(text: string): void {
    this.#text += text;
    this.#wake();
  }
  ended(): void {
    this.#isOver = true;
    this.#wake();
  }
  send(text: string): void {
    this.#send(text);
  }
  tag(): string {
    this.#count++;
    return `t${this.#count}`;
  }
  /** The next whole response, literals included. */
  async response(): Promise<string> {
    for (;;) {
      const whole = wholeResponse(this.#text);
      if (whole !== undefined) {
        this.#text = this.#text.slice(whole.length);
        this.watch(whole);
        return whole;
      }
      if (this.#isOver) throw new Error(`ended after ${JSON.stringify(this.#text.slice(0, 300))}`);
      await new Promise<void>((resolve) => {
        this.#wake = resolve;
      });
    }
  }
  /** All responses up to the tagged one. */
  async until(tag: string): Promise<string[]> {
    const all: string[] = [];
    for (;;) {
      const one = await this.response();
      all.push(one);
      if (one.startsWith(`${tag} `)) return all;
      if (one.startsWith('* BYE')) throw new Error(one);
    }
  }
  async ask(command: string): Promise<string[]> {
    const tag = this.tag();
    this.send(`${tag} ${command}\r\n`);
    return this.until(tag);
  }
}

function wholeResponse(text: string): string | undefined {
  for (let at = 0; ; ) {
    const end = text.indexOf('\r\n', at);
    if (end < 0) return undefined;
    const size = /\{(\d+)\}$/.exec(text.slice(at, end))?.[1];
    at = end + 2;
    if (size === undefined) return text.slice(0, at);
    at += Number(size);
    if (at > text.length) return undefined;
  }
}

/** What a client may believe from responses alone; throws at what was not legal at its moment. */
class Believer {
  messages: { uid?: number; flags?: string }[] = [];
  /** Name of the command in progress. */
  running: string | undefined;
  /** RFC 7162 §3.2.10: takes the place of EXPUNGE. By UID, so that it may come under `UID FETCH`, but not under what names messages by number. */
  #vanish(set: string): void {
    if (this.running === undefined || /^(?:FETCH|STORE|SEARCH)/.test(this.running)) {
      throw new Error(`VANISHED during ${this.running}`);
    }
    for (const range of set.split(',')) {
      const [from = 0, to = from] = range.split(':').map(Number);
      for (let uid = from; uid <= to; uid++) {
        // One that only EXISTS has told of has no UID here yet: it is one behind all smaller UIDs.
        const known = this.messages.findIndex((one) => one.uid === uid);
        const behind = this.messages.findLastIndex((one) => one.uid !== undefined && one.uid < uid) + 1;
        const isNameless = this.messages[behind] !== undefined && this.messages[behind]?.uid === undefined;
        const at = known >= 0 ? known : isNameless ? behind : -1;
        if (at < 0) throw new Error(`no such message vanished: ${uid}`);
        this.messages.splice(at, 1);
      }
    }
  }
  hear(response: string): void {
    // Another mailbox: what comes with its SELECT begins anew.
    if (this.running?.startsWith('SELECT') && response.startsWith('* FLAGS')) this.messages = [];
    const [, digits = '', word = ''] = /^\* (\d+) (EXISTS|EXPUNGE|FETCH)/.exec(response) ?? [];
    const n = Number(digits);
    const gone = /^\* VANISHED ([\d:,]+)/.exec(response)?.[1];
    if (gone !== undefined) this.#vanish(gone);
    else if (word === 'EXISTS') {
      if (n < this.messages.length) throw new Error(`EXISTS shrank: ${response}`);
      while (this.messages.length < n) this.messages.push({});
    } else if (word === 'EXPUNGE') {
      if (this.running === undefined || /^(?:FETCH|STORE|SEARCH)/.test(this.running)) {
        throw new Error(`EXPUNGE during ${this.running}`);
      }
      if (n < 1 || n > this.messages.length) throw new Error(`no such message: ${response}`);
      this.messages.splice(n - 1, 1);
    } else if (word === 'FETCH') {
      const message = this.messages[n - 1];
      if (message === undefined) throw new Error(`no such message: ${response.slice(0, 100)}`);
      const uid = /[( ]UID (\d+)/.exec(response.replace(/\{[\s\S]*/, ''))?.[1];
      if (uid !== undefined && message.uid !== undefined && message.uid !== Number(uid)) {
        throw new Error(`message ${n} was ${message.uid} and is ${uid}`);
      }
      if (uid !== undefined) message.uid = Number(uid);
      const flags = /FLAGS \(([^)]*)\)/.exec(response)?.[1];
      if (flags !== undefined) message.flags = flags;
    }
  }
}

const normal = (flags: string): string =>
  flags
    .split(' ')
    .filter((flag) => flag !== '' && flag !== '\\Recent')
    .sort()
    .join(' ');

test.each(Array.from({ length: SEEDS }, (_, index) => FIRST + index))(
  'a client sees the truth and nothing twice, seed %i',
  async (seed) => {
    const random = seededRandom(seed);
    const pick = <T>(list: readonly T[]): T => list[Math.floor(random() * list.length)] as T;
    const w = await world(random);
    const other = w.direct();
    await other.response();
    await other.ask('DELETE Box');
    await other.ask('CREATE Box');
    await other.ask('SELECT INBOX');
    await other.ask('STORE 1:* +FLAGS (\\Deleted)');
    await other.ask('EXPUNGE');
    const bodies = new Map<string, string>();
    const make = (id: string): string => {
      const body = `Message-ID: <${id}@x>\r\nSubject: ${id}\r\n\r\n${'y'.repeat(Math.floor(random() * 900))}\r\n`;
      bodies.set(id, body);
      return body;
    };
    let serial = 0;
    const append = (mailbox: string): { text: string; id: string } => {
      const id = `s${seed}m${++serial}`;
      const body = make(id);
      return { id, text: `APPEND ${mailbox} {${body.length}+}\r\n${body}` };
    };
    for (let n = 0; n < 8; n++) await other.ask(append('INBOX').text);
    await other.ask('SELECT INBOX');
    const socket: Socket = connect({ port: w.port, host: '127.0.0.1' });
    cleanups.push(() => socket.destroy());
    const wire = new Wire((text) => void socket.write(text, 'latin1'));
    socket.setEncoding('latin1').on('data', (text: string) => wire.heard(text));
    socket.on('error', () => {}).on('close', () => wire.ended());
    await wire.response();
    await wire.ask('LOGIN a b');
    const belief = new Believer();
    wire.watch = (response) => belief.hear(response);
    /** Commands of which nobody can know what became: the source was gone when it was looked for. */
    let unknown = 0;
    let conditional = 0;
    const ask = async (command: string): Promise<string[]> => {
      belief.running = command;
      const answer = await wire.ask(command);
      belief.running = undefined;
      const isUnknown = / NO \[UNAVAILABLE\] .*cannot be known/.test(answer.at(-1) ?? '');
      if (isUnknown && /^(?:UID COPY|MOVE) /.test(command)) unknown++;
      else if (isUnknown && command.includes('UNCHANGEDSINCE')) conditional++;
      else if (
        !/ OK /.test(answer.at(-1) ?? '') &&
        !/EXPUNGEISSUED|Some of the|Invalid messageset/.test(answer.at(-1) ?? '')
      ) {
        throw new Error(`${command}: ${answer.at(-1)}`);
      }
      return answer;
    };
    const isQuick = seed % 3 === 0;
    if (isQuick) await ask('ENABLE QRESYNC');
    await ask('SELECT INBOX');
    // What has no UID for the client cannot vanish for it.
    if (isQuick) await ask('UID FETCH 1:* (UID)');
    w.isCalm = false;
    let inBox = 0;
    for (let step = 0; step < STEPS; step++) {
      const count = belief.messages.length;
      const n = 1 + Math.floor(random() * Math.max(1, count));
      const flag = pick(['\\Seen', '\\Flagged', '\\Answered']);
      const act = pick<() => Promise<unknown>>([
        () => ask('NOOP'),
        async () => {
          const answer = await ask(`FETCH ${count === 0 ? '1' : `${Math.max(1, n - 3)}:${n}`} (UID FLAGS BODY.PEEK[])`);
          const seen = new Set<string>();
          for (const one of answer) {
            const [, at, id] = /^\* (\d+) FETCH [\s\S]*Message-ID: <(\w+)@x>/.exec(one) ?? [];
            if (at === undefined || id === undefined) continue;
            expect(seen.has(at), `message ${at} twice`).toBe(false);
            seen.add(at);
            expect(one).toContain(`\r\n${bodies.get(id)}`);
          }
        },
        () => ask('UID FETCH 1:* (UID FLAGS)'),
        () => ask(`STORE ${n} +FLAGS (${flag})`),
        async () => {
          const message = belief.messages[n - 1];
          if (!/ OK /.test((await ask(`STORE ${n} -FLAGS.SILENT (${flag})`)).at(-1) ?? '')) return;
          const left = message?.flags?.split(' ').filter((one) => one !== flag);
          if (message !== undefined && left !== undefined) message.flags = left.join(' ');
        },
        () => ask(`UID STORE 1:* +FLAGS (${flag})`),
        () => ask(`STORE ${n} +FLAGS (\\Deleted)`),
        () => ask('EXPUNGE'),
        async () => {
          const numbers = (await ask('SEARCH ALL')).find((one) => one.startsWith('* SEARCH'));
          expect(numbers?.trim().split(' ').length).toBeLessThanOrEqual(belief.messages.length + 2);
        },
        () => ask('UID SEARCH UNSEEN'),
        async () => {
          const uid = belief.messages[n - 1]?.uid ?? 999_999;
          if (isQuick) await ask(`UID STORE ${uid} (UNCHANGEDSINCE 999999999) +FLAGS (${flag})`);
        },
        () => ask('STATUS Box (MESSAGES)'),
        () => ask('LIST "" "*"'),
        async () => {
          const mailbox = pick(['INBOX', 'Box']);
          const { text } = append(mailbox);
          const answer = await ask(text);
          expect(answer.at(-1)).toMatch(/^\S+ OK/);
          if (mailbox === 'Box') inBox++;
        },
        async () => {
          const answer = await ask(`UID COPY ${belief.messages[n - 1]?.uid ?? 999_999} Box`);
          if (answer.at(-1)?.includes('COPYUID')) inBox++;
        },
        async () => {
          const body = make(`s${seed}m${++serial}`);
          const tag = wire.tag();
          belief.running = 'APPEND';
          wire.send(`${tag} APPEND Box {${body.length}}\r\n`);
          while (!(await wire.response()).startsWith('+'));
          wire.send(body.slice(0, 20));
          await new Promise((resolve) => setImmediate(resolve));
          wire.send(`${body.slice(20)}\r\n`);
          expect((await wire.until(tag)).at(-1)).toMatch(/^\S+ OK/);
          belief.running = undefined;
          inBox++;
        },
        async () => {
          const answer = await ask(`MOVE ${n} Box`);
          if (answer.some((one) => one.includes('COPYUID'))) inBox++;
        },
        async () => {
          await ask('SELECT Box');
          await ask('UID FETCH 1:* (FLAGS)');
          await ask('SELECT INBOX');
        },
        async () => {
          const tag = wire.tag();
          belief.running = 'IDLE';
          wire.send(`${tag} IDLE\r\n`);
          while (!(await wire.response()).startsWith('+'));
          if (random() < 0.5) await other.ask(append('INBOX').text);
          wire.send('DONE\r\n');
          await wire.until(tag);
          belief.running = undefined;
        },
        () => other.ask(append('INBOX').text),
        () => other.ask(`STORE 1 ${pick(['+', '-'])}FLAGS (${flag})`),
        async () => {
          await other.ask(`STORE ${1 + Math.floor(random() * 4)} +FLAGS (\\Deleted)`);
          await other.ask('EXPUNGE');
        },
      ]);
      await act();
    }
    w.isCalm = true;
    await ask('NOOP');
    await ask('UID FETCH 1:* (UID)');
    await ask('NOOP');
    const fresh = w.direct();
    const truth = new Believer();
    truth.running = 'x';
    fresh.watch = (response) => truth.hear(response);
    await fresh.response();
    await fresh.ask('SELECT INBOX');
    await fresh.ask('FETCH 1:* (UID FLAGS)');
    expect(belief.messages.map(({ uid }) => uid)).toEqual(truth.messages.map(({ uid }) => uid));
    for (const [index, { flags }] of belief.messages.entries()) {
      if (flags !== undefined) expect(normal(flags)).toBe(normal(truth.messages[index]?.flags ?? ''));
    }
    const inbox = (await fresh.ask('UID FETCH 1:* (BODY.PEEK[HEADER.FIELDS (MESSAGE-ID)])')).join('');
    fresh.watch = () => {};
    await fresh.ask('SELECT Box');
    const box = (await fresh.ask('FETCH 1:* (BODY.PEEK[HEADER.FIELDS (MESSAGE-ID)])')).join('');
    for (const id of bodies.keys())
      expect(inbox.split(`<${id}@x>`).length - 1, `${id} in INBOX`).toBeLessThanOrEqual(1);
    const there = box.match(/^\* \d+ FETCH/gm)?.length ?? 0;
    expect(there).toBeGreaterThanOrEqual(inBox);
    expect(there).toBeLessThanOrEqual(inBox + unknown);
    expect(conditional, 'conditional STOREs of which nothing could be known').toBeLessThanOrEqual(3);
    expect(unknown, 'of which nothing could be known').toBeLessThanOrEqual(1);
    expect(w.imapd.carried).toBeGreaterThan(0);
  },
  Number(settings.CARRIED_TIMEOUT ?? 600_000),
);
