import type { GateContext } from './context.ts';
import { MARK } from './processes.ts';
import type { Program } from './programs.ts';
import { execLine, writeScript } from './wrapper.ts';

/** How `imapd` behaves. */
export interface ImapdOptions {
  /** Dovecot settings by name, as in dovecot.conf: `{ imap_idle_notify_interval: '2s' }`. They win over the gate's own. */
  settings?: Record<string, string>;
}

/**
 * Dovecot's `imap` as a command that greets PREAUTH on its standard streams, with no daemon and no configuration file:
 * `DOVECONF_ENV` makes it read settings from its environment (Dovecot 2.3), upper case.
 */
export async function writeImapd(
  context: GateContext,
  o: ImapdOptions & { program: Program; maildir: string; name?: string },
): Promise<string> {
  const { account } = context;
  const settings: Record<string, string> = {
    mail_location: `maildir:${o.maildir}`,
    mail_plugins: 'imap_zlib',
    ...(o.program.root === '/' ? {} : { mail_plugin_dir: `${o.program.root}/usr/lib/dovecot/modules` }),
    ...o.settings,
  };
  const env: Record<string, string> = {
    USER: account.user,
    HOME: account.home,
    PATH: '/usr/bin:/bin',
    [MARK]: context.dir,
    ...o.program.env,
    DOVECONF_ENV: '1',
  };
  for (const [name, value] of Object.entries(settings)) env[name.toUpperCase()] = value;
  const line = execLine({ command: o.program.command, env, clean: true });
  return writeScript(context.bin, o.name ?? 'imapd', line);
}
