/** `postern demo`: a throwaway gate, a daemon against it, and a tour; nothing of it is left. */
import { type ChildProcess, spawn } from 'node:child_process';
import { mkdir, writeFile } from 'node:fs/promises';
import { homedir } from 'node:os';
import { delimiter, join } from 'node:path';
import { createInterface } from 'node:readline';
import { printable } from '@postern/core';
import { freePort, type Gate, GateError, seedMaildir, startGate } from '@postern/gate';
import { ImapFlow } from 'imapflow';
import { createTransport } from 'nodemailer';

/** How the demo runs. */
export interface DemoOptions {
  /** End after the tour instead of staying up. */
  readonly once: boolean;
  /** Where lines go. */
  readonly print: (line: string) => void;
  /** Ends the demo early, as Ctrl-C does. */
  readonly signal: AbortSignal;
}

/** Messages the Maildir starts with. */
const MESSAGES = 36;
/** How long the whole tour may wait for any one thing, milliseconds. */
const PATIENCE_MS = 60_000;
const USUAL = { imap: 1143, smtp: 1025 };
const ME = 'gate@gate.test';

/**
 * Makes a throwaway gate from real parts, runs `postern up gate` against it as a process of its own, sends a message through the
 * relay and waits for it over IMAP. Resolves with an exit status: 0, or 69 when a part cannot be had or does not start.
 */
export async function runDemo(o: DemoOptions): Promise<number> {
  const step = stepper(o.print);
  try {
    await using gate = await step('gate', () => startDemoGate(o), describeGate);
    const messages = await seedMaildir(gate.maildir, { count: MESSAGES, account: gate.account });
    await using postern = await step(
      'postern',
      () => startPostern(gate, o.signal),
      (up) => `postern up gate: IMAP on ${up.imap}, SMTP on ${up.smtp}`,
    );
    await tour({ gate, postern, step, newest: messages.at(-1)?.subject ?? '', signal: o.signal });
    if (o.once) return 0;
    for (const line of settings(gate, postern)) o.print(line);
    await Promise.race([aborted(o.signal), postern.ended]);
    o.print(o.signal.aborted ? 'cleaning up' : 'postern ended by itself; cleaning up');
    return o.signal.aborted ? 0 : 69;
  } catch (error) {
    if (o.signal.aborted) {
      o.print('cleaning up');
      return 0;
    }
    o.print(`postern demo: ${error instanceof Error ? error.message : String(error)}`);
    const cause = error instanceof Error ? error.cause : undefined;
    if (cause instanceof GateError && cause.fix !== undefined) o.print(`  try: ${cause.fix}`);
    return 69;
  }
}

type Step = <T>(name: string, task: () => Promise<T>, said: (value: T) => string) => Promise<T>;

/** Runs tasks one after the other and prints what each did and how long it took. */
function stepper(print: (line: string) => void): Step {
  let count = 0;
  return async (name, task, said) => {
    const start = performance.now();
    const value = await task().catch((error: unknown) => {
      throw failedAt(name, error);
    });
    const seconds = ((performance.now() - start) / 1000).toFixed(2);
    count += 1;
    print(`${String(count).padStart(2)}. ${name.padEnd(10)} ${said(value)} (${seconds} s)`);
    return value;
  };
}

/** Names the step, and what the program in question said last; an IMAP or SMTP client has that beside its own message. */
function failedAt(step: string, error: unknown): Error {
  const { message, responseText, response, executedCommand } = Object(error) as Partial<Record<string, unknown>>;
  const words = [executedCommand, message ?? error, responseText ?? response].filter(
    (part) => typeof part === 'string',
  );
  return new Error(printable(`${step}: ${words.join(': ')}`, 2000), { cause: error });
}

async function startDemoGate(o: DemoOptions): Promise<Gate> {
  const cacheDir = join(process.env.XDG_CACHE_HOME || join(homedir(), '.cache'), 'postern', 'debs');
  return startGate({
    cacheDir,
    path: process.env.PATH ?? '',
    install: process.env.POSTERN_APT === '1',
    signal: o.signal,
    onEvent(event) {
      if (event.type === 'updating') o.print('    reading package lists');
      if (event.type === 'fetching') o.print(`    fetching ${event.packages.map(nameOf).join(' ')} into ${cacheDir}`);
    },
  });
}

function nameOf(versioned: string): string {
  return versioned.replace(/=.*/, '');
}

function describeGate(gate: Gate): string {
  return `sshd on 127.0.0.1:${gate.ssh.port}, imapd over a Maildir of ${MESSAGES} messages, Exim behind \`netcat localhost smtp\``;
}

/** A running `postern up`. */
interface Running extends AsyncDisposable {
  readonly imap: string;
  readonly smtp: string;
  readonly config: string;
  readonly ended: Promise<void>;
}

/** On the usual ports; where another program takes one of them in the meantime, on free ones. */
async function startPostern(gate: Gate, signal: AbortSignal): Promise<Running> {
  try {
    return await startOn(gate, USUAL, signal);
  } catch (error) {
    if (!/is taken by another program/.test(String(error))) throw error;
    return startOn(gate, { imap: await freePort(), smtp: await freePort() }, signal);
  }
}

async function startOn(gate: Gate, usual: typeof USUAL, signal: AbortSignal): Promise<Running> {
  const dir = join(gate.dir, 'postern');
  const runtime = join(dir, 'run');
  await mkdir(runtime, { recursive: true, mode: 0o700 });
  const config = join(dir, 'config.toml');
  const listen = async (port: number): Promise<string> => `127.0.0.1:${(await isFree(port)) ? port : await freePort()}`;
  await writeFile(
    config,
    [
      `state_dir = ${JSON.stringify(join(dir, 'state'))}`,
      `ssh_config = ${JSON.stringify(gate.client.configFile)}`,
      '[host.gate]',
      '[[imap]]',
      `listen = ["${await listen(usual.imap)}"]`,
      'host = "gate"',
      '[smtp]',
      `listen = ["${await listen(usual.smtp)}"]`,
      '[[route]]',
      'match = ["*"]',
      'host = "gate"',
      '',
    ].join('\n'),
  );
  const child = spawn(
    process.execPath,
    [...process.execArgv, process.argv[1] ?? '', 'up', 'gate', '--config', config, '--json'],
    {
      stdio: ['ignore', 'pipe', 'pipe'],
      env: { ...process.env, XDG_RUNTIME_DIR: runtime, PATH: pathOf(gate) },
      // Ctrl-C reaches the demo alone; it then ends Postern in order.
      detached: true,
    },
  );
  const ended = new Promise<void>((resolve) => child.once('close', () => resolve()));
  const stop = async (): Promise<void> => {
    child.kill('SIGTERM');
    await ended;
  };
  try {
    const ready = await readyLine(child, signal);
    return { ...ready, config, ended, [Symbol.asyncDispose]: stop };
  } catch (error) {
    await stop();
    throw error;
  }
}

/** PATH with an ssh in it, also where none is installed. */
function pathOf(gate: Gate): string {
  return [gate.client.bin, process.env.PATH].filter((part) => part !== undefined).join(delimiter);
}

/** True when nothing listens on the usual port, so that the settings of the README fit. */
async function isFree(port: number): Promise<boolean> {
  const { createServer } = await import('node:net');
  return new Promise((resolve) => {
    const server = createServer();
    server.once('error', () => resolve(false));
    server.listen(port, '127.0.0.1', () => server.close(() => resolve(true)));
  });
}

function readyLine(child: ChildProcess, signal: AbortSignal): Promise<{ imap: string; smtp: string }> {
  return new Promise((resolve, reject) => {
    let said = '';
    child.stderr?.on('data', (chunk: Buffer) => {
      said = (said + chunk.toString('utf8')).slice(-2000);
    });
    signal.addEventListener('abort', () => reject(signal.reason), { once: true });
    child.once('error', reject);
    child.once('close', (code) => reject(new Error(`postern up ended with ${code}: ${printable(said.trim(), 2000)}`)));
    if (child.stdout === null) return reject(new Error('no stdout'));
    createInterface(child.stdout).on('line', (line) => {
      if (!line.includes('"ready"')) return;
      const ready = JSON.parse(line) as { imap: string[]; smtp: string[] };
      resolve({ imap: ready.imap[0] ?? '', smtp: ready.smtp[0] ?? '' });
    });
  });
}

/** Reads, sends, and waits for what was sent. */
async function tour(o: {
  gate: Gate;
  postern: Running;
  step: Step;
  newest: string;
  signal: AbortSignal;
}): Promise<void> {
  const { step } = o;
  const imap = new ImapFlow({
    ...split(o.postern.imap),
    secure: false,
    doSTARTTLS: false,
    auth: { user: 'reader', pass: 'any word will do' },
    logger: false,
  });
  imap.on('error', () => {});
  try {
    await step(
      'read',
      async () => {
        await imap.connect();
        const box = await imap.mailboxOpen('INBOX');
        const last = await imap.fetchOne('*', { envelope: true });
        return { count: box.exists, subject: last ? last.envelope?.subject : undefined };
      },
      (seen) =>
        `logged in over IMAP: ${seen.count} messages, the newest ${JSON.stringify(printable(seen.subject ?? ''))}`,
    );
    const subject = `Hello through the postern, ${new Date().toISOString()}`;
    await step(
      'send',
      async () => {
        const smtp = createTransport({ ...split(o.postern.smtp), secure: false, ignoreTLS: true });
        const sent = await smtp.sendMail({
          from: ME,
          to: ME,
          subject,
          text: 'This went out by SMTP and came back by IMAP, both over SSH.',
        });
        smtp.close();
        return sent.response;
      },
      (response) => `the relay keeps it: ${printable(response)}`,
    );
    await step(
      'arrive',
      () => arrival(imap, subject, o.signal),
      () => `the far Exim delivered it, IDLE told of it: ${JSON.stringify(subject)}`,
    );
  } finally {
    imap.close();
  }
}

/** Waits until a message with that subject is in the open mailbox. */
async function arrival(imap: ImapFlow, subject: string, signal: AbortSignal): Promise<void> {
  const patience = AbortSignal.any([signal, AbortSignal.timeout(PATIENCE_MS)]);
  for (;;) {
    const changed = new Promise<void>((resolve, reject) => {
      imap.once('exists', () => resolve());
      patience.addEventListener('abort', () => reject(new Error('the message did not arrive')), { once: true });
    });
    changed.catch(() => {});
    const found = await imap.search({ subject });
    if (found && found.length > 0) return;
    void imap.idle().catch(() => {});
    await changed;
  }
}

function split(address: string): { host: string; port: number } {
  const at = address.lastIndexOf(':');
  return { host: address.slice(0, at), port: Number(address.slice(at + 1)) };
}

function aborted(signal: AbortSignal): Promise<void> {
  return new Promise((resolve) => {
    if (signal.aborted) resolve();
    else signal.addEventListener('abort', () => resolve(), { once: true });
  });
}

function settings(gate: Gate, postern: Running): string[] {
  return [
    '',
    'It stays up; try it in your own client:',
    `  IMAP     ${postern.imap}  no TLS, any user name and any password`,
    `  SMTP     ${postern.smtp}  no TLS, no authentication; write to ${ME}`,
    `  mutt     POSTERN_IMAP=${postern.imap} POSTERN_SMTP=${postern.smtp} mutt -F examples/mutt/muttrc`,
    `  ssh      ssh -F ${gate.client.configFile} gate imapd`,
    `  postern  npm run postern -- check gate --config ${postern.config}`,
    '',
    'Ctrl-C ends it and removes everything it made.',
  ];
}
