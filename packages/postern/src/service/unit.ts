/** Units and agents as text. */
import { formatListen, type ListenAddress } from '../config/units.ts';
import { imapSocketName, SMTP_SOCKET_NAME } from './activation.ts';

/** The first line of every file `postern service install` writes; only such files are replaced or removed. */
export const MARK = 'Written by "postern service install"; put changes in a drop-in, not here.';

/** What a service is made from. */
export interface ServiceFacts {
  /** The program and its first arguments, absolute: `[node, …/bin/postern.js]`. */
  readonly command: readonly string[];
  /** `--config`, absolute, when a file is named. */
  readonly config?: string;
  /** HOSTs for `up`. */
  readonly hosts: readonly string[];
  /** The listeners of each IMAP endpoint, in the configuration's order. */
  readonly imap: readonly (readonly ListenAddress[])[];
  /** The relay's listeners; empty without a relay. */
  readonly smtp: readonly ListenAddress[];
  /** What the service needs of the environment that started this command, e.g. `XDG_CONFIG_HOME`. */
  readonly environment: Readonly<Record<string, string>>;
}

/** One file of a service. */
export interface ServiceFile {
  readonly name: string;
  readonly text: string;
}

const SERVICE = 'postern.service';

/**
 * The systemd user units: one service and a socket unit per listening table. Socket names (`LISTEN_FDNAMES`, sd_listen_fds(3)) are `imap`,
 * `imap-2`… and `smtp`; the descriptors of a name stand in the order of that table's `listen`.
 */
export function systemdUnits(facts: ServiceFacts): ServiceFile[] {
  const sockets = socketGroups(facts).map(({ name, listen }) => ({
    name: `postern-${name}.socket`,
    text: socketUnit(name, listen),
  }));
  return [
    {
      name: SERVICE,
      text: serviceUnit(
        facts,
        sockets.map((socket) => socket.name),
      ),
    },
    ...sockets,
  ];
}

function socketGroups(facts: ServiceFacts): { name: string; listen: readonly ListenAddress[] }[] {
  const imap = facts.imap.map((listen, index) => ({ name: imapSocketName(index), listen }));
  return [...imap, { name: SMTP_SOCKET_NAME, listen: facts.smtp }].filter(({ listen }) => listen.length > 0);
}

function serviceUnit(facts: ServiceFacts, sockets: readonly string[]): string {
  const environment = Object.entries(facts.environment).map(
    ([name, value]) => `Environment=${systemdQuote(`${name}=${value}`, false)}`,
  );
  return `${[
    `# ${MARK}`,
    '[Unit]',
    'Description=Postern, mail through SSH',
    'Documentation=man:ssh_config(5)',
    ...(sockets.length === 0 ? [] : [`Wants=${sockets.join(' ')}`, `After=${sockets.join(' ')}`]),
    '# A wrong configuration is not tried for ever.',
    'StartLimitIntervalSec=300',
    'StartLimitBurst=10',
    '',
    '[Service]',
    'Type=notify',
    'NotifyAccess=all',
    `ExecStart=${commandLine(facts)
      .map((word) => systemdQuote(word, true))
      .join(' ')}`,
    'ExecReload=/bin/kill -HUP $MAINPID',
    ...(sockets.length === 0 ? [] : [`Sockets=${sockets.join(' ')}`]),
    ...environment,
    'Restart=on-failure',
    'RestartSec=2s',
    '# Usage, access and configuration stay wrong until somebody mends them.',
    'RestartPreventExitStatus=64 77 78',
    '# The daemon ends its ssh children itself, once they have delivered.',
    'KillMode=mixed',
    'TimeoutStopSec=10s',
    'UMask=0077',
    'LimitCORE=0',
    '# No option here needs a user namespace: in one, other users all look like nobody, and [access] could not tell them apart.',
    'NoNewPrivileges=yes',
    'LockPersonality=yes',
    'RestrictRealtime=yes',
    'RestrictSUIDSGID=yes',
    'RestrictNamespaces=yes',
    'RestrictAddressFamilies=AF_UNIX AF_INET AF_INET6 AF_NETLINK',
    'SystemCallArchitectures=native',
    'SystemCallFilter=@system-service',
    'SystemCallErrorNumber=EPERM',
    '',
    '[Install]',
    'WantedBy=default.target',
  ].join('\n')}\n`;
}

function socketUnit(name: string, listen: readonly ListenAddress[]): string {
  return `${[
    `# ${MARK}`,
    '[Unit]',
    `Description=Postern, ${name.startsWith('imap') ? 'IMAP endpoint' : 'SMTP relay'}`,
    '',
    '[Socket]',
    ...listen.map(
      (address) => `ListenStream=${escapeSpecifiers(address.type === 'unix' ? address.path : formatListen(address))}`,
    ),
    `FileDescriptorName=${name}`,
    `Service=${SERVICE}`,
    'SocketMode=0600',
    'DirectoryMode=0700',
    ...(listen.some((address) => address.type === 'unix') ? ['RemoveOnStop=yes'] : []),
    '',
    '[Install]',
    'WantedBy=sockets.target',
  ].join('\n')}\n`;
}

function commandLine(facts: ServiceFacts): string[] {
  const config = facts.config === undefined ? [] : ['--config', facts.config];
  return [...facts.command, ...config, 'up', ...facts.hosts];
}

/** `%` starts a specifier (systemd.unit(5)). */
function escapeSpecifiers(text: string): string {
  return text.replaceAll('%', '%%');
}

/** One word as systemd.syntax(7) and, for a command, systemd.service(5) read it. */
function systemdQuote(word: string, inCommand: boolean): string {
  const escaped = escapeSpecifiers(word)
    .replaceAll('\\', '\\\\')
    .replaceAll('"', '\\"')
    .replaceAll('\n', '\\n')
    .replaceAll('$', inCommand ? '$$$$' : '$');
  return /^[A-Za-z0-9_@%+=:,./$-]+$/.test(escaped) ? escaped : `"${escaped}"`;
}

/** The launchd agent's label, and its file's name without `.plist`. */
export const LAUNCHD_LABEL = 'postern';

/**
 * The launchd agent (launchd.plist(5)). Without sockets: launchd hands those over through a C call only. `logFile` takes what the daemon
 * says, which launchd keeps nowhere by itself.
 */
export function launchdAgent(facts: ServiceFacts, o: { logFile: string }): ServiceFile {
  const strings = (words: readonly string[]): string =>
    `<array>\n${words.map((word) => `    <string>${xml(word)}</string>`).join('\n')}\n  </array>`;
  const environment = Object.entries(facts.environment)
    .map(([name, value]) => `    <key>${xml(name)}</key>\n    <string>${xml(value)}</string>\n`)
    .join('');
  const text = `<?xml version="1.0" encoding="UTF-8"?>
<!DOCTYPE plist PUBLIC "-//Apple//DTD PLIST 1.0//EN" "http://www.apple.com/DTDs/PropertyList-1.0.dtd">
<!-- ${MARK} -->
<plist version="1.0">
<dict>
  <key>Label</key>
  <string>${LAUNCHD_LABEL}</string>
  <key>ProgramArguments</key>
  ${strings(commandLine(facts))}
  <key>EnvironmentVariables</key>
  <dict>
${environment}  </dict>
  <key>RunAtLoad</key>
  <true/>
  <key>KeepAlive</key>
  <dict>
    <key>SuccessfulExit</key>
    <false/>
  </dict>
  <key>ProcessType</key>
  <string>Background</string>
  <key>ExitTimeOut</key>
  <integer>10</integer>
  <key>Umask</key>
  <integer>63</integer>
  <key>StandardErrorPath</key>
  <string>${xml(o.logFile)}</string>
</dict>
</plist>
`;
  return { name: `${LAUNCHD_LABEL}.plist`, text };
}

function xml(text: string): string {
  return text.replaceAll('&', '&amp;').replaceAll('<', '&lt;').replaceAll('>', '&gt;');
}
