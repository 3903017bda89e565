/** What a name means is what `ssh -G` says, overridden by the configuration, and nothing is guessed. */
import { execFile } from 'node:child_process';
import { existsSync } from 'node:fs';
import { homedir, hostname as localHostname, userInfo } from 'node:os';
import { join } from 'node:path';
import { LinkError } from '@postern/core';
import { checkName, type Destination, parseDestination } from './destination.ts';
import { expandPath, expandTokens, type Tokens } from './expand.ts';
import type { HostOverrides, ResolvedHost } from './resolved-host.ts';
import { fileList, parseSshSettings, type SshSettings, setting } from './ssh-g.ts';

/** Where {@link resolveHost} looks. */
export interface ResolveOptions {
  /**
   * As `ssh -F`. Default: ssh's own choice, but where `home` is not the home directory of the passwd entry (which is what ssh
   * looks at), `$home/.ssh/config`.
   */
  readonly sshConfig?: string;
  /** What `~` means. Default `$HOME`. */
  readonly home?: string;
  /** The environment ssh would see: `SSH_AUTH_SOCK`, `PATH`, variables in ssh_config. Default the process's own. */
  readonly environment?: Readonly<NodeJS.ProcessEnv>;
  readonly overrides?: HostOverrides;
  /** Further options for `ssh -G`, in its own form: `['-o', 'HostKeyAlias=x', '-i', 'key']`. They hold for the host, not for its jumps. */
  readonly sshArgs?: readonly string[];
  readonly signal?: AbortSignal;
}

const DEFAULT_KEEPALIVE_MS = 5_000;
const DEFAULT_CONNECT_TIMEOUT_MS = 10_000;
/** Hosts on the way to a host; ProxyJump entries that name each other in a circle end here. */
const MAX_HOPS = 16;
/** Keywords whose presence only the system's ssh can honour. */
const OPENSSH_ONLY = ['certificatefile', 'pkcs11provider', 'knownhostscommand'] as const;

/**
 * Resolves a name to everything needed to connect, exactly as ssh would: through `ssh -G`, so that `Include`, `Match` and tokens
 * count. Where no ssh is installed, the overrides and ssh's defaults count alone. Rejects with a `LinkError` of code `config` when
 * the name or the configuration cannot be used. See ssh_config(5).
 */
export async function resolveHost(name: string, o: ResolveOptions = {}): Promise<ResolvedHost> {
  checkName('host name', name);
  const chain = await resolveChain(name, parseDestination(o.overrides?.destination ?? name), o, 0);
  const last = chain.at(-1) as ResolvedHost;
  return { ...last, jump: chain.slice(0, -1) };
}

/** The host preceded by the hosts on its way. Each hop has its own settings; only the destination has the overrides. */
async function resolveChain(
  name: string,
  destination: Destination,
  o: ResolveOptions,
  depth: number,
): Promise<ResolvedHost[]> {
  if (depth > MAX_HOPS) throw configError(`${name}: more than ${MAX_HOPS} jump hosts; does ProxyJump run in a circle?`);
  const { host, proxyJump } = await resolveOne(name, destination, o);
  const jumps = o.overrides?.jump ?? proxyJump;
  if (jumps.length === 0) return [host];
  const hops: ResolvedHost[] = [];
  for (const [index, hop] of jumps.entries()) {
    // As ssh does: the first hop may have a ProxyJump of its own, the later ones are reached through the one before.
    const overrides: HostOverrides = index === 0 ? {} : { jump: [] };
    const { overrides: _, sshArgs: _args, ...rest } = o;
    hops.push(...(await resolveChain(hop, parseDestination(hop), { ...rest, overrides }, depth + jumps.length)));
  }
  const { proxyCommand: _, ...direct } = host;
  return [...hops, direct];
}

async function resolveOne(
  name: string,
  destination: Destination,
  o: ResolveOptions,
): Promise<{ host: ResolvedHost; proxyJump: readonly string[] }> {
  const environment = o.environment ?? process.env;
  const home = o.home ?? environment.HOME ?? homedir();
  const passwd = userInfo();
  const sshConfig = o.sshConfig ?? (home === passwd.homedir ? undefined : configOf(home));
  const settings = await askSsh(destination, {
    sshConfig,
    sshArgs: o.sshArgs ?? [],
    ownJump: o.overrides?.jump === undefined,
    environment,
    signal: o.signal,
  });
  const user = destination.user ?? setting(settings, 'user') ?? passwd.username;
  const hostname = setting(settings, 'hostname') ?? destination.hostname;
  const port = destination.port ?? Number(setting(settings, 'port') ?? 22);
  const hostKeyAlias = setting(settings, 'hostkeyalias');
  checkName('host name', hostname);
  checkName('user name', user);
  const tokens: Tokens = {
    home,
    hostname,
    original: destination.hostname,
    port,
    user,
    localUser: passwd.username,
    localHost: localHostname(),
    uid: passwd.uid,
    hostKeyAlias,
  };
  const host = hostOf(name, {
    settings,
    tokens,
    sshConfig,
    overrides: o.overrides ?? {},
    path: (text) => rehome(expandPath(text, tokens, environment), passwd.homedir, home),
    agent: (path) => agentSocket(settings, environment, path),
  });
  return { host, proxyJump: (setting(settings, 'proxyjump') ?? '').split(',').filter((hop) => hop !== '') };
}

/** What ssh says of a host, with the configuration's word above it. */
function hostOf(
  name: string,
  o: {
    readonly settings: SshSettings;
    readonly tokens: Tokens;
    readonly sshConfig: string | undefined;
    readonly overrides: HostOverrides;
    /** A path of the settings as one of this machine. */
    readonly path: (text: string) => string;
    readonly agent: (path: (text: string) => string) => string | undefined;
  },
): ResolvedHost {
  const { settings, tokens, sshConfig, overrides: over, path } = o;
  const { hostname, port, user, hostKeyAlias, original } = tokens;
  const agent = o.agent(path);
  const proxyCommand = setting(settings, 'proxycommand');
  const family = { inet: 4, inet6: 6 }[setting(settings, 'addressfamily') ?? ''] as 4 | 6 | undefined;
  const revoked = setting(settings, 'revokedhostkeys');
  const bindAddress = setting(settings, 'bindaddress');
  return {
    host: name,
    original,
    hostname,
    port,
    user,
    identityFiles: (over.identity ?? settings.get('identityfile') ?? DEFAULT_IDENTITIES).map(path).filter(isFile),
    certificateFiles: (settings.get('certificatefile') ?? []).map(path).filter(isFile),
    identitiesOnly: setting(settings, 'identitiesonly') === 'yes',
    userKnownHostsFiles: (over.knownHosts ?? knownHostsFiles(settings, 'user')).map(path),
    globalKnownHostsFiles: over.knownHosts === undefined ? knownHostsFiles(settings, 'global').map(path) : [],
    hashKnownHosts: setting(settings, 'hashknownhosts') === 'yes',
    jump: [],
    compression: over.compression ?? setting(settings, 'compression') === 'yes',
    keepaliveMs: over.keepaliveMs ?? DEFAULT_KEEPALIVE_MS,
    connectTimeoutMs: Number(setting(settings, 'connecttimeout') ?? 0) * 1000 || DEFAULT_CONNECT_TIMEOUT_MS,
    backend: over.backend ?? 'auto',
    needsOpenssh: needsOpenssh(settings),
    ...(agent === undefined ? {} : { identityAgent: agent }),
    ...(over.passphraseCommand === undefined ? {} : { passphraseCommand: over.passphraseCommand }),
    ...(hostKeyAlias === undefined ? {} : { hostKeyAlias }),
    ...(revoked === undefined ? {} : { revokedHostKeys: path(revoked) }),
    ...(proxyCommand === undefined ? {} : { proxyCommand: expandTokens(proxyCommand, tokens) }),
    ...(family === undefined ? {} : { family }),
    ...(bindAddress === undefined ? {} : { bindAddress }),
    ...(sshConfig === undefined ? {} : { sshConfig }),
  };
}

const DEFAULT_IDENTITIES: readonly string[] = ['~/.ssh/id_rsa', '~/.ssh/id_ecdsa', '~/.ssh/id_ed25519'];
const DEFAULT_KNOWN_HOSTS = {
  user: ['~/.ssh/known_hosts', '~/.ssh/known_hosts2'],
  global: ['/etc/ssh/ssh_known_hosts', '/etc/ssh/ssh_known_hosts2'],
} as const;

/** What to give as `-F` for a home ssh itself would not look into. */
function configOf(home: string): string {
  const file = join(home, '.ssh/config');
  return existsSync(file) ? file : 'none';
}

const isFile = (path: string): boolean => path.toLowerCase() !== 'none';

function knownHostsFiles(settings: SshSettings, whose: 'user' | 'global'): readonly string[] {
  return settings.size === 0 ? DEFAULT_KNOWN_HOSTS[whose] : fileList(settings, `${whose}knownhostsfile`);
}

/** `ssh -G` prints some paths with `~` expanded from passwd; `~` means `$HOME` here. */
function rehome(path: string, passwdHome: string, home: string): string {
  if (path.startsWith(`${home}/`) || !path.startsWith(`${passwdHome}/`)) return path;
  return home + path.slice(passwdHome.length);
}

function agentSocket(
  settings: SshSettings,
  environment: Readonly<NodeJS.ProcessEnv>,
  path: (text: string) => string,
): string | undefined {
  const given = settings.get('identityagent')?.[0];
  if (given?.toLowerCase() === 'none') return undefined;
  if (given === undefined || given === 'SSH_AUTH_SOCK') return environment.SSH_AUTH_SOCK || undefined;
  return given.startsWith('$') && !given.startsWith('${') ? environment[given.slice(1)] || undefined : path(given);
}

function needsOpenssh(settings: SshSettings): string[] {
  const set = OPENSSH_ONLY.filter((keyword) => setting(settings, keyword) !== undefined);
  const fdpass = setting(settings, 'proxyusefdpass') === 'yes' ? ['proxyusefdpass'] : [];
  return [...set, ...fdpass];
}

/** Runs `ssh -G`; an empty map when there is no ssh here. */
function askSsh(
  destination: Destination,
  o: {
    sshConfig: string | undefined;
    sshArgs: readonly string[];
    ownJump: boolean;
    environment: Readonly<NodeJS.ProcessEnv>;
    signal: AbortSignal | undefined;
  },
): Promise<SshSettings> {
  const argv = [
    '-G',
    // ForkAfterAuthentication asks for a command, or for none on purpose; nothing is run here.
    '-N',
    ...(o.sshConfig === undefined ? [] : ['-F', o.sshConfig]),
    // A ProxyJump that is not used must not be judged either: ssh refuses one that names the host itself.
    ...(o.ownJump ? [] : ['-o', 'ProxyJump=none']),
    ...(destination.user === undefined ? [] : ['-l', destination.user]),
    ...(destination.port === undefined ? [] : ['-p', String(destination.port)]),
    ...o.sshArgs,
    '--',
    destination.hostname,
  ];
  return new Promise((resolve, reject) => {
    const child = execFile('ssh', argv, { env: { ...o.environment }, signal: o.signal }, (error, stdout, stderr) => {
      if (error === null) return resolve(parseSshSettings(stdout));
      if (o.signal?.aborted) return reject(o.signal.reason);
      if ((error as NodeJS.ErrnoException).code === 'ENOENT') return resolve(new Map());
      reject(configError(`ssh cannot resolve ${destination.hostname}: ${stderr.trim() || error.message}`, error));
    });
    child.stdin?.end();
  });
}

function configError(message: string, cause?: unknown): LinkError {
  return new LinkError(message, { code: 'config', layer: 'dns', cause });
}
