/** Rules between keys; each names the key that breaks it. */
import type { KeyPath } from './position.ts';
import type { ConfigFault, FileValues, ListenerValues } from './schema.ts';
import { formatListen, isLoopback, type ListenAddress } from './units.ts';

/** Listeners of a file with the path of their table. */
function listeners(values: FileValues): { path: KeyPath; table: ListenerValues }[] {
  const imap = (values.imap ?? []).map((table, index) => ({ path: ['imap', index], table }));
  return values.smtp === undefined ? imap : [...imap, { path: ['smtp'], table: values.smtp }];
}

/** Rules between values: what each alone may say, but not together. */
export function checkRules(values: FileValues): ConfigFault[] {
  return [
    ...listeners(values).flatMap(({ path, table }) => checkListener(path, table, values)),
    ...checkRoutes(values),
    ...checkForwards(values),
    ...checkAddresses(values),
  ];
}

function checkListener(path: KeyPath, table: ListenerValues, values: FileValues): ConfigFault[] {
  const faults: ConfigFault[] = [];
  const tls = (table.tls ?? 'off') !== 'off';
  for (const key of ['tls_certificate', 'tls_key'] as const) {
    if (table[key] === undefined) continue;
    if (!tls)
      faults.push({
        path: [...path, key],
        problem: 'is given but TLS is off',
        accepted: 'tls = "starttls" or "implicit"',
      });
    const other = key === 'tls_key' ? 'tls_certificate' : 'tls_key';
    if (table[other] === undefined) faults.push({ path: [...path, key], problem: `needs ${other} beside it` });
  }
  for (const [index, address] of (table.listen ?? []).entries()) {
    const problem = isLoopback(address) ? undefined : whyNotExposed(table, values);
    if (problem === undefined) continue;
    faults.push({
      path: [...path, 'listen', index],
      problem: `${formatListen(address)} is reachable from other machines, ${problem}`,
      accepted: 'a loopback address, or expose = true with tls on and [access] allow = ["password"]',
    });
  }
  return faults;
}

/** Why a listener may not leave loopback, or undefined when it may. */
export function whyNotExposed(table: ListenerValues, values: FileValues): string | undefined {
  if (table.expose !== true) return 'and the table does not say expose = true';
  if ((table.tls ?? 'off') === 'off') return 'and TLS is off';
  const allow = values.access?.allow ?? [];
  const only = allow.length === 1 && allow[0]?.type === 'password';
  return only ? undefined : 'and [access] allow is not exactly ["password"]';
}

function checkRoutes(values: FileValues): ConfigFault[] {
  return (values.route ?? []).flatMap((route, index) => {
    const faults: ConfigFault[] = [];
    const at = (key: string): KeyPath => ['route', index, key];
    if ((route.host === undefined) === (route.smarthost === undefined)) {
      const problem = route.host === undefined ? 'leads nowhere' : 'leads to two places';
      faults.push({ path: ['route', index], problem, accepted: 'either host or smarthost' });
    }
    for (const key of ['password_file', 'password_command'] as const) {
      if (route[key] !== undefined && route.smarthost === undefined) {
        faults.push({ path: at(key), problem: 'belongs to a smarthost, and this route has none' });
      }
    }
    const user = route.smarthost === undefined ? '' : new URL(route.smarthost).username;
    const secret = (['password_file', 'password_command'] as const).find((key) => route[key] !== undefined);
    if (user !== '' && secret === undefined) {
      const problem = 'names a user, and there is no password';
      faults.push({ path: at('smarthost'), problem, accepted: 'password_file or password_command beside it' });
    }
    if (route.smarthost !== undefined && user === '' && secret !== undefined) {
      const problem = 'is there, and the smarthost names no user';
      faults.push({ path: at(secret), problem, accepted: 'smarthost = "smtps://USER@HOST"' });
    }
    if (route.dialogue === 'bsmtp' && (route.smarthost !== undefined || route.queue === false)) {
      const problem =
        route.queue === false
          ? 'gives a client no reply, and queue = false promises one'
          : 'is for a batch reader behind a host, not for a smarthost';
      faults.push({ path: at('dialogue'), problem, accepted: '"auto", "stream", "pipelined", "lockstep"' });
    }
    if (route.queue === false && route.smarthost !== undefined) {
      const problem = 'cannot be had with a smarthost, only with a host';
      faults.push({ path: at('queue'), problem, accepted: 'true' });
    }
    if (route.password_file !== undefined && route.password_command !== undefined) {
      faults.push({
        path: at('password_command'),
        problem: 'is one password too many',
        accepted: 'one of password_file, password_command',
      });
    }
    return faults;
  });
}

function checkForwards(values: FileValues): ConfigFault[] {
  const faults: ConfigFault[] = [];
  for (const [index, forward] of (values.forward ?? []).entries()) {
    if (isLoopback(forward.listen) || forward.expose === true) continue;
    const problem = `${formatListen(forward.listen)} is reachable from other machines, and the table does not say expose = true`;
    faults.push({ path: ['forward', index, 'listen'], problem, accepted: 'a loopback address, or expose = true' });
  }
  const own = listeners(values).flatMap(({ table }) => table.listen ?? []);
  for (const [index, reverse] of (values.reverse ?? []).entries()) {
    if (!own.some((address) => leadsTo(reverse.to, address))) continue;
    const problem = `${reverse.to} is one of Postern's own listeners, which would let the far side in`;
    faults.push({ path: ['reverse', index, 'to'], problem, accepted: 'another address' });
  }
  return faults;
}

/** True when connecting to `to` reaches a listener at `address`. */
export function leadsTo(to: string, address: ListenAddress): boolean {
  if (address.type === 'unix') return to === `unix:${address.path}`;
  const [, host, port] = /^\[?([^\]]*?)\]?:(\d+)$/.exec(to) ?? [];
  if (Number(port) !== address.port) return false;
  return host === address.host || host === 'localhost' || /^127\.|^::1$|^0\.0\.0\.0$|^::$/.test(host ?? '');
}

/** No two listeners at one address. */
function checkAddresses(values: FileValues): ConfigFault[] {
  const places = [
    ...listeners(values).flatMap(({ path, table }) =>
      (table.listen ?? []).map((address, index) => ({ address, path: [...path, 'listen', index] as KeyPath })),
    ),
    ...(values.forward ?? []).map(({ listen }, index) => ({
      address: listen,
      path: ['forward', index, 'listen'] as KeyPath,
    })),
  ];
  const seen = new Set<string>();
  return places.flatMap(({ address, path }) => {
    if (address.type === 'tcp' && address.port === 0) return [];
    const text = formatListen(address);
    if (seen.has(text))
      return [{ path, problem: `${text} is taken by another listener of this file`, accepted: 'another address' }];
    seen.add(text);
    return [];
  });
}
