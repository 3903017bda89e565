/** Listeners change all at once or not at all: bound first, then put in place. */
import { isDeepStrictEqual } from 'node:util';
import type { ListenAddress } from '../config/units.ts';
import type { BoundListener } from '../net/listen.ts';

/** What serves those who come in at one listener. */
export interface Service {
  /** Open now. */
  readonly sessions: number;
  /** Takes nobody new; who is there stays. */
  stop(): void;
  /** Ends all. */
  close(): Promise<void>;
}

/** A listener that is wanted. */
export interface Wanted<S> {
  readonly address: ListenAddress;
  /** A bound socket handed over by the service manager. */
  readonly fd?: number | undefined;
  /** What it serves; another one at the same address takes over from the old. */
  readonly spec: S;
  /** Begins to serve. */
  serve(listener: BoundListener): Service;
}

interface Open<S> {
  readonly wanted: Wanted<S>;
  readonly listener: BoundListener;
  readonly service: Service;
}

/** A change of a {@link ListenerTable} whose addresses are bound. Take one of the two ways. */
export interface Change {
  /** Where it will listen. */
  readonly bound: readonly ListenAddress[];
  commit(): void;
  abort(): void;
}

/** The listeners of one kind. They may be changed while they serve: no session is ended by that. */
export class ListenerTable<S> {
  readonly #bind: (wanted: Wanted<S>) => Promise<BoundListener>;
  #open: readonly Open<S>[] = [];
  /** Serve those who came before a change. */
  #retired: readonly Service[] = [];

  constructor(bind: (wanted: Wanted<S>) => Promise<BoundListener>) {
    this.#bind = bind;
  }

  /** In the order they are wanted. */
  get open(): readonly Open<S>[] {
    return this.#open;
  }

  /** True addresses. */
  get addresses(): readonly string[] {
    return this.#open.map(({ listener }) => listener.address);
  }

  get sessions(): number {
    return this.#services().reduce((sum, { sessions }) => sum + sessions, 0);
  }

  #services(): Service[] {
    this.#retired = this.#retired.filter(({ sessions }) => sessions > 0);
    return [...this.#open.map(({ service }) => service), ...this.#retired];
  }

  /** Binds what is wanted and not there. Rejects as `bindListener`, with nothing changed. */
  async prepare(wanted: readonly Wanted<S>[]): Promise<Change> {
    const left = [...this.#open];
    const fresh: BoundListener[] = [];
    const places: { readonly wanted: Wanted<S>; readonly from: Open<S> | BoundListener }[] = [];
    const abort = (): void => {
      for (const listener of fresh) listener.server.close();
    };
    try {
      for (const one of wanted) {
        const at = left.findIndex((open) => isDeepStrictEqual(open.wanted.address, one.address));
        const [known] = at < 0 ? [] : left.splice(at, 1);
        if (known === undefined) fresh.push(await this.#bind(one));
        places.push({ wanted: one, from: known ?? (fresh.at(-1) as BoundListener) });
      }
    } catch (error) {
      abort();
      throw error;
    }
    return {
      bound: places.map(({ from }) => ('listener' in from ? from.listener : from).bound),
      abort,
      commit: () => {
        for (const { listener, service } of left) {
          listener.server.close();
          this.#retire(service);
        }
        this.#open = places.map(({ wanted: one, from }) => this.#serve(one, from));
      },
    };
  }

  #serve(wanted: Wanted<S>, from: Open<S> | BoundListener): Open<S> {
    if (!('listener' in from)) {
      const service = wanted.serve(from);
      from.release();
      return { wanted, listener: from, service };
    }
    if (isDeepStrictEqual(from.wanted.spec, wanted.spec)) return from;
    this.#retire(from.service);
    return { wanted, listener: from.listener, service: wanted.serve(from.listener) };
  }

  #retire(service: Service): void {
    service.stop();
    this.#retired = [...this.#retired, service];
  }

  /** Listens no more; who is there stays. */
  stop(): void {
    for (const { listener, service } of this.#open) {
      listener.server.close();
      service.stop();
    }
  }

  /** Ends all. */
  async close(): Promise<void> {
    this.stop();
    await Promise.all(this.#services().map((service) => service.close()));
  }
}
