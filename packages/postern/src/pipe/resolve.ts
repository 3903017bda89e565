import { type HostOverrides, parseDestination, type ResolvedHost, resolveHost } from '@postern/ssh';
import type { Config } from '../config/load.ts';
import { overridesOf } from '../daemon/hosts.ts';
import type { Surroundings } from '../paths.ts';
import type { PipeAsk } from './ask.ts';

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
