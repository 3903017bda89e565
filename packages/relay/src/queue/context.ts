/** What the rooms of the queue share: the runner's options with their standards, and the few words all of them use. */
import type { Courier, EntryState, Env, ForwardPath, Link, Spool } from '@postern/core';
import type { Bounces } from '../dsn/notify.ts';
import type { OnRelayEvent } from '../event.ts';
import type { CompiledRoutes, Route } from '../route/routes.ts';
import type { Schedule } from './schedule.ts';

/** What delivers to a host. */
export interface HostCourier {
  /** Its name, for people and journals. */
  readonly host: string;
  readonly courier: Courier;
  /** The link the courier uses; absent for a plain smarthost. */
  readonly link?: Link;
}

/** Options of a runner. */
export interface RunnerOptions {
  readonly spool: Spool;
  /** The routes as they are now; asked at every attempt. */
  readonly routes: () => CompiledRoutes;
  /** What delivers for a route now; undefined holds its mail. Asked before every delivery. */
  readonly courierFor: (route: Route) => HostCourier | undefined;
  /** Where a DSN goes that no route takes, and a DSN that could not be delivered. */
  readonly bounces: Bounces;
  readonly env: Env;
  /** Our name in DSNs. */
  readonly hostname: string;
  readonly schedule?: Partial<Schedule>;
  readonly onEvent?: OnRelayEvent;
}

/** What the parts of a queue runner share. */
export interface QueueContext extends Pick<RunnerOptions, 'spool' | 'routes' | 'courierFor' | 'env'> {
  readonly schedule: Schedule;
  readonly onEvent: OnRelayEvent;
  /** Aborts couriers. */
  readonly signal: AbortSignal;
}

/** Wait before what the spool refused to record is tried again, ms. */
export const SPOOL_RETRY_MS = 60_000;

/** Recipients still to be tried. */
export function openRecipients(state: EntryState): ForwardPath[] {
  return state.recipients
    .filter(({ outcome }) => outcome === undefined || outcome.type === 'deferred' || outcome.type === 'uncertain')
    .map(({ to }) => to);
}

/** Entries looked at before other work gets its turn: there may be a hundred thousand. */
export const BATCH = 512;

/** Lets other work have its turn. */
export function otherWork(): Promise<void> {
  return new Promise((resolve) => setImmediate(resolve));
}
