/** The same Dovecot daemon as a configuration of 2.3 and of 2.4, which share almost no keyword. */
import { join } from 'node:path';
import { DOVECOT_VERSIONS, type Gate, type Program } from '@postern/gate';

/** What a daemon's configuration is written from. */
export interface DovecotSetup {
  readonly gate: Gate;
  readonly dir: string;
  readonly program: Program;
  /** Names that the system's own files have for the account's ids. */
  readonly names: { readonly user: string; readonly group: string };
  readonly port: number;
  readonly password: string;
  /** The port of ManageSieve. */
  readonly sieve: number | undefined;
  /** Further lines. */
  readonly settings: readonly string[];
}

/** For Dovecot 2.3. */
export function dovecotConfig(o: DovecotSetup): string {
  const { account, maildir } = o.gate;
  return `${common(o)}
import_environment = LD_LIBRARY_PATH POSTERN_GATE
protocols = ${protocols(o)}
disable_plaintext_auth = no
mail_location = maildir:${maildir}
mail_plugins = imap_zlib
passdb {
  driver = static
  args = password=${o.password}
}
userdb {
  driver = static
  args = uid=${account.uid} gid=${account.gid} home=${account.home}
}
${o.sieve === undefined ? '' : sieveSettings(o.gate)}
${services(o)}
${o.settings.join('\n')}
`;
}

function sieveSettings(gate: Gate): string {
  return `protocol sieve {
  mail_plugins =
}
plugin {
  sieve = file:${gate.home}/sieve;active=${gate.home}/.dovecot.sieve
}`;
}

/** For Dovecot 2.4. */
export function versionedConfig(o: DovecotSetup): string {
  const { account, maildir } = o.gate;
  return `${DOVECOT_VERSIONS.join('\n')}
${common(o)}
import_environment {
  LD_LIBRARY_PATH = %{env:LD_LIBRARY_PATH}
  POSTERN_GATE = %{env:POSTERN_GATE}
}
protocols = ${protocols(o)}
auth_allow_cleartext = yes
mail_driver = maildir
mail_path = ${maildir}
namespace inbox {
  inbox = yes
}
passdb static {
  password = ${o.password}
}
userdb static {
  fields {
    uid = ${account.uid}
    gid = ${account.gid}
    home = ${account.home}
  }
}
${o.sieve === undefined ? '' : versionedSieveSettings(o.gate)}
${services(o)}
${o.settings.join('\n')}
`;
}

function versionedSieveSettings(gate: Gate): string {
  return `sieve_script personal {
  driver = file
  path = ${gate.home}/sieve
  active_path = ${gate.home}/.dovecot.sieve
}`;
}

function common(o: DovecotSetup): string {
  const lib = join(o.program.root, 'usr/lib/dovecot');
  const moved =
    o.program.root === '/'
      ? ''
      : `libexec_dir = ${o.dir}/libexec
login_plugin_dir = ${lib}/modules/login
mail_plugin_dir = ${lib}/modules
`;
  return `${moved}base_dir = ${o.dir}/run
state_dir = ${o.dir}/state
listen = 127.0.0.1
ssl = no
default_internal_user = ${o.names.user}
default_internal_group = ${o.names.group}
default_login_user = ${o.names.user}
log_path = /dev/stderr
first_valid_uid = 1
first_valid_gid = 1`;
}

function protocols(o: DovecotSetup): string {
  return o.sieve === undefined ? 'imap' : 'imap sieve';
}

/** None of them chrooted, as that takes root. */
function services(o: DovecotSetup): string {
  const plain = ['anvil', 'stats'].map((service) => `service ${service} {\n  chroot =\n}`);
  const sieve = `service managesieve-login {
  chroot =
  inet_listener sieve {
    port = ${o.sieve}
  }
}`;
  const imap = `service imap-login {
  chroot =
  inet_listener imap {
    port = ${o.port}
  }
  inet_listener imaps {
    port = 0
  }
}`;
  return [...plain, imap, ...(o.sieve === undefined ? [] : [sieve])].join('\n');
}
