import { describe, expect, test } from 'vitest';
import { seededRandom, splits } from '../../testing/index.ts';
import { Tap, type TapActions } from './tap.ts';

const CAPABILITIES = ['IMAP4rev1', 'ESEARCH', 'UIDPLUS', 'LITERAL+'];
const ZONE = { capabilities: CAPABILITIES, isFenced: true };

/** A tap and what has come out of it, as text. */
class Stand {
  readonly tap = new Tap({ capabilities: CAPABILITIES, prefix: 'P' });
  toClient = '';
  toFar = '';
  ends: string[] = [];
  carried = 0;
  client(text: string): this {
    return this.#take(this.tap.fromClient(Buffer.from(text, 'latin1')));
  }
  far(text: string): this {
    return this.#take(this.tap.fromFar(Buffer.from(text, 'latin1')));
  }
  lost(): this {
    return this.#take(this.tap.lost('the line died'));
  }
  reopened(o: Partial<typeof ZONE> = {}): this {
    return this.#take(this.tap.reopened({ ...ZONE, ...o }));
  }
  /** Gives up what went to the client so far. */
  told(): string {
    const { toClient } = this;
    this.toClient = '';
    return toClient;
  }
  asked(): string {
    const { toFar } = this;
    this.toFar = '';
    return toFar;
  }
  #take({ toClient, toFar, end, carried }: TapActions): this {
    this.toClient += Buffer.concat(toClient).toString('latin1');
    this.toFar += Buffer.concat(toFar).toString('latin1');
    if (end !== undefined) this.ends.push(end.why);
    if (carried === true) this.carried++;
    return this;
  }
}

const uids = (count: number, first = 1): string => (count === 0 ? '' : ` ALL ${first}:${first + count - 1}`);

/** With a mailbox of `count` messages, UIDs from 1, selected. */
function selected(count = 5): Stand {
  const stand = new Stand().client('a SELECT INBOX\r\n');
  stand.far(`* ${count} EXISTS\r\n* OK [UIDVALIDITY 7] x\r\na OK [READ-WRITE] done\r\n`);
  stand.far(`* ESEARCH (TAG "P1") UID${uids(count)}\r\nP1 OK done\r\n`);
  stand.told();
  stand.asked();
  return stand;
}

/** A new session in which the mailbox holds `set`; `flags` are the answer to the question for them. */
function cross(stand: Stand, count: number, set: string, flags = ''): Stand {
  stand.lost().reopened();
  const tags = [...stand.asked().matchAll(/^(P\d+) /gm)].map(([, tag]) => tag);
  expect(tags.length).toBe(3);
  return stand.far(
    `* ${count} EXISTS\r\n* 0 RECENT\r\n* OK [UIDVALIDITY 7] x\r\n${tags[0]} OK [READ-WRITE] done\r\n` +
      `* ESEARCH (TAG "${tags[1]}") UID${set === '' ? '' : ` ALL ${set}`}\r\n${flags}${tags[2]} OK done\r\n${tags[1]} OK done\r\n`,
  );
}

describe('while nothing is carried over, what comes out is what went in', () => {
  const CLIENT =
    'a NOOP\r\nb APPEND Sent {3+}\r\nabcx\r\nc UID FETCH 1:* (FLAGS)\r\nd IDLE\r\nDONE\r\ne SEARCH SUBJECT {3}\r\n\r\na\r\n' +
    'f X-ODD {2+}\r\nzz more\r\ng NOOP\r\nh FETCH 1 BODY[]\r\n';
  const FAR =
    '* 3 EXISTS\r\na OK x\r\n* 1 FETCH (FLAGS (\\Seen) UID 4)\r\nb OK [APPENDUID 7 9] {5}\r\nc OK x\r\n+ idling\r\nd OK\r\n+ go\r\n* SEARCH 1 2\r\ne OK x\r\n' +
    'f BAD what\r\ng NO {3}\r\n* 1 FETCH (BODY[] {12}\r\n* 1 EXPUNGE\r\n)\r\nh OK x\r\n* garbage\r\n%%\r\n';
  test.each(splits(Buffer.from(FAR, 'latin1')))('from the far side, %s', (_how, chunks) => {
    const stand = new Stand().client(CLIENT);
    for (const chunk of chunks) stand.far(Buffer.from(chunk).toString('latin1'));
    expect(stand.toClient).toBe(FAR);
  });

  test.each(splits(Buffer.from(CLIENT, 'latin1')))(
    'from the client, %s, but for questions of our own',
    (_how, chunks) => {
      const stand = new Stand();
      for (const chunk of chunks) stand.client(Buffer.from(chunk).toString('latin1'));
      // The APPEND's end waits for the answer to the question before it, a literal for its `+`.
      for (const line of ['* STATUS Sent (UIDNEXT 9 UIDVALIDITY 7)', 'P1 OK x', '+ idling', '+ go'])
        stand.far(`${line}\r\n`);
      expect(stand.toFar.replace(/^P1 .*\r\n/m, '')).toBe(CLIENT);
    },
  );

  test.each([1, 2, 3, 4, 5, 6, 7, 8])('random octets, seed %i', (seed) => {
    const random = seededRandom(seed);
    const signs = [
      '* ',
      '1 ',
      'FETCH',
      ' {4}\r\n',
      '\r\n',
      'a ',
      'OK ',
      '+',
      'NOOP',
      '(',
      '"',
      ' EXISTS',
      '\0',
      'é',
      'BYE',
      '%',
    ];
    const make = (): string => Array.from({ length: 300 }, () => signs[Math.floor(random() * signs.length)]).join('');
    const far = `${make()}\r\n`;
    const stand = new Stand();
    for (const [, chunks] of splits(Buffer.from(far, 'latin1')).slice(2, 3)) {
      for (const chunk of chunks) stand.far(Buffer.from(chunk).toString('latin1'));
    }
    expect(far.startsWith(stand.toClient)).toBe(true);
    expect(far.length - stand.toClient.length).toBeLessThan(200);
  });

  test('a session that has become untrackable passes on as it is, whatever was held', () => {
    const stand = new Stand().client('a COMPRESS DEFLATE\r\n').far('a OK DEFLATE act');
    stand.far('ive\r\n\0\x01\x02').client('\x03\x04');
    expect([stand.toClient, stand.toFar]).toEqual([
      'a OK DEFLATE active\r\n\0\x01\x02',
      'a COMPRESS DEFLATE\r\n\x03\x04',
    ]);
    expect(stand.tap.isPlain).toBe(true);
    expect(stand.lost().told()).not.toContain('BYE');
    expect(stand.ends.length).toBe(1);
  });

  test('compression is not offered', () => {
    const stand = new Stand()
      .client('a CAPABILITY\r\n')
      .far('* CAPABILITY IMAP4rev1 COMPRESS=DEFLATE IDLE\r\na OK x\r\n');
    expect(stand.toClient).toBe('* CAPABILITY IMAP4rev1 IDLE\r\na OK x\r\n');
  });
});

describe('the map of a mailbox', () => {
  test('is asked for in the same write as the SELECT, and its answer is for nobody else', () => {
    const stand = new Stand().client('a SELECT INBOX\r\n');
    expect(stand.asked()).toBe('a SELECT INBOX\r\nP1 UID SEARCH RETURN (ALL) ALL\r\n');
    stand.far('* 2 EXISTS\r\na OK x\r\n* ESEARCH (TAG "P1") UID ALL 4,9\r\nP1 OK x\r\n');
    expect(stand.told()).toBe('* 2 EXISTS\r\na OK x\r\n');
  });

  test('grows with what arrives, but not in IDLE', () => {
    const stand = selected(2).client('b IDLE\r\n').far('+ idling\r\n* 3 EXISTS\r\n');
    expect(stand.asked()).toBe('b IDLE\r\n');
    stand.client('DONE\r\n').far('b OK x\r\n');
    expect(stand.asked()).toBe('DONE\r\nP2 FETCH 3:3 (UID)\r\n');
    stand.told();
    expect(stand.far('* 3 FETCH (UID 30)\r\nP2 OK x\r\n').told()).toBe('');
  });

  test('is not taken in by a server that answers a FETCH before the SEARCH ahead of it (Dovecot 2.3.19)', () => {
    const stand = new Stand().client('a SELECT INBOX\r\nb FETCH 1 (UID)\r\n');
    stand.far('* 1 EXISTS\r\n* OK [UIDVALIDITY 7] x\r\na OK [READ-WRITE] x\r\n* 1 FETCH (UID 1)\r\nb OK x\r\n');
    stand.far('* ESEARCH (TAG "P1") UID ALL 1\r\nP1 OK x\r\n').asked();
    expect(stand.told()).toContain('* 1 FETCH (UID 1)\r\nb OK x\r\n');
    expect(cross(stand, 1, '1').carried).toBe(1);
  });
});

describe('a session that is carried over', () => {
  test('says nothing when nothing has changed', () => {
    const stand = cross(selected(), 5, '1:5');
    expect([stand.told(), stand.carried, stand.asked()]).toEqual(['', 1, '']);
  });

  test('tells what is new at once', () =>
    expect(cross(selected(), 7, '1:5,8:9').told()).toBe('* 7 EXISTS\r\n* 0 RECENT\r\n'));

  test.each([
    ['NOOP', 'b NOOP\r\n', '* 4 EXPUNGE\r\n* 2 EXPUNGE\r\n'],
    ['UID FETCH', 'b UID FETCH 1:* (FLAGS)\r\n', '* 4 EXPUNGE\r\n* 2 EXPUNGE\r\n'],
    ['nothing', '', ''],
    ['FETCH', 'b FETCH 1 (FLAGS)\r\n', ''],
    ['SEARCH', 'b SEARCH ALL\r\n', ''],
    ['STORE', 'b STORE 1 +FLAGS (\\Seen)\r\n', ''],
  ])('tells what is gone only when it may: %s', (_name, command, told) => {
    const stand = cross(selected(), 3, '1,3,5');
    expect(stand.told()).toBe('');
    expect(stand.client(command).told()).toBe(told);
  });

  test('has its numbers translated until then, both ways', () => {
    const stand = cross(selected(), 3, '1,3,5');
    expect(stand.client('b FETCH 3:5 (FLAGS)\r\n').asked()).toBe('b FETCH 2:3 (FLAGS)\r\n');
    stand.far('* 2 FETCH (FLAGS (\\Seen))\r\n* 3 FETCH (FLAGS ())\r\nb OK x\r\n');
    expect(stand.told()).toBe(
      '* 3 FETCH (FLAGS (\\Seen))\r\n* 5 FETCH (FLAGS ())\r\nb NO [EXPUNGEISSUED] Some of the messages no longer exist\r\n',
    );
    expect(stand.client('c STORE 4 +FLAGS (x)\r\n').told()).toMatch(/^c NO \[EXPUNGEISSUED\]/);
    expect(stand.client('d SEARCH 1:5 LARGER 3\r\n').asked()).toBe('d SEARCH 1:3 LARGER 3\r\n');
    expect(stand.far('* SEARCH 1 3\r\nd OK x\r\n').told()).toBe('* SEARCH 1 5\r\nd OK x\r\n');
    expect(stand.client('e NOOP\r\n').told()).toBe('* 4 EXPUNGE\r\n* 2 EXPUNGE\r\n');
    expect(stand.far('e OK x\r\n').client('f FETCH 3 (UID)\r\n').asked()).toContain('f FETCH 3 (UID)\r\n');
  });

  test('tells flags that others have changed, and only those it had told before', () => {
    const stand = selected();
    stand
      .client('b FETCH 1:2 (FLAGS)\r\n')
      .far('* 1 FETCH (FLAGS ())\r\n* 2 FETCH (FLAGS (\\Seen))\r\nb OK x\r\n')
      .told();
    const flags = '* 1 FETCH (FLAGS (\\Seen))\r\n* 2 FETCH (FLAGS (\\Seen \\Recent))\r\n* 3 FETCH (FLAGS (\\Seen))\r\n';
    stand.asked();
    expect(cross(stand, 5, '1:5', flags).told()).toBe('* 1 FETCH (FLAGS (\\Seen))\r\n');
  });

  test('takes IDLE up again without a second +', () => {
    const stand = selected().client('b IDLE\r\n').far('+ idling\r\n');
    stand.told();
    stand.asked();
    cross(stand, 4, '1:3,5');
    expect([stand.told(), stand.asked()]).toEqual(['* 4 EXPUNGE\r\n', 'b IDLE\r\n']);
    expect(stand.far('+ idling\r\n* 5 EXISTS\r\n').told()).toBe('* 5 EXISTS\r\n');
    expect(stand.client('DONE\r\n').far('b OK x\r\n').told()).toBe('b OK x\r\n');
  });

  test('answers DONE that came while the line was down', () => {
    const stand = selected().client('b IDLE\r\n').far('+ idling\r\n');
    stand.told();
    stand.asked();
    stand.lost().client('DONE\r\nc NOOP\r\n').reopened();
    const [, , third] = [...stand.asked().matchAll(/^(P\d+) /gm)].map(([, tag]) => tag);
    expect(third).toBe('P4');
    stand.far(
      '* 5 EXISTS\r\n* OK [UIDVALIDITY 7] x\r\nP2 OK [READ-WRITE] x\r\n* ESEARCH (TAG "P3") UID ALL 1:5\r\nP3 OK x\r\nP4 OK x\r\n',
    );
    expect([stand.told(), stand.asked()]).toEqual(['b OK Idle completed.\r\n', 'c NOOP\r\n']);
  });

  test('gives an answer once, whatever of it had come', () => {
    const stand = selected().client('b SEARCH ALL\r\n').far('* SEARCH 1 2 3 4 5\r\n');
    expect(stand.told()).toBe('');
    stand.asked();
    cross(stand, 5, '1:5');
    expect(stand.asked()).toBe('b SEARCH ALL\r\n');
    expect(stand.far('* SEARCH 1 2 3 4 5\r\nb OK x\r\n').told()).toBe('* SEARCH 1 2 3 4 5\r\nb OK x\r\n');
  });

  test.each([
    ['in the body', 'hell', 'o world!)\r\n'],
    ['behind the body', 'hello world!', ')\r\n'],
    ['at its first octet', '', 'hello world!)\r\n'],
  ])('goes on with a response that was cut, at its octet: %s', (_where, given, left) => {
    const stand = selected().client('b FETCH 1:3 (BODY[])\r\n').far('* 1 FETCH (BODY[] {2}\r\nhi)\r\n');
    stand.far(`* 2 FETCH (BODY[] {12}\r\n${given}`);
    expect(stand.told()).toBe(`* 1 FETCH (BODY[] {2}\r\nhi)\r\n* 2 FETCH (BODY[] {12}\r\n${given}`);
    stand.asked();
    cross(stand, 6, '1:5,9');
    expect(stand.asked()).toBe('P5 FETCH 2 (BODY[])\r\n');
    stand.far('* 6 EXISTS\r\n* 2 FETCH (FLAGS (\\Seen) BODY[] {12}\r\nhello world!)\r\nP5 OK x\r\n');
    expect(stand.told()).toBe(`${left}* 6 EXISTS\r\n* 0 RECENT\r\n* 6 EXISTS\r\n`);
    expect(stand.asked()).toBe('b FETCH 3 (BODY[])\r\n');
    expect(stand.far('* 3 FETCH (BODY[] {2}\r\nyo)\r\nb OK x\r\n').told()).toBe(
      '* 3 FETCH (BODY[] {2}\r\nyo)\r\nb OK x\r\n',
    );
  });

  test('ends without a word when the message is not what it was', () => {
    const stand = selected().client('b FETCH 2 (BODY[])\r\n').far('* 2 FETCH (BODY[] {12}\r\nhell');
    stand.told();
    stand.asked();
    cross(stand, 5, '1:5').far('* 2 FETCH (BODY[] {9}\r\nhell');
    expect([stand.told(), stand.ends]).toEqual(['', ['a message is not what it was']]);
  });
});

describe('what cannot be made true ends with BYE', () => {
  test.each<[string, (stand: Stand) => Stand]>([
    [
      'a mailbox made anew',
      (s) =>
        s.far(
          '* 5 EXISTS\r\n* OK [UIDVALIDITY 8] x\r\nP2 OK [READ-WRITE] x\r\n* ESEARCH (TAG "P3") UID ALL 1:5\r\nP3 OK\r\nP4 OK\r\n',
        ),
    ],
    ['a mailbox that is gone', (s) => s.far('P2 NO x\r\nP3 BAD x\r\nP4 BAD x\r\n')],
    [
      'one that may only be read now',
      (s) =>
        s.far(
          '* 5 EXISTS\r\n* OK [UIDVALIDITY 7] x\r\nP2 OK [READ-ONLY] x\r\n* ESEARCH (TAG "P3") UID ALL 1:5\r\nP3 OK\r\nP4 OK\r\n',
        ),
    ],
    [
      'an old message that comes back',
      (s) =>
        s.far(
          '* 6 EXISTS\r\n* OK [UIDVALIDITY 7] x\r\nP2 OK [READ-WRITE] x\r\n* ESEARCH (TAG "P3") UID ALL 0:5\r\nP3 OK\r\nP4 OK\r\n',
        ),
    ],
    [
      'a map that does not fit',
      (s) => s.far('* 6 EXISTS\r\n* OK [UIDVALIDITY 7] x\r\nP2 OK [READ-WRITE] x\r\nP3 BAD\r\nP4 OK\r\n'),
    ],
  ])('%s', (_name, answer) => {
    const stand = selected().lost().reopened();
    expect(answer(stand).toClient).toMatch(/^\* BYE \[UNAVAILABLE\] [^\r\n]+\r\n$/);
    expect(stand.ends.length).toBe(1);
  });

  test('a capability that is gone', () =>
    expect(
      selected()
        .lost()
        .reopened({ capabilities: ['IMAP4rev1'] }).ends,
    ).toEqual(['the far side no longer has ESEARCH']));

  test.each([
    ['STORE 1 +FLAGS (\\Seen)', true],
    ['EXPUNGE', true],
    ['NOOP', false],
    ['FETCH 1 (FLAGS)', false],
  ])('%s under way, and the old session not proven over: %s', (command, isOver) => {
    const stand = selected().client(`b ${command}\r\n`).lost();
    expect(stand.tap.needsFence).toBe(isOver);
    expect(stand.reopened({ isFenced: false }).ends.length).toBe(isOver ? 1 : 0);
  });

  test.each(['NOTIFY NONE', 'X-SECRET'])('a command that is not known, under way: %s', (command) => {
    expect(selected().client(`b ${command}\r\n`).lost().toClient).toMatch(/^\* BYE /);
  });
});

describe('an APPEND that was under way', () => {
  const MESSAGE = 'Message-ID: <1@x>\r\n\r\nhello\r\n';
  const begun = (): Stand => {
    const stand = new Stand().client(`a APPEND Sent {${MESSAGE.length}+}\r\n${MESSAGE}\r\n`);
    expect(stand.asked()).toBe(
      `P1 STATUS "Sent" (UIDNEXT UIDVALIDITY)\r\na APPEND Sent {${MESSAGE.length}+}\r\n${MESSAGE}`,
    );
    expect(stand.far('* STATUS Sent (UIDNEXT 4 UIDVALIDITY 9)\r\nP1 OK x\r\n').asked()).toBe('\r\n');
    stand.lost().reopened();
    expect(stand.asked()).toBe('P2 EXAMINE "Sent"\r\nP3 UID SEARCH RETURN (ALL) UID 4:*\r\n');
    return stand;
  };
  const examined = '* OK [UIDVALIDITY 9] x\r\nP2 OK [READ-ONLY] x\r\n';

  test('and is not there is given again', () => {
    const stand = begun().far(`${examined}* ESEARCH (TAG "P3") UID ALL 3\r\nP3 OK x\r\n`);
    expect(stand.asked()).toBe('P4 CLOSE\r\n');
    stand.far('P4 OK x\r\n');
    expect(stand.asked()).toBe(`a APPEND Sent {${MESSAGE.length}+}\r\n${MESSAGE}\r\n`);
    expect(stand.far('a OK [APPENDUID 9 4] x\r\n').told()).toBe('a OK [APPENDUID 9 4] x\r\n');
  });

  test('and is there is answered with its UID, and not given again', () => {
    const stand = begun().far(`${examined}* ESEARCH (TAG "P3") UID ALL 4\r\nP3 OK x\r\n`);
    expect(stand.asked()).toMatch(/^P4 UID FETCH 4 \(RFC822.SIZE/);
    stand.far(
      `* 1 FETCH (UID 4 RFC822.SIZE ${MESSAGE.length} BODY[HEADER.FIELDS (MESSAGE-ID)] {21}\r\nMessage-ID: <1@x>\r\n\r\n)\r\nP4 OK x\r\n`,
    );
    expect(stand.asked()).toBe('P5 UID FETCH 4 (BODY.PEEK[])\r\n');
    stand.far(`* 1 FETCH (UID 4 BODY[] {${MESSAGE.length}}\r\n${MESSAGE})\r\nP5 OK x\r\n`).far('P6 OK closed\r\n');
    expect(stand.told()).toBe('a OK [APPENDUID 9 4] Append completed.\r\n');
    expect(stand.asked()).toBe('P6 CLOSE\r\n');
  });

  test('and may be there in another form is said to be unknown, and the session goes on', () => {
    const stand = begun().far(`${examined}* ESEARCH (TAG "P3") UID ALL 4\r\nP3 OK x\r\n`);
    stand.far(
      `* 1 FETCH (UID 4 RFC822.SIZE 99 BODY[HEADER.FIELDS (MESSAGE-ID)] {21}\r\nMessage-ID: <1@x>\r\n\r\n)\r\nP4 OK x\r\n`,
    );
    stand.far('* 1 FETCH (UID 4 BODY[] {3}\r\nabc)\r\nP5 OK x\r\n').far('P6 OK closed\r\n');
    expect(stand.told()).toMatch(/^a NO \[UNAVAILABLE\] .*cannot be known/);
    stand.asked();
    expect(stand.client('b NOOP\r\n').asked()).toBe('b NOOP\r\n');
  });

  test('and was found leaves the next one, the same to the octet, to be looked for behind it', () => {
    const stand = begun().far(`${examined}* ESEARCH (TAG "P3") UID ALL 4\r\nP3 OK x\r\n`);
    stand.far(
      `* 1 FETCH (UID 4 RFC822.SIZE ${MESSAGE.length} BODY[HEADER.FIELDS (MESSAGE-ID)] {21}\r\nMessage-ID: <1@x>\r\n\r\n)\r\nP4 OK x\r\n`,
    );
    stand.far(`* 1 FETCH (UID 4 BODY[] {${MESSAGE.length}}\r\n${MESSAGE})\r\nP5 OK x\r\n`).far('P6 OK closed\r\n');
    stand.asked();
    stand.client(`b APPEND Sent {${MESSAGE.length}+}\r\n${MESSAGE}\r\n`);
    expect(stand.asked()).toBe(`b APPEND Sent {${MESSAGE.length}+}\r\n${MESSAGE}\r\n`);
    stand.lost().reopened();
    expect(stand.asked()).toContain('UID SEARCH RETURN (ALL) UID 5:*');
  });

  test('of which some octets only had come is given again whole, without a second +', () => {
    const stand = new Stand()
      .client('a APPEND Sent {5}\r\n')
      .far('* STATUS Sent (UIDNEXT 4 UIDVALIDITY 9)\r\nP1 OK x\r\n+ go\r\n');
    stand.client('he');
    stand.asked();
    expect(stand.told()).toBe('+ go\r\n');
    stand.lost().client('llo\r\n').reopened();
    expect(stand.asked()).toBe('a APPEND Sent {5}\r\n');
    expect(stand.far('+ go\r\n').asked()).toBe('hello\r\n');
    expect(stand.far('a OK x\r\n').told()).toBe('a OK x\r\n');
  });
});

test('answers to the FETCH of a client that come before the end of our own are the client’s', () => {
  const stand = selected().client('a NOOP\r\n').far('* 6 EXISTS\r\na OK x\r\n');
  expect(stand.asked()).toBe('a NOOP\r\nP2 FETCH 6:6 (UID)\r\n');
  stand.told();
  stand.client('b UID FETCH 1:* (UID)\r\n');
  const answers = [1, 2, 3, 4, 5, 6].map((n) => `* ${n} FETCH (UID ${n === 6 ? 9 : n})\r\n`).join('');
  stand.far(`* 6 FETCH (UID 9)\r\n${answers}P2 OK x\r\nb OK x\r\n`);
  expect(stand.told()).toBe(`${answers}b OK x\r\n`);
});

describe('a MOVE that was under way', () => {
  const begun = (): Stand => {
    const stand = selected().client('b MOVE 2 Box\r\n');
    stand.far('* STATUS Box (UIDNEXT 4 UIDVALIDITY 9)\r\nP2 OK x\r\n').asked();
    stand.lost().reopened();
    expect(stand.asked()).toBe('P3 EXAMINE "Box"\r\nP4 UID SEARCH RETURN (ALL) UID 4:*\r\n');
    return stand.far('* OK [UIDVALIDITY 9] x\r\nP3 OK x\r\n* ESEARCH (TAG "P4") UID\r\nP4 OK x\r\n');
  };
  const left = (stand: Stand, uids: string): Stand => {
    expect(stand.asked()).toBe('P5 EXAMINE "INBOX"\r\nP6 UID SEARCH RETURN (ALL) UID 1:*\r\n');
    return stand.far(`* OK [UIDVALIDITY 7] x\r\nP5 OK x\r\n* ESEARCH (TAG "P6") UID ALL ${uids}\r\nP6 OK x\r\n`);
  };

  test('of a message that has just come is noted by its UID, asked for ahead of it', () => {
    const stand = selected().client('a IDLE\r\n').far('+ x\r\n* 6 EXISTS\r\n');
    stand.asked();
    stand.client('DONE\r\nb MOVE 6 Box\r\n');
    expect(stand.asked()).toBe('DONE\r\nP2 FETCH 6:6 (UID)\r\nP3 STATUS "Box" (UIDNEXT UIDVALIDITY)\r\n');
    stand.far('a OK x\r\n* 6 FETCH (UID 9)\r\nP2 OK x\r\n* STATUS Box (UIDNEXT 4 UIDVALIDITY 9)\r\nP3 OK x\r\n');
    expect(stand.asked()).toBe('b MOVE 6 Box\r\n');
    stand.lost().reopened();
    stand.asked();
    stand.far('* OK [UIDVALIDITY 9] x\r\nP4 OK x\r\n* ESEARCH (TAG "P5") UID ALL 4\r\nP5 OK x\r\n');
    expect(stand.asked()).toContain('UID FETCH 4 (RFC822.SIZE');
  });

  test('of a message that another client has removed meanwhile says so, and the session goes on', () => {
    const stand = left(begun(), '1,3:5');
    expect(stand.asked()).toBe('P7 CLOSE\r\n');
    stand.far('P7 OK x\r\n').asked();
    stand.far(
      '* 4 EXISTS\r\n* OK [UIDVALIDITY 7] x\r\nP8 OK [READ-WRITE] x\r\n* ESEARCH (TAG "P9") UID ALL 1,3:5\r\nP9 OK x\r\nP10 OK x\r\n',
    );
    expect([stand.told(), stand.ends]).toEqual(['b NO [EXPUNGEISSUED] Some of the messages no longer exist\r\n', []]);
    expect(stand.client('c NOOP\r\n').far('c OK x\r\n').told()).toBe('* 2 EXPUNGE\r\nc OK x\r\n');
  });
});

describe('VANISHED (RFC 7162)', () => {
  const quick = (): Stand => {
    const stand = selected().client('q ENABLE QRESYNC\r\n').far('* ENABLED QRESYNC\r\nq OK x\r\n');
    stand.told();
    stand.asked();
    return stand;
  };
  /** Crossed under a FETCH by number, so that the loss of UID 2 cannot be told. */
  const haunted = (): Stand => {
    const stand = quick().client('b FETCH 4 (FLAGS)\r\n').lost().reopened();
    const tags = [...stand.asked().matchAll(/^(P\d+) /gm)].map(([, tag]) => tag);
    stand.far(`${tags[0]} OK x\r\n* 4 EXISTS\r\n* OK [UIDVALIDITY 7] x\r\n${tags[1]} OK [READ-WRITE] x\r\n`);
    stand.far(`* ESEARCH (TAG "${tags[2]}") UID ALL 1,3:5\r\n${tags[2]} OK x\r\n${tags[3]} OK x\r\n`);
    expect([stand.told(), stand.asked()]).toEqual(['', 'b FETCH 3 (FLAGS)\r\n']);
    return stand;
  };

  test('beside a loss that could not be told yet is kept with it, and both are told by their own UIDs', () => {
    const stand = haunted().far('* VANISHED 1\r\n* 2 FETCH (FLAGS ())\r\nb OK x\r\n');
    expect(stand.told()).toBe('* 4 FETCH (FLAGS ())\r\nb OK x\r\n');
    expect(stand.client('c NOOP\r\n').far('c OK x\r\n').told()).toBe('* VANISHED 1,2\r\nc OK x\r\n');
    stand.asked();
    stand.client('d FETCH 1 (UID)\r\n');
    expect(stand.asked()).toBe('d FETCH 1 (UID)\r\n');
  });

  test('comes after what could not be told until then', () => {
    const stand = haunted().far('* 3 FETCH (FLAGS ())\r\nb OK x\r\n');
    stand.told();
    expect(stand.client('c NOOP\r\n').far('* VANISHED 1\r\nc OK x\r\n').told()).toBe(
      '* VANISHED 2\r\n* VANISHED 1\r\nc OK x\r\n',
    );
  });

  test('of a message that was told of by its number only leaves the session to be carried over', () => {
    const stand = quick()
      .client('b IDLE\r\n')
      .far('+ x\r\n* 6 EXISTS\r\n* VANISHED 9\r\n')
      .client('DONE\r\n')
      .far('b OK x\r\n');
    stand.told();
    stand.asked();
    stand.client('c NOOP\r\n').lost().reopened();
    expect([stand.told(), stand.ends]).toEqual(['', []]);
  });
});

test('LOGOUT needs no far side', () => {
  const stand = selected().lost().client('z LOGOUT\r\n');
  expect(stand.toClient).toBe('* BYE Logging out\r\nz OK Logout completed.\r\n');
  expect(stand.ends).toEqual(['logged out']);
});
