import fc from 'fast-check';
import { describe, expect, test } from 'vitest';
import { splits } from '../testing/index.ts';
import { createRcptFilter, FILTER_LINE_OCTETS, FILTER_PENDING, type RcptFilter } from './rcpt-filter.ts';

interface Seen {
  server: string;
  client: string;
  refused: string[];
  dropped: boolean;
  ended: boolean;
}

/** A filter and all that came out of it, behind a greeting and an EHLO already answered. */
function session(o: { domains?: string[]; offers?: string[] } = {}): {
  filter: RcptFilter;
  seen: Seen;
  client(text: string | Uint8Array): void;
  server(text: string): void;
} {
  const filter = createRcptFilter({ domains: o.domains ?? ['home.example'] });
  const seen: Seen = { server: '', client: '', refused: [], dropped: false, ended: false };
  const take = (step: ReturnType<RcptFilter['fromClient']>): void => {
    if (!seen.dropped) seen.server += step.toServer.toString('latin1');
    seen.client += step.toClient.toString('latin1');
    seen.refused.push(...step.refused);
    seen.dropped ||= step.dropServer;
    seen.ended ||= step.end;
  };
  const client = (text: string | Uint8Array): void =>
    take(filter.fromClient(typeof text === 'string' ? Buffer.from(text, 'latin1') : text));
  const server = (text: string): void => take(filter.fromServer(Buffer.from(text, 'latin1')));
  server('220 local\r\n');
  client('EHLO far\r\n');
  server(
    ['250-local', ...(o.offers ?? ['PIPELINING', 'CHUNKING'])].join('\r\n250-').replace(/250-(?=[^-]*$)/, '250 ') +
      '\r\n',
  );
  seen.server = '';
  seen.client = '';
  return { filter, seen, client, server };
}

describe('an SMTP session through the recipient filter', () => {
  test('offers only extensions whose commands the filter knows', () => {
    const filter = createRcptFilter({ domains: [] });
    filter.fromServer(Buffer.from('220 local\r\n'));
    expect(filter.fromClient(Buffer.from('ehlo far\r\n')).toServer.toString()).toBe('ehlo far\r\n');
    const reply =
      '250-local hello\r\n250-PIPELINING\r\n250-SIZE 100\r\n250-STARTTLS\r\n250-AUTH PLAIN\r\n250-XCLIENT NAME\r\n250 ETRN\r\n';
    expect(filter.fromServer(Buffer.from(reply)).toClient.toString()).toBe(
      '250-local hello\r\n250-PIPELINING\r\n250 SIZE 100\r\n',
    );
  });

  test('one message passes, refused recipients answered in their turn', () => {
    const { seen, client, server } = session();
    client(
      'MAIL FROM:<a@far.example>\r\nRCPT TO:<one@home.example>\r\nRCPT TO:<x@other.example>\r\nRCPT TO:<two@HOME.example> NOTIFY=NEVER\r\nDATA\r\n',
    );
    expect(seen.server).toBe(
      'MAIL FROM:<a@far.example>\r\nRCPT TO:<one@home.example>\r\nRCPT TO:<two@HOME.example> NOTIFY=NEVER\r\nDATA\r\n',
    );
    expect(seen.client).toBe('');
    server('250 2.1.0 Ok\r\n250 2.1.5 Ok\r\n');
    expect(seen.client).toMatch(/^250 2\.1\.0 Ok\r\n250 2\.1\.5 Ok\r\n550 5\.7\.1 [^\r]*\r\n$/);
    seen.client = '';
    server('550 5.1.1 no such user\r\n354 go\r\n');
    expect(seen.client).toBe('550 5.1.1 no such user\r\n354 go\r\n');
    client('Subject: x\r\n\r\n..dot\r\nRCPT TO:<x@other.example>\r\n.\r\nQUIT\r\n');
    expect(seen.server).toMatch(/DATA\r\nSubject: x\r\n\r\n\.\.dot\r\nRCPT TO:<x@other.example>\r\n\.\r\nQUIT\r\n$/);
    server('250 2.0.0 queued\r\n221 bye\r\n');
    expect(seen).toMatchObject({ refused: ['x@other.example'], dropped: false, ended: false });
    expect(seen.client).toContain('354 go\r\n250 2.0.0 queued\r\n221 bye\r\n');
  });

  test.each([
    ['<x@other.example>', '550'],
    ['<x@sub.home.example>', '550'],
    ['<x@home.example.evil.example>', '550'],
    ['<x%other.example@home.example>', '550'],
    ['<other.example!x@home.example>', '550'],
    ['<"x@other.example"@home.example>', '550'],
    ['<@home.example:x@other.example>', '550'],
    ['<@other.example:x@home.example>', '550'],
    ['<x@[127.0.0.1]>', '550'],
    ['<x>', '553'],
    ['<>', '553'],
    ['<x@home.example> <y@other.example>', '501'],
    ['<x@home.example>,<y@other.example>', '501'],
    ['x@home.example', '501'],
    ['<x@home.example', '501'],
    ['<"a>b"@home.example>', undefined],
    ['<"a\\"b"@home.example>', undefined],
    ['<postmaster>', undefined],
    ['<Postmaster@home.example>', undefined],
    ['<x@home.example.>', undefined],
  ])('RCPT TO:%s is answered %s', (path, code) => {
    const { seen, client } = session();
    client(`RCPT TO:${path}\r\n`);
    expect(seen.server).toBe(code === undefined ? `RCPT TO:${path}\r\n` : '');
    expect(seen.client.slice(0, 3)).toBe(code ?? '');
  });

  test('an internationalized domain is matched by its A-label', () => {
    const { seen, client } = session({ domains: ['XN--exmple-cua.de'] });
    client(Buffer.from('RCPT TO:<x@exämple.de>\r\n'));
    expect(seen.server).not.toBe('');
  });

  test.each([
    'STARTTLS',
    'AUTH PLAIN AGEAYg==',
    'XCLIENT NAME=x',
    'ETRN home.example',
    'LHLO x',
    'RCPTX',
    'rcpt\ttoo',
    '',
    ' RCPT TO:<x@other.example>',
  ])('%j never reaches the server', (line) => {
    const { seen, client } = session();
    client(`${line}\r\n`);
    expect(seen.server).toBe('');
    expect(seen.client).toMatch(/^50[12] /);
  });

  test.each(['NOOP\nRCPT TO:<x@other.example>\r\n', 'NOOP x\rRCPT TO:<x@other.example>\r\n', 'NOOP \0\r\n'])(
    '%j hides no command from the filter',
    (text) => {
      const { seen, client } = session();
      client(text);
      expect(seen.server).toBe('');
      expect(seen.client).toMatch(/^500 5\.5\.2/);
    },
  );

  test('a refused DATA leaves the session in commands', () => {
    const { filter, seen, client, server } = session();
    client('DATA\r\nRCPT TO:<x@other.example>\r\nNOOP\r\n');
    expect(filter.holding).toBe(true);
    expect(seen.server).toBe('DATA\r\n');
    server('503 no\r\n');
    expect(filter.holding).toBe(false);
    expect(seen.server).toBe('DATA\r\nNOOP\r\n');
    expect(seen.client).toMatch(/^503 no\r\n550 5\.7\.1/);
  });

  test.each(['\n.\n', '\r\n.\n', '\n.\r\n', '\r.\r', '\r\n.\r\r\n', '\r.\r\n'])(
    'text with %j never reaches its end at the server, and is answered 554',
    (trick) => {
      const { seen, client, server } = session();
      client('DATA\r\n');
      server('354 go\r\n');
      client(`text${trick}MAIL FROM:<>\r\nRCPT TO:<x@other.example>\r\n`);
      expect(seen.dropped).toBe(true);
      expect(seen.ended).toBe(false);
      server('250 smuggled\r\n');
      client('.\r\n');
      expect(seen.client).toMatch(/^354 go\r\n554 5\.6\.0 [^\r]*\r\n$/);
      expect(seen.ended).toBe(true);
      expect(seen.server).not.toMatch(/[\r\n]\.\r?\n|RCPT/);
    },
  );

  test('octets of a BDAT are no commands, and it needs CHUNKING', () => {
    const { seen, client, server } = session();
    client('BDAT 12 LAST\r\nRCPT TO:<x@zRCPT TO:<x@other.example>\r\nBDAT 0 LAST\r\nNOOP\r\n');
    expect(seen.server).toBe('BDAT 12 LAST\r\nRCPT TO:<x@zBDAT 0 LAST\r\nNOOP\r\n');
    server('250 ok\r\n');
    expect(seen.client).toMatch(/^250 ok\r\n550/);
    const without = session({ offers: ['PIPELINING'] });
    without.client('BDAT 30 LAST\r\nRCPT TO:<x@other.example>\r\n');
    expect(without.seen).toMatchObject({ server: '', ended: true, dropped: true });
  });

  test('an endless line ends the session', () => {
    const { seen, client } = session();
    client('x'.repeat(FILTER_LINE_OCTETS + 1));
    expect(seen).toMatchObject({ server: '', ended: true });
    expect(seen.client).toMatch(/^500/);
  });

  test('unanswered commands are bounded', () => {
    const { filter, seen, client, server } = session();
    client('NOOP\r\n'.repeat(FILTER_PENDING + 5));
    expect(filter.holding).toBe(true);
    expect(seen.server).toBe('NOOP\r\n'.repeat(FILTER_PENDING));
    server('250 ok\r\n'.repeat(FILTER_PENDING));
    expect(seen.server).toBe('NOOP\r\n'.repeat(FILTER_PENDING + 5));
  });

  test('a server that speaks something else ends it with 421', () => {
    const { seen, server } = session();
    server('SSH-2.0-x\r\n');
    expect(seen).toMatchObject({ ended: true, dropped: true });
    expect(seen.client).toMatch(/^421/);
  });

  const dialogue =
    'MAIL FROM:<>\r\nRCPT TO:<a@home.example>\r\nRCPT TO:<x@other.example>\r\nBDAT 5\r\n\r\n.\r\nBDAT 3 LAST\r\nabcRSET\r\nNOOP\n\r\n';
  test.each(splits(Buffer.from(dialogue)))('the same bytes give the same session, %s', (_how, chunks) => {
    const { seen, client, server } = session();
    for (const chunk of chunks) client(chunk);
    server('250 1\r\n250 2\r\n250 3\r\n250 4\r\n250 5\r\n');
    expect(seen.server).toBe(
      'MAIL FROM:<>\r\nRCPT TO:<a@home.example>\r\nBDAT 5\r\n\r\n.\r\nBDAT 3 LAST\r\nabcRSET\r\n',
    );
    expect(seen.client.split('\r\n').map((line) => line.slice(0, 5))).toEqual([
      '250 1',
      '250 2',
      '550 5',
      '250 3',
      '250 4',
      '250 5',
      '500 5',
      '502 5',
      '',
    ]);
  });

  test('whatever is sent, no RCPT of another domain reaches the server as a command', () => {
    const pieces = fc.constantFrom(
      'RCPT TO:<x@other.example>',
      'RCPT TO:<x@home.example>',
      'DATA',
      'BDAT 7',
      'NOOP',
      '\r\n',
      '\n',
      '\r',
      '.',
      '\0',
      ' ',
      'MAIL FROM:<>',
    );
    fc.assert(
      fc.property(
        fc.array(pieces, { maxLength: 30 }),
        fc.array(fc.constantFrom('250 ok\r\n', '354 go\r\n', '500 no\r\n'), { maxLength: 12 }),
        (sent, replies) => {
          const { seen, client, server } = session();
          // The far side's view: a server that takes any of CRLF, LF, CR as a line end, in commands and in text.
          for (const [index, piece] of sent.entries()) {
            client(piece);
            const reply = replies[index];
            if (reply !== undefined) server(reply);
          }
          expect(commandsOf(seen.server).filter((line) => /^RCPT TO:<.*other/i.test(line))).toEqual([]);
        },
      ),
      { numRuns: 2000 },
    );
  });
});

/** Commands a lenient server would see: text after an accepted DATA up to the first thing like an end; BDAT octets counted. */
function commandsOf(bytes: string): string[] {
  const commands: string[] = [];
  let rest = bytes;
  while (rest !== '') {
    const [line = ''] = /^[^\r\n]*(?:\r\n|\n|\r|$)/.exec(rest) ?? [];
    rest = rest.slice(line.length);
    const command = line.replace(/[\r\n]+$/, '');
    if (line === '') break;
    commands.push(command);
    const size = /^BDAT (\d+)/i.exec(command)?.[1];
    if (size !== undefined) rest = rest.slice(Number(size));
    if (command === 'DATA') {
      // Read as accepted; the tests above have the refused one.
      const end = /(?:^|\r\n|\n|\r)\.(?:\r\n|\n|\r)/.exec(rest);
      // A text without an end holds no command.
      return end === null ? commands : [...commands, ...commandsOf(rest.slice(end.index + end[0].length))];
    }
  }
  return commands;
}
