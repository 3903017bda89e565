/** `[[forward]]` and `[[reverse]]` at work; none leads back into a listener of the daemon's own. */
import { isDeepStrictEqual } from 'node:util';
import { type Admit, type Env, parseTarget, printable } from '@postern/core';
import { requestQueueRun } from '@postern/smtp';
import {
  type ForwardEvent,
  type HostLink,
  type LocalPlace,
  type RemoteBind,
  startForward,
  startReverse,
} from '@postern/ssh';
import { PosternError } from '../base/errors.ts';
import type { Config } from '../config/load.ts';
import { leadsTo } from '../config/rules.ts';
import type { ListenAddress } from '../config/units.ts';
import type { ForwardStatus, ReverseStatus } from '../control/status.ts';
import type { BoundListener } from '../net/listen.ts';
import { type ActiveConfig, heloOf } from './active-config.ts';
import type { Host, Hosts } from './hosts.ts';
import type { ListenerTable, Wanted } from './listeners.ts';
import type { Logger } from './log.ts';
import { logForwardEvent } from './log-events.ts';

/** `[[forward]]` as configured. */
export type ForwardValues = Config['forwards'][number];
/** `[[reverse]]` as configured. */
export type ReverseValues = Config['reverses'][number];

/** What forwards work with. */
export interface ForwardsContext {
  readonly hosts: Hosts;
  readonly env: Env;
  readonly log: Logger;
  readonly active: ActiveConfig;
}

/** What a `[[forward]]` wants of a listener. `admit` judges its peers. */
export function wantedForward(
  values: ForwardValues,
  c: ForwardsContext & { readonly admitFor: (listener: BoundListener) => Admit },
): Wanted<ForwardValues> {
  const { listen, host, to, expose } = values;
  return {
    address: listen,
    spec: values,
    serve(listener) {
      if (expose) c.log.warn({ listen: listener.address }, `whoever reaches ${listener.address} gets through to ${to}`);
      const ending = new AbortController();
      const forward = startForward({
        server: listener.server,
        link: linkOf(host, c),
        to: parseTarget(to),
        env: c.env,
        onEvent: (event) => logForwardEvent(c.log, event),
        ...(expose ? {} : { admit: c.admitFor(listener) }),
      });
      return {
        get sessions() {
          return forward.sessions;
        },
        stop: () => void forward.close({ signal: ending.signal }),
        async close() {
          ending.abort();
          await forward.close();
        },
      };
    },
  };
}

/** Every host of the configuration is there: its rules see to it. */
function linkOf(host: string, { hosts }: ForwardsContext): HostLink {
  const { link } = hosts.get(host) ?? {};
  if (link === undefined) throw new PosternError('config', `no host is named ${host}`);
  return link;
}

/** What `status` shows of the forwards. */
export function forwardStatus(table: ListenerTable<ForwardValues>): ForwardStatus[] {
  return table.open.map(({ listener, service, wanted: { spec } }) => {
    return { listen: listener.address, host: spec.host, to: spec.to, sessions: service.sessions };
  });
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

interface RunningReverse {
  readonly values: ReverseValues;
  readonly link: HostLink;
  state: Pick<ReverseStatus, 'state' | 'error' | 'fix'> & { readonly listen?: string };
  close(): Promise<void>;
}

/** The `[[reverse]]` tables at work. */
export class Reverses {
  readonly #c: ForwardsContext;
  #running: readonly RunningReverse[] = [];
  readonly #closing = new Set<Promise<void>>();

  constructor(c: ForwardsContext) {
    this.#c = c;
  }

  get status(): readonly ReverseStatus[] {
    return this.#running.map(({ values: { host, listen, to }, state }) => ({ host, listen, to, ...state }));
  }

  /** Takes these and no others. One that is gone ends with its connections: the far side tries again what was under way. */
  set(wanted: readonly ReverseValues[]): void {
    const left = [...this.#running];
    const kept = wanted.map((values) => {
      const link = linkOf(values.host, this.#c);
      const at = left.findIndex((one) => one.link === link && isDeepStrictEqual(one.values, values));
      return { values, link, known: at < 0 ? undefined : left.splice(at, 1)[0] };
    });
    // What is gone makes room first: another may want its place over there.
    for (const gone of left) this.#end(gone);
    this.#running = kept.map(({ values, link, known }) => known ?? this.#start(values, link));
  }

  #start(values: ReverseValues, link: HostLink): RunningReverse {
    const { host, listen, to, domains } = values;
    const { env, log, hosts } = this.#c;
    const ending = new AbortController();
    const running: RunningReverse = {
      ...{ values, link, state: { state: 'waiting' } },
      async close() {
        ending.abort(new Error('the reverse forward ends'));
        await reverse.close();
      },
    };
    const reverse = startReverse({
      ...{ link, listen: remoteBind(listen), to: localPlace(to), env },
      ...(domains === undefined ? {} : { domains }),
      onEvent: (event) => {
        logForwardEvent(log, event);
        running.state = reverseState(event) ?? running.state;
        // The way home is open: what waited for it over there need not wait for the next queue run.
        const far = hosts.get(host);
        if (event.type === 'reverse-listening' && domains !== undefined && far !== undefined)
          void askForMail(far, domains, this.#c, ending.signal);
      },
    });
    return running;
  }

  #end(gone: RunningReverse): void {
    const closing = gone.close().finally(() => this.#closing.delete(closing));
    this.#closing.add(closing);
  }

  async close(): Promise<void> {
    for (const one of this.#running) this.#end(one);
    await Promise.all(this.#closing);
  }
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
  o: ForwardsContext,
  signal: AbortSignal,
): Promise<void> {
  const { name: host, link, smtp: target } = far;
  try {
    const answers = await requestQueueRun({ link, target, domains, helo: heloOf(o.active), env: o.env, signal });
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
