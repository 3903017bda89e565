/** Who calls sendmail, as the message says it. */
import { readFileSync } from 'node:fs';
import { userInfo } from 'node:os';
import { parseDomain } from '@postern/core';
import { localHostname } from '../base/machine.ts';
import type { Surroundings } from '../base/paths.ts';
import type { Identity } from './compose.ts';

/** Who runs this command: the login name at Debian's `/etc/mailname`, else at the host's name; `$NAME`, else the passwd entry's full name. */
export function identityOf(s: Surroundings): Identity {
  const user = userInfo().username;
  const fullName = s.env.NAME || passwdName(s.uid, user);
  return { user, domain: mailname() ?? localHostname(), ...(fullName ? { fullName } : {}) };
}

function mailname(): string | undefined {
  try {
    return parseDomain(readFileSync('/etc/mailname', 'utf8').trim());
  } catch {
    return undefined;
  }
}

/** The first part of the GECOS field; `&` stands for the login name (passwd(5)). */
function passwdName(uid: number, user: string): string | undefined {
  try {
    const line = readFileSync('/etc/passwd', 'utf8')
      .split('\n')
      .find((entry) => entry.split(':')[2] === String(uid));
    const name = line?.split(':')[4]?.split(',')[0];
    return name?.replaceAll('&', user.charAt(0).toUpperCase() + user.slice(1));
  } catch {
    return undefined;
  }
}
