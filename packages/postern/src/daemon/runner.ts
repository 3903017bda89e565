/** The queue over the hosts' links and the smarthosts. */
import type { Env, Spool } from '@postern/core';
import { createRunner, type HostCourier, type OnRelayEvent, type Route, type Runner, routeKey } from '@postern/relay';
import { createCourier } from '@postern/smtp';
import { maildirWriter } from '@postern/spool';
import { localHostname } from '../base/machine.ts';
import { bouncesDirectory } from '../base/paths.ts';
import { type ActiveConfig, heloOf } from './active-config.ts';
import type { Host, Hosts } from './hosts.ts';
import type { Logger } from './log.ts';
import { logCourierEvent } from './log-events.ts';
import type { Smarthosts } from './smarthosts.ts';

/** Starts the queue over the hosts' links. `close` also closes the local bounces. */
export async function startRunner(o: {
  readonly active: ActiveConfig;
  readonly hosts: Hosts;
  readonly spool: Spool;
  readonly stateDir: string;
  readonly env: Env;
  readonly log: Logger;
  readonly smarthosts: Smarthosts;
  readonly onEvent: OnRelayEvent;
}): Promise<Runner> {
  const bounces = await maildirWriter({ dir: bouncesDirectory(o.stateDir), hostname: localHostname() });
  const couriers = new Map<
    string,
    { readonly of: Host | undefined; readonly helo: string; readonly courier: HostCourier }
  >();
  const courierFor = (route: Route): HostCourier | undefined => {
    const key = routeKey(route);
    const host = route.host === undefined ? undefined : o.hosts.get(route.host);
    const known = couriers.get(key);
    const helo = heloOf(o.active);
    // A host with other settings is another host.
    if (known !== undefined && known.of === host && known.helo === helo) return known.courier;
    const courier = makeCourier(route);
    if (courier !== undefined) couriers.set(key, { of: host, helo, courier });
    return courier;
  };
  const makeCourier = (route: Route): HostCourier | undefined => {
    const { host: wanted, smarthost } = route;
    if (smarthost !== undefined) return o.smarthosts.courier({ ...route, smarthost });
    const host = wanted === undefined ? undefined : o.hosts.get(wanted);
    if (host === undefined) return undefined;
    const { link, smtp: target, name, values } = host;
    const courier = createCourier({
      ...{ link, target, env: o.env, helo: heloOf(o.active) },
      dialogue: route.dialogue ?? 'auto',
      receipts: values?.receipts !== 'off',
      onEvent: (event) => logCourierEvent(o.log, name, event),
    });
    return { host: name, courier, link };
  };
  const { spool, env, onEvent } = o;
  const runner = createRunner({
    ...{ spool, env, onEvent, bounces, courierFor },
    routes: () => o.active.routes,
    hostname: localHostname(),
  });
  const close: Runner['close'] = async (options) => {
    await runner.close(options);
    await bounces.close();
  };
  return {
    flush: (what) => runner.flush(what),
    hold: (id, reason) => runner.hold(id, reason),
    release: (id) => runner.release(id),
    remove: (id) => runner.remove(id),
    waiting: (id) => runner.waiting(id),
    reload: () => runner.reload(),
    idle: () => runner.idle(),
    close,
  };
}
