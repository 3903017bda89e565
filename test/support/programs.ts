/** What programs say in SMTP that the book does not have, and what comes of it: the rows of docs/programs.md, asked of a real Postfix and of Postern. */

/** One oddity. Commands in their order, each answered before the next; the codes of the replies behind the greeting, one for each command. */
export interface Oddity {
  readonly program: string;
  readonly oddity: string;
  readonly say: readonly string[];
  /** Postfix 3.7 to 3.11 at its defaults. */
  readonly postfix: string;
  readonly postern: string;
  /** Why Postern does otherwise. */
  readonly why?: string;
}

const MAIL = 'MAIL FROM:<me@brook.test>';
const RCPT = 'RCPT TO:<gate@gate.test>';
const BODY = 'Subject: x\r\n\r\nx\r\n.';
const row = (program: string, oddity: string, say: string[], postfix = '', postern = postfix, why = ''): Oddity => ({
  ...{ program, oddity, say, postfix, postern },
  ...(why === '' ? {} : { why }),
});
const to = (program: string, oddity: string, path: string, postfix = '', postern = postfix, why = ''): Oddity =>
  row(program, oddity, ['EHLO me.test', MAIL, `RCPT TO:${path}`], postfix, postern, why);
const from = (program: string, oddity: string, path: string, postfix = '', postern = postfix, why = ''): Oddity =>
  row(program, oddity, ['EHLO me.test', `MAIL FROM:${path}`], postfix, postern, why);

/** The rows. */
export const ODDITIES: readonly Oddity[] = [
  row(
    'Outlook on Windows',
    'greets with a computer name that has an underscore',
    ['EHLO ANNAS_PC', MAIL, RCPT],
    '250 250 250',
  ),
  row('Windows programs', 'greets with a name that has an apostrophe', ["EHLO Anna's-PC", MAIL, RCPT], '250 250 250'),
  row(
    'Windows programs',
    'greets with a name in 8-bit letters',
    ['EHLO B\xfcro-PC', MAIL, RCPT],
    '500 250 250',
    '250 250 250',
    'the name is written in no line, so it is no reason to turn mail away',
  ),
  row('Thunderbird', 'greets with an address literal', ['EHLO [192.0.2.5]', MAIL, RCPT], '250 250 250'),
  row('Thunderbird', 'greets with an IPv6 literal', ['EHLO [IPv6:2001:db8::5]', MAIL, RCPT], '250 250 250'),
  row('scripts', 'greets with an IPv6 literal without its tag', ['EHLO [::1]', MAIL, RCPT], '250 250 250'),
  row('scripts', 'greets with an address without brackets', ['EHLO 192.0.2.5', MAIL, RCPT], '250 250 250'),
  row('JavaMail', 'greets as localhost', ['EHLO localhost', MAIL, RCPT], '250 250 250'),
  row('appliances', 'greets without a name', ['EHLO', 'HELO', 'EHLO me.test', MAIL], '501 501 250 250'),
  row(
    'printers and scanners',
    'greets with HELO and a name without a dot',
    ['HELO scanner', MAIL, RCPT],
    '250 250 250',
  ),
  row(
    'appliances',
    'does not greet',
    [MAIL, RCPT],
    '250 250',
    '503 503',
    'a session begins with EHLO or HELO (RFC 5321 \u00a74.1.4)',
  ),
  row(
    'busybox sendmail',
    'falls back from EHLO to HELO in one session',
    ['EHLO me.test', 'HELO me.test', MAIL, RCPT],
    '250 250 250 250',
  ),
  row('JavaMail', 'greets twice', ['EHLO me.test', 'EHLO me.test', MAIL, RCPT], '250 250 250 250'),
  row('Python smtplib (help())', 'asks for help', ['EHLO me.test', 'HELP'], '250 500', '250 214'),
  row('check_smtp of Nagios', 'looks and leaves', ['EHLO me.test', 'QUIT'], '250 221'),
  row('check_smtp of Nagios', 'resets before anything', ['EHLO me.test', 'RSET', MAIL, RCPT], '250 250 250 250'),
  row('keep-alive of scripts', 'says NOOP with words', ['EHLO me.test', 'NOOP are you there'], '250 250'),
  row('Perl Net::SMTP (verify())', 'verifies a name', ['EHLO me.test', 'VRFY gate@gate.test'], '250 252'),
  row('Perl Net::SMTP (expand())', 'expands a list', ['EHLO me.test', 'EXPN staff'], '250 500'),
  row(
    'scripts',
    'writes its verbs in small letters',
    ['ehlo me.test', 'mail from:<me@brook.test>', 'rcpt to:<gate@gate.test>'],
    '250 250 250',
  ),
  row(
    'scripts',
    'ends its commands in blanks',
    ['EHLO me.test  ', `${MAIL} `, `${RCPT}  `, 'QUIT '],
    '250 250 250 221',
  ),
  row(
    'scripts',
    'puts a tab in a command',
    ['EHLO\tme.test', 'MAIL\tFROM:<me@brook.test>'],
    '250 250',
    '500 500',
    'a command is separated by blanks (RFC 5321 \u00a74.1.1)',
  ),
  row('scripts', 'sends an empty line', ['EHLO me.test', '', MAIL], '250 500 250'),
  row(
    'libraries that start over',
    'says RSET between MAIL and RCPT',
    ['EHLO me.test', MAIL, 'RSET', RCPT],
    '250 250 250 503',
  ),
  row(
    'libraries that retry',
    'says MAIL again in a transaction',
    ['EHLO me.test', MAIL, MAIL, RCPT],
    '250 250 503 250',
  ),
  row('scripts', 'names recipients before the sender', ['EHLO me.test', RCPT], '250 503'),
  row(
    'libraries',
    'says DATA though nobody was taken',
    ['EHLO me.test', MAIL, 'DATA'],
    '250 250 554',
    '250 250 503',
    'RFC 5321 \u00a74.1.1.4 has 503 for it, and 554 for a message of nobody',
  ),
  row(
    'mailers of lists',
    'names one recipient twice',
    ['EHLO me.test', MAIL, RCPT, RCPT, 'DATA', BODY],
    '250 250 250 250 354 250',
  ),
  row(
    'proxies',
    'says a command nobody knows',
    ['EHLO me.test', 'XCLIENT ADDR=192.0.2.1', MAIL],
    '250 550 250',
    '250 500 250',
    'XCLIENT is known to Postfix, and refused',
  ),
  row('old gateways', 'asks for TURN', ['EHLO me.test', 'TURN', MAIL], '250 500 250'),
  row(
    'libraries',
    'asks for TLS that was not offered',
    ['EHLO me.test', 'STARTTLS', MAIL],
    '250 502 250',
    '250 500 250',
  ),
  row(
    'programs set to log in',
    'log in though nothing was offered',
    ['EHLO me.test', 'AUTH LOGIN', MAIL],
    '250 503 250',
    '250 334 501',
    'whoever is let in may log in as anybody: many programs cannot be told not to',
  ),
  from('PHP scripts', 'leaves a blank behind MAIL FROM:', ' <me@brook.test>', '250 250'),
  from('shell scripts', 'leaves out the brackets of the sender', 'me@brook.test', '250 250'),
  from('Sendmail', 'says AUTH=<> without a login', '<me@brook.test> AUTH=<>', '250 250'),
  from('nullmailer and Postfix', 'asks for BODY=8BITMIME', '<me@brook.test> BODY=8BITMIME', '250 250'),
  from('scripts', 'announces a size of 0', '<me@brook.test> SIZE=0', '250 250'),
  from('Exim', 'announces a size', '<me@brook.test> SIZE=1234', '250 250'),
  from('mailers of bounces', 'sends from nobody', '<>', '250 250'),
  from('libraries', 'asks for a parameter nobody knows', '<me@brook.test> XYZZY=1', '250 555'),
  from('ssmtp and scripts', 'sends from a name without a domain', '<root>', '250 250'),
  from(
    'UUCP gateways',
    'sends from a bang path',
    '<host!user>',
    '250 250',
    '250 553',
    'a bang path cannot be answered by mail of today; UUCP gateways rewrite it',
  ),
  from('mailing lists', 'sends from a VERP address', '<list-bounces+ann=x.example@brook.test>', '250 250'),
  from('Exchange', 'sends from a name with a slash and an equals sign', '<IMCEAEX-_O=FIRM/OU=A@brook.test>', '250 250'),
  to('PHP scripts', 'leaves a blank behind RCPT TO:', ' <gate@gate.test>', '250 250 250'),
  to('shell scripts', 'leaves out the brackets of the recipient', 'gate@gate.test', '250 250 250'),
  to('old gateways', 'names a source route', '<@relay.example:gate@gate.test>', '250 250 250'),
  to(
    'Postfix',
    'asks for ORCPT and NOTIFY',
    '<gate@gate.test> ORCPT=rfc822;gate@gate.test NOTIFY=NEVER',
    '250 250 250',
  ),
  to('many', 'writes the domain in capitals', '<gate@GATE.TEST>', '250 250 250'),
  to('scripts', 'ends the domain in a dot', '<gate@gate.test.>', '250 250 250'),
  to('mobile mail in Japan', 'writes to a name with two dots', '<foo..bar@gate.test>', '250 250 250'),
  to('mobile mail in Japan', 'writes to a name that ends in a dot', '<x.@gate.test>', '250 250 250'),
  to('people', 'writes to a quoted name', '<"john doe"@gate.test>', '250 250 250'),
  to('scripts', 'writes the name in front of the brackets', 'Gate <gate@gate.test>', '250 250 555', '250 250 501'),
  to(
    'mailers',
    'doubles the brackets',
    '<<gate@gate.test>>',
    '250 250 250',
    '250 250 501',
    'no two programs agree on what is meant',
  ),
];

/** The rows as docs/programs.md has them. */
export function programsTable(): string {
  const rows = ODDITIES.map(({ program, oddity, postfix, postern, why = '' }) =>
    [program, oddity, postfix, postern === postfix ? 'the same' : postern, why].join(' | '),
  );
  return ['Who | What | Postfix | Postern | Why', '--- | --- | --- | --- | ---', ...rows]
    .map((line) => `| ${line} |`.replaceAll('  |', ' |'))
    .join('\n');
}
