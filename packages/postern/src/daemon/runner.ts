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

interface RunnerParts {
  readonly active: ActiveConfig;
  readonly hosts: Hosts;
  readonly spool: Spool;
  readonly stateDir: string;
  readonly env: Env;
  readonly log: Logger;
  readonly smarthosts: Smarthosts;
  readonly onEvent: OnRelayEvent;
}

/** Starts the queue over the hosts' links. `close` also closes the local bounces. */
export async function startRunner(o: RunnerParts): Promise<Runner> {
  const { spool, env, onEvent, active } = o;
  const bounces = await maildirWriter({ dir: bouncesDirectory(o.stateDir), hostname: localHostname() });
  const couriers = new Couriers(o);
  const runner = createRunner({
    spool,
    env,
    onEvent,
    bounces,
    courierFor: (route) => couriers.of(route),
    routes: () => active.routes,
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

/** A courier for each route, kept while its host and our name stay the same. */
class Couriers {
  readonly #o: RunnerParts;
  readonly #kept = new Map<
    string,
    { readonly of: Host | undefined; readonly helo: string; readonly courier: HostCourier }
  >();

  constructor(o: RunnerParts) {
    this.#o = o;
  }

  of(route: Route): HostCourier | undefined {
    const key = routeKey(route);
    const host = route.host === undefined ? undefined : this.#o.hosts.get(route.host);
    const helo = heloOf(this.#o.active);
    const kept = this.#kept.get(key);
    // A host with other settings is another host.
    if (kept !== undefined && kept.of === host && kept.helo === helo) return kept.courier;
    const courier = this.#make(route, host);
    if (courier !== undefined) this.#kept.set(key, { of: host, helo, courier });
    return courier;
  }

  #make(route: Route, host: Host | undefined): HostCourier | undefined {
    const { smarthost } = route;
    if (smarthost !== undefined) return this.#o.smarthosts.courier({ ...route, smarthost });
    if (host === undefined) return undefined;
    const { link, smtp: target, name, values } = host;
    const courier = createCourier({
      link,
      target,
      env: this.#o.env,
      helo: heloOf(this.#o.active),
      dialogue: route.dialogue ?? 'auto',
      receipts: values?.receipts !== 'off',
      onEvent: (event) => logCourierEvent(this.#o.log, name, event),
    });
    return { host: name, courier, link };
  }
}
