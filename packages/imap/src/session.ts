/** Opening a session on the far side: up to its PREAUTH greeting and its capabilities. */
import {
  type CapabilityAnswer,
  CapabilityReader,
  type Channel,
  deadline,
  type Env,
  type Greeting,
  GreetingReader,
  type Link,
  LinkError,
  loggedInCapabilities,
  printable,
  raceAbort,
  sleep,
  type Target,
} from '@postern/core';
import { withoutMark } from './candidates.ts';
import { ImapError, type ImapErrorCode } from './errors.ts';
import { GREETING_MS, LAST_WORDS_MS } from './limits.ts';

/** A far session that has greeted with PREAUTH. Its stream is paused, and what comes next on it is for the client. */
export interface Session {
  readonly channel: Channel;
  /** The greeting line as received, with its line end. */
  readonly greeting: Buffer;
  /** What the far side can do, without what speaks of a login. */
  readonly capabilities: readonly string[];
  /** Lines that stood before the greeting. */
  readonly skipped: readonly string[];
  /** Under which it is noted over there, see `endNoted`; absent when it could not be. */
  readonly token?: string;
}

/** An `ImapError` that carries the lines before the greeting, by which a probe knows what it started. */
export class GreetingError extends ImapError {
  readonly skipped: readonly string[];
  constructor(code: ImapErrorCode, message: string, o: { skipped: readonly string[]; cause?: unknown }) {
    super(code, message, o);
    this.skipped = o.skipped;
  }
}

type WrongGreeting = Exclude<Greeting, { type: 'preauth' }>;

/** What {@link openSession} needs. */
export interface OpenOptions {
  readonly link: Link;
  readonly target: Target;
  /** How messages name the far command, given the lines before its greeting. */
  readonly label: (skipped: readonly string[]) => string;
  readonly env: Env;
  /** Bounds the wait for link and channel; the greeting has {@link GREETING_MS} of its own. */
  readonly signal: AbortSignal;
  /** Ask for capabilities even if the greeting tells them, and so see that it lives on: Dovecot 2.3 without HOME greets, then dies. */
  readonly prove: boolean;
}

/**
 * Opens a channel and waits for PREAUTH. Rejects with `LinkError` when there is no channel or the link is lost, with
 * `GreetingError` when what answers is no imapd in PREAUTH mode, with `signal.reason` when aborted.
 */
export async function openSession(o: OpenOptions): Promise<Session> {
  const channel = await o.link.open(o.target, { signal: o.signal });
  channel.stream.on('error', () => {});
  const reader = new GreetingReader();
  using limit = deadline(o.env, GREETING_MS, { parent: o.signal, reason: () => silent(o, reader) });
  try {
    const greeting = await read(channel, (chunk) => reader.receive(chunk), limit.signal);
    if (greeting === undefined) throw await endedEarly(o, channel, reader);
    if (greeting.type !== 'preauth') throw wrongGreeting(o, greeting, reader);
    channel.stream.unshift(greeting.rest);
    const told = greeting.capabilities;
    const answered = told === undefined || o.prove ? await ask(o, channel, reader, limit.signal) : [];
    return {
      channel,
      greeting: greeting.line,
      capabilities: loggedInCapabilities(told ?? answered),
      skipped: greeting.skipped,
    };
  } catch (error) {
    channel.abort(error instanceof Error ? error : new Error(String(error)));
    throw error;
  }
}

async function ask(
  o: OpenOptions,
  channel: Channel,
  greeting: GreetingReader,
  signal: AbortSignal,
): Promise<readonly string[]> {
  const reader = new CapabilityReader();
  channel.stream.write(reader.question);
  const answer = await read<CapabilityAnswer>(channel, (chunk) => reader.receive(chunk), signal);
  if (answer === undefined) throw await endedEarly(o, channel, greeting, 'right after its greeting');
  if (answer.type !== 'answer') {
    const what = `greeted with PREAUTH and then said ${printable(JSON.stringify(answer.line), 200)}`;
    throw fault(o, greeting, answer.type === 'bye' ? 'ended' : 'noise', what);
  }
  channel.stream.unshift(Buffer.concat([answer.aside, answer.rest]));
  return answer.capabilities;
}

/**
 * Feeds what arrives to `feed` until it gives a value, then pauses the stream; undefined when it ends before. Rejects with the
 * `LinkError` of a lost link, or `signal.reason`.
 */
function read<T>(
  channel: Channel,
  feed: (chunk: Buffer) => T | undefined,
  signal: AbortSignal,
): Promise<T | undefined> {
  const { stream } = channel;
  let stop = (): void => {};
  const reading = new Promise<T | undefined>((resolve, reject) => {
    const onData = (chunk: Buffer): void => {
      const value = feed(chunk);
      if (value === undefined) return;
      stop();
      resolve(value);
    };
    const onEnd = (): void => resolve(undefined);
    const onError = (error: Error): void => (error instanceof LinkError ? reject(error) : resolve(undefined));
    stop = () => {
      stream.pause();
      stream.off('data', onData).off('end', onEnd).off('error', onError);
    };
    if (stream.errored) return onError(stream.errored);
    if (stream.readableEnded || stream.destroyed) return resolve(undefined);
    stream.on('data', onData).once('end', onEnd).once('error', onError);
    stream.resume();
  });
  return raceAbort(reading, signal).finally(() => stop());
}

/** A {@link GreetingError} that names the far command and the host, then says `what`. */
function fault(o: OpenOptions, reader: GreetingReader, code: ImapErrorCode, what: string): GreetingError {
  const skipped = reader.noise.split('\n');
  return new GreetingError(code, `${o.label(skipped)} on ${o.link.host} ${what}`, { skipped });
}

function silent(o: OpenOptions, reader: GreetingReader): GreetingError {
  const noise = withoutMark(reader.noise.split('\n')).join('\n');
  const said = noise === '' ? 'said nothing' : `said ${printable(JSON.stringify(noise), 200)}`;
  return fault(o, reader, 'silent', `${said} and no PREAUTH greeting in ${GREETING_MS / 1000} s`);
}

function wrongGreeting(o: OpenOptions, greeting: WrongGreeting, reader: GreetingReader): GreetingError {
  const what = {
    ok: 'wants a login instead of greeting with PREAUTH',
    bye: 'refused',
    noise: 'does not speak IMAP',
  }[greeting.type];
  const shown = printable(JSON.stringify(greeting.line), 200);
  return fault(o, reader, greeting.type === 'noise' ? 'noise' : 'not-preauth', `${what}: ${shown}`);
}

/** Why it ended, from its exit status and the last lines of its stderr. */
async function endedEarly(
  o: OpenOptions,
  channel: Channel,
  reader: GreetingReader,
  when = 'before its greeting',
): Promise<Error> {
  const controller = new AbortController();
  const exit = await Promise.race([
    channel.exit,
    sleep(o.env, LAST_WORDS_MS, controller.signal).catch(() => undefined),
  ]);
  controller.abort();
  if (exit?.type === 'lost') return exit.error;
  const how = exit?.type === 'exit' ? `with status ${exit.code} ` : exit?.type === 'signal' ? `by ${exit.name} ` : '';
  const words = channel.stderrTail().toString('utf8').trim() || withoutMark(reader.noise.split('\n')).join('\n');
  const tail = words === '' ? '' : `: ${printable(words.split('\n').slice(-3).join(' / '), 300)}`;
  const none = exit?.type === 'exit' && exit.code === 127;
  return fault(o, reader, none ? 'no-imapd' : 'ended', `ended ${how}${when}${tail}`);
}
