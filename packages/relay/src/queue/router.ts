/** Where an entry waits: at one destination for each route that takes a recipient still to be tried. */
import { defined, type EntryId, type EntryState, type ForwardPath, type Wait } from '@postern/core';
import { type Route, routeKey } from '../route/routes.ts';
import { openRecipients, type QueueContext } from './context.ts';
import { DestinationQueue } from './destination.ts';
import type { AttemptDesk, Destination } from './job.ts';

/** Why an entry waits, for people. */
export interface Waiting {
  /** Wall clock, ms, of the next try; absent while that depends on a link, a route or a person. */
  readonly next?: number;
  readonly reason: string;
  /** A courier has it. */
  readonly active: boolean;
  /** What that waits for; of those that have it, the one that has waited longest. */
  readonly wait?: Wait;
  /** The route of each recipient now. */
  readonly recipients: readonly { readonly to: ForwardPath; readonly route?: number; readonly host?: string }[];
}

/** Puts entries where their recipients go, and takes them out. */
export class Router {
  readonly destinations: Map<string, DestinationQueue> = new Map();
  readonly #c: QueueContext;
  readonly #desk: () => AttemptDesk;
  readonly #noRoute = new Set<EntryId>();
  readonly #withheld = new Set<EntryId>();
  #closed = false;

  /** `desk` is asked for when the first entry comes: it needs the router itself. */
  constructor(c: QueueContext, desk: () => AttemptDesk) {
    this.#c = c;
    this.#desk = desk;
  }

  /** Puts an entry where its open recipients go. */
  place(state: EntryState): void {
    if (this.#closed || this.#withheld.has(state.id)) return;
    const lost: ForwardPath[] = [];
    const routes = this.#c.routes();
    const keys = new Set<string>();
    for (const to of openRecipients(state)) {
      const route = routes.take(to, state.envelope.from)?.route;
      if (route === undefined) lost.push(to);
      else if (!keys.has(routeKey(route))) {
        keys.add(routeKey(route));
        this.#destination(route).add(state.id, state.elapsed);
      }
    }
    if (lost.length === 0) this.#noRoute.delete(state.id);
    else if (!this.#noRoute.has(state.id)) {
      this.#noRoute.add(state.id);
      this.#c.onEvent({ type: 'no-route', id: state.id, to: lost });
    }
  }

  /** The open recipients of an entry that go to a destination now. */
  through(destination: Destination, state: EntryState): ForwardPath[] {
    const routes = this.#c.routes();
    return openRecipients(state).filter((to) => {
      const route = routes.take(to, state.envelope.from)?.route;
      return route !== undefined && routeKey(route) === destination.key;
    });
  }

  #destination(route: Route): DestinationQueue {
    const key = routeKey(route);
    let destination = this.destinations.get(key);
    if (destination === undefined) {
      destination = new DestinationQueue(this.#c, { route, desk: this.#desk() });
      this.destinations.set(key, destination);
    }
    return destination;
  }

  /** Keeps an entry, which may not have come yet, from every destination. */
  withhold(id: EntryId): void {
    this.#withheld.add(id);
  }

  /** Puts in what was withheld. */
  release(id: EntryId): void {
    this.#withheld.delete(id);
    const state = this.#c.spool.get(id);
    if (state !== undefined && !state.held) this.place(state);
  }

  /** Takes an entry from every destination. */
  takeOut(id: EntryId): void {
    this.#noRoute.delete(id);
    for (const destination of this.destinations.values()) {
      destination.withdraw(({ item }) => item.id === id);
      const item = destination.items.get(id);
      if (item !== undefined) destination.drop(item);
    }
  }

  /**
   * The routes changed: what has none is told again, and what waits with a courier for another's link is taken back.
   */
  forgetRoutes(): void {
    this.#noRoute.clear();
    for (const destination of this.destinations.values()) {
      destination.withdraw(({ item, recipients }) => {
        const state = this.#c.spool.get(item.id);
        const here = new Set(state === undefined ? [] : this.through(destination, state));
        return [...recipients].some((to) => !here.has(to));
      });
    }
  }

  /** Makes an entry, a host's entries, or all due, and wakes the links concerned. False when there is no such host. */
  flush(o: { id?: EntryId; host?: string } = {}): boolean {
    const concerned = [...this.destinations.values()].filter(
      (destination) =>
        (o.id === undefined || destination.items.has(o.id)) && (o.host === undefined || destination.host === o.host),
    );
    for (const destination of concerned) {
      destination.wake();
      destination.flush(o.id);
    }
    return concerned.length > 0;
  }

  /** Why an entry waits. */
  waiting(state: EntryState): Waiting {
    const { id } = state;
    const routes = this.#c.routes();
    const recipients = state.recipients.map(({ to }) => {
      const taken = routes.take(to, state.envelope.from);
      const host = taken?.route.host ?? taken?.route.smarthost;
      return { to, ...defined({ route: taken?.index, host }) };
    });
    if (state.held) return { reason: state.reason, active: false, recipients };
    const here = [...this.destinations.values()].flatMap((destination) => {
      const item = destination.items.get(id);
      return item === undefined ? [] : [{ destination, item, next: destination.nextTry(item) }];
    });
    const times = here.flatMap(({ next }) => (next === undefined ? [] : [next]));
    const toWall = this.#c.env.wallNow() - this.#c.env.monotonicNow();
    const lost = this.#noRoute.has(id) ? 'no route takes a recipient' : '';
    const reason =
      here.map(({ destination }) => destination.reason).find((text) => text !== '') ?? (state.reason || lost);
    const waits = here.flatMap(({ destination }) => destination.wait(id) ?? []);
    const wait = waits.toSorted((a, b) => b.ms - a.ms)[0];
    return {
      ...defined({ wait }),
      reason: reason || lost,
      active: here.some(({ item }) => item.busy),
      recipients,
      ...(times.length === 0 ? {} : { next: toWall + Math.min(...times) }),
    };
  }

  /** Takes nothing more, starts nothing more. */
  close(): void {
    this.#closed = true;
    for (const destination of this.destinations.values()) destination.close();
  }
}
