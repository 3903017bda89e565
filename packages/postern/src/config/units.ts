/** Durations, sizes, addresses and paths as the configuration writes them. */
import { isIPv4, isIPv6 } from 'node:net';
import { resolve } from 'node:path';

const MILLISECONDS: Readonly<Record<string, number>> = { ms: 1, s: 1000, m: 60_000, h: 3_600_000, d: 86_400_000 };
const OCTETS: Readonly<Record<string, number>> = { B: 1, KiB: 1024, MiB: 1024 ** 2, GiB: 1024 ** 3 };

/** Reads a duration, `5s 30m 5d` (also `ms` and `h`), into milliseconds. Throws `RangeError`. */
export function parseDuration(text: string): number {
  const [, count, unit] = /^(\d{1,9})(ms|s|m|h|d)$/.exec(text) ?? [];
  const factor = unit === undefined ? undefined : MILLISECONDS[unit];
  if (count === undefined || factor === undefined) throw new RangeError(`${JSON.stringify(text)} is not a duration`);
  return Number(count) * factor;
}

/** Reads a size, `64KiB 25MiB` (also `B` and `GiB`), into octets. Throws `RangeError`. */
export function parseSize(text: string): number {
  const [, count, unit] = /^(\d{1,9})(B|KiB|MiB|GiB)$/.exec(text) ?? [];
  const factor = unit === undefined ? undefined : OCTETS[unit];
  if (count === undefined || factor === undefined) throw new RangeError(`${JSON.stringify(text)} is not a size`);
  return Number(count) * factor;
}

/** Where a listener is. A relative `path` has been placed in the runtime directory already. */
export type ListenAddress =
  | { readonly type: 'tcp'; readonly host: string; readonly port: number }
  | { readonly type: 'unix'; readonly path: string };

/** What {@link parseListen} takes, for error messages. */
export const LISTEN_ACCEPTED = '"127.0.0.1:PORT", "[::1]:PORT", "localhost:PORT" or "unix:PATH"';

/**
 * Reads a listen address: `127.0.0.1:1143`, `[::1]:1143`, `localhost:1143`, `unix:imap.sock`. Port 0 lets the system choose.
 * `localhost` is 127.0.0.1. Relative Unix paths lie in `runtimeDir`. Throws `RangeError`.
 */
export function parseListen(text: string, o: { runtimeDir: string; home: string }): ListenAddress {
  const fail = (why: string): never => {
    throw new RangeError(`${JSON.stringify(text)} ${why}`);
  };
  if (text.startsWith('unix:')) {
    const path = text.slice('unix:'.length);
    if (path === '' || path.includes('\0') || path.endsWith('/')) fail('names no socket file');
    return { type: 'unix', path: expandPath(path, { base: o.runtimeDir, home: o.home }) };
  }
  const [, bracketed, plain, digits] = /^(?:\[([^\]]+)\]|([^:[\]]+)):(\d{1,5})$/.exec(text) ?? [];
  const name = bracketed ?? plain;
  if (name === undefined || digits === undefined) return fail('is not an address with a port');
  const port = Number(digits);
  if (port > 65535) fail('has a port above 65535');
  const host = name === 'localhost' ? '127.0.0.1' : name;
  if (bracketed === undefined ? !isIPv4(host) : !isIPv6(host)) fail('is not a numeric address');
  return { type: 'tcp', host, port };
}

/** A listen address as configuration writes it. */
export function formatListen(address: ListenAddress): string {
  if (address.type === 'unix') return `unix:${address.path}`;
  return address.host.includes(':') ? `[${address.host}]:${address.port}` : `${address.host}:${address.port}`;
}

/** True when only this machine can reach the address. */
export function isLoopback(address: ListenAddress): boolean {
  if (address.type === 'unix') return true;
  return /^127\.|^::1$|^::ffff:127\./i.test(address.host);
}

/** An absolute path: `~` is `home`, a relative path lies in `base`. Throws `RangeError` for `~user`. */
export function expandPath(path: string, o: { base: string; home: string }): string {
  if (path === '~' || path.startsWith('~/')) return resolve(o.home, `.${path.slice(1)}`);
  if (path.startsWith('~')) throw new RangeError(`${JSON.stringify(path)} names another user's home`);
  return resolve(o.base, path);
}
