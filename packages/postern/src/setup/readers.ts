/** The lines of mail clients. */
import { quoteAll } from '@postern/core';
import {
  ANY_PASSWORD,
  address,
  bracketed,
  byTls,
  file,
  type Listener,
  needImap,
  needSmtp,
  type Recipe,
  type SetupFacts,
  shell,
} from './facts.ts';

/** The password where a file of settings wants it spelled, or a note how to get it. */
function spelled(facts: SetupFacts): { password: string; notes: string[] } {
  if (facts.password === 'any')
    return { password: ANY_PASSWORD, notes: ['the password is not looked at: the kernel tells who you are'] };
  return { password: 'PASSWORD', notes: [`for PASSWORD put what \`${passwordCommand(facts)}\` prints`] };
}

function passwordCommand(facts: SetupFacts): string {
  return `${quoteAll(facts.command)} password`;
}

/** isync 1.5 calls it TLSType and warns of the old name, which is the only one 1.4 knows. */
function isyncTls({ isync }: SetupFacts): { tls: 'SSLType' | 'TLSType'; notes: string[] } {
  const [major = 0, minor = 0] = (isync?.version ?? '1.4').split('.').map(Number);
  const older = major < 1 || (major === 1 && minor < 5);
  if (isync === undefined) {
    return {
      tls: 'SSLType',
      notes: ['for isync 1.4; from 1.5 on, write TLSType instead of SSLType (no mbsync is installed here)'],
    };
  }
  const plain = isync.plain
    ? []
    : ["this mbsync finds no SASL module for PLAIN and cannot log in: install Debian's libsasl2-modules"];
  return { tls: older ? 'SSLType' : 'TLSType', notes: plain };
}

/** A string in double quotes as mutt, lua and most settings files read it. */
function quoted(text: string): string {
  return `"${text.replace(/["\\$`]/g, '\\$&')}"`;
}

function luaQuoted(text: string): string {
  return `'${text.replace(/['\\]/g, '\\$&')}'`;
}

function imapUrl(imap: Listener, login: string): string {
  return `${imap.tls === 'implicit' ? 'imaps' : 'imap'}://${encodeURIComponent(login)}@${address(imap)}/`;
}

/** mutt and neomutt share their variables. */
function muttLines(facts: SetupFacts): string[] {
  const imap = needImap(facts);
  const smtp = facts.smtp;
  const password = facts.password === 'any' ? quoted(ANY_PASSWORD) : `"\`${passwordCommand(facts)}\`"`;
  const lines = [
    `set folder    = ${quoted(imapUrl(imap, facts.login))}`,
    'set spoolfile = "+INBOX"',
    `set imap_user = ${quoted(facts.login)}`,
    `set imap_pass = ${password}`,
  ];
  if (smtp === undefined) lines.push(`set sendmail  = ${quoted(`${quoteAll(facts.command)} sendmail -oi`)}`);
  else if (facts.password === 'any')
    lines.push(`set smtp_url  = ${quoted(`${smtp.tls === 'implicit' ? 'smtps' : 'smtp'}://${address(smtp)}/`)}`);
  else
    lines.push(
      `set smtp_url  = ${quoted(`${smtp.tls === 'implicit' ? 'smtps' : 'smtp'}://postern@${address(smtp)}/`)}`,
      `set smtp_pass = ${password}`,
      'set smtp_authenticators = "plain"',
    );
  // mutt 2.2 refuses plain text unless told; the connection stays on this machine.
  const plain = imap.tls === 'off' || (smtp !== undefined && smtp.tls === 'off');
  lines.push(
    `set ssl_force_tls = ${plain ? 'no' : 'yes'}`,
    `set ssl_starttls  = ${imap.tls === 'starttls' || smtp?.tls === 'starttls' ? 'yes' : 'no'}`,
  );
  const certificate = imap.certificate ?? smtp?.certificate;
  if (certificate !== undefined) lines.push(`set certificate_file = ${quoted(certificate)}`);
  return [...lines, 'set imap_keepalive = 60', 'set mail_check     = 30'];
}

function pipeNote(facts: SetupFacts): string {
  return `with no listener at all:  ${quoteAll([...facts.command, 'pipe', facts.host, 'imap'])}  is an imapd in PREAUTH mode`;
}

/** Programs that read mail. Some send as well. */
export const READERS: readonly Recipe[] = [
  {
    client: 'mutt',
    title: 'mutt',
    does: 'both',
    make: (facts) => ({ parts: [file('~/.muttrc', muttLines(facts))], notes: [pipeNote(facts)] }),
  },
  {
    client: 'neomutt',
    title: 'NeoMutt',
    does: 'both',
    make: (facts) => ({ parts: [file('~/.config/neomutt/neomuttrc', muttLines(facts))], notes: [pipeNote(facts)] }),
  },
  {
    client: 'thunderbird',
    title: 'Thunderbird',
    does: 'both',
    make(facts) {
      const imap = needImap(facts);
      const smtp = needSmtp(facts);
      const security = { off: 'None', starttls: 'STARTTLS', implicit: 'SSL/TLS' };
      const method = (tls: Listener['tls']): string =>
        tls === 'off' ? 'Password, transmitted insecurely' : 'Normal password';
      const { password, notes } = spelled(facts);
      const trust = imap.fingerprint ?? smtp.fingerprint;
      return {
        parts: [
          {
            type: 'dialog',
            where: 'Account Settings, Account Actions, Add Mail Account, Configure manually: Incoming',
            lines: [
              `Protocol: IMAP`,
              `Hostname: ${imap.host}`,
              `Port: ${imap.port}`,
              `Connection security: ${byTls(imap, security)}`,
              `Authentication method: ${method(imap.tls)}`,
              `Username: ${facts.login}`,
              `Password: ${password}`,
            ],
          },
          {
            type: 'dialog',
            where: 'the same, Outgoing',
            lines: [
              `Hostname: ${smtp.host}`,
              `Port: ${smtp.port}`,
              `Connection security: ${byTls(smtp, security)}`,
              ...(facts.password === 'any'
                ? ['Authentication method: No authentication']
                : [`Authentication method: ${method(smtp.tls)}`, 'Username: postern', `Password: ${password}`]),
            ],
          },
        ],
        notes: [
          ...notes,
          ...(trust === undefined ? [] : [`accept the certificate with the SHA-256 fingerprint ${trust}`]),
        ],
      };
    },
  },
  {
    client: 'mbsync',
    title: 'mbsync (isync)',
    does: 'reads',
    make(facts) {
      const imap = needImap(facts);
      // One block a host, so that those of two hosts may stand in one file.
      const name = `postern-${facts.host}`;
      const mail = `~/Mail/${facts.host}`;
      const { tls, notes } = isyncTls(facts);
      return {
        parts: [
          file('~/.mbsyncrc', [
            `IMAPAccount ${name}`,
            `Host ${imap.host}`,
            `Port ${imap.port}`,
            `User ${facts.login}`,
            facts.password === 'any' ? `Pass ${ANY_PASSWORD}` : `PassCmd ${quoted(passwordCommand(facts))}`,
            `${tls} ${byTls(imap, { off: 'None', starttls: 'STARTTLS', implicit: 'IMAPS' })}`,
            // Without this mbsync 1.4 wants TLS before it gives a password.
            'AuthMechs PLAIN',
            ...(imap.certificate === undefined ? [] : [`CertificateFile ${imap.certificate}`]),
            '',
            `IMAPStore ${name}-far`,
            `Account ${name}`,
            '',
            `MaildirStore ${name}-near`,
            `Path ${mail}/`,
            `Inbox ${mail}/INBOX`,
            'SubFolders Verbatim',
            '',
            `Channel ${name}`,
            `Far :${name}-far:`,
            `Near :${name}-near:`,
            'Patterns *',
            'Create Near',
            'SyncState *',
          ]),
          shell('you', [`mkdir -p ${mail}`, `mbsync ${name}`]),
        ],
        notes: [
          ...notes,
          `instead of Host to AuthMechs, with no listener:  Tunnel ${quoted(quoteAll([...facts.command, 'pipe', facts.host, 'imap']))}`,
        ],
      };
    },
  },
  {
    client: 'offlineimap',
    title: 'OfflineIMAP',
    does: 'reads',
    make(facts) {
      const imap = needImap(facts);
      return {
        parts: [
          file('~/.offlineimaprc', [
            '[general]',
            'accounts = postern',
            '',
            '[Account postern]',
            'localrepository = postern-near',
            'remoterepository = postern-far',
            '',
            '[Repository postern-near]',
            'type = Maildir',
            'localfolders = ~/Mail',
            '',
            '[Repository postern-far]',
            'type = IMAP',
            `remotehost = ${imap.host}`,
            `remoteport = ${imap.port}`,
            `remoteuser = ${facts.login}`,
            facts.password === 'any' ? `remotepass = ${ANY_PASSWORD}` : `remotepassfile = ${facts.passwordFile}`,
            'auth_mechanisms = PLAIN',
            `ssl = ${imap.tls === 'implicit' ? 'yes' : 'no'}`,
            `starttls = ${imap.tls === 'starttls' ? 'yes' : 'no'}`,
            ...(imap.certificate === undefined ? [] : [`sslcacertfile = ${imap.certificate}`]),
          ]),
          shell('you', ['offlineimap -o']),
        ],
      };
    },
  },
  {
    client: 'fetchmail',
    title: 'fetchmail',
    does: 'reads',
    make(facts) {
      const imap = needImap(facts);
      const { password, notes } = spelled(facts);
      const tls = byTls(imap, { off: "sslproto ''", starttls: 'sslproto TLS1.2+', implicit: 'ssl' });
      return {
        parts: [
          file('~/.fetchmailrc', [
            `poll ${imap.host} service ${imap.port} protocol imap auth password`,
            `  user ${quoted(facts.login)} password ${quoted(password)}`,
            `  ${tls}${imap.certificate === undefined ? '' : ` sslcertfile ${quoted(imap.certificate)}`}`,
            '  keep',
          ]),
          shell('you', ['chmod 600 ~/.fetchmailrc', 'fetchmail --check']),
        ],
        notes: [...notes, 'it hands the mail to port 25 of this machine; for another place add  mda "PROGRAM"'],
      };
    },
  },
  {
    client: 'getmail',
    title: 'getmail 6',
    does: 'reads',
    make(facts) {
      const imap = needImap(facts);
      const words = [...facts.command, 'password'].map((word) => `"${word}"`).join(', ');
      return {
        parts: [
          file('~/.config/getmail/getmailrc', [
            '[retriever]',
            `type = ${imap.tls === 'implicit' ? 'SimpleIMAPSSLRetriever' : 'SimpleIMAPRetriever'}`,
            `server = ${imap.host}`,
            `port = ${imap.port}`,
            `username = ${facts.login}`,
            facts.password === 'any' ? `password = ${ANY_PASSWORD}` : `password_command = (${words},)`,
            'mailboxes = ("INBOX",)',
            ...(imap.certificate === undefined ? [] : [`ca_certs = ${imap.certificate}`]),
            '',
            '[destination]',
            'type = Maildir',
            'path = ~/Mail/INBOX/',
            '',
            '[options]',
            'read_all = false',
          ]),
          shell('you', ['mkdir -p ~/Mail/INBOX/cur ~/Mail/INBOX/new ~/Mail/INBOX/tmp', 'getmail']),
        ],
      };
    },
  },
  {
    client: 'aerc',
    title: 'aerc',
    does: 'both',
    make(facts) {
      const imap = needImap(facts);
      const scheme = byTls(imap, { off: 'imap+insecure', starttls: 'imap', implicit: 'imaps' });
      const secret = facts.password === 'any' ? `:${ANY_PASSWORD}` : '';
      return {
        parts: [
          file('~/.config/aerc/accounts.conf', [
            '[postern]',
            `source        = ${scheme}://${encodeURIComponent(facts.login)}${secret}@${address(imap)}`,
            ...(facts.password === 'any' ? [] : [`source-cred-cmd = ${passwordCommand(facts)}`]),
            `outgoing      = ${quoteAll(facts.command)} sendmail -i`,
            'default       = INBOX',
            'from          = You <you@example.org>',
          ]),
          shell('you', ['chmod 600 ~/.config/aerc/accounts.conf']),
        ],
        notes: ['for `from` put your own name and address'],
      };
    },
  },
  {
    client: 'alpine',
    title: 'Alpine',
    does: 'both',
    make(facts) {
      const imap = needImap(facts);
      const { notes } = spelled(facts);
      const tls = { off: '/notls', starttls: '/tls', implicit: '/ssl' };
      return {
        parts: [
          file('~/.pinerc', [
            `inbox-path={${address(imap)}/imap/user=${quoted(facts.login)}${byTls(imap, tls)}}INBOX`,
            ...(facts.smtp === undefined
              ? [`sendmail-path=${quoteAll(facts.command)} sendmail -oi -t`]
              : [
                  `smtp-server=${address(facts.smtp)}${byTls(facts.smtp, tls)}${facts.password === 'any' ? '' : '/user=postern'}`,
                ]),
          ]),
        ],
        notes: ['replace the lines of the same names, which Alpine has put there', ...notes],
      };
    },
  },
  {
    client: 'imapfilter',
    title: 'imapfilter',
    does: 'reads',
    make(facts) {
      const imap = needImap(facts);
      const secret =
        facts.password === 'any'
          ? luaQuoted(ANY_PASSWORD)
          : `io.popen(${luaQuoted(passwordCommand(facts))}):read('*l')`;
      return {
        parts: [
          file('~/.imapfilter/config.lua', [
            `options.starttls = ${imap.tls === 'starttls'}`,
            'postern = IMAP {',
            `  server = ${luaQuoted(imap.host)},`,
            `  port = ${imap.port},`,
            `  username = ${luaQuoted(facts.login)},`,
            `  password = ${secret},`,
            ...(imap.tls === 'implicit' ? ["  ssl = 'auto',"] : []),
            '}',
            'postern.INBOX:check_status()',
          ]),
        ],
      };
    },
  },
  {
    client: 'curl',
    title: 'curl',
    does: 'both',
    make(facts) {
      const imap = needImap(facts);
      const smtp = needSmtp(facts);
      const secret = facts.password === 'any' ? ANY_PASSWORD : `$(${passwordCommand(facts)})`;
      const trust = (it: Listener): string =>
        `${it.tls === 'starttls' ? ' --ssl-reqd' : ''}${it.certificate === undefined ? '' : ` --cacert ${quoteAll([it.certificate])}`}`;
      const url = (it: Listener, scheme: string): string =>
        `${scheme}${it.tls === 'implicit' ? 's' : ''}://${bracketed(it.host)}:${it.port}`;
      const login = facts.password === 'any' ? '' : ` --user "postern:${secret}"`;
      return {
        parts: [
          shell('you', [
            `curl -sS${trust(imap)} --user "${facts.login}:${secret}" '${url(imap, 'imap')}/INBOX' -X 'STATUS INBOX (MESSAGES)'`,
            `curl -sS${trust(imap)} --user "${facts.login}:${secret}" '${url(imap, 'imap')}/INBOX;MAILINDEX=1'`,
            `curl -sS${trust(smtp)}${login} '${url(smtp, 'smtp')}' --mail-from you@example.org --mail-rcpt friend@example.org --upload-file message.eml`,
          ]),
        ],
      };
    },
  },
  {
    client: 'imapflow',
    title: 'ImapFlow (Node)',
    does: 'reads',
    make(facts) {
      const imap = needImap(facts);
      const script = facts.password === 'local';
      const tls =
        imap.certificate === undefined ? [] : [`  tls: { ca: await readFile(${JSON.stringify(imap.certificate)}) },`];
      const needsFile = script || tls.length > 0;
      return {
        parts: [
          file('read.mjs', [
            ...(needsFile ? ["import { readFile } from 'node:fs/promises';"] : []),
            "import { ImapFlow } from 'imapflow';",
            '',
            'const client = new ImapFlow({',
            `  host: ${JSON.stringify(imap.host)},`,
            `  port: ${imap.port},`,
            `  secure: ${imap.tls === 'implicit'},`,
            `  doSTARTTLS: ${imap.tls === 'starttls'},`,
            ...tls,
            `  auth: { user: ${JSON.stringify(facts.login)}, pass: ${script ? `(await readFile(${JSON.stringify(facts.passwordFile)}, 'utf8')).trim()` : JSON.stringify(ANY_PASSWORD)} },`,
            '  logger: false,',
            '});',
            'await client.connect();',
            "console.log(await client.status('INBOX', { messages: true }));",
            'await client.logout();',
          ]),
        ],
        notes: ['a script that keeps its own link, with no daemon, uses @postern/imapflow'],
      };
    },
  },
];
