import { type Admit, type Env, type Spool, sleep } from '@postern/core';
import { createEndpoint, type Endpoint, type ImapdFor } from '@postern/imap';
import { createIntake, type Intake, type IntakeTls, type RelayEvent, type Runner } from '@postern/relay';
import { openSpool } from '@postern/spool';
import { createAdmit } from '../access/admit.ts';
import { ensurePassword } from '../access/password.ts';
import type { Config } from '../config/load.ts';
import type { ImapPlan, Plan, TlsPlan } from '../config/plan.ts';
import { openControlServer } from '../control/server.ts';
import {
  controlSocketPath,
  makeSocketDirectory,
  makeStateDirectory,
  pointToControlSocket,
  type Surroundings,
  spoolDirectory,
} from '../paths.ts';
import { lendHandler } from '../pipe/lend.ts';
import { spoolFailure } from '../queue/offline.ts';
import { activatedSockets, imapSocketName, SMTP_SOCKET_NAME } from '../service/activation.ts';
import { openTlsIdentities, type TlsEvent, type TlsIdentities } from '../tls/identity.ts';
import { controlHandlers } from './control.ts';
import { directFrom } from './direct.ts';
import { bindForwards, type Forwards, refuseOwnListeners, startForwards } from './forwards.ts';
import { stayFrugal } from './frugal.ts';
import { type Host, openHost, resolveConfigured } from './hosts.ts';
import { type BoundListener, bindListener } from './listen.ts';
import type { Logger } from './log.ts';
import {
  logCourierEvent,
  logImapEvent,
  logLinkEvent,
  logRelayEvent,
  logSpoolEvent,
  logTlsEvent,
} from './log-events.ts';
import { type Live, liveOf, reload } from './reload.ts';
import { localHostname, startRunner } from './runner.ts';
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
  /** Takes over what may change while everything runs; returns the tables that count only after a restart. */
  reload(next: { readonly config: Config; readonly plan: Plan }): string[];
  /**
   * Ends it in order: nothing new comes in, what is under way ends, links close. What takes longer than {@link DRAIN_MS}, or is under way when
   * `hurry` aborts, is cut off. Never rejects.
   */
  drain(o: { hurry: AbortSignal }): Promise<void>;
}

/** How long an orderly end may take, milliseconds. */
export const DRAIN_MS = 4500;

/** The parts, as the control socket sees them. */
export interface DaemonParts {
  readonly config: Config;
  readonly plan: Plan;
  readonly hosts: ReadonlyMap<string, Host>;
  readonly spool: Spool;
  readonly runner: Runner;
  readonly live: Live;
  readonly endpoints: readonly Endpoint[];
  readonly intakes: readonly Intake[];
  readonly forwards: Forwards;
  readonly tls: TlsIdentities;
  readonly smarthosts: Smarthosts;
  readonly listeners: { readonly imap: readonly string[]; readonly smtp: readonly string[] };
  readonly env: Env;
  /** Wall clock, ms. */
  readonly startedAt: number;
}

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
  const { config, plan, surroundings, env, log } = o;
  makeStateDirectory(config.stateDir, surroundings.uid);
  makeSocketDirectory(config.runtimeDir, surroundings.uid, true);
  const resolved = await Promise.all(plan.hosts.map((name) => resolveConfigured(name, config, surroundings)));
  stayFrugal();
  const spool = await openSpool({
    dir: spoolDirectory(config.stateDir),
    env,
    onEvent: (event) => logSpoolEvent(log, event),
  }).catch((error: unknown) => {
    throw spoolFailure(error);
  });
  undo.push(() => spool.close());
  const onTlsEvent = (event: TlsEvent): void => logTlsEvent(log, event);
  const tls = openTlsIdentities({ hostname: localHostname(), env, onEvent: onTlsEvent });
  undo.push(() => tls[Symbol.dispose]());
  const secure = {
    imap: await Promise.all(plan.imap.map((endpoint) => secured(endpoint.tls, tls))),
    smtp: await secured(plan.smtp?.tls, tls),
  };
  for (const { files, fingerprint, validTo } of tls.all) {
    const until = new Date(validTo).toISOString();
    log.info(
      { certificate: files.certificate, fingerprint },
      `tls: ${files.certificate} until ${until}, SHA-256 ${fingerprint}`,
    );
  }
  const bound = await bindAll(o, undo);
  const boundForwards = await bindForwards(config, {
    uid: surroundings.uid,
    bound: (listener) => undo.push(() => listener.server.close()),
  });
  const own = [...bound.imap, ...boundForwards].map(({ listener }) => listener.bound);
  refuseOwnListeners(config, [...own, ...bound.smtp.map((listener) => listener.bound)]);
  if (config.allow.some((rule) => rule.type === 'password')) ensurePassword(config.stateDir);

  // Nothing fails from here on but the control socket: its parts must exist before it is asked.
  const hosts = new Map<string, Host>();
  for (const host of resolved) {
    const opened = openHost(host, {
      values: config.hosts.get(host.host),
      spare: spareOf(plan, host.host),
      env,
      onLinkEvent: (event) => logLinkEvent(log, event),
      onImapEvent: (event) => logImapEvent(log, event),
    });
    hosts.set(host.host, opened);
    undo.push(async () => {
      await opened.imapd.close();
      await opened.link.close();
    });
  }
  const { stateDir } = config;
  const live = liveOf(config, plan);
  const smarthosts = createSmarthosts({ live, env, onEvent: (name, event) => logCourierEvent(log, name, event) });
  const onRelayEvent = (event: RelayEvent): void => {
    logRelayEvent(log, event);
    smarthosts.onRelayEvent(event);
  };
  const runner = await startRunner({ live, hosts, spool, stateDir, env, log, smarthosts, onEvent: onRelayEvent });
  undo.push(() => runner.close());
  const admitPeer = (listener: BoundListener): Admit => admitFor(listener, live, o);
  const forwards = startForwards({ config, bound: boundForwards, hosts, env, log, admitFor: admitPeer });
  undo.push(() => forwards.close());
  const parts: DaemonParts = {
    ...{ config, plan, hosts, spool, runner, live, forwards, tls, smarthosts, env },
    endpoints: bound.imap.map(({ listener, plan: endpoint, index }) =>
      openEndpoint(listener, endpoint, { hosts, live, tls: secure.imap[index] }, o),
    ),
    intakes: bound.smtp.map((listener) =>
      createIntake({
        server: listener.server,
        spool,
        routes: () => live.routes,
        directFor: directFrom(hosts, env),
        admit: admitFor(listener, live, o),
        hostname: localHostname(),
        onQueueRun() {
          for (const { link } of hosts.values()) link.wake('flush');
          runner.flush();
        },
        ...(plan.smtp === undefined ? {} : { sizeLimit: plan.smtp.maxSize }),
        ...(secure.smtp === undefined || listener.type === 'unix' ? {} : { tls: secure.smtp }),
        env,
        onEvent: onRelayEvent,
      }),
    ),
    listeners: {
      imap: bound.imap.map(({ listener }) => listener.address),
      smtp: bound.smtp.map(({ address }) => address),
    },
    startedAt: env.wallNow(),
  };
  const controlPath = controlSocketPath(config.runtimeDir, config.stateDir);
  const control = await openControlServer(controlPath, {
    ...controlHandlers(parts),
    pipe: lendHandler({ hosts, config, surroundings, env }),
  });
  pointToControlSocket(config.stateDir, controlPath);
  const listeners = [...bound.imap.map(({ listener }) => listener), ...bound.smtp];
  for (const listener of listeners) listener.release();
  const all = [...listeners, ...boundForwards.map(({ listener }) => listener)];
  const end = (): Promise<void> => drain(parts, all, control);
  return {
    ...parts.listeners,
    reload: (next) => reload(parts, next),
    drain: ({ hurry }) => within(env, hurry, end),
  };
}

interface Bound {
  readonly imap: readonly { readonly listener: BoundListener; readonly plan: ImapPlan; readonly index: number }[];
  readonly smtp: readonly BoundListener[];
}

async function bindAll({ plan, config, surroundings }: DaemonOptions, undo: Undo): Promise<Bound> {
  const activated = activatedSockets(surroundings.env, process.pid);
  const bind = async (address: Parameters<typeof bindListener>[0], fd: number | undefined): Promise<BoundListener> => {
    const listener = await bindListener(address, { uid: surroundings.uid, runtimeDir: config.runtimeDir, fd });
    undo.push(() => listener.server.close());
    return listener;
  };
  const imap: { listener: BoundListener; plan: ImapPlan; index: number }[] = [];
  for (const [index, endpoint] of plan.imap.entries()) {
    for (const [at, address] of endpoint.listen.entries()) {
      imap.push({ listener: await bind(address, activated(imapSocketName(index), at)), plan: endpoint, index });
    }
  }
  const smtp: BoundListener[] = [];
  for (const [at, address] of (plan.smtp?.listen ?? []).entries()) {
    smtp.push(await bind(address, activated(SMTP_SOCKET_NAME, at)));
  }
  return { imap, smtp };
}

/** Spare sessions of a host: the most any endpoint that leads to it wants. */
function spareOf(plan: Plan, host: string): number {
  const leading = plan.imap.filter((endpoint) => endpoint.host === undefined || endpoint.host === host);
  return Math.max(0, ...leading.map((endpoint) => endpoint.spare));
}

function admitFor(listener: BoundListener, live: Live, { config, surroundings }: DaemonOptions): Admit {
  return createAdmit({
    allow: () => live.allow,
    listener: listener.type,
    uid: surroundings.uid,
    stateDir: config.stateDir,
  });
}

/** What listeners show of themselves; a certificate that cannot be used ends the start. */
async function secured(plan: TlsPlan | undefined, tls: TlsIdentities): Promise<IntakeTls | undefined> {
  if (plan === undefined) return undefined;
  const identity = await tls.of(plan.files);
  return { mode: plan.mode, secureContext: () => identity.context() };
}

function openEndpoint(
  listener: BoundListener,
  plan: ImapPlan,
  { hosts, live, tls }: Pick<DaemonParts, 'hosts' | 'live'> & { tls: IntakeTls | undefined },
  o: DaemonOptions,
): Endpoint {
  const fixed = plan.host === undefined ? undefined : hosts.get(plan.host)?.imapd;
  const imapd: ImapdFor = fixed ?? ((user) => hosts.get(user)?.imapd);
  return createEndpoint({
    server: listener.server,
    imapd,
    admit: admitFor(listener, live, o),
    env: o.env,
    onEvent: (event) => logImapEvent(o.log, event),
    // Only a listener that leads to one host can greet before anybody has said a name.
    preauth: listener.type === 'unix' && fixed !== undefined,
    ...(tls === undefined || listener.type === 'unix' ? {} : { tls }),
  });
}

/** Runs `work`, but no longer than {@link DRAIN_MS} or until `hurry` aborts. */
async function within(env: Env, hurry: AbortSignal, work: () => Promise<void>): Promise<void> {
  const done = new AbortController();
  const limit = sleep(env, DRAIN_MS, AbortSignal.any([hurry, done.signal])).catch(() => {});
  await Promise.race([work().catch(() => {}), limit]);
  done.abort();
}

async function drain(
  parts: DaemonParts,
  listeners: readonly BoundListener[],
  control: { close(): Promise<void> },
): Promise<void> {
  for (const { server } of listeners) server.close();
  parts.tls[Symbol.dispose]();
  for (const endpoint of parts.endpoints) endpoint.stop();
  const hosts = [...parts.hosts.values()];
  const spares = hosts.map(async ({ imapd, link }) => {
    await imapd.close();
    // What waits for a link that is not up waits in vain: nothing of it was sent.
    if (link.state.type !== 'up') await link.close();
  });
  await Promise.all([
    ...parts.endpoints.map((endpoint) => endpoint.close()),
    ...parts.intakes.map((intake) => intake.close({ graceMs: DRAIN_MS / 2 })),
    parts.runner.close({ graceMs: DRAIN_MS / 2 }),
  ]);
  await parts.forwards.close();
  await Promise.all(spares);
  await Promise.all(hosts.map((host) => host.link.close()));
  await parts.spool.close();
  await control.close();
}
