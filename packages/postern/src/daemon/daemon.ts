/** Composes the daemon: parts start in order, nothing half-starts, and they end in the reverse order. */
import { type Env, sleep } from '@postern/core';
import type { RelayEvent, Runner } from '@postern/relay';
import { openSpool } from '@postern/spool';
import type { ResolvedHost } from '@postern/ssh';
import { ensurePassword } from '../access/password.ts';
import { localHostname } from '../base/machine.ts';
import {
  controlSocketPath,
  makeSocketDirectory,
  makeStateDirectory,
  pointToControlSocket,
  type Surroundings,
  spoolDirectory,
} from '../base/paths.ts';
import { resolveConfigured } from '../config/host.ts';
import type { Config } from '../config/load.ts';
import type { Plan } from '../config/plan.ts';
import { openControlServer } from '../control/server.ts';
import { type BoundListener, bindListener } from '../net/listen.ts';
import { spoolFailure } from '../queue/offline.ts';
import { activatedSockets } from '../service/activation.ts';
import { openTlsIdentities, type TlsIdentities } from '../tls/identity.ts';
import { type ActiveConfig, activeConfigOf } from './active-config.ts';
import { controlHandlers } from './control.ts';
import { type ForwardValues, Reverses } from './forwards.ts';
import { Hosts } from './hosts.ts';
import { ListenerTable, type Wanted } from './listeners.ts';
import type { Logger } from './log.ts';
import {
  logCourierEvent,
  logImapEvent,
  logLinkEvent,
  logRelayEvent,
  logSpoolEvent,
  logTlsEvent,
} from './log-events.ts';
import type { DaemonParts } from './parts.ts';
import { pipeHandler } from './pipe.ts';
import { startRunner } from './runner.ts';
import { GRACE_MS, type ImapSpec, prepareListeners, type ServiceContext, type SmtpSpec } from './services.ts';
import { createSmarthosts, type Smarthosts } from './smarthosts.ts';

/** What a daemon is made of. */
export interface DaemonOptions {
  readonly config: Config;
  readonly plan: Plan;
  readonly surroundings: Surroundings;
  readonly env: Env;
  readonly log: Logger;
}

/** A running daemon. */
export interface Daemon {
  /** True addresses of the open listeners. */
  readonly imap: readonly string[];
  readonly smtp: readonly string[];
  /**
   * Takes over another configuration while everything runs; no session is ended. Returns what counts only after a restart. Rejects with {@link PosternError} when
   * something of it cannot be had; everything stays as it was then.
   */
  reload(next: { readonly config: Config; readonly plan: Plan }): Promise<string[]>;
  /**
   * Ends it in order: nothing new comes in, what is under way ends, links close. What takes longer than {@link DRAIN_MS}, or is under way when
   * `hurry` aborts, is cut off. Never rejects.
   */
  drain(o: { hurry: AbortSignal }): Promise<void>;
}

/** How long an orderly end may take, milliseconds. */
export const DRAIN_MS = 4500;

/**
 * Starts everything, or nothing: throws {@link PosternError} `config` or `unavailable` with all that was opened closed again. Faults of hosts are
 * events, not errors.
 */
export async function startDaemon(o: DaemonOptions): Promise<Daemon> {
  const undo = new Undo();
  try {
    return await start(o, undo);
  } catch (error) {
    await undo.run();
    throw error;
  }
}

/** What to close when a start fails half-way, the last opened first. */
class Undo {
  readonly #steps: (() => unknown)[] = [];

  push(step: () => unknown): void {
    this.#steps.push(step);
  }

  async run(): Promise<void> {
    for (const step of this.#steps.reverse()) {
      try {
        await step();
      } catch {
        // The first failure is the one to tell.
      }
    }
  }
}

async function start(o: DaemonOptions, undo: Undo): Promise<Daemon> {
  const { config, surroundings, env } = o;
  makeStateDirectory(config.stateDir, surroundings.uid);
  makeSocketDirectory(config.runtimeDir, surroundings.uid, true);
  const resolved = await resolveAll(o);
  const composed = await compose(o, undo);
  const { services, smarthosts, queue } = composed;
  const { active, hosts, spool, tls, tables, stateDir } = services;
  const change = await prepareListeners(services, o, activatedSockets(surroundings.env, process.pid));
  undo.push(() => change.abort());
  tellCertificates(o.log, tls);
  ensureOwnPassword(active);

  // Nothing fails from here on but the control socket: its parts must exist before it is asked.
  hosts.set(resolved, o);
  const runner = await startRunner({ ...services, smarthosts, onEvent: services.onRelayEvent });
  queue.runner = runner;
  undo.push(() => runner.close());
  const reverses = new Reverses({ hosts, env, log: o.log, active });
  const parts: DaemonParts = {
    ...{ active, hosts, spool, runner, reverses, tls, smarthosts, env, ...tables },
    startedAt: env.wallNow(),
  };
  const controlPath = controlSocketPath(config.runtimeDir, stateDir);
  const control = await openControlServer(controlPath, {
    ...controlHandlers(parts),
    pipe: pipeHandler({ hosts, active, surroundings, env }),
  });
  pointToControlSocket(stateDir, controlPath);
  change.commit();
  reverses.set(config.reverses);
  const ending = new AbortController();
  return {
    imap: tables.imap.addresses,
    smtp: tables.smtp.addresses,
    reload: serially((next: Configured) =>
      reload(parts, { ...o, ...next }, { serving: services, ending: ending.signal }),
    ),
    drain({ hurry }) {
      ending.abort();
      return within(env, hurry, () => drain(parts, control));
    },
  };
}

/** What the listeners share, before any of it is asked for; `queue.runner` is set when the queue runs. */
interface Composed {
  readonly services: ServiceContext;
  readonly smarthosts: Smarthosts;
  readonly queue: { runner?: Runner };
}

async function compose({ config, plan, surroundings, env, log }: DaemonOptions, undo: Undo): Promise<Composed> {
  const { stateDir } = config;
  const spool = await openSpool({
    dir: spoolDirectory(stateDir),
    env,
    onEvent: (event) => logSpoolEvent(log, event),
  }).catch((error: unknown) => {
    throw spoolFailure(error);
  });
  undo.push(() => spool.close());
  const tls = openTlsIdentities({ hostname: localHostname(), env, onEvent: (event) => logTlsEvent(log, event) });
  undo.push(() => tls[Symbol.dispose]());
  const active = activeConfigOf(config, plan);
  const hosts = new Hosts({
    env,
    onLinkEvent: (event) => logLinkEvent(log, event),
    onImapEvent: (event) => logImapEvent(log, event),
  });
  undo.push(() => hosts.close());
  const smarthosts = createSmarthosts({ active, env, onEvent: (name, event) => logCourierEvent(log, name, event) });
  const onRelayEvent = (event: RelayEvent): void => {
    logRelayEvent(log, event);
    smarthosts.onRelayEvent(event);
  };
  const bind = ({ address, fd }: Wanted<unknown>): Promise<BoundListener> =>
    bindListener(address, { uid: surroundings.uid, runtimeDir: config.runtimeDir, fd });
  const tables = {
    imap: new ListenerTable<ImapSpec>(bind),
    smtp: new ListenerTable<SmtpSpec>(bind),
    forwards: new ListenerTable<ForwardValues>(bind),
  };
  const queue: Composed['queue'] = {};
  const onQueueRun = (): void => {
    for (const { link } of hosts.all) link.wake('flush');
    queue.runner?.flush();
  };
  const services = {
    active,
    hosts,
    spool,
    env,
    log,
    tls,
    stateDir,
    uid: surroundings.uid,
    onRelayEvent,
    tables,
    onQueueRun,
  };
  return { services, smarthosts, queue };
}

function tellCertificates(log: Logger, tls: TlsIdentities): void {
  for (const { files, fingerprint, validTo } of tls.all) {
    const until = new Date(validTo).toISOString();
    log.info(
      { certificate: files.certificate, fingerprint },
      `tls: ${files.certificate} until ${until}, SHA-256 ${fingerprint}`,
    );
  }
}

/** A configuration and what `up` makes of it. */
type Configured = Pick<DaemonOptions, 'config' | 'plan'>;

function resolveAll({ plan, config, surroundings }: DaemonOptions): Promise<ResolvedHost[]> {
  return Promise.all(plan.hosts.map((name) => resolveConfigured(name, config, surroundings)));
}

function ensureOwnPassword({ config }: ActiveConfig): void {
  if (config.allow.some((rule) => rule.type === 'password')) ensurePassword(config.stateDir);
}

/** One call after the other. */
function serially<A, R>(work: (argument: A) => Promise<R>): (argument: A) => Promise<R> {
  let last: Promise<unknown> = Promise.resolve();
  return (argument) => {
    const next = last.then(() => work(argument));
    last = next.catch(() => {});
    return next;
  };
}

async function reload(
  parts: DaemonParts,
  next: DaemonOptions,
  { serving, ending }: { serving: ServiceContext; ending: AbortSignal },
): Promise<string[]> {
  const { active, hosts, runner, reverses } = parts;
  const { stateDir } = active.config;
  const config = { ...next.config, stateDir };
  const after = activeConfigOf(config, next.plan);
  const resolved = await resolveAll(next);
  ensureOwnPassword(after);
  const change = await prepareListeners(serving, after);
  if (ending.aborted) {
    change.abort();
    return [];
  }
  Object.assign(active, after);
  hosts.set(resolved, active);
  change.commit();
  reverses.set(config.reverses);
  runner.reload();
  for (const { link } of hosts.all) if (link.state.type !== 'up') link.wake('reload');
  return next.config.stateDir === stateDir ? [] : ['state_dir'];
}

/** Runs `work`, but no longer than {@link DRAIN_MS} or until `hurry` aborts. */
async function within(env: Env, hurry: AbortSignal, work: () => Promise<void>): Promise<void> {
  const done = new AbortController();
  const limit = sleep(env, DRAIN_MS, AbortSignal.any([hurry, done.signal])).catch(() => {});
  await Promise.race([work().catch(() => {}), limit]);
  done.abort();
}

async function drain(parts: DaemonParts, control: { close(): Promise<void> }): Promise<void> {
  const { imap, smtp, forwards, reverses, hosts } = parts;
  for (const table of [imap, smtp, forwards]) table.stop();
  parts.tls[Symbol.dispose]();
  const spares = hosts.drain();
  await Promise.all([imap.close(), smtp.close(), parts.runner.close({ graceMs: GRACE_MS })]);
  await Promise.all([forwards.close(), reverses.close()]);
  await spares;
  await hosts.close();
  await parts.spool.close();
  await control.close();
}
