/** Where a person wants to go, and which names may stand in a command line. */
import { LinkError } from '@postern/core';

/** Where a person wants to go: `[user@]host[:port]`, `ssh://[user@]host[:port]`, IPv6 addresses in brackets before a port. */
export interface Destination {
  readonly user?: string;
  readonly hostname: string;
  readonly port?: number;
}

/** What ssh and a shell may see of a user name, as OpenSSH 9.6 checks it: `CORP\me` is one, a backslash at the end is not. */
const SAFE_USER = /^(?!-)(?!.*\s-)(?!.*\\$)[^'"`$;&<>|(){}\u0000-\u001f\u007f]+$/;
/** The same of a host name: no leading `-`, no spaces, quotes or shell characters. */
const SAFE_NAME = /^[^-\s'"`$\\;&<>|(){}\u0000-\u0020\u007f][^\s'"`$\\;&<>|(){}\u0000-\u0020\u007f]*$/;

/**
 * Reads a destination. Throws a `LinkError` with code `config` when it cannot be one, or when a part starts with `-` and ssh would
 * take it for an option.
 */
export function parseDestination(text: string): Destination {
  const bare = text.replace(/^ssh:\/\//, '').replace(/\/$/, '');
  const at = bare.lastIndexOf('@');
  const user = at === -1 ? undefined : bare.slice(0, at);
  const rest = at === -1 ? bare : bare.slice(at + 1);
  const isBareV6 = !rest.startsWith('[') && rest.indexOf(':') !== rest.lastIndexOf(':');
  const [, bracketed, plain, digits] = isBareV6 ? [] : (/^(?:\[([^\]]+)\]|([^:]+))(?::(\d+))?$/.exec(rest) ?? []);
  const hostname = isBareV6 ? rest : (bracketed ?? plain ?? '');
  const port = digits === undefined ? undefined : Number(digits);
  checkName('host name', hostname);
  if (user !== undefined) checkName('user name', user);
  if (port !== undefined && (port < 1 || port > 65535)) throw unusable(`port ${port} is not from 1 to 65535`);
  return { hostname, ...(user === undefined ? {} : { user }), ...(port === undefined ? {} : { port }) };
}

/** Throws a `LinkError` `config` unless the name is safe as an argument of ssh. */
export function checkName(what: 'host name' | 'user name', name: string): void {
  const safe = what === 'user name' ? SAFE_USER : SAFE_NAME;
  if (!safe.test(name)) throw unusable(`${JSON.stringify(name)} cannot be a ${what}`);
}

function unusable(message: string): LinkError {
  return new LinkError(message, { code: 'config', layer: 'dns' });
}

/** `host` or `[host]:port`, as messages and known_hosts write it. */
export function formatAddress(hostname: string, port: number): string {
  return port === 22 ? hostname : `[${hostname}]:${port}`;
}
