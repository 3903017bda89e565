import { describe, expect, test } from 'vitest';
import { ANY_PASSWORD, type Listener, type SetupFacts } from './facts.ts';
import { formatSetup, RECIPES, setupFor } from './setup.ts';

const listener = (port: number, tls: Listener['tls'] = 'off'): Listener => ({
  host: '127.0.0.1',
  port,
  tls,
  ...(tls === 'off' ? {} : { certificate: '/state/tls/cert.pem', fingerprint: 'AA:BB' }),
});
const facts: SetupFacts = {
  host: 'gate',
  imap: listener(1143),
  smtp: listener(1025),
  login: 'postern',
  password: 'any',
  passwordFile: '/state/password',
  command: ['/usr/bin/postern'],
};

function lines(client: string, given: SetupFacts = facts): string {
  const result = setupFor(client, given);
  if (result.type !== 'setup') throw new Error(result.type);
  return result.setup.parts.flatMap((part) => part.lines).join('\n');
}

describe('setup for mbsync', () => {
  const given = (isync: SetupFacts['isync']): SetupFacts => ({ ...facts, ...(isync === undefined ? {} : { isync }) });
  const notes = (isync: SetupFacts['isync']): string => {
    const result = setupFor('mbsync', given(isync));
    return result.type === 'setup' ? result.setup.notes.join('\n') : result.type;
  };

  test.each([
    ['1.3.0', 'SSLType None'],
    ['1.4.4', 'SSLType None'],
    ['1.5.0', 'TLSType None'],
    ['1.5.1', 'TLSType None'],
    ['2.0', 'TLSType None'],
  ])('writes what isync %s reads without a notice: %s', (version, line) => {
    expect(lines('mbsync', given({ version, plain: true })).split('\n')).toContain(line);
    expect(notes({ version, plain: true })).not.toMatch(/TLSType|SASL/);
  });

  test('says for which version the lines are where none is installed', () => {
    expect(notes(undefined)).toContain('for isync 1.4; from 1.5 on, write TLSType');
  });

  test('tells of a SASL library without PLAIN', () => {
    expect(notes({ version: '1.5.1', plain: false })).toContain('libsasl2-modules');
  });

  test('names its blocks by the host, so that those of two hosts stand in one file', () => {
    const names = (host: string): string[] =>
      lines('mbsync', { ...facts, host }).match(/^(?:IMAPAccount|IMAPStore|MaildirStore|Channel|Path|Inbox) .*/gm) ??
      [];
    expect(names('gate')).toHaveLength(6);
    expect(names('gate').filter((line) => names('second').includes(line))).toEqual([]);
  });

  test('may be appended to its file as it is printed', () => {
    const result = setupFor('mbsync', facts);
    const text = result.type === 'setup' ? formatSetup(result.setup) : [];
    expect(text.filter((line) => line !== '' && !/^(#|[A-Z]\w+ )/.test(line))).toEqual([]);
  });
});

describe('setup', () => {
  test('has a recipe for every client that is asked for', () => {
    expect(RECIPES.map(({ client }) => client).sort()).toEqual(
      [
        ...[
          'mutt',
          'neomutt',
          'thunderbird',
          'mbsync',
          'offlineimap',
          'fetchmail',
          'getmail',
          'aerc',
          'alpine',
          'imapfilter',
          'curl',
          'imapflow',
        ],
        ...['sendmail', 'msmtp', 'exim4', 'exim', 'postfix', 'nullmailer', 'opensmtpd', 'dma', 'git', 'nodemailer'],
      ].sort(),
    );
    expect(setupFor('elm', facts)).toEqual({ type: 'unknown' });
    expect(lines('Isync')).toBe(lines('mbsync'));
  });

  test.each<[string, string[]]>([
    // mutt 2.2 and NeoMutt want TLS unless told otherwise; fetchmail 6.4 tries STARTTLS; isync 1.4 wants TLS before PLAIN.
    [
      'mutt',
      [
        'set ssl_force_tls = no',
        'set folder    = "imap://postern@127.0.0.1:1143/"',
        'set smtp_url  = "smtp://127.0.0.1:1025/"',
      ],
    ],
    ['neomutt', ['set ssl_force_tls = no']],
    [
      'thunderbird',
      [
        'Connection security: None',
        'Authentication method: Password, transmitted insecurely',
        'Port: 1143',
        'Port: 1025',
      ],
    ],
    ['mbsync', ['AuthMechs PLAIN', 'SSLType None', 'Port 1143', `Pass ${ANY_PASSWORD}`]],
    ['offlineimap', ['ssl = no', 'starttls = no', 'remoteport = 1143']],
    ['fetchmail', ["sslproto ''", 'poll 127.0.0.1 service 1143 protocol imap auth password']],
    ['getmail', ['type = SimpleIMAPRetriever', 'port = 1143']],
    [
      'aerc',
      [
        'source        = imap+insecure://postern:same-user@127.0.0.1:1143',
        'outgoing      = /usr/bin/postern sendmail -i',
      ],
    ],
    ['alpine', ['inbox-path={127.0.0.1:1143/imap/user="postern"/notls}INBOX', 'smtp-server=127.0.0.1:1025/notls']],
    ['imapfilter', ['options.starttls = false', '  port = 1143,']],
    ['curl', ["'imap://127.0.0.1:1143/INBOX;MAILINDEX=1'", "'smtp://127.0.0.1:1025'"]],
    ['imapflow', ['  secure: false,', '  doSTARTTLS: false,']],
    ['msmtp', ['host 127.0.0.1', 'port 1025', 'tls off', 'auth off']],
    ['exim4', ['  route_list = * "<+ 127.0.0.1:1025" byname', '  self = send', 'update-exim4.conf']],
    ['exim', ['  route_list = * "<+ 127.0.0.1:1025" byname', '  self = send', '  hosts_avoid_tls = *']],
    ['postfix', ["'relayhost = [127.0.0.1]:1025'", "'smtp_tls_security_level = none'"]],
    ['nullmailer', ['127.0.0.1 smtp --port=1025']],
    [
      'opensmtpd',
      ['action "postern" relay host smtp+notls://127.0.0.1:1025', 'match from local for any action "postern"'],
    ],
    ['dma', ['SMARTHOST 127.0.0.1', 'PORT 1025']],
    ['git', ['git config --global sendemail.smtpServerPort 1025']],
    ['nodemailer', ['  port: 1025,', '  ignoreTLS: true,']],
    ['sendmail', ['ln -sf /usr/bin/postern ~/.local/bin/sendmail', 'ln -sf /usr/bin/postern ~/.local/bin/mailq']],
  ])('%s gets what it is known to need', (client, expected) => {
    for (const line of expected) expect(lines(client)).toContain(line);
  });

  const variants = (['off', 'starttls', 'implicit'] as const).flatMap((tls) =>
    (['any', 'local'] as const).flatMap((password) =>
      ['127.0.0.1', '::1'].map(
        (host): SetupFacts => ({
          ...facts,
          password,
          imap: { ...listener(1143, tls), host },
          smtp: { ...listener(1025, tls), host },
          command: ['/usr/bin/node', "/opt/it's here/postern.js"],
        }),
      ),
    ),
  );

  test.each(RECIPES.map(({ client }) => client))(
    '%s has whole lines for every kind of listener and password',
    (client) => {
      for (const variant of variants) {
        const result = setupFor(client, variant);
        if (result.type !== 'setup') throw new Error(result.type);
        const text = formatSetup(result.setup).join('\n');
        expect(text).not.toMatch(/undefined|\[object/);
        expect(text).not.toMatch(/\n{4}/);
        if (variant.password === 'local') expect(text).not.toContain(ANY_PASSWORD);
        else expect(text).not.toMatch(/PASSWORD\b(?!S)/);
      }
    },
  );

  test('tells which listener is missing', () => {
    const { imap: _imap, ...sendsOnly } = facts;
    expect(setupFor('mbsync', sendsOnly)).toEqual({
      type: 'not-offered',
      why: 'no [[imap]] table listens on a TCP port',
    });
    expect(setupFor('msmtp', sendsOnly).type).toBe('setup');
    const { smtp: _smtp, ...readsOnly } = facts;
    expect(setupFor('postfix', readsOnly)).toEqual({
      type: 'not-offered',
      why: 'no [smtp] table listens on a TCP port',
    });
    expect(lines('mutt', readsOnly)).toContain('set sendmail  = "/usr/bin/postern sendmail -oi"');
  });

  test('MTAs learn whom Postern must let in', () => {
    const result = setupFor('exim4', facts);
    expect(result.type === 'setup' && result.setup.notes.join('\n')).toContain('"user:Debian-exim"');
  });
});
