/** The gate's account exists only inside the gate: nothing of the caller's home is read. */
import { userInfo } from 'node:os';
import { join } from 'node:path';
import { GateError } from './errors.ts';
import { type Owner, writeOwned } from './files.ts';

/** Used when the gate is started by root: everything in it runs as this uid and gid, `nobody` on every Linux. */
export const DEFAULT_ROOT_ID = 65534;

/** The account a gate serves. */
export interface Account extends Owner {
  /** Login name. */
  user: string;
  /** Its home directory, inside the gate. With no nss_wrapper, sshd uses the caller's real home instead. */
  home: string;
  /** Makes programs see the gate's own passwd and group files; empty with no nss_wrapper. */
  env: Record<string, string>;
}

/** What {@link makeAccount} needs. */
export interface AccountOptions {
  dir: string;
  home: string;
  user: string;
  shell: string;
  uid: number | undefined;
  gid: number | undefined;
  nssWrapper: string | undefined;
}

/**
 * The gate's own account, which exists only for programs with nss_wrapper preloaded: its own home, so that nothing of the
 * caller's is read, and a uid that sshd can serve with no privilege (sshd serves an account only when it may become it).
 *
 * @throws GateError `bad_option` when root has no nss_wrapper to make an account with.
 */
export async function makeAccount(o: AccountOptions): Promise<Account> {
  const myUid = process.getuid?.() ?? -1;
  const root = myUid === 0;
  const uid = root ? (o.uid ?? DEFAULT_ROOT_ID) : myUid;
  const gid = root ? (o.gid ?? o.uid ?? DEFAULT_ROOT_ID) : (process.getgid?.() ?? -1);
  const as = root ? { uid, gid } : {};
  if (o.nssWrapper === undefined) {
    if (root) throw new GateError('bad_option', 'as root a gate needs libnss_wrapper; start it as an ordinary user');
    return { user: userInfo().username, uid, gid, home: o.home, as, env: {} };
  }
  const passwd = join(o.dir, 'passwd');
  const group = join(o.dir, 'group');
  const env = { LD_PRELOAD: o.nssWrapper, NSS_WRAPPER_PASSWD: passwd, NSS_WRAPPER_GROUP: group };
  const account: Account = { user: o.user, uid, gid, home: o.home, as, env };
  await writeOwned(account, passwd, passwdLines(o, uid, gid));
  await writeOwned(account, group, `${o.user}:x:${gid}:\nDebian-exim:x:${gid}:\n`);
  return account;
}

/** `Debian-exim` is compiled into Debian's Exim, which does not start without it. */
function passwdLines(o: AccountOptions, uid: number, gid: number): string {
  return [
    `${o.user}:x:${uid}:${gid}:${o.user}:${o.home}:${o.shell}`,
    `Debian-exim:x:${uid}:${gid}::/nonexistent:/bin/false`,
    '',
  ].join('\n');
}
