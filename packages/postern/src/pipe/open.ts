/** What was asked of a pipe: the host as ssh would resolve it, and its channel. */
import { type Channel, deadline, type Env, type Link, LinkError, type Target, withoutCompress } from '@postern/core';
import { type Continuity, carriedChannel, type Imapd } from '@postern/imap';
import { type HostOverrides, parseDestination, type ResolvedHost, resolveHost } from '@postern/ssh';
import type { Surroundings } from '../base/paths.ts';
import { overridesOf } from '../config/host.ts';
import type { Config } from '../config/load.ts';
import type { PipeAsk, Want } from './request.ts';

/** How long a link that is down is waited for when nothing else is said, milliseconds; the same as for a login. */
export const LINK_WAIT_MS = 20_000;

/** What a channel is opened with. */
export interface OpenOptions {
  readonly env: Env;
  readonly signal: AbortSignal;
  readonly waitMs: number;
}

/** Opens what is wanted of a host. Rejects with `LinkError`, `ImapError` or the signal's reason. */
export async function openWant(
  want: Want,
  host: {
    readonly link: Link;
    readonly imapd: Imapd;
    readonly smtp: Target;
    readonly continuity?: Continuity | undefined;
  },
  o: OpenOptions,
): Promise<Channel> {
  if (want.type !== 'imap') return openWithin(host.link, want.type === 'smtp' ? host.smtp : want.target, o);
  const { session } = await host.imapd.take({ signal: o.signal });
  const { imapd, continuity } = host;
  if (continuity === undefined) {
    session.channel.stream.unshift(session.greeting);
    return session.channel;
  }
  const channel = carriedChannel(session, { ...continuity, imapd, env: o.env });
  channel.stream.unshift(withoutCompress(session.greeting));
  return channel;
}

/** Opens a channel, dialling at once when the link is down, and gives up after `waitMs`. */
async function openWithin(link: Link, target: Target, o: OpenOptions): Promise<Channel> {
  if (link.state.type === 'down') link.wake('login');
  using limit = deadline(o.env, o.waitMs, { parent: o.signal, reason: () => stillDown(link, o.waitMs) });
  return await link.open(target, { signal: limit.signal });
}

function stillDown(link: Link, waitMs: number): LinkError {
  const { state } = link;
  if (state.type === 'down') return state.error;
  const message = `no channel on the link to ${link.host} within ${waitMs / 1000} s`;
  return new LinkError(message, { code: 'timeout', layer: 'channel' });
}

/** Options of ssh that must win over the same setting in our own configuration. */
const WINS: Readonly<Record<string, keyof HostOverrides>> = {
  identityfile: 'identity',
  proxyjump: 'jump',
  proxycommand: 'jump',
  userknownhostsfile: 'knownHosts',
};

/** The host that is asked for, with all that was asked. Rejects with `LinkError` `config`. */
export function resolveAsked(ask: PipeAsk, config: Config, s: Surroundings): Promise<ResolvedHost> {
  const overrides: Record<string, unknown> = { ...overridesOf(config.hosts.get(ask.host)) };
  for (const word of ask.sshArgs ?? []) {
    const keyword = /^([a-z0-9]+)/i.exec(word)?.[1]?.toLowerCase();
    if (keyword !== undefined && Object.hasOwn(WINS, keyword)) delete overrides[WINS[keyword] as string];
  }
  if (ask.user !== undefined || ask.port !== undefined) {
    const base = parseDestination(String(overrides.destination ?? bracketed(ask.host)));
    overrides.destination = destination({ ...base, ...defined({ user: ask.user, port: ask.port }) });
  }
  const sshConfig = ask.configFile ?? config.sshConfig;
  return resolveHost(ask.host, {
    home: s.home,
    environment: s.env,
    overrides: overrides as HostOverrides,
    sshArgs: ask.sshArgs ?? [],
    ...(sshConfig === undefined ? {} : { sshConfig }),
  });
}

function bracketed(host: string): string {
  return host.includes(':') ? `[${host}]` : host;
}

function destination({ user, hostname, port }: { user?: string; hostname: string; port?: number }): string {
  return `${user === undefined ? '' : `${user}@`}${bracketed(hostname)}${port === undefined ? '' : `:${port}`}`;
}

function defined<T extends object>(value: T): { [K in keyof T]?: NonNullable<T[K]> } {
  return Object.fromEntries(Object.entries(value).filter(([, field]) => field !== undefined)) as never;
}

/** True when two resolutions lead to the same account over the same way with the same checks, so that one link serves both. */
export function sameWay(a: ResolvedHost, b: ResolvedHost): boolean {
  return JSON.stringify(wayOf(a)) === JSON.stringify(wayOf(b));
}

function wayOf(host: ResolvedHost): unknown {
  const { hostname, port, user, identityFiles, identitiesOnly, identityAgent, hostKeyAlias, proxyCommand } = host;
  const { userKnownHostsFiles, globalKnownHostsFiles, revokedHostKeys, family, bindAddress, jump } = host;
  return [
    ...[hostname, port, user, identityFiles, identitiesOnly, identityAgent, hostKeyAlias, proxyCommand],
    ...[userKnownHostsFiles, globalKnownHostsFiles, revokedHostKeys, family, bindAddress, jump.map(wayOf)],
  ];
}
