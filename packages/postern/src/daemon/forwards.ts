import { type Admit, type Env, parseTarget, printable } from '@postern/core';
import { type ForwardEvent, type LocalPlace, type RemoteBind, startForward, startReverse } from '@postern/ssh';
import type { Config } from '../config/load.ts';
import { leadsTo } from '../config/rules.ts';
import type { ListenAddress } from '../config/units.ts';
import { PosternError } from '../errors.ts';
import { requestQueueRun } from './etrn.ts';
import type { Host } from './hosts.ts';
import { type BoundListener, bindListener } from './listen.ts';
import type { Logger } from './log.ts';
import { localHostname } from './runner.ts';

/** A `[[forward]]` whose listener is bound, and keeps who connects waiting. */
export interface BoundForward {
  readonly listener: BoundListener;
  readonly values: Config['forwards'][number];
}

/** A `[[forward]]` as `postern status --json` shows it. */
export interface ForwardStatus {
  readonly listen: string;
  readonly host: string;
  readonly to: string;
  readonly sessions: number;
}

/** A `[[reverse]]` as `postern status --json` shows it. */
export interface ReverseStatus {
  readonly host: string;
  /** As configured, or with the true port while the far side listens. */
  readonly listen: string;
  readonly to: string;
  readonly state: 'waiting' | 'listening' | 'refused';
  /** One sentence; while refused. */
  readonly error?: string;
  readonly fix?: string;
}

/** Forwards and reverse forwards at work. */
export interface Forwards {
  readonly status: { readonly forwards: readonly ForwardStatus[]; readonly reverses: readonly ReverseStatus[] };
  /** Takes no more connections and ends those there are. */
  close(): Promise<void>;
}

/** Binds the listeners of every `[[forward]]`, handing each to `bound`. Throws as `bindListener`. */
export async function bindForwards(
  config: Config,
  o: { uid: number; bound: (listener: BoundListener) => void },
): Promise<BoundForward[]> {
  const forwards: BoundForward[] = [];
  for (const values of config.forwards) {
    const listener = await bindListener(values.listen, { uid: o.uid, runtimeDir: config.runtimeDir });
    o.bound(listener);
    forwards.push({ listener, values });
  }
  return forwards;
}

/** What {@link startForwards} needs. */
export interface ForwardsOptions {
  readonly config: Config;
  readonly bound: readonly BoundForward[];
  readonly hosts: ReadonlyMap<string, Host>;
  readonly env: Env;
  readonly log: Logger;
  /** The judge of a listener. */
  readonly admitFor: (listener: BoundListener) => Admit;
}

/**
 * Throws {@link PosternError} `config` when a `[[reverse]]` leads to one of the daemon's own listeners, wherever those really are: the far side would come
 * in through it.
 */
export function refuseOwnListeners(config: Config, own: readonly ListenAddress[]): void {
  const faulty = config.reverses.find(({ to }) => own.some((address) => leadsTo(to, address)));
  if (faulty === undefined) return;
  const problem = `[[reverse]] to = ${JSON.stringify(faulty.to)} is one of Postern's own listeners, which would let the far side in`;
  throw new PosternError('config', `${config.file ?? 'the configuration'}: ${problem}`, {
    fix: 'give another address',
  });
}

/** Starts every `[[forward]]` and `[[reverse]]` over the hosts' links. */
export function startForwards(o: ForwardsOptions): Forwards {
  const onEvent = (event: ForwardEvent): void => logForwardEvent(o.log, event);
  const running: { close(): Promise<void> }[] = [];
  const forwards: (() => ForwardStatus)[] = [];
  const reverses: (() => ReverseStatus)[] = [];
  const ending = new AbortController();
  for (const { listener, values } of o.bound) {
    const link = o.hosts.get(values.host)?.link;
    if (link === undefined) continue;
    const exposed = values.expose === true;
    if (exposed)
      o.log.warn({ listen: listener.address }, `whoever reaches ${listener.address} gets through to ${values.to}`);
    const judge = exposed ? {} : { admit: o.admitFor(listener) };
    const to = parseTarget(values.to);
    const forward = startForward({ server: listener.server, link, to, env: o.env, onEvent, ...judge });
    running.push(forward);
    forwards.push(() => {
      const { host, to: shown } = values;
      return { listen: listener.address, host, to: shown, sessions: forward.sessions };
    });
    listener.release();
  }
  for (const { host, listen, to, domains } of o.config.reverses) {
    const far = o.hosts.get(host);
    if (far === undefined) continue;
    let state: Pick<ReverseStatus, 'state' | 'error' | 'fix'> & { listen?: string } = { state: 'waiting' };
    reverses.push(() => ({ host, listen, to, ...state }));
    const options = { link: far.link, listen: remoteBind(listen), to: localPlace(to), env: o.env };
    const reverse = startReverse({
      ...options,
      ...(domains === undefined ? {} : { domains }),
      onEvent(event) {
        onEvent(event);
        state = reverseState(event) ?? state;
        // The way home is open: what waited for it over there need not wait for the next queue run.
        if (event.type === 'reverse-listening' && domains !== undefined)
          void askForMail(far, domains, o, ending.signal);
      },
    });
    running.push(reverse);
  }
  return {
    get status() {
      return { forwards: forwards.map((read) => read()), reverses: reverses.map((read) => read()) };
    },
    async close() {
      ending.abort(new Error('the daemon ends'));
      await Promise.all(running.map((one) => one.close()));
    },
  };
}

function reverseState(
  event: ForwardEvent,
): (Pick<ReverseStatus, 'state' | 'error' | 'fix'> & { listen?: string }) | undefined {
  if (event.type === 'reverse-listening') return { state: 'listening', listen: event.listen };
  if (event.type === 'reverse-lost') return { state: 'waiting' };
  if (event.type !== 'reverse-refused') return undefined;
  const { error, fix } = event;
  return { state: 'refused', error: error.message, ...(fix === undefined ? {} : { fix }) };
}

/** Never rejects: a far MTA that will not is only told of. */
async function askForMail(
  far: Host,
  domains: readonly string[],
  o: ForwardsOptions,
  signal: AbortSignal,
): Promise<void> {
  const { name: host, link, smtp: target } = far;
  try {
    const answers = await requestQueueRun({ link, target, domains, helo: localHostname(), env: o.env, signal });
    for (const answer of answers)
      o.log.info({ host }, `${host}: asked for the mail that waits there: ${printable(answer)}`);
  } catch (error) {
    if (signal.aborted) return;
    const why = error instanceof Error ? error.message : String(error);
    o.log.warn({ host }, `${host}: could not ask for the mail that waits there: ${printable(why)}`);
  }
}

/** `[ADDRESS:]PORT` on the far side: without an address loopback alone, as ssh -R; `*` for all of them. */
export function remoteBind(text: string): RemoteBind {
  const at = text.lastIndexOf(':');
  const host = at === -1 ? 'localhost' : text.slice(0, at).replace(/^\[|\]$/g, '');
  return { host: host === '*' ? '' : host, port: Number(text.slice(at + 1)) };
}

/** `ADDRESS:PORT` or `unix:PATH` on this machine. */
export function localPlace(text: string): LocalPlace {
  if (text.startsWith('unix:')) return { path: text.slice('unix:'.length) };
  const at = text.lastIndexOf(':');
  return { host: text.slice(0, at).replace(/^\[|\]$/g, ''), port: Number(text.slice(at + 1)) };
}

/** News of forwards as log lines. */
function logForwardEvent(log: Logger, event: ForwardEvent): void {
  const { host } = event;
  const because = (message: string, fix: string | undefined): string =>
    `${printable(message)}${fix === undefined ? '' : `; fix: ${printable(fix)}`}`;
  switch (event.type) {
    case 'forward-denied':
      return void log.warn({ host }, `${host}: forward: a peer was turned away: ${printable(event.reason)}`);
    case 'forward-open':
    case 'forward-close':
      return void log.debug({ host }, `${host}: ${event.type}`);
    case 'forward-refused':
      return void log.warn(
        { host, code: event.error.code },
        `${host}: forward: ${because(event.error.message, event.fix)}`,
      );
    case 'reverse-listening':
      return void log.info({ host, listen: event.listen }, `${host}: reverse: the far side listens on ${event.listen}`);
    case 'reverse-refused':
      return void log.warn(
        { host, listen: event.listen },
        `${host}: reverse: ${because(event.error.message, event.fix)}`,
      );
    case 'reverse-lost':
      return void log.info(
        { host, listen: event.listen },
        `${host}: reverse: the far side listens no more on ${event.listen}`,
      );
    case 'reverse-open':
    case 'reverse-close':
      return void log.debug({ host, to: event.to }, `${host}: ${event.type} ${event.to}`);
    case 'reverse-unreachable':
      return void log.warn(
        { host, to: event.to },
        `${host}: reverse: ${event.to} does not answer: ${printable(event.message)}`,
      );
    case 'reverse-recipient-refused':
      return void log.info({ host }, `${host}: reverse: no mail for ${printable(event.address)}`);
  }
}
