/** A suspend, a late tick or a changed address is a reason to look at the link, never one to end it. */
import { networkInterfaces, uptime } from 'node:os';
import type { Env } from '@postern/core';

/** What may have happened to this machine, that a TCP connection does not notice. */
export type Disturbance =
  /** Its clock ran while it slept. */
  | 'suspended'
  /** This process was stopped, or too busy to look. */
  | 'stopped'
  /** Its network addresses are others. */
  | 'addresses';

/** What the system says of itself. */
export interface SystemView {
  /** Time since boot, ms, sleep included. */
  bootMs(): number;
  /** The addresses others may know this machine by, as one comparable text. */
  addresses(): string;
}

/** This machine. */
export const systemView: SystemView = {
  bootMs: () => uptime() * 1000,
  addresses: () =>
    Object.entries(networkInterfaces())
      .flatMap(([name, entries]) => (entries ?? []).map((entry) => ({ name, entry })))
      // Link-local addresses come and go with every virtual interface.
      .filter(({ entry }) => !entry.internal && !entry.address.startsWith('fe80'))
      .map(({ name, entry }) => `${name} ${entry.address}`)
      .sort()
      .join(),
};

/** How often the system is looked at, ms. */
export const VIGIL_MS = 1_000;
/** A difference of clocks that is no accident, ms. */
const GAP_MS = 2_000;

/** Calls `onDisturbance` for every {@link Disturbance}, within {@link VIGIL_MS} of it or of waking up. */
export function watchSystem(o: { env: Env; view: SystemView; onDisturbance: (what: Disturbance) => void }): Disposable {
  const { env, view } = o;
  const look = (): { at: number; boot: number; addresses: string } => ({
    at: env.monotonicNow(),
    boot: view.bootMs(),
    addresses: view.addresses(),
  });
  let before = look();
  const tick = (): void => {
    const now = look();
    const ran = now.at - before.at;
    const what = judge({ ran, slept: now.boot - before.boot - ran, moved: now.addresses !== before.addresses });
    before = now;
    timer = env.schedule(VIGIL_MS, tick);
    if (what !== undefined) o.onDisturbance(what);
  };
  let timer = env.schedule(VIGIL_MS, tick);
  return { [Symbol.dispose]: () => timer[Symbol.dispose]() };
}

/** `ran`: the monotonic clock, which stands still in a suspend; `slept`: how much further the boot clock went. */
function judge(o: { ran: number; slept: number; moved: boolean }): Disturbance | undefined {
  if (o.slept > GAP_MS) return 'suspended';
  if (o.moved) return 'addresses';
  return o.ran > VIGIL_MS + GAP_MS ? 'stopped' : undefined;
}
