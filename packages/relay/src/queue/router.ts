import type { EntryId, EntryState, ForwardPath } from '@postern/core';
import { type Route, routeKey } from '../route/routes.ts';
import { openRecipients, type QueueContext } from './context.ts';
import { Lane, type LaneContext } from './destination.ts';

/** Why an entry waits, for people. */
export interface Waiting {
  /** Wall clock, ms, of the next try; absent while that depends on a link, a route or a person. */
  readonly next?: number;
  readonly reason: string;
  /** A courier has it. */
  readonly active: boolean;
  /** The route of each recipient now. */
  readonly recipients: readonly { readonly to: ForwardPath; readonly route?: number; readonly host?: string }[];
}

/** Which lanes an entry waits in: one for each route that takes a recipient still to be tried. */
export class Placement {
  readonly lanes: Map<string, Lane> = new Map();
  readonly #c: QueueContext;
  readonly #laneContext: LaneContext;
  readonly #noRoute = new Set<EntryId>();
  readonly #withheld = new Set<EntryId>();
  #closed = false;

  constructor(c: QueueContext, laneContext: LaneContext) {
    this.#c = c;
    this.#laneContext = laneContext;
  }

  /** Puts an entry into the lanes of its open recipients. */
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
        this.#lane(route).add(state.id, state.elapsed);
      }
    }
    if (lost.length === 0) this.#noRoute.delete(state.id);
    else if (!this.#noRoute.has(state.id)) {
      this.#noRoute.add(state.id);
      this.#c.onEvent({ type: 'no-route', id: state.id, to: lost });
    }
  }

  /** The open recipients of an entry that go through a lane now. */
  through(lane: Lane, state: EntryState): ForwardPath[] {
    const routes = this.#c.routes();
    return openRecipients(state).filter((to) => {
      const route = routes.take(to, state.envelope.from)?.route;
      return route !== undefined && routeKey(route) === lane.key;
    });
  }

  #lane(route: Route): Lane {
    const key = routeKey(route);
    let lane = this.lanes.get(key);
    if (lane === undefined) {
      lane = new Lane(this.#laneContext, key, route);
      this.lanes.set(key, lane);
    }
    return lane;
  }

  /** Keeps an entry, which may not have come yet, out of every lane. */
  withhold(id: EntryId): void {
    this.#withheld.add(id);
  }

  /** Puts in what was withheld. */
  release(id: EntryId): void {
    this.#withheld.delete(id);
    const state = this.#c.spool.get(id);
    if (state !== undefined && !state.held) this.place(state);
  }

  /** Takes an entry out of every lane. */
  takeOut(id: EntryId): void {
    this.#noRoute.delete(id);
    for (const lane of this.lanes.values()) {
      lane.withdraw(({ item }) => item.id === id);
      const item = lane.items.get(id);
      if (item !== undefined) lane.drop(item);
    }
  }

  /** The routes changed: what has none is told again, and what waits with a courier for another's link is taken back. */
  forgetRoutes(): void {
    this.#noRoute.clear();
    for (const lane of this.lanes.values()) {
      lane.withdraw(({ item, recipients }) => {
        const state = this.#c.spool.get(item.id);
        const here = new Set(state === undefined ? [] : this.through(lane, state));
        return [...recipients].some((to) => !here.has(to));
      });
    }
  }

  /** Makes an entry, a host's entries, or all due, and wakes the links concerned. False when there is no such host. */
  flush(o: { id?: EntryId; host?: string } = {}): boolean {
    const concerned = [...this.lanes.values()].filter(
      (lane) => (o.id === undefined || lane.items.has(o.id)) && (o.host === undefined || lane.host === o.host),
    );
    for (const lane of concerned) {
      lane.wake();
      lane.flush(o.id);
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
      return { to, ...(taken === undefined ? {} : { route: taken.index }), ...(host === undefined ? {} : { host }) };
    });
    if (state.held) return { reason: state.reason, active: false, recipients };
    const here = [...this.lanes.values()].flatMap((lane) => {
      const item = lane.items.get(id);
      return item === undefined ? [] : [{ lane, item, next: lane.nextTry(item) }];
    });
    const times = here.flatMap(({ next }) => (next === undefined ? [] : [next]));
    const toWall = this.#c.env.wallNow() - this.#c.env.monotonicNow();
    const lost = this.#noRoute.has(id) ? 'no route takes a recipient' : '';
    const reason = here.map(({ lane }) => lane.reason).find((text) => text !== '') ?? (state.reason || lost);
    return {
      reason: reason || lost,
      active: here.some(({ item }) => item.busy),
      recipients,
      ...(times.length === 0 ? {} : { next: toWall + Math.min(...times) }),
    };
  }

  /** Takes nothing more, starts nothing more. */
  close(): void {
    this.#closed = true;
    for (const lane of this.lanes.values()) lane.close();
  }
}
