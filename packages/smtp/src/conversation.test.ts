/** Every dialogue against a far side that says one reply too many, one too few, one late or one early, at every step. */
import { type Dialogue, parseForwardPath, parseReversePath, type Recipient, type Target } from '@postern/core';
import { type ChannelPair, memoryLink, settle, type VirtualEnv, virtualEnv } from '@postern/testkit';
import { describe, expect, test } from 'vitest';
import { converse } from './conversation.ts';
import { makeEntry, makeReport, toBatch } from './courier.test-util.ts';
import { createCourier } from './courier.ts';
import { createDirect } from './direct.ts';
import { requestQueueRun } from './etrn.ts';
import { greetSmtp } from './greet.ts';

const FAULTS = ['none', 'too many', 'stale', 'too few', 'late', 'early'] as const;
type Fault = (typeof FAULTS)[number];

/** A small server that counts its replies and has one fault at one of them. */
class FarSide {
  /** Recipients it has accepted for a message that it has taken. */
  readonly delivered = new Set<string>();
  /** Every line it has read. */
  readonly lines: string[] = [];
  /** Replies it has come to. */
  replies = 0;
  readonly #far: ChannelPair['far'];
  readonly #fault: { readonly kind: Fault; readonly at: number };
  readonly #ehlo: string;
  #accepted: string[] = [];
  #input = '';
  #stale = '';
  #inData = false;
  #said = false;

  constructor(far: ChannelPair['far'], o: { fault: Fault; at: number; ehlo: string }) {
    this.#far = far;
    this.#fault = { kind: o.fault, at: o.at };
    this.#ehlo = o.ehlo;
    far.on('data', (chunk: Buffer) => {
      this.#input += chunk.toString('latin1');
      while (this.#step());
    });
    far.once('finish', () => far.destroy());
    this.#reply('220 far.test');
  }

  #reply(text: string): void {
    const at = this.replies++;
    const { kind } = this.#fault;
    const here = at === this.#fault.at;
    const before = this.#stale;
    this.#stale = '';
    if (kind === 'early' && this.#said && at === this.#fault.at + 1) return;
    this.#far.write(before);
    if (here && kind === 'too few') return;
    if (here && kind === 'late') {
      this.#stale = `${text}\r\n`;
      return;
    }
    this.#far.write(`${text}\r\n`);
    if (!here) return;
    if (kind === 'stale') this.#stale = `${text}\r\n`;
    if (kind === 'too many') this.#far.write(`${text}\r\n`);
    // What it will say to the next command, before it has read that.
    if (kind === 'early') {
      this.#said = true;
      this.#far.write('250 ok\r\n');
    }
  }

  /** Reads one line or one message; false when there is none. */
  #step(): boolean {
    const end = this.#inData ? '\r\n.\r\n' : '\r\n';
    const split = this.#input.indexOf(end);
    if (split === -1) return false;
    const line = this.#input.slice(0, split);
    const chunk = this.#inData ? undefined : /^BDAT (\d+) LAST$/.exec(line);
    const length = split + end.length + Number(chunk?.[1] ?? 0);
    if (this.#input.length < length) return false;
    this.#input = this.#input.slice(length);
    this.lines.push(line);
    if (this.#inData || chunk !== null) this.#take();
    else this.#answer(line);
    return true;
  }

  #take(): void {
    this.#inData = false;
    const accepted = this.#accepted.splice(0);
    for (const to of accepted) this.delivered.add(to);
    this.#reply(accepted.length > 0 ? '250 taken' : '554 no valid recipients');
  }

  #answer(line: string): void {
    const [verb = ''] = line.split(' ', 1);
    const to = /^RCPT TO:<(.*?)>/.exec(line)?.[1];
    // It stands by what it said too early.
    const promised = this.#said && this.replies === this.#fault.at + 1;
    if (to !== undefined && (promised || !to.startsWith('no'))) this.#accepted.push(to);
    if (verb === 'EHLO') this.#reply(`250-far.test\r\n${this.#ehlo}`);
    else if (verb === 'DATA' && this.#accepted.length > 0) {
      this.#inData = true;
      this.#reply('354 go');
    } else if (verb === 'DATA') this.#reply('554 no valid recipients');
    else if (to?.startsWith('no') === true) this.#reply('550 no such user');
    else this.#reply(verb === 'QUIT' ? '221 bye' : '250 ok');
  }
}

/** What a dialogue claims: recipients whose message the far side is said to have taken, and steps it says were answered with 2yz. */
interface Claims {
  readonly delivered: readonly string[];
  readonly error?: unknown;
}
interface World {
  readonly link: ReturnType<typeof memoryLink>;
  readonly env: VirtualEnv;
  /** One a session. */
  readonly sides: readonly FarSide[];
}
const TARGET: Target = { type: 'tcp', host: 'localhost', port: 25 };
const RECIPIENTS: readonly Recipient[] = ['a@far.test', 'no@far.test', 'b@far.test'].map((to) => ({
  to: parseForwardPath(to),
}));

function makeWorld(o: { fault: Fault; at: number; ehlo: string }): World {
  const sides: FarSide[] = [];
  const link = memoryLink((_target, pair) => {
    // Only the first session has the fault.
    const fault = sides.length === 0 ? o.fault : 'none';
    sides.push(new FarSide(pair.far, { fault, at: o.at, ehlo: o.ehlo }));
  });
  return { link, env: virtualEnv(), sides };
}

function takenBy({ sides }: World): string[] {
  return sides.flatMap(({ delivered }) => [...delivered]);
}

async function* message(): AsyncGenerator<Uint8Array> {
  yield Buffer.from('Subject: x\r\n\r\nhello\r\n');
}

async function cutThrough({ link, env }: World): Promise<Claims> {
  const envelope = { from: parseReversePath('ann@home.test'), body: '7BIT', smtputf8: false } as const;
  const direct = createDirect({ link, target: TARGET, helo: 'home.test', env, openMs: 20_000 });
  const started = await direct(envelope, { signal: new AbortController().signal });
  if (started.type !== 'open') return { delivered: [] };
  const accepted: string[] = [];
  try {
    for (const recipient of RECIPIENTS) {
      const reply = await started.transaction.rcpt(recipient);
      if (reply.code === 250) accepted.push(recipient.to);
    }
    const reply = await started.transaction.data(message());
    return { delivered: reply.code === 250 ? accepted : [] };
  } finally {
    started.transaction.close();
  }
}

const courier =
  (dialogue: Dialogue) =>
  async ({ link, env }: World): Promise<Claims> => {
    const told = makeReport();
    const entry = makeEntry({ id: 'e', to: RECIPIENTS.map(({ to }) => to) });
    const send = createCourier({ link, target: TARGET, dialogue, helo: 'home.test', env });
    const error = await send(toBatch([entry]), told.report).then(
      () => undefined,
      (cause: unknown) => cause,
    );
    const delivered = [...told.outcomes].filter(([, { type }]) => type === 'delivered').map(([key]) => key.slice(2));
    return { delivered, error };
  };

const DIALOGUES: Readonly<Record<string, { run: (world: World) => Promise<Claims>; ehlo: string }>> = {
  'cut-through': { run: cutThrough, ehlo: '250 PIPELINING' },
  lockstep: { run: courier('lockstep'), ehlo: '250 PIPELINING' },
  pipelined: { run: courier('pipelined'), ehlo: '250 PIPELINING' },
  stream: { run: courier('stream'), ehlo: '250-PIPELINING\r\n250 CHUNKING' },
  'a look': {
    ehlo: '250 PIPELINING',
    run: async ({ link, env }) => {
      await greetSmtp(link, TARGET, { env, timeoutMs: 10_000 });
      return { delivered: [] };
    },
  },
  etrn: {
    ehlo: '250 ETRN',
    run: async ({ link, env }) => {
      const signal = new AbortController().signal;
      const domains = ['a.test', 'b.test'];
      await requestQueueRun({ link, target: TARGET, domains, helo: 'home.test', env, signal });
      return { delivered: [] };
    },
  },
};

/** Runs it on the virtual clock to its end. */
async function finish(claims: Promise<Claims>, env: VirtualEnv): Promise<Claims> {
  let done: Claims | undefined;
  void claims.then(
    (value) => {
      done = value;
    },
    (error: unknown) => {
      done = { delivered: [], error };
    },
  );
  for (let round = 0; done === undefined && round < 200; round++) {
    await settle();
    if (done === undefined) await env.step();
  }
  if (done === undefined) throw new Error('it never ends');
  return done;
}

describe.each(Object.entries(DIALOGUES))('%s', (_name, { run, ehlo }) => {
  test('ends well with a far side in step', async () => {
    const world = makeWorld({ fault: 'none', at: 0, ehlo });
    const claims = await finish(run(world), world.env);
    expect(claims.error).toBeUndefined();
    expect(claims.delivered.toSorted()).toEqual(takenBy(world).toSorted());
  });
  for (const fault of FAULTS.slice(1)) {
    test(`claims nothing that is not so, with one reply ${fault} at any step`, async () => {
      const sound = makeWorld({ fault: 'none', at: 0, ehlo });
      await finish(run(sound), sound.env);
      for (let at = 0; at < (sound.sides[0]?.replies ?? 0); at++) {
        const world = makeWorld({ fault, at, ehlo });
        const claims = await finish(run(world), world.env);
        const taken = takenBy(world);
        for (const to of claims.delivered) expect({ at, taken }).toEqual({ at, taken: expect.arrayContaining([to]) });
      }
    });
  }
});

describe('a conversation', () => {
  function start(target: Target = TARGET) {
    const env = virtualEnv();
    let pair: ChannelPair | undefined;
    let said = '';
    const link = memoryLink((_target, made) => {
      pair = made;
      made.far.on('data', (chunk: Buffer) => {
        said += chunk.toString('latin1');
      });
    });
    const made = converse(link, target, { env, signal: new AbortController().signal });
    return { env, made, said: () => said, far: () => (pair as ChannelPair).far, pair: () => pair as ChannelPair };
  }

  test('writes no command after a reply that nobody asked for, and gives it no answer', async () => {
    const { made, far, said } = start();
    const session = await made;
    far().write('220 hi\r\n');
    await session.greeting();
    const mail = session.ask('MAIL FROM:<>', 'mail');
    await settle();
    far().write('250 ok\r\n250 ok\r\n');
    expect(await mail).toMatchObject({ code: 250 });
    await expect(session.ask('RCPT TO:<a@far.test>', 'rcpt')).rejects.toMatchObject({ code: 'protocol' });
    expect(said()).toBe('MAIL FROM:<>\r\n');
  });
  test('takes 421 as the answer to all that it would have written', async () => {
    const { made, far, said } = start();
    const session = await made;
    far().write('220 hi\r\n421 shutting down\r\n');
    await session.greeting();
    await settle();
    far().end();
    await settle();
    for (const verb of ['MAIL', 'RCPT', 'DATA']) expect(await session.ask(verb, 'mail')).toMatchObject({ code: 421 });
    await session.write(Buffer.from('x'));
    await session.farewell();
    expect(said()).toBe('');
  });
  test('takes no reply of a class that answers nothing of the kind', async () => {
    for (const [asked, reply] of [
      ['mail', '354 go'],
      ['rcpt', '354 go'],
      ['data', '250 ok'],
      ['final', '354 go'],
    ] as const) {
      const { made, far } = start();
      const session = await made;
      far().write('220 hi\r\n');
      await session.greeting();
      const asking = session.ask('X', asked);
      await settle();
      far().write(`${reply}\r\n`);
      await expect(asking).rejects.toMatchObject({ code: 'protocol' });
    }
  });
  test('names what is no SMTP server by its first words, ten seconds after they came', async () => {
    for (const words of ['login: ', 'Welcome to the machine\nlogin: ']) {
      const { made, far, env } = start({ type: 'exec', command: 'netcat localhost smtp' });
      const session = await made;
      const greeting = session.greeting().catch((error: unknown) => error);
      far().write(words);
      await env.advance(10_000);
      expect(await greeting).toMatchObject({
        code: 'protocol',
        message: expect.stringContaining(JSON.stringify(words).slice(1, -1)),
      });
    }
  });
  test('waits on for a greeting of several lines that has begun', async () => {
    const { made, far, env } = start({ type: 'exec', command: 'netcat localhost smtp' });
    const session = await made;
    far().write('\x1b]0;gate\x07220-wait\r\n');
    await env.advance(60_000);
    far().write('220 hi\r\n');
    expect(await session.greeting()).toEqual({ code: 220, lines: ['wait', 'hi'] });
  });
  test('says farewell once, and ends whatever the far command does', async () => {
    const { made, far, env, pair, said } = start();
    const session = await made;
    far().write('220 hi\r\n');
    await session.greeting();
    const bye = session.farewell();
    await env.advance(5_000);
    await bye;
    await session.farewell();
    expect(said()).toBe('QUIT\r\n');
    expect((await pair().channel.exit).type).toBe('lost');
  });
});
