/** Smarthosts without a link: their couriers, passwords and state. */
import { execFile } from 'node:child_process';
import { readFileSync, statSync } from 'node:fs';
import type { Env } from '@postern/core';
import { type HostCourier, type RelayEvent, type Route, routeKey } from '@postern/relay';
import { type CourierEvent, createSmarthostCourier, parseSmarthost } from '@postern/smtp';
import { errnoOf, PosternError } from '../base/errors.ts';
import type { RouteValues } from '../config/schema.ts';
import type { SmarthostStatus } from '../control/status.ts';
import { type ActiveConfig, heloOf } from './active-config.ts';

/** How long `password_command` may take, milliseconds. */
const COMMAND_MS = 30_000;
const PASSWORD_MAX_OCTETS = 4096;

/** Couriers to plain smarthosts, and how those are. */
export interface Smarthosts {
  /** What delivers to the route's smarthost. */
  courier(route: Route & { readonly smarthost: string }): HostCourier;
  /** Takes notice of what the relay tells. */
  onRelayEvent(event: RelayEvent): void;
  /** Those of the routes as they are now. */
  readonly all: readonly SmarthostStatus[];
}

/** Makes {@link Smarthosts}. Passwords are asked for before each session, so that a changed one counts at once. */
export function createSmarthosts(o: {
  readonly active: ActiveConfig;
  readonly env: Env;
  readonly onEvent: (smarthost: string, event: CourierEvent) => void;
}): Smarthosts {
  const states = new Map<string, Omit<SmarthostStatus, 'smarthost'>>();
  const valuesOf = (key: string): RouteValues | undefined => {
    const { routes } = o.active.routes;
    return o.active.plan.routes[routes.findIndex((route) => routeKey(route) === key)];
  };
  return {
    courier(route) {
      const { smarthost } = route;
      const key = routeKey(route);
      const courier = createSmarthostCourier({
        ...{ smarthost: parseSmarthost(smarthost), helo: heloOf(o.active), env: o.env },
        dialogue: route.dialogue ?? 'auto',
        password: () => readSmarthostPassword(valuesOf(key)),
        onEvent(event) {
          o.onEvent(smarthost, event);
          if (event.type === 'ready') states.set(smarthost, { state: 'up' });
          if (event.type === 'closed' && event.error === undefined) states.set(smarthost, { state: 'idle' });
        },
      });
      return { host: smarthost, courier };
    },
    onRelayEvent(event) {
      const known = o.active.routes.routes.some(({ smarthost }) => 'host' in event && smarthost === event.host);
      if (event.type === 'host-deferred' && known) states.set(event.host, { state: 'down', error: event.reason });
    },
    get all() {
      const named = o.active.routes.routes.flatMap(({ smarthost }) => (smarthost === undefined ? [] : [smarthost]));
      const idle = { state: 'idle' } as const;
      return [...new Set(named)].map((smarthost) => ({ smarthost, ...(states.get(smarthost) ?? idle) }));
    },
  };
}

/** The password of a route's smarthost: the first line of a file or of a command's output. Rejects with a {@link PosternError} that never holds it. */
export async function readSmarthostPassword(values: RouteValues | undefined): Promise<string> {
  const { password_file: file, password_command: command } = values ?? {};
  const text = file !== undefined ? readPasswordFile(file) : command !== undefined ? await runCommand(command) : '';
  const [line = ''] = text.split(/\r?\n/);
  if (line !== '') return line;
  throw new PosternError('io', `there is no password in ${file ?? 'what password_command prints'}`);
}

function readPasswordFile(file: string): string {
  try {
    if ((statSync(file).mode & 0o077) !== 0) {
      throw new PosternError('no-permission', `others can read the password in ${file}`, { fix: `chmod 600 ${file}` });
    }
    return readFileSync(file, 'utf8');
  } catch (error) {
    if (error instanceof PosternError) throw error;
    throw new PosternError('io', `the password in ${file} cannot be read (${errnoOf(error)})`, { cause: error });
  }
}

function runCommand(command: string): Promise<string> {
  return new Promise((resolve, reject) => {
    const limits = { timeout: COMMAND_MS, maxBuffer: PASSWORD_MAX_OCTETS, encoding: 'utf8' } as const;
    const child = execFile('/bin/sh', ['-c', command], limits, (error, stdout) => {
      if (error === null) return resolve(stdout);
      // Not the error itself: its message holds what the command wrote to stderr, and nobody knows what that is.
      const how = error.killed === true ? 'took too long' : `failed with status ${error.code ?? 'unknown'}`;
      reject(new PosternError('io', `password_command ${how}`));
    });
    child.stdin?.end();
  });
}
