/** One link per host: this file alone makes and closes them. */
import { isDeepStrictEqual } from 'node:util';
import type { Env, Target } from '@postern/core';
import { type Continuity, createImapd, type Imapd, type OnImapEvent } from '@postern/imap';
import { createLink, type HostLink, type OnLinkEvent, type ResolvedHost } from '@postern/ssh';
import { smtpTarget } from '../config/host.ts';
import type { Config } from '../config/load.ts';
import type { Plan } from '../config/plan.ts';
import type { HostValues } from '../config/schema.ts';

/** A host with its one link and what lies behind it. Other settings make another one, with the same link. */
export interface Host {
  readonly name: string;
  readonly resolved: ResolvedHost;
  readonly values: HostValues | undefined;
  readonly spare: number;
  /** How sessions that lead there outlive the link; absent where none does. */
  readonly continuity: Continuity | undefined;
  readonly link: HostLink;
  readonly imapd: Imapd;
  /** What speaks SMTP over there. */
  readonly smtp: Target;
}

/** What hosts are made with. */
export interface HostContext {
  readonly env: Env;
  readonly onLinkEvent: OnLinkEvent;
  readonly onImapEvent: OnImapEvent;
}

/** The hosts of a daemon by their names. */
export class Hosts {
  readonly #c: HostContext;
  readonly #hosts = new Map<string, Host>();
  /** Of hosts that are wanted no more; they serve what still runs. */
  readonly #retiring = new Set<HostLink>();

  constructor(c: HostContext) {
    this.#c = c;
  }

  get(name: string): Host | undefined {
    return this.#hosts.get(name);
  }

  /** In the order they were first named. */
  get all(): readonly Host[] {
    return [...this.#hosts.values()];
  }

  /**
   * Takes these hosts and no others. What runs goes on: changed settings count for new connections, a host that is gone closes with its last channel. A new host's
   * link is dialled as soon as something wants it, which a spare does at once.
   */
  set(resolved: readonly ResolvedHost[], { config, plan }: { config: Config; plan: Plan }): void {
    const names = new Set(resolved.map(({ host }) => host));
    for (const host of this.all) if (!names.has(host.name)) this.#retire(host);
    for (const one of resolved) {
      const settings = {
        resolved: one,
        values: config.hosts.get(one.host),
        spare: spareOf(plan, one.host),
        continuity: continuityOf(plan, one.host),
      };
      const known = this.#hosts.get(one.host);
      if (known === undefined) {
        const link = createLink(one, { env: this.#c.env, onEvent: this.#c.onLinkEvent });
        this.#hosts.set(one.host, this.#make(link, settings));
        continue;
      }
      const { resolved: before, values, spare, continuity, link } = known;
      if (isDeepStrictEqual({ resolved: before, values, spare, continuity }, settings)) continue;
      // Spares would keep the old connection.
      void known.imapd.close();
      if (!isDeepStrictEqual(before, one)) link.redirect(one);
      this.#hosts.set(one.host, this.#make(link, settings));
    }
  }

  #make(link: HostLink, settings: Pick<Host, 'resolved' | 'values' | 'spare' | 'continuity'>): Host {
    const { resolved, values, spare, continuity } = settings;
    const imapd = createImapd({
      ...{ link, spare, keepaliveMs: resolved.keepaliveMs },
      env: this.#c.env,
      onEvent: this.#c.onImapEvent,
      noted: continuity !== undefined,
      ...(values?.imapd === undefined ? {} : { command: values.imapd }),
    });
    return { name: resolved.host, ...settings, link, imapd, smtp: smtpTarget(values) };
  }

  #retire({ name, imapd, link }: Host): void {
    this.#hosts.delete(name);
    this.#retiring.add(link);
    void imapd
      .close()
      .then(() => link.retire())
      .then(() => this.#retiring.delete(link));
  }

  /** Ends the spares, and the links that are not up: what waits for those waits in vain, and nothing of it was sent. */
  async drain(): Promise<void> {
    await Promise.all(
      this.all.map(async ({ imapd, link }) => {
        await imapd.close();
        if (link.state.type !== 'up') await link.close();
      }),
    );
  }

  /** Ends everything. */
  async close(): Promise<void> {
    await Promise.all(this.all.map(({ imapd }) => imapd.close()));
    await Promise.all([...this.all.map(({ link }) => link), ...this.#retiring].map((link) => link.close()));
  }
}

/** Spare sessions of a host: the most any endpoint that leads to it wants. */
function spareOf(plan: Plan, host: string): number {
  const leading = plan.imap.filter((endpoint) => endpoint.host === undefined || endpoint.host === host);
  return Math.max(0, ...leading.map((endpoint) => endpoint.spare));
}

/** The most patience any endpoint that leads to a host has. */
function continuityOf(plan: Plan, host: string): Continuity | undefined {
  const leading = plan.imap.filter((endpoint) => endpoint.host === undefined || endpoint.host === host);
  const patient = leading.flatMap(({ continuity }) => (continuity === undefined ? [] : [continuity.patienceMs ?? 0]));
  return patient.length === 0 ? undefined : { patienceMs: Math.max(...patient) };
}
