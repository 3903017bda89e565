/** The lines of MTAs and submission programs. */
import { quoteAll } from '@postern/core';
import {
  address,
  admitUser,
  bracketed,
  byTls,
  file,
  type Listener,
  needSmtp,
  type Recipe,
  type SetupFacts,
  type SetupPart,
  shell,
} from './facts.ts';

/** What an MTA that runs as its own user has to know about coming in. */
function entrance(facts: SetupFacts, user: string): string[] {
  return facts.password === 'any'
    ? [admitUser(user)]
    : [`${user} must give the local password, as above; it changes with \`postern password --rotate\``];
}

/** Where a copy of the certificate lies that every MTA's user can read: Postern's own is in a directory closed to others. */
const COPY = '/etc/ssl/certs/postern.pem';
/** Makes that copy. */
function copied(smtp: Listener): string[] {
  return smtp.certificate === undefined ? [] : [`install -D -m 644 ${quoteAll([smtp.certificate])} ${COPY}`];
}
const copyNote = (smtp: Listener): string[] =>
  smtp.certificate === undefined
    ? []
    : ['the certificate is copied: run that line again when `postern status` tells of a new one'];

/** The local password where it has to be spelled. */
const SPELLED = 'PASSWORD';
const spelledNote = (facts: SetupFacts): string =>
  `for PASSWORD put what \`${quoteAll(facts.command)} password\` prints`;

function eximNotes(facts: SetupFacts, user: string): string[] {
  return [
    ...copyNote(needSmtp(facts)),
    ...(facts.password === 'any' ? [] : [spelledNote(facts)]),
    ...entrance(facts, user),
  ];
}

/** Blocks for any Exim configuration. */
function eximBlocks(facts: SetupFacts): { router: string[]; transport: string[]; authenticator: string[] } {
  const smtp = needSmtp(facts);
  const tls =
    smtp.tls === 'off'
      ? ['  hosts_avoid_tls = *']
      : [
          '  hosts_require_tls = *',
          `  tls_verify_certificates = ${smtp.certificate === undefined ? 'system' : COPY}`,
          ...(smtp.tls === 'implicit' ? ['  protocol = smtps'] : []),
        ];
  return {
    router: [
      'postern:',
      '  driver = manualroute',
      '  domains = ! +local_domains',
      '  transport = postern_smtp',
      `  route_list = * "<+ ${bracketed(smtp.host)}:${smtp.port}" byname`,
      // Without, Exim 4.96 says "remote host address is the local host", whatever the port.
      '  self = send',
      '  no_more',
    ],
    transport: [
      'postern_smtp:',
      '  driver = smtp',
      `  port = ${smtp.port}`,
      ...tls,
      ...(facts.password === 'any' ? [] : ['  hosts_require_auth = *']),
    ],
    authenticator:
      facts.password === 'any'
        ? []
        : ['postern_plain:', '  driver = plaintext', '  public_name = PLAIN', `  client_send = ^postern^${SPELLED}`],
  };
}

/** The names other programs call: symlinks, or scripts where the command is more than one word. */
function programNames(facts: SetupFacts): SetupPart[] {
  const [program = '', ...more] = facts.command;
  const names = ['sendmail', 'mailq', 'newaliases'];
  if (more.length === 0) {
    const links = names.map((name) => `ln -sf ${quoteAll([program])} ~/.local/bin/${name}`);
    return [shell('you', ['mkdir -p ~/.local/bin', ...links])];
  }
  const script = file('~/.local/bin/sendmail', ['#!/bin/sh', `exec ${quoteAll(facts.command)} sendmail "$@"`]);
  return [script, shell('you', ['chmod +x ~/.local/bin/sendmail'])];
}

/** Programs that send mail. */
export const SENDERS: readonly Recipe[] = [
  {
    client: 'sendmail',
    title: 'cron, mail(1), and whatever calls sendmail',
    does: 'sends',
    make: (facts) => ({
      parts: [
        ...programNames(facts),
        // bsd-mailx 8.1.2 takes all of it for the name of one program.
        file('~/.mailrc (mail)', ['set sendmail=~/.local/bin/sendmail']),
        file('~/.muttrc (mutt)', [`set sendmail="${quoteAll(facts.command)} sendmail -oi"`]),
      ],
      notes: [
        'the mail goes into your own spool, with or without a running daemon, and leaves when the daemon runs',
        'a program that runs as another user has another spool: give it the relay’s port instead (postern setup msmtp)',
      ],
    }),
  },
  {
    client: 'msmtp',
    title: 'msmtp',
    does: 'sends',
    make(facts) {
      const smtp = needSmtp(facts);
      const auth =
        facts.password === 'any'
          ? ['auth off']
          : ['auth plain', 'user postern', `passwordeval ${JSON.stringify(`${quoteAll(facts.command)} password`)}`];
      const tls = byTls(smtp, {
        off: ['tls off'],
        starttls: ['tls on', 'tls_starttls on'],
        implicit: ['tls on', 'tls_starttls off'],
      });
      return {
        parts: [
          file('~/.msmtprc', [
            'account postern',
            `host ${smtp.host}`,
            `port ${smtp.port}`,
            ...tls,
            ...(smtp.certificate === undefined ? [] : [`tls_trust_file ${smtp.certificate}`]),
            ...auth,
            'from %U@%H',
            'allow_from_override on',
            '',
            'account default : postern',
          ]),
          shell('you', ['chmod 600 ~/.msmtprc']),
        ],
      };
    },
  },
  {
    client: 'exim4',
    title: 'Exim 4, as Debian configures it (split or single file)',
    does: 'sends',
    make(facts) {
      const { router, transport, authenticator } = eximBlocks(facts);
      return {
        parts: [
          file('/etc/exim4/conf.d/router/190_postern', router),
          file('/etc/exim4/conf.d/transport/30_postern', transport),
          ...(authenticator.length === 0 ? [] : [file('/etc/exim4/conf.d/auth/30_postern', authenticator)]),
          shell('root', [...copied(needSmtp(facts)), 'update-exim4.conf', 'systemctl reload exim4']),
        ],
        notes: [
          'with the single-file configuration (dc_use_split_config=false) put the blocks into /etc/exim4/exim4.conf.template, right after `begin routers`, `begin transports` and `begin authenticators`',
          'dc_smarthost does not do: Exim 4.96 takes a smarthost on 127.0.0.1 for itself and freezes the mail',
          ...eximNotes(facts, 'Debian-exim'),
        ],
      };
    },
  },
  {
    client: 'exim',
    title: 'Exim 4, with a configuration of your own',
    does: 'sends',
    make(facts) {
      const { router, transport, authenticator } = eximBlocks(facts);
      return {
        parts: [
          file('routers, first of those for other domains', router),
          file('transports', transport),
          ...(authenticator.length === 0 ? [] : [file('authenticators', authenticator)]),
          ...copied(needSmtp(facts)).map((line) => shell('root', [line])),
        ],
        notes: eximNotes(facts, 'exim'),
      };
    },
  },
  {
    client: 'postfix',
    title: 'Postfix',
    does: 'sends',
    make(facts) {
      const smtp = needSmtp(facts);
      const relayhost = `[${smtp.host}]:${smtp.port}`;
      // Postfix 3.7 holds no address against a certificate's names.
      const verified = [
        'smtp_tls_security_level = verify',
        'smtp_tls_verify_cert_match = localhost, hostname',
        ...(smtp.certificate === undefined ? [] : [`smtp_tls_CAfile = ${COPY}`]),
      ];
      const tls = byTls(smtp, {
        off: ['smtp_tls_security_level = none'],
        starttls: [...verified, 'smtp_tls_wrappermode = no'],
        implicit: [...verified, 'smtp_tls_wrappermode = yes'],
      });
      const sasl =
        facts.password === 'any'
          ? ['smtp_sasl_auth_enable = no']
          : [
              'smtp_sasl_auth_enable = yes',
              'smtp_sasl_security_options = noanonymous',
              `smtp_sasl_password_maps = inline:{ { ${relayhost} = postern:${SPELLED} } }`,
            ];
      const settings = [`relayhost = ${relayhost}`, ...tls, ...sasl];
      return {
        parts: [
          shell('root', [
            ...copied(smtp),
            `postconf -e ${settings.map((setting) => `'${setting}'`).join(' ')}`,
            'postfix reload',
          ]),
        ],
        notes: [
          ...(facts.password === 'any' ? [] : [spelledNote(facts)]),
          ...entrance(facts, 'postfix'),
          ...copyNote(smtp),
          'the brackets keep Postfix from asking for an MX',
        ],
      };
    },
  },
  {
    client: 'nullmailer',
    title: 'nullmailer',
    does: 'sends',
    make(facts) {
      const smtp = needSmtp(facts);
      const ca = smtp.certificate === undefined ? '' : ` --x509cafile=${COPY}`;
      const tls = byTls(smtp, {
        off: '',
        starttls: ` --starttls${ca}`,
        implicit: ` --ssl${ca}`,
      });
      const login = facts.password === 'any' ? '' : ` --user=postern --pass=${SPELLED}`;
      return {
        parts: [
          file('/etc/nullmailer/remotes', [`${smtp.host} smtp --port=${smtp.port}${tls}${login}`]),
          shell('root', [...copied(smtp), 'systemctl restart nullmailer']),
        ],
        notes: [
          ...(facts.password === 'any' ? [] : [spelledNote(facts)]),
          ...copyNote(smtp),
          ...entrance(facts, 'mail'),
        ],
      };
    },
  },
  {
    client: 'opensmtpd',
    title: 'OpenSMTPD',
    does: 'sends',
    make(facts) {
      const smtp = needSmtp(facts);
      const login = facts.password === 'any' ? '' : 'postern@';
      const scheme = byTls(smtp, { off: 'smtp+notls', starttls: 'smtp+tls', implicit: 'smtps' });
      const auth = facts.password === 'any' ? '' : ' auth <secrets>';
      return {
        parts: [
          file('/etc/smtpd.conf', [
            ...(facts.password === 'any' ? [] : ['table secrets file:/etc/smtpd.secrets']),
            `action "postern" relay host ${scheme}://${login}${address(smtp)}${auth}`,
            'match from local for any action "postern"',
          ]),
          ...(facts.password === 'any' ? [] : [file('/etc/smtpd.secrets', [`postern postern:${SPELLED}`])]),
          // Its relay option takes no file of certificates: it trusts what the system trusts.
          ...(smtp.certificate === undefined
            ? []
            : [
                shell('root', [
                  `install -D -m 644 ${quoteAll([smtp.certificate])} /usr/local/share/ca-certificates/postern.crt`,
                  'update-ca-certificates',
                ]),
              ]),
          shell('root', ['smtpd -n', 'systemctl restart opensmtpd']),
        ],
        notes: [
          ...(facts.password === 'any'
            ? []
            : [spelledNote(facts), 'OpenSMTPD gives a password only over TLS: set tls in [smtp]']),
          'put the match line after those for local mail',
          ...copyNote(smtp),
          ...entrance(facts, 'opensmtpd'),
        ],
      };
    },
  },
  {
    client: 'dma',
    title: 'dma (DragonFly Mail Agent)',
    does: 'sends',
    make(facts) {
      const smtp = needSmtp(facts);
      const tls = byTls(smtp, { off: [], starttls: ['SECURETRANSFER', 'STARTTLS'], implicit: ['SECURETRANSFER'] });
      return {
        parts: [
          file('/etc/dma/dma.conf', [
            `SMARTHOST ${smtp.host}`,
            `PORT ${smtp.port}`,
            ...tls,
            ...(facts.password === 'any'
              ? []
              : ['AUTHPATH /etc/dma/auth.conf', ...(smtp.tls === 'off' ? ['INSECURE'] : [])]),
          ]),
          ...(facts.password === 'any' ? [] : [file('/etc/dma/auth.conf', [`postern|${smtp.host}:${SPELLED}`])]),
        ],
        notes: [
          ...(facts.password === 'any' ? [] : [spelledNote(facts)]),
          'dma runs as whoever sends, and as mail when that is root',
          ...entrance(facts, 'mail'),
        ],
      };
    },
  },
  {
    client: 'git',
    title: 'git send-email',
    does: 'sends',
    make(facts) {
      const smtp = needSmtp(facts);
      const login =
        facts.password === 'any'
          ? []
          : [
              'git config --global sendemail.smtpUser postern',
              `git config --global sendemail.smtpPass "$(${quoteAll(facts.command)} password)"`,
            ];
      const encryption = byTls(smtp, {
        off: [],
        starttls: ['git config --global sendemail.smtpEncryption tls'],
        implicit: ['git config --global sendemail.smtpEncryption ssl'],
      });
      return {
        parts: [
          shell('you', [
            `git config --global sendemail.smtpServer ${quoteAll([smtp.host])}`,
            `git config --global sendemail.smtpServerPort ${smtp.port}`,
            ...encryption,
            ...(smtp.certificate === undefined
              ? []
              : [`git config --global sendemail.smtpSSLCertPath ${quoteAll([smtp.certificate])}`]),
            ...login,
          ]),
        ],
        notes: [
          `also with the daemon down (git 2.33 and later):  git config --global sendemail.sendmailCmd ${quoteAll([`${quoteAll(facts.command)} sendmail -i`])}`,
        ],
      };
    },
  },
  {
    client: 'nodemailer',
    title: 'Nodemailer (Node)',
    does: 'sends',
    make(facts) {
      const smtp = needSmtp(facts);
      const script = facts.password === 'local';
      const tls =
        smtp.certificate === undefined ? [] : [`  tls: { ca: await readFile(${JSON.stringify(smtp.certificate)}) },`];
      return {
        parts: [
          file('send.mjs', [
            ...(script || tls.length > 0 ? ["import { readFile } from 'node:fs/promises';"] : []),
            "import { createTransport } from 'nodemailer';",
            '',
            'const transport = createTransport({',
            `  host: ${JSON.stringify(smtp.host)},`,
            `  port: ${smtp.port},`,
            `  secure: ${smtp.tls === 'implicit'},`,
            ...(smtp.tls === 'off' ? ['  ignoreTLS: true,'] : []),
            ...(smtp.tls === 'starttls' ? ['  requireTLS: true,'] : []),
            ...tls,
            ...(script
              ? [
                  `  auth: { user: 'postern', pass: (await readFile(${JSON.stringify(facts.passwordFile)}, 'utf8')).trim() },`,
                ]
              : []),
            '});',
            "console.log(await transport.sendMail({ from: 'you@example.org', to: 'friend@example.org', subject: 'Hello', text: 'Hello.' }));",
          ]),
        ],
        notes: ['a script that keeps its own link, with no daemon, uses @postern/nodemailer'],
      };
    },
  },
];
