/** What a configuration and the words of `up` come to: listeners, hosts, routes. */
import type { Continuity } from '@postern/imap';
import type { LongLines } from '@postern/relay';
import { PosternError } from '../base/errors.ts';
import { type TlsFiles, tlsFiles } from '../tls/files.ts';
import type { Config } from './load.ts';
import { checkHostName, type ListenerValues, type RouteValues } from './schema.ts';
import { isLoopback, type ListenAddress } from './units.ts';

/** Where mail clients expect Postern when nothing is said. */
export const DEFAULT_LISTEN: { readonly imap: ListenAddress; readonly smtp: ListenAddress } = {
  imap: { type: 'tcp', host: '127.0.0.1', port: 1143 },
  smtp: { type: 'tcp', host: '127.0.0.1', port: 1025 },
};
/** Spare sessions when the file does not say. */
export const DEFAULT_SPARE = 1;
/** How long a client waits for a link that is down when the file does not say, milliseconds. */
export const DEFAULT_PATIENCE_MS: number = 15 * 60_000;
/** Largest message taken when the file does not say, octets. */
export const DEFAULT_MAX_SIZE: number = 100 * 1024 * 1024;

/** TLS of a table's TCP listeners; its Unix sockets are in plain. */
export interface TlsPlan {
  readonly mode: 'starttls' | 'implicit';
  readonly files: TlsFiles;
}

/** One IMAP endpoint to open. Without `host` the login name picks one. */
export interface ImapPlan {
  readonly listen: readonly ListenAddress[];
  readonly host?: string;
  readonly spare: number;
  /** Sessions outlive their link, for as long as a client waits for it; absent: the plain splice. */
  readonly continuity?: Continuity;
  readonly tls?: TlsPlan;
}

/** What `up` does: configuration and command line together. */
export interface Plan {
  /** Every host that may be dialled, in order of mention. */
  readonly hosts: readonly string[];
  readonly imap: readonly ImapPlan[];
  readonly smtp?: {
    readonly listen: readonly ListenAddress[];
    readonly maxSize: number;
    readonly longLines: LongLines;
    readonly tls?: TlsPlan;
  };
  readonly routes: readonly RouteValues[];
}

/**
 * Joins configuration and command line. HOSTs named there are added to the file's. With neither `[[imap]]` nor `[smtp]` in the file both
 * listen at their defaults; with one, only what is there. `--imap` and `--smtp` replace the addresses. With no `[[route]]`
 * everything goes to the first HOST. Throws {@link PosternError} `usage` when there is no host at all and none is needed for a smarthost, `config` when the
 * file leaves the way of mail open.
 */
export function planUp(
  config: Config,
  o: { hosts: readonly string[]; imap?: ListenAddress | undefined; smtp?: ListenAddress | undefined },
): Plan {
  checkArguments(o);
  const hosts = knownHosts(config, o.hosts);
  // A relay to a smarthost needs no ssh.
  const relayOnly = hosts.length === 0 && config.routes.length > 0 && config.imap.length === 0 && o.imap === undefined;
  if (hosts.length === 0 && !relayOnly) {
    throw new PosternError('usage', 'no host is named, neither on the command line nor in a configuration file', {
      fix: 'postern up HOST   where HOST is what you would give to ssh',
    });
  }
  const silent = config.imap.length === 0 && config.smtp === undefined;
  const smtp = config.smtp !== undefined || silent || o.smtp !== undefined;
  return {
    hosts,
    imap: !relayOnly && (silent || config.imap.length > 0 || o.imap !== undefined) ? planImap(config, hosts, o) : [],
    ...(smtp ? { smtp: planSmtp(config, o.smtp) } : {}),
    routes: smtp ? planRoutes(config, hosts, o.hosts) : config.routes,
  };
}

function checkArguments(o: Parameters<typeof planUp>[1]): void {
  for (const name of o.hosts) {
    try {
      checkHostName(name);
    } catch (error) {
      throw new PosternError('usage', (error as Error).message, { cause: error });
    }
  }
  for (const address of [o.imap, o.smtp]) {
    if (address !== undefined && !isLoopback(address)) {
      throw new PosternError(
        'usage',
        `${address.type === 'tcp' ? address.host : ''} is reachable from other machines`,
        {
          fix: 'use 127.0.0.1, or write a table with expose = true in the configuration file',
        },
      );
    }
  }
}

function planSmtp(config: Config, flag: ListenAddress | undefined): NonNullable<Plan['smtp']> {
  return {
    listen: flag === undefined ? (config.smtp?.listen ?? [DEFAULT_LISTEN.smtp]) : [flag],
    maxSize: config.smtp?.max_size ?? DEFAULT_MAX_SIZE,
    longLines: config.smtp?.long_lines ?? 'encode',
    ...planTls(config, config.smtp),
  };
}

function planTls({ stateDir }: Config, values: ListenerValues | undefined): { tls?: TlsPlan } {
  const mode = values?.tls ?? 'off';
  return mode === 'off' ? {} : { tls: { mode, files: tlsFiles(values, stateDir) } };
}

function knownHosts(config: Config, named: readonly string[]): string[] {
  const mentioned = [
    ...named,
    ...config.hosts.keys(),
    ...config.imap.map((table) => table.host),
    ...config.routes.map((route) => route.host),
    ...config.forwards.map((forward) => forward.host),
    ...config.reverses.map((reverse) => reverse.host),
  ];
  return [...new Set(mentioned.filter((name) => name !== undefined))];
}

function planImap(config: Config, hosts: readonly string[], o: Parameters<typeof planUp>[1]): ImapPlan[] {
  const tables = config.imap.filter(({ host }) => host === undefined || o.hosts.length === 0 || o.hosts.includes(host));
  const [only, ...others] = o.hosts.length > 0 ? o.hosts : hosts;
  const fallback = others.length === 0 && only !== undefined ? { host: only } : {};
  const plans = (tables.length === 0 ? [fallback] : tables).map((table: Config['imap'][number]): ImapPlan => {
    const { host, listen, spare, continuity, patience } = table;
    return {
      listen: listen ?? [DEFAULT_LISTEN.imap],
      spare: spare ?? DEFAULT_SPARE,
      ...(continuity === false ? {} : { continuity: { patienceMs: patience ?? DEFAULT_PATIENCE_MS } }),
      ...planTls(config, table),
      ...(host === undefined ? {} : { host }),
    };
  });
  const [first, ...rest] = plans;
  return o.imap === undefined || first === undefined ? plans : [{ ...first, listen: [o.imap] }, ...rest];
}

/** The routes as far as the file alone tells; none where that depends on the command line of `up`. */
export function routesOf(config: Config): readonly RouteValues[] {
  const [host, ...others] = knownHosts(config, []);
  const implied = config.routes.length === 0 && host !== undefined && others.length === 0;
  return implied ? [{ match: ['*'], host }] : config.routes;
}

function planRoutes(config: Config, hosts: readonly string[], named: readonly string[]): readonly RouteValues[] {
  if (config.routes.length > 0) return config.routes;
  const host = named[0] ?? (hosts.length === 1 ? hosts[0] : undefined);
  if (host !== undefined) return [{ match: ['*'], host }];
  throw new PosternError(
    'config',
    `${config.file ?? 'the configuration'} names several hosts and no [[route]] says which takes the mail`,
    {
      fix: `add to it:  [[route]]  match = ["*"]  host = "${hosts[0]}"`,
    },
  );
}
