/** `[host.NAME]` as the link and the courier take it. */
import { LinkError, parseTarget, type Target } from '@postern/core';
import { type HostOverrides, type ResolvedHost, resolveHost } from '@postern/ssh';
import { PosternError } from '../base/errors.ts';
import type { Surroundings } from '../base/paths.ts';
import type { Config } from './load.ts';
import type { HostValues } from './schema.ts';

/**
 * What speaks SMTP on a host whose configuration does not say: the first there is of these, all on the far side's own loopback. Holds no `!`,
 * backslash or newline, so that csh and fish take it too.
 */
export const DEFAULT_SMTP: string = [
  'exec sh -c ',
  "'PATH=$PATH:/usr/local/sbin:/usr/sbin:/sbin:/usr/lib; ",
  'for c in netcat nc ncat; do command -v $c >/dev/null 2>&1 && exec $c localhost smtp; done; ',
  "command -v sendmail >/dev/null 2>&1 && exec sendmail -bs; exit 127'",
].join('');

/** The far SMTP as configuration has it, or the default. */
export function smtpTarget(values: HostValues | undefined): Target {
  return parseTarget(values?.smtp ?? DEFAULT_SMTP);
}

/** `[host.NAME]` as the ssh package takes it. */
export function overridesOf(values: HostValues | undefined): HostOverrides {
  if (values === undefined) return {};
  const { destination, jump, backend, identity, known_hosts: knownHosts, compression, keepalive: keepaliveMs } = values;
  // The key file is appended to argv, and so becomes the command's last argument.
  const passphraseCommand =
    values.passphrase_command === undefined
      ? undefined
      : ['/bin/sh', '-c', `${values.passphrase_command} "$@"`, 'passphrase_command'];
  const all = { destination, jump, backend, identity, knownHosts, compression, keepaliveMs, passphraseCommand };
  return Object.fromEntries(Object.entries(all).filter(([, value]) => value !== undefined));
}

/** Resolves a host as ssh would. Throws {@link PosternError} `config` when its settings cannot be used. */
export async function resolveConfigured(name: string, config: Config, s: Surroundings): Promise<ResolvedHost> {
  try {
    return await resolveHost(name, {
      home: s.home,
      environment: s.env,
      overrides: overridesOf(config.hosts.get(name)),
      ...(config.sshConfig === undefined ? {} : { sshConfig: config.sshConfig }),
    });
  } catch (error) {
    if (!(error instanceof LinkError)) throw error;
    throw new PosternError('config', error.message, { fix: error.fix, cause: error });
  }
}
