/** Routes with `queue = false`: the host that delivers at once. */
import type { Direct, Env } from '@postern/core';
import type { Route } from '@postern/relay';
import { createDirect } from '@postern/smtp';
import { type ActiveConfig, heloOf } from './active-config.ts';
import type { Hosts } from './hosts.ts';

/** How long a client of a cut-through route waits for the far side, milliseconds; clients wait 5 min for RCPT (RFC 5321 §4.5.3.2.3). */
const OPEN_MS = 20_000;

/** What passes mail straight through to a route's host. */
export function directFrom(hosts: Hosts, active: ActiveConfig, env: Env): (route: Route) => Direct | undefined {
  return ({ host: name }) => {
    const host = name === undefined ? undefined : hosts.get(name);
    if (host === undefined) return undefined;
    return createDirect({ link: host.link, target: host.smtp, helo: heloOf(active), env, openMs: OPEN_MS });
  };
}
