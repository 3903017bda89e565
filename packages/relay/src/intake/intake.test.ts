import { deferred, SpoolError } from '@postern/core';
import { splits } from '@postern/core/testing';
import { createTransport } from 'nodemailer';
import { describe, expect, test } from 'vitest';
import { greet, hand, listen } from './intake.test-util.ts';

const codes = (replies: string[]) => replies.map((reply) => reply.slice(0, 9).replace(/(?<=^\d{3} \d\.\d\.\d).*/, ''));

describe('the session', () => {
  test('offers what it keeps', async () => {
    const { port } = await listen();
    const client = hand(port);
    expect(await client.reply()).toBe('220 laptop.example ESMTP Postern');
    const [ehlo] = await client.say('EHLO client.example');
    expect(ehlo?.split('\r\n').map((line) => line.slice(4))).toEqual([
      ...[
        'laptop.example',
        'PIPELINING',
        '8BITMIME',
        'SMTPUTF8',
        'ENHANCEDSTATUSCODES',
        'DSN',
        'AUTH LOGIN PLAIN',
        'SIZE 104857600',
      ],
    ]);
  });

  test('takes a message, and says 250 only after it is stored', async () => {
    const stored = deferred<void>();
    const { port, taken } = await listen({ store: () => stored.promise });
    const client = await greet(port);
    expect(codes(await client.say('MAIL FROM:<me@work.example>', 'RCPT TO:<a@x.example>', 'DATA'))).toEqual([
      ...['250 2.1.0', '250 2.1.5', '354 End d'],
    ]);
    client.send('Subject: hi\r\n\r\nhello\r\n.\r\n');
    const reply = client.reply();
    expect(await Promise.race([reply, new Promise((resolve) => setImmediate(resolve, 'silence'))])).toBe('silence');
    stored.resolve();
    expect(await reply).toMatch(/^250 2\.6\.0 Ok: queued as [0-9a-v]{15}$/);
    expect(taken).toHaveLength(1);
    expect((await reply).endsWith(taken[0]?.id ?? '?')).toBe(true);
  });

  test.each([
    ['GET / HTTP/1.1'],
    ['POST /mail HTTP/1.0'],
    ['PATCH /x HTTP/2'],
    ['GET http://laptop.example/ HTTP/1.1'],
  ])('drops a browser at its first line: %s', async (line) => {
    for (const early of [true, false]) {
      const { port, taken } = await listen();
      const client = hand(port);
      if (!early) await client.reply();
      client.send(
        `${line}\r\nHost: x\r\n\r\nEHLO x\r\nMAIL FROM:<a@b.example>\r\nRCPT TO:<a@b.example>\r\nDATA\r\nx\r\n.\r\n`,
      );
      expect(await client.rest()).toMatch(/^(220 [^\r\n]*\r\n)?(421 [^\r\n]*\r\n)?$/);
      expect(taken).toEqual([]);
    }
  });

  test('closes at BDAT, whose payload is no command', async () => {
    const { port, taken } = await listen();
    const client = await greet(port);
    await client.say('MAIL FROM:<me@work.example>', 'RCPT TO:<a@x.example>');
    const evil = 'RSET\r\nMAIL FROM:<evil@x.example>\r\nRCPT TO:<b@x.example>\r\nDATA\r\nx\r\n.\r\n';
    client.send(`BDAT ${evil.length} LAST\r\n${evil}`);
    expect(await client.rest()).toMatch(/^500 5\.5\.1 [^\r\n]*\r\n$/);
    expect(taken).toEqual([]);
  });

  test('runs the queue at ETRN, outside a transaction and with a node only', async () => {
    let runs = 0;
    const { port } = await listen({ onQueueRun: () => void runs++ });
    const client = await greet(port);
    expect(client.ehlo).toMatch(/^250 ETRN$/m);
    const replies = await client.say(
      ...['ETRN', 'ETRN home.example', 'etrn @home.example', 'ETRN #deferred', 'ETRN a b', 'MAIL FROM:<>'],
      'ETRN home.example',
    );
    expect(codes(replies)).toEqual([
      ...['501 5.5.4', '250 2.0.0', '250 2.0.0', '250 2.0.0', '501 5.5.4', '250 2.1.0', '503 5.5.1'],
    ]);
    expect(runs).toBe(3);
  });

  test('does not run the queue for who has not given the password, or without a queue', async () => {
    let runs = 0;
    const admission = { type: 'password', verify: () => true } as const;
    const { port } = await listen({ admission, onQueueRun: () => void runs++ });
    expect(codes(await (await greet(port)).say('ETRN x.example'))).toEqual(['530 5.7.0']);
    expect(runs).toBe(0);
    const without = await greet((await listen()).port);
    expect(without.ehlo).not.toContain('ETRN');
    expect(codes(await without.say('ETRN x.example'))).toEqual(['502 5.5.1']);
  });

  const envelope = 'EHLO c\r\nMAIL FROM:<me@work.example>\r\nRCPT TO:<a@x.example>\r\nDATA\r\n';

  test.each(['', 'QUIT\r\n'])('answers a client that has shut its side down behind its last dot (%j)', async (quit) => {
    const stored = deferred<void>();
    const { port, taken } = await listen({ store: () => stored.promise });
    const client = hand(port);
    client.socket.allowHalfOpen = true;
    client.socket.end(`${envelope}Subject: hi\r\n\r\nhello\r\n.\r\n${quit}`);
    while (!(await client.reply()).startsWith('354'));
    stored.resolve();
    expect(await client.rest()).toMatch(quit === '' ? /^250 2\.6\.0 .*\r\n$/ : /^250 2\.6\.0 .*\r\n221 .*\r\n$/);
    expect(taken).toHaveLength(1);
  });

  test('a message that is cut off by the end of input is not taken, and the session ends at once', async () => {
    const { port, taken } = await listen();
    const client = hand(port);
    client.socket.allowHalfOpen = true;
    client.socket.end(`${envelope}Subject: hi\r\n\r\nhello\r\n`);
    expect(await client.rest()).toMatch(/\r\n354 [^\r\n]*\r\n$/);
    expect(taken).toEqual([]);
  });

  test('keeps order under pipelining, message after message', async () => {
    const { port, taken } = await listen();
    const client = await greet(port);
    const one = (n: number) =>
      `MAIL FROM:<me@work.example>\r\nRCPT TO:<a${n}@x.example>\r\nDATA\r\nSubject: ${n}\r\n\r\n${n}\r\n.\r\n`;
    client.send([1, 2, 3].map(one).join(''));
    const replies: string[] = [];
    for (let at = 0; at < 12; at++) replies.push((await client.reply()).slice(0, 3));
    expect(replies).toEqual(Array(3).fill(['250', '250', '354', '250']).flat());
    expect(taken.map(({ envelope }) => envelope.recipients[0]?.to)).toEqual([
      'a1@x.example',
      'a2@x.example',
      'a3@x.example',
    ]);
  });
});

describe('who may come in', () => {
  test('a refused peer is closed before the banner', async () => {
    const { port, events } = await listen({ admission: { type: 'refused', reason: 'uid 33' } });
    expect(await hand(port).rest()).toBe('');
    expect(events).toEqual([
      { type: 'connection-refused', peer: expect.stringMatching(/^127\.0\.0\.1:\d+$/), reason: 'uid 33' },
    ]);
  });

  test('nothing is said before the judge has spoken', async () => {
    const judged = deferred<{ type: 'open'; who: string }>();
    const { port } = await listen({ admission: () => judged.promise });
    const client = hand(port);
    const greeting = client.reply();
    expect(await Promise.race([greeting, new Promise((resolve) => setImmediate(resolve, 'silence'))])).toBe('silence');
    judged.resolve({ type: 'open', who: 'same-user' });
    expect(await greeting).toMatch(/^220 /);
  });

  test('an open peer may give any name and password', async () => {
    const { port } = await listen();
    const plain = Buffer.from('\0anybody\0whatever').toString('base64');
    const client = await greet(port);
    expect((await client.say(`AUTH PLAIN ${plain}`))[0]).toMatch(/^235 /);
    expect((await client.say('MAIL FROM:<me@work.example>'))[0]).toMatch(/^250 /);
  });

  describe('with the local password', () => {
    const admission = { type: 'password', verify: (password: string) => password === 'secret' } as const;
    const plain = (password: string) => Buffer.from(`\0me\0${password}`).toString('base64');

    test('MAIL is answered 530 until it was given', async () => {
      const { port, events } = await listen({ admission });
      const client = await greet(port);
      const replies = await client.say(
        'MAIL FROM:<me@work.example>',
        `AUTH PLAIN ${plain('wrong')}`,
        'MAIL FROM:<me@work.example>',
        `AUTH PLAIN ${plain('secret')}`,
        'MAIL FROM:<me@work.example>',
      );
      expect(codes(replies)).toEqual(['530 5.7.0', '535 5.7.8', '530 5.7.0', '235 2.7.0', '250 2.1.0']);
      expect(events.map((event) => event.type)).toEqual(['auth-failed']);
      expect(JSON.stringify(events)).not.toContain('wrong');
    });

    test('AUTH LOGIN works too', async () => {
      const { port } = await listen({ admission });
      const client = await greet(port);
      const b64 = (text: string) => Buffer.from(text).toString('base64');
      const replies = await client.say('AUTH LOGIN', b64('me'), b64('secret'), 'MAIL FROM:<me@work.example>');
      expect(replies.map((reply) => reply.slice(0, 3))).toEqual(['334', '334', '235', '250']);
    });
  });
});

describe('the envelope', () => {
  const accepted = async (mail: string, ...rcpts: string[]) => {
    const { port, taken } = await listen();
    const client = await greet(port);
    const replies = await client.say(`MAIL FROM:${mail}`, ...rcpts.map((rcpt) => `RCPT TO:${rcpt}`), 'DATA');
    if (!replies.at(-1)?.startsWith('354')) return replies;
    client.send('x: y\r\n\r\n.\r\n');
    await client.reply();
    return taken[0]?.envelope;
  };

  test('keeps DSN parameters, decoded, each recipient its own', async () => {
    expect(
      await accepted(
        '<me@work.example> RET=HDRS ENVID=Q+2BQ SIZE=10 BODY=8BITMIME',
        '<a@x.example> NOTIFY=success,failure ORCPT=rfc822;Bob+2BX@x.example',
        '<b@x.example> NOTIFY=NEVER',
      ),
    ).toEqual({
      ...{ from: 'me@work.example', ret: 'HDRS', envid: 'Q+Q', body: '8BITMIME', smtputf8: false },
      recipients: [
        { to: 'a@x.example', notify: ['SUCCESS', 'FAILURE'], orcpt: 'rfc822;Bob+X@x.example' },
        { to: 'b@x.example', notify: ['NEVER'] },
      ],
    });
  });

  test('keeps addresses apart that differ in the case of their local part, quoted ones, and A-labels', async () => {
    expect(
      await accepted(
        '<>',
        '<a@x.example>',
        '<A@x.example>',
        '<"a b"@x.example>',
        '<c@xn--bcher-kva.example>',
        '<Postmaster>',
        '<@relay.example:d@x.example>',
      ),
    ).toMatchObject({
      from: '',
      recipients: [
        ...[{ to: 'a@x.example' }, { to: 'A@x.example' }, { to: '"a b"@x.example' }],
        ...[{ to: 'c@xn--bcher-kva.example' }, { to: 'Postmaster' }, { to: 'd@x.example' }],
      ],
    });
  });

  test('takes other scripts with SMTPUTF8 only', async () => {
    const local = Buffer.from('J\u00f6rg').toString('latin1');
    const { port } = await listen();
    const client = await greet(port);
    client.send(
      Buffer.from(
        'MAIL FROM:<me@work.example>\r\nRCPT TO:<J\u00f6rg@x.example>\r\nRCPT TO:<j@b\u00fccher.example>\r\n',
      ),
    );
    await client.reply();
    expect(await client.reply()).toMatch(/^553 5\.6\.7 /);
    expect(await client.reply()).toMatch(/^250 /);
    client.send(Buffer.from('RSET\r\nMAIL FROM:<me@work.example> SMTPUTF8\r\nRCPT TO:<J\u00f6rg@x.example>\r\n'));
    expect(codes([await client.reply(), await client.reply(), await client.reply()])).toEqual([
      '250 2.0.0',
      '250 2.1.0',
      '250 2.1.5',
    ]);
    expect(local).toHaveLength(5);
  });

  test.each([
    ['MAIL FROM:<me@work.example> FOO=1', /^555 5\.5\.4 /],
    ['MAIL FROM:<me@work.example> SIZE=1 SIZE=2', /^501 5\.5\.4 /],
    ['MAIL FROM:<me@work.example> ENVID=+zz', /^501 5\.5\.4 /],
    ['MAIL FROM:<me@work.example> SIZE=999999999999', /^552 5\.3\.4 /],
    ['MAIL FROM:<me@@work.example>', /^553 5\.1\.7 /],
    ['MAIL FROM:me@work.example', /^250 2\.1\.0 /],
    ['MAIL FROM:me@work.example SIZE=10', /^250 2\.1\.0 /],
    ['MAIL FROM:<root>', /^250 2\.1\.0 /],
    ['MAIL FROM:me@work.example <x@y.example>', /^555 /],
    ['MAIL FROM:"a b"@work.example', /^501 5\.1\.7 /],
    ['MAIL FROM:a@b@work.example', /^501 5\.1\.7 /],
    ['MAIL FROM:root', /^501 5\.1\.7 /],
    ['MAIL FROM:<host!user>', /^553 5\.1\.7 /],
    ['MAIL FROM:<me@work.example> AUTH=<>', /^250 /],
  ])('%s is answered properly', async (command, reply) => {
    const { port } = await listen();
    expect((await (await greet(port)).say(command))[0]).toMatch(reply);
  });

  test('a recipient no route takes is refused at RCPT, the others go on', async () => {
    const { port, taken, events } = await listen({ match: ['x.example'] });
    const client = await greet(port);
    const replies = await client.say(
      'MAIL FROM:<me@work.example>',
      'RCPT TO:<a@y.example>',
      'RCPT TO:<a@x.example>',
      'DATA',
    );
    expect(codes(replies)).toEqual(['250 2.1.0', '550 5.7.1', '250 2.1.5', '354 End d']);
    client.send('.\r\n');
    await client.reply();
    expect(taken[0]?.envelope.recipients).toEqual([{ to: 'a@x.example' }]);
    expect(events[0]).toMatchObject({ type: 'rejected', code: 550, path: 'a@y.example' });
  });
});

describe('the message', () => {
  const sent = async (wire: string | Uint8Array[], o: Parameters<typeof listen>[0] = {}) => {
    const { port, taken } = await listen(o);
    const client = await greet(port);
    await client.say('MAIL FROM:<me@work.example>', 'RCPT TO:<a@x.example>', 'DATA');
    for (const part of [wire].flat()) client.send(part as string);
    return { reply: await client.reply(), text: taken[0]?.text, client, taken };
  };

  test('gets a trace line that names nobody, and Message-ID and Date when they are missing', async () => {
    const { text, taken } = await sent('Subject: hi\r\n\r\nhello\r\n.\r\n');
    const id = taken[0]?.id;
    expect(text?.split('\r\n')).toEqual([
      'Received: from localhost by laptop.example (Postern)',
      `\twith ESMTP id ${id};`,
      expect.stringMatching(/^\t\w{3}, \d\d \w{3} \d{4} \d\d:\d\d:\d\d \+0000$/),
      `Message-ID: <${id}@laptop.example>`,
      expect.stringMatching(/^Date: /),
      ...['Subject: hi', '', 'hello', ''],
    ]);
    expect(text).not.toContain('127.0.0.1');
    expect(text).not.toContain('client.example');
  });

  test('keeps its own Message-ID and Date, however written', async () => {
    const { text } = await sent(
      'message-id : <1@x>\r\nDATE:\r\n\tMon, 1 Jan 2026 00:00:00 +0000\r\n\r\nhello\r\n.\r\n',
    );
    expect(text?.replace(/^Received.*\r\n(?:\t.*\r\n)*/, '')).toBe(
      'message-id : <1@x>\r\nDATE:\r\n\tMon, 1 Jan 2026 00:00:00 +0000\r\n\r\nhello\r\n',
    );
  });

  test.each([
    ['no header', 'hello\r\n', '\r\nhello\r\n'],
    ['an empty header', '\r\nDate: in the body\r\n', '\r\nDate: in the body\r\n'],
    ['nothing at all', '', ''],
    ['a header only', 'Subject: x\r\n', 'Subject: x\r\n'],
    [
      'the line of an mbox',
      'From ann@x Fri Nov 27 12:00:00 2026\r\nSubject: x\r\n\r\nhi\r\n',
      'Subject: x\r\n\r\nhi\r\n',
    ],
    ['a quoted line of an mbox', '>From ann@x\r\nSubject: x\r\n\r\nhi\r\n', 'Subject: x\r\n\r\nhi\r\n'],
    ['text that starts like one', 'From here on\r\nno header\r\n', '\r\nFrom here on\r\nno header\r\n'],
  ])('with %s stays apart from what is put in front', async (_name, body, rest) => {
    const { text } = await sent(`${body}.\r\n`);
    expect(text).toMatch(/^Received: [\s\S]*\r\nMessage-ID: [\s\S]*\r\nDate: [^\r\n]*\r\n/);
    expect(text?.replace(/^[\s\S]*?\r\nDate: [^\r\n]*\r\n/, '')).toBe(rest);
  });

  test.each(
    splits(
      Buffer.from(
        'A: b\r\nMessage-ID: <1@x>\r\nDate: x\r\n\r\n..one\r\n...\r\n\xe4\r\n.. .\r\nlast\r\n.\r\n',
        'latin1',
      ),
      4,
    ),
  )('is kept byte for byte but for the stuffed dots (%s)', async (_name, chunks) => {
    const { text } = await sent(chunks);
    expect(text?.replace(/^Received.*\r\n(?:\t.*\r\n)*/, '')).toBe(
      'A: b\r\nMessage-ID: <1@x>\r\nDate: x\r\n\r\n.one\r\n..\r\n\xe4\r\n. .\r\nlast\r\n',
    );
  });

  test.each([
    ['a bare LF', 'a\nb\r\n'],
    ['a bare LF before a dot', 'a\n..b\r\n'],
    ['a bare CR', 'a\rb\r\n'],
    ['a NUL', 'a\0b\r\n'],
    ['LF.LF', 'x\n.\nMAIL FROM:<evil@x.example>\r\n'],
    ['LF.CRLF', 'x\n.\r\nMAIL FROM:<evil@x.example>\r\n'],
    ['CR.CR', 'x\r.\rMAIL FROM:<evil@x.example>\r\n'],
    ['CRLF.LF', 'x\r\n.\nMAIL FROM:<evil@x.example>\r\n'],
    ['CRLF.CR', 'x\r\n.\rMAIL FROM:<evil@x.example>\r\n'],
    ['CR.CRLF', 'x\r.\r\nMAIL FROM:<evil@x.example>\r\n'],
  ])('with %s is refused after DATA with what to do, as one message at every split', async (_name, wire) => {
    for (const [, chunks] of splits(Buffer.from(`Subject: x\r\n\r\n${wire}.\r\n`), 2)) {
      const { reply, client, taken } = await sent(chunks);
      expect(reply).toMatch(/^554 5\.6\.0 Message refused: line \d+ (has|is) .*; (send|encode) /);
      expect(taken).toEqual([]);
      expect(codes(await client.say('NOOP', 'MAIL FROM:<me@work.example>'))).toEqual(['250 2.0.0', '250 2.1.0']);
    }
  });

  test.each(['encode', 'keep', 'refuse'] as const)('with a long line, at every split: %s', async (longLines) => {
    const said: (boolean | undefined)[] = [];
    const text = `Subject: x\r\n\r\nshort\r\n${'x'.repeat(999)}\r\n`;
    for (const [, chunks] of splits(Buffer.from(`${text}.\r\n`), 2)) {
      const { reply, taken } = await sent(chunks, { longLines, told: (it) => said.push(it) });
      if (longLines === 'refuse') {
        expect(reply).toBe(
          '554 5.6.0 Message refused: line 4 is longer than 998 octets; encode the part as quoted-printable or base64',
        );
      } else expect(reply).toMatch(/^250 /);
      // What is in the spool is what came: it is encoded on its way out.
      expect(taken.map((one) => one.text.endsWith(text.slice(text.indexOf('\r\n\r\n'))))).toEqual(
        longLines === 'refuse' ? [] : [true],
      );
    }
    expect(new Set(said)).toEqual(new Set(longLines === 'refuse' ? [] : [longLines === 'encode']));
  });

  test('from a name without a domain is from this machine', async () => {
    const { port, taken } = await listen();
    const client = await greet(port);
    await client.say('MAIL FROM:<root>', 'RCPT TO:<you@far.example>', 'DATA');
    client.send('Subject: x\r\n\r\n.\r\n');
    await client.say('NOOP');
    expect(taken.map(({ envelope }) => envelope.from)).toEqual(['root@laptop.example']);
  });

  test.each(['encode', 'keep', 'refuse'] as const)('a NUL behind a long line is refused: %s', async (longLines) => {
    const { reply, taken } = await sent(`a: b\r\n\r\n${'x'.repeat(2000)}\0\r\n.\r\n`, { longLines });
    expect(reply).toMatch(/^554 5\.6\.0 /);
    expect(taken).toEqual([]);
  });

  test('of 998 octets a line is taken', async () => {
    expect((await sent(`a: b\r\n\r\n${'x'.repeat(998)}\r\n.\r\n`)).reply).toMatch(/^250 /);
  });

  test('that grows too large is refused, and the session goes on', async () => {
    const { reply, client, taken } = await sent(`a: b\r\n\r\n${'x\r\n'.repeat(1000)}.\r\n`, { sizeLimit: 1000 });
    expect(reply).toMatch(/^552 5\.3\.4 /);
    expect(taken).toEqual([]);
    expect((await client.say('NOOP'))[0]).toMatch(/^250 /);
  });

  test.each([
    [new SpoolError('full', { code: 'no-space' }), /^452 4\.3\.1 /],
    [new SpoolError('broken', { code: 'io' }), /^451 4\.3\.0 /],
    [new Error('bug with /secret/path'), /^451 4\.3\.0 (?!.*secret)/],
  ])('the spool does not take is deferred: %s', async (error, expected) => {
    const { reply, client } = await sent('a: b\r\n\r\nx\r\n.\r\n', { store: () => Promise.reject(error) });
    expect(reply).toMatch(expected);
    expect((await client.say('NOOP'))[0]).toMatch(/^250 /);
  });

  test('cut off in the middle is not taken', async () => {
    const { port, taken, intake, events } = await listen();
    const client = await greet(port);
    await client.say('MAIL FROM:<me@work.example>', 'RCPT TO:<a@x.example>', 'DATA');
    client.send('Subject: x\r\n\r\nhalf');
    client.socket.destroy();
    while (intake.sessions > 0) await new Promise(setImmediate);
    await intake.close();
    expect(taken).toEqual([]);
    expect(events).toMatchObject([
      {
        type: 'rejected',
        peer: expect.stringMatching(/^127\.0\.0\.1:\d+$/),
        text: expect.stringContaining('client left'),
      },
    ]);
  });
});

describe('closing', () => {
  test('ends sessions at rest with 421, and waits for the reply of a message being stored', async () => {
    const stored = deferred<void>();
    const committing = deferred<void>();
    const store = () => {
      committing.resolve();
      return stored.promise;
    };
    const { port, intake } = await listen({ store });
    const resting = await greet(port);
    const busy = await greet(port);
    await busy.say('MAIL FROM:<me@work.example>', 'RCPT TO:<a@x.example>', 'DATA');
    busy.send('a: b\r\n\r\nx\r\n.\r\n');
    // The message is all here once the commit is what the reply waits for.
    await committing.promise;
    let closed = false;
    const closing = intake.close({ graceMs: 0 }).then(() => {
      closed = true;
    });
    expect(await resting.reply()).toMatch(/^421 4\.3\.2 /);
    expect(closed).toBe(false);
    stored.resolve();
    expect(await busy.reply()).toMatch(/^250 /);
    expect(await busy.rest()).toBe('');
    await closing;
    expect(await hand(port).rest()).toBe('');
  });

  test('gives up a message that is still coming when the time is over', async () => {
    const { port, intake, taken } = await listen();
    const client = await greet(port);
    await client.say('MAIL FROM:<me@work.example>', 'RCPT TO:<a@x.example>', 'DATA');
    client.send('a: b\r\n\r\nhalf');
    await intake.close({ graceMs: 0 });
    await client.rest();
    expect(taken).toEqual([]);
  });
});

test('Nodemailer sends through it, attachments, DSN and all', async () => {
  const { port, taken } = await listen();
  const transport = createTransport({ host: '127.0.0.1', port, auth: { user: 'any', pass: 'thing' } });
  const info = await transport.sendMail({
    from: 'me@work.example',
    to: ['a@x.example', 'B\u00fccher <b@b\u00fccher.example>'],
    subject: 'Gr\u00fc\u00dfe',
    text: `.dots\n..more\n${'long '.repeat(400)}\n`,
    attachments: [{ filename: 'x.bin', content: Buffer.from(Array.from({ length: 5000 }, (_, at) => at % 256)) }],
    dsn: { id: 'id+1', return: 'headers', notify: ['failure', 'delay'], recipient: 'me@work.example' },
  });
  expect(info.accepted).toHaveLength(2);
  expect(taken[0]?.envelope).toMatchObject({ from: 'me@work.example', ret: 'HDRS', envid: 'id+1' });
  expect(taken[0]?.envelope.recipients.map(({ to }) => to)).toEqual(['a@x.example', 'b@xn--bcher-kva.example']);
  expect(taken[0]?.text).toContain('\r\n.dots\r\n..more\r\n');
  transport.close();
});
