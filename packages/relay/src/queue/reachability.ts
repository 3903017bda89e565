/**
 * Whether a destination can be reached, and for how long it could be: what is known of its link, or of the last session
 * where there is none.
 */
import type { Env } from '@postern/core';
import type { HostCourier } from './context.ts';

/** What delivers to a destination now, whether it is reachable, and for how long it was. */
export class Reachability {
  /** What delivers; undefined while nothing does. */
  target: HostCourier | undefined;
  /** It is reachable, as far as is known. */
  up = true;
  /** How often it became unreachable. */
  outages = 0;
  /** When that last changed, monotonic ms. */
  since: number;
  readonly #env: Env;
  readonly #courier: () => HostCourier | undefined;
  readonly #on: { opened(): void; changed(): void };
  #uptime = 0;
  #watch: Disposable | undefined;

  /** `opened` is called when it is reachable again, whoever noticed; `changed` after every change of the link. */
  constructor(env: Env, courier: () => HostCourier | undefined, on: { opened(): void; changed(): void }) {
    this.#env = env;
    this.#courier = courier;
    this.#on = on;
    this.since = env.monotonicNow();
  }

  /** Milliseconds for which it was reachable. */
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

  /** Asks the link to dial now. Without one it counts as reachable until a session says otherwise. */
  wake(): void {
    this.look();
    if (this.target?.link === undefined) this.set(true);
    else this.target.link.wake('flush');
  }

  /** Notes that it is reachable, or not. */
  set(up: boolean): void {
    if (up === this.up) return;
    const now = this.#env.monotonicNow();
    if (this.up) this.#uptime += now - this.since;
    if (!up) this.outages++;
    this.since = now;
    this.up = up;
    if (up) this.#on.opened();
  }

  close(): void {
    this.#watch?.[Symbol.dispose]();
  }
}
