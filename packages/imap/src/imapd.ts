/** The far imapd of one host: sessions on demand, and spares opened ahead. */
import {
  deadline,
  deferred,
  type Env,
  isLinkDown,
  type Link,
  LinkError,
  type LinkState,
  raceAbort,
} from '@postern/core';
import { ImapError } from './errors.ts';
import type { ImapEvent, OnImapEvent } from './event.ts';
import { endNoted } from './fence.ts';
import { type OpenNext, sessionOpener } from './finder.ts';
import {
  BURST_MEMORY_MS,
  BURST_MS,
  CARRIED_TOGETHER_MS,
  HEARD_MARGIN_MS,
  LINK_WAIT_MS,
  MAX_SPARE_RETRY_MS,
  MAX_SPARES,
  REFILL_DELAY_MS,
  SPARE_LIFE_MS,
} from './limits.ts';
import type { Session } from './session.ts';
import { Spare } from './spare.ts';

/** What {@link createImapd} needs. */
export interface ImapdOptions {
  readonly link: Link;
  /** The far command, or a target as configuration writes it. Absent: looked for, see `CANDIDATES`. */
  readonly command?: string;
  /** Sessions kept open ahead (default 1); 0 keeps none, ever. */
  readonly spare?: number;
  /** The link's keepalive, ms (default 5000): how fresh its last octet must be for a spare to be trusted. */
  readonly keepaliveMs?: number;
  readonly env: Env;
  readonly onEvent?: OnImapEvent;
  /** Sessions are noted over there, so that a lost one can be proven over before its client's commands are given again. */
  readonly noted?: boolean;
}

/** How it stands. */
export interface ImapdStatus {
  readonly spares: number;
  readonly opening: number;
  /** How many spares are wanted now. */
  readonly wanted: number;
}

/** A session and where it came from. */
export interface Taken {
  readonly session: Session;
  /** It was open already. */
  readonly spare: boolean;
}

/** A spare that is being opened; a login that finds none ready takes it over. */
interface Opening {
  readonly result: Promise<Session>;
  claimed: boolean;
}

/** Makes an {@link Imapd}. With spares it opens the first at once, so the link is dialled. Throws `RangeError` on a bad command. */
export function createImapd(o: ImapdOptions): Imapd {
  return new Imapd(o);
}

/** The far imapd of one host; share one among all its listeners. */
export class Imapd implements AsyncDisposable {
  readonly host: string;
  readonly #o: ImapdOptions;
  readonly #open: OpenNext;
  readonly #spares: Spare[] = [];
  readonly #openings = new Set<Opening>();
  readonly #closing = new AbortController();
  readonly #watch: Disposable;
  #timer: Disposable | undefined;
  #failures = 0;
  #carried = 0;
  /** Carried over and not told of yet. */
  #untold = { sessions: 0, ms: 0 };
  /** Age at which spares are replaced; shrinks when the far side hangs up sooner. */
  #lifeMs = SPARE_LIFE_MS;
  /** When the latest logins were, ms; and the largest number of them within `BURST_MS`. */
  #logins: number[] = [];
  #peak = { count: 0, at: 0 };

  /** See {@link createImapd}. */
  constructor(o: ImapdOptions) {
    this.#o = o;
    this.host = o.link.host;
    this.#open = sessionOpener({ ...o, onEvent: (event) => this.#emit(event) });
    this.#watch = o.link.watch((state) => this.#onLink(state));
    this.#fill();
  }

  /** How it stands now. */
  get status(): ImapdStatus {
    return { spares: this.#spares.length, opening: this.#openings.size, wanted: this.#wanted() };
  }

  /**
   * A session for one login: a spare, or a new one. Dials when the link is down and waits for it up to `LINK_WAIT_MS`. Rejects
   * with `LinkError` (test it with `isLinkDown`), `ImapError`, or `signal.reason`.
   */
  async take(o: { signal: AbortSignal }): Promise<Taken> {
    if (this.#closing.signal.aborted) throw new ImapError('closed', `${this.host} is no longer served`);
    o.signal.throwIfAborted();
    this.#countLogin();
    const spare = this.#takeSpare();
    if (spare !== undefined) {
      this.#refill(REFILL_DELAY_MS);
      return { session: spare.release(), spare: true };
    }
    if (this.#o.link.state.type !== 'up') this.#o.link.wake('login');
    using limit = deadline(this.#o.env, LINK_WAIT_MS, { parent: o.signal, reason: () => stillDown(this.#o.link) });
    const session = await this.#takeNew(limit.signal);
    this.#refill(REFILL_DELAY_MS);
    return { session, spare: false };
  }

  /** Sessions of clients that were carried over to a new far session, so far. */
  get carried(): number {
    return this.#carried;
  }

  /** How the link stands. */
  get link(): LinkState {
    return this.#o.link.state;
  }

  /** Somebody waits: the link is dialled now, whatever its back-off. */
  wake(): void {
    this.#o.link.wake('login');
  }

  /** Calls `listener` on every change of the link. */
  watch(listener: (state: LinkState) => void): Disposable {
    return this.#o.link.watch(listener);
  }

  /** Whether a session that was taken, and lost, is certainly over; ends it when it is not. Never rejects. */
  async fence(session: Session, o: { signal: AbortSignal }): Promise<boolean> {
    if (session.token === undefined) return false;
    return endNoted(this.#o.link, session.token, { env: this.#o.env, signal: o.signal });
  }

  /** A client's session stands anew, after `ms`. Those of one death are told as one event. */
  countCarried(ms: number): void {
    this.#carried++;
    if (this.#untold.sessions === 0) this.#o.env.schedule(CARRIED_TOGETHER_MS, () => this.#tellCarried());
    this.#untold = { sessions: this.#untold.sessions + 1, ms: Math.max(this.#untold.ms, ms) };
  }

  #tellCarried(): void {
    const told = this.#untold;
    this.#untold = { sessions: 0, ms: 0 };
    this.#emit({ type: 'carried', host: this.host, ...told });
  }

  /** Ends the spares; sessions that were taken go on. */
  async close(): Promise<void> {
    this.#closing.abort(new ImapError('closed', `${this.host} is no longer served`));
    this.#timer?.[Symbol.dispose]();
    this.#watch[Symbol.dispose]();
    await Promise.all(this.#spares.splice(0).map((spare) => spare.retire()));
    await Promise.allSettled([...this.#openings].map((opening) => opening.result));
  }

  /** As {@link Imapd.close}. */
  [Symbol.asyncDispose](): Promise<void> {
    return this.close();
  }

  #emit(event: ImapEvent): void {
    this.#o.onEvent?.(event);
  }

  /** The oldest spare that can be trusted without asking it. */
  #takeSpare(): Spare | undefined {
    if (!this.#linkIsFresh()) return undefined;
    const spare = this.#spares.find((candidate) => candidate.usable);
    if (spare === undefined) return undefined;
    this.#spares.splice(this.#spares.indexOf(spare), 1);
    this.#emit({ type: 'spare', host: this.host, what: 'taken' });
    return spare;
  }

  #linkIsFresh(): boolean {
    const { link, env, keepaliveMs = 5000 } = this.#o;
    if (link.state.type !== 'up') return false;
    return link.heardAt === undefined || env.monotonicNow() - link.heardAt <= keepaliveMs + HEARD_MARGIN_MS;
  }

  async #takeNew(signal: AbortSignal): Promise<Session> {
    const opening = [...this.#openings].find((candidate) => !candidate.claimed);
    if (opening !== undefined) {
      opening.claimed = true;
      const late = (session: Session): void => this.#keep(session);
      try {
        return await raceAbort(opening.result, signal, late);
      } catch (error) {
        // Ended with the spares: this one was wanted, and is opened for itself.
        const ended = this.#closing.signal.aborted;
        if (signal.aborted || !(ended || isLinkDown(error))) throw error;
      }
    }
    // The link may be lost under an open; it redials, and the second try waits for that.
    for (let tries = 3; ; tries--) {
      try {
        return await raceAbort(this.#open(signal), signal, (session) => this.#keep(session));
      } catch (error) {
        const lost = error instanceof LinkError && error.code === 'lost';
        if (!lost || signal.aborted || tries <= 1) throw error;
      }
    }
  }

  /** Puts a session among the spares, or ends it when there are enough. */
  #keep(session: Session): void {
    const spare = new Spare({
      session,
      env: this.#o.env,
      lifeMs: this.#lifeMs * (0.9 + 0.1 * this.#o.env.random()),
      onDead: (reason) => this.#onDead(spare, reason),
      onOld: () => this.#fill(),
    });
    if (this.#closing.signal.aborted || this.#fresh().length >= this.#wanted()) return void spare.retire();
    this.#spares.push(spare);
    this.#emit({ type: 'spare', host: this.host, what: 'ready' });
    this.#trim();
  }

  #onDead(spare: Spare, reason: string): void {
    const at = this.#spares.indexOf(spare);
    if (at >= 0) this.#spares.splice(at, 1);
    this.#emit({ type: 'spare', host: this.host, what: 'lost', reason });
    // The far side's patience is shorter than thought: renew sooner from now on.
    if (this.#o.link.state.type === 'up' && spare.ageMs > 10_000)
      this.#lifeMs = Math.min(this.#lifeMs, spare.ageMs * 0.8);
    else this.#failures++;
    this.#refill(this.#retryMs());
  }

  #onLink(state: LinkState): void {
    if (state.type === 'up') this.#failures = 0;
    if (state.type === 'up') this.#fill();
  }

  #fresh(): Spare[] {
    return this.#spares.filter((spare) => !spare.old);
  }

  #retryMs(): number {
    return Math.min(MAX_SPARE_RETRY_MS, 1000 * 2 ** Math.min(this.#failures, 10)) * (0.5 + this.#o.env.random() / 2);
  }

  #refill(delayMs: number): void {
    this.#timer?.[Symbol.dispose]();
    this.#timer = this.#o.env.schedule(delayMs, () => this.#fill());
  }

  /** Opens what is missing, ends what is too much. */
  #fill(): void {
    if (this.#closing.signal.aborted || this.#o.link.state.type === 'down') return;
    this.#trim();
    const unclaimed = [...this.#openings].filter((opening) => !opening.claimed).length;
    for (let missing = this.#wanted() - this.#fresh().length - unclaimed; missing > 0; missing--) this.#openSpare();
    const extra = this.#wanted() - (this.#o.spare ?? 1);
    if (extra > 0) this.#refill(Math.max(1000, this.#peak.at + BURST_MEMORY_MS - this.#o.env.monotonicNow()));
  }

  #trim(): void {
    const fresh = this.#fresh();
    const excess = fresh.slice(0, Math.max(0, fresh.length - this.#wanted()));
    const replaced = fresh.length >= this.#wanted() ? this.#spares.filter((spare) => spare.old) : [];
    for (const spare of [...excess, ...replaced]) {
      this.#spares.splice(this.#spares.indexOf(spare), 1);
      void spare.retire();
      this.#emit({ type: 'spare', host: this.host, what: 'retired' });
    }
  }

  #openSpare(): void {
    const result = deferred<Session>();
    const opening: Opening = { result: result.promise, claimed: false };
    this.#openings.add(opening);
    this.#open(this.#closing.signal).then(
      (session) => {
        this.#openings.delete(opening);
        this.#failures = 0;
        result.resolve(session);
        if (!opening.claimed) this.#keep(session);
      },
      (error: Error) => {
        this.#openings.delete(opening);
        result.promise.catch(() => {});
        result.reject(error);
        if (this.#closing.signal.aborted) return;
        this.#failures++;
        this.#emit({ type: 'spare', host: this.host, what: 'failed', reason: error.message });
        this.#refill(this.#retryMs());
      },
    );
  }

  #countLogin(): void {
    const now = this.#o.env.monotonicNow();
    this.#logins = [...this.#logins.filter((at) => now - at < BURST_MS), now].slice(-MAX_SPARES);
    if (this.#logins.length >= this.#peakNow()) this.#peak = { count: this.#logins.length, at: now };
  }

  #peakNow(): number {
    return this.#o.env.monotonicNow() - this.#peak.at < BURST_MEMORY_MS ? this.#peak.count : 0;
  }

  #wanted(): number {
    const base = this.#o.spare ?? 1;
    return base === 0 ? 0 : Math.max(base, Math.min(MAX_SPARES, this.#peakNow()));
  }
}

function stillDown(link: Link): LinkError {
  const { state } = link;
  const cause = state.type === 'down' ? state.error : undefined;
  const why = cause === undefined ? '' : `: ${cause.message}`;
  return new LinkError(`no link to ${link.host} within ${LINK_WAIT_MS / 1000} s${why}`, {
    code: 'timeout',
    layer: cause !== undefined && isLinkDown(cause) ? cause.layer : 'tcp',
    cause,
  });
}
