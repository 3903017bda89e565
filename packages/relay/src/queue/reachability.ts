import type { Courier, Env, Link } from '@postern/core';

/** What delivers to a host. */
export interface HostCourier {
  /** Its name, for people and journals. */
  readonly host: string;
  readonly courier: Courier;
  /** The link the courier uses; absent for a plain smarthost. */
  readonly link?: Link;
}

/** The way to a lane's goal: what delivers there now, whether the way is open, and for how long it was. */
export class Way {
  /** What delivers; undefined while nothing does. */
  target: HostCourier | undefined;
  /** It is open, as far as is known. */
  up = true;
  /** How often it was closed. */
  downs = 0;
  /** When it was last opened or closed, monotonic ms. */
  since: number;
  readonly #env: Env;
  readonly #courier: () => HostCourier | undefined;
  readonly #on: { opened(): void; changed(): void };
  #uptime = 0;
  #watch: Disposable | undefined;

  /** `opened` is called when a closed way is open again, whoever noticed; `changed` after every change of the link. */
  constructor(env: Env, courier: () => HostCourier | undefined, on: { opened(): void; changed(): void }) {
    this.#env = env;
    this.#courier = courier;
    this.#on = on;
    this.since = env.monotonicNow();
  }

  /** Milliseconds for which it was open. */
  get uptime(): number {
    return this.#uptime + (this.up ? this.#env.monotonicNow() - this.since : 0);
  }

  /** Looks what delivers now, and at its link. */
  look(): void {
    const target = this.#courier();
    if (target?.link !== this.target?.link || target === undefined) {
      this.#watch?.[Symbol.dispose]();
      this.#watch = target?.link?.watch(() => {
        this.look();
        this.#on.changed();
      });
    }
    this.target = target;
    const state = target?.link?.state.type;
    if (state !== undefined) this.set(state === 'up' || state === 'idle');
  }

  /** Asks the link to dial now. Without one the way counts as open until a session says otherwise. */
  wake(): void {
    this.look();
    if (this.target?.link === undefined) this.set(true);
    else this.target.link.wake('flush');
  }

  /** Notes that it is open, or closed. */
  set(up: boolean): void {
    if (up === this.up) return;
    const now = this.#env.monotonicNow();
    if (this.up) this.#uptime += now - this.since;
    if (!up) this.downs++;
    this.since = now;
    this.up = up;
    if (up) this.#on.opened();
  }

  close(): void {
    this.#watch?.[Symbol.dispose]();
  }
}
