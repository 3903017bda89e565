/** What each listener serves, and with what. */
import type { Admit, Env, Spool } from '@postern/core';
import { type Continuity, createEndpoint, type ImapdFor } from '@postern/imap';
import { createIntake, type IntakeTls, type OnRelayEvent } from '@postern/relay';
import { createAdmit } from '../access/admit.ts';
import { localHostname } from '../base/machine.ts';
import type { Config } from '../config/load.ts';
import type { ImapPlan, Plan, TlsPlan } from '../config/plan.ts';
import type { BoundListener } from '../net/listen.ts';
import { imapSocketName, SMTP_SOCKET_NAME } from '../service/activation.ts';
import type { TlsIdentities } from '../tls/identity.ts';
import type { ActiveConfig } from './active-config.ts';
import { directFrom } from './direct.ts';
import { type ForwardValues, refuseOwnListeners, wantedForward } from './forwards.ts';
import type { Hosts } from './hosts.ts';
import type { Change, ListenerTable, Service, Wanted } from './listeners.ts';
import type { Logger } from './log.ts';
import { logImapEvent } from './log-events.ts';

/** How long messages on their way, in or out, get at the end, milliseconds. */
export const GRACE_MS = 2250;

/** What an IMAP listener serves. */
export type ImapSpec = Pick<ImapPlan, 'host' | 'tls' | 'continuity'>;
/** What a listener of the relay serves. */
export type SmtpSpec = Pick<NonNullable<Plan['smtp']>, 'maxSize' | 'longLines' | 'tls'>;

/** The listeners of a daemon by kind. */
export interface Tables {
  readonly imap: ListenerTable<ImapSpec>;
  readonly smtp: ListenerTable<SmtpSpec>;
  readonly forwards: ListenerTable<ForwardValues>;
}

/** What the listeners of a daemon serve with. */
export interface ServiceContext {
  readonly tables: Tables;
  readonly active: ActiveConfig;
  readonly hosts: Hosts;
  readonly spool: Spool;
  readonly env: Env;
  readonly log: Logger;
  readonly tls: TlsIdentities;
  readonly stateDir: string;
  readonly uid: number;
  readonly onRelayEvent: OnRelayEvent;
  readonly onQueueRun: () => void;
}

/**
 * Binds what a configuration wants and is not there. `activated` gives the sockets of the service manager. Rejects with `PosternError`, and nothing has changed
 * then: `unavailable` for an address that cannot be had, `config` for a certificate that cannot be used or a `[[reverse]]` that leads back in.
 */
export async function prepareListeners(
  s: ServiceContext,
  { config, plan }: { config: Config; plan: Plan },
  activated: (name: string, at: number) => number | undefined = () => undefined,
): Promise<Change> {
  const { imap, smtp, forwards } = s.tables;
  const changes: Change[] = [];
  const whole: Change = {
    get bound() {
      return changes.flatMap(({ bound }) => bound);
    },
    commit() {
      for (const change of changes) change.commit();
    },
    abort() {
      for (const change of changes) change.abort();
    },
  };
  try {
    changes.push(await imap.prepare(await wantedImap(s, plan, activated)));
    changes.push(await smtp.prepare(await wantedSmtp(s, plan, activated)));
    const admitFor = (listener: BoundListener): Admit => admit(s, listener);
    changes.push(await forwards.prepare(config.forwards.map((values) => wantedForward(values, { ...s, admitFor }))));
    refuseOwnListeners(config, whole.bound);
  } catch (error) {
    whole.abort();
    throw error;
  }
  return whole;
}

async function wantedImap(
  s: ServiceContext,
  plan: Plan,
  activated: (name: string, at: number) => number | undefined,
): Promise<Wanted<ImapSpec>[]> {
  const wanted: Wanted<ImapSpec>[] = [];
  for (const [index, { listen, host, tls: tlsPlan, continuity }] of plan.imap.entries()) {
    const tls = await secured(s, tlsPlan);
    for (const [at, address] of listen.entries()) {
      wanted.push({
        ...{ address, fd: activated(imapSocketName(index), at) },
        spec: {
          ...(host === undefined ? {} : { host }),
          ...(tlsPlan === undefined ? {} : { tls: tlsPlan }),
          ...(continuity === undefined ? {} : { continuity }),
        },
        serve: (listener) => serveImap(s, listener, { host, tls, continuity }),
      });
    }
  }
  return wanted;
}

async function wantedSmtp(
  s: ServiceContext,
  { smtp }: Plan,
  activated: (name: string, at: number) => number | undefined,
): Promise<Wanted<SmtpSpec>[]> {
  if (smtp === undefined) return [];
  const { listen, ...spec } = smtp;
  const tls = await secured(s, smtp.tls);
  return listen.map((address, at) => ({
    ...{ address, fd: activated(SMTP_SOCKET_NAME, at), spec },
    serve: (listener) => serveSmtp(s, listener, { maxSize: smtp.maxSize, longLines: smtp.longLines, tls }),
  }));
}

/** What a listener shows of itself. Rejects with `PosternError` when its certificate cannot be used. */
async function secured({ tls }: ServiceContext, plan: TlsPlan | undefined): Promise<IntakeTls | undefined> {
  if (plan === undefined) return undefined;
  const identity = await tls.of(plan.files);
  return { mode: plan.mode, secureContext: () => identity.context() };
}

function admit(s: ServiceContext, listener: BoundListener): Admit {
  return createAdmit({ allow: () => s.active.config.allow, listener: listener.type, uid: s.uid, stateDir: s.stateDir });
}

function serveImap(
  s: ServiceContext,
  listener: BoundListener,
  {
    host,
    tls,
    continuity,
  }: { host: string | undefined; tls: IntakeTls | undefined; continuity: Continuity | undefined },
): Service {
  const { hosts, env, log } = s;
  const imapd: ImapdFor = (user) => hosts.get(host ?? user)?.imapd;
  return createEndpoint({
    server: listener.server,
    imapd,
    admit: admit(s, listener),
    env,
    onEvent: (event) => logImapEvent(log, event),
    // Only a listener that leads to one host can greet before anybody has said a name.
    preauth: listener.type === 'unix' && host !== undefined,
    ...(continuity === undefined ? {} : { continuity }),
    ...(tls === undefined || listener.type === 'unix' ? {} : { tls }),
  });
}

function serveSmtp(
  s: ServiceContext,
  listener: BoundListener,
  { maxSize, longLines, tls }: Omit<SmtpSpec, 'tls'> & { tls: IntakeTls | undefined },
): Service {
  const { spool, active, hosts, env, onQueueRun } = s;
  const intake = createIntake({
    ...{ spool, env, onQueueRun, server: listener.server, sizeLimit: maxSize, longLines },
    routes: () => active.routes,
    directFor: directFrom(hosts, active, env),
    admit: admit(s, listener),
    hostname: localHostname(),
    onEvent: s.onRelayEvent,
    ...(tls === undefined || listener.type === 'unix' ? {} : { tls }),
  });
  return {
    get sessions() {
      return intake.sessions;
    },
    stop: () => intake.stop(),
    close: () => intake.close({ graceMs: GRACE_MS }),
  };
}
