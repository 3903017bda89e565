import { type Entry, type EntryId, parseForwardPath, parseReversePath } from '@postern/core';
import { RECIPIENT } from './far-mail.ts';

/** So many messages of so many octets from one sender, all to {@link RECIPIENT}. */
export interface Load {
  readonly count: number;
  readonly octets: number;
  /** Of this load alone, so that its arrivals can be counted. */
  readonly sender: string;
}

const LINE = `${'Postern '.repeat(9)}\r\n`;

/** Message number `index` of a load: header, then lines; some of them begin with a dot. */
export function messageOf(load: Load, index: number): Buffer {
  const head = `From: <${load.sender}>\r\nTo: <${RECIPIENT}>\r\nSubject: ${index}\r\nMessage-ID: <${index}.${load.sender}>\r\nDate: Mon, 4 Mar 2024 08:00:00 +0000\r\n\r\n.dot\r\n`;
  const body = LINE.repeat(Math.ceil((load.octets - head.length) / LINE.length)).slice(
    0,
    load.octets - head.length - 2,
  );
  return Buffer.from(`${head}${body.replace(/[\r\n]+$/, '')}\r\n`);
}

/** A load as a courier takes it. */
export async function* entriesOf(load: Load): AsyncGenerator<Entry> {
  for (let index = 0; index < load.count; index++) {
    const bytes = messageOf(load, index);
    yield {
      id: `e${index}` as EntryId,
      envelope: {
        from: parseReversePath(load.sender),
        recipients: [{ to: parseForwardPath(RECIPIENT) }],
        body: '7BIT',
        smtputf8: false,
      },
      size: bytes.length,
      unresolved: [],
      async *open() {
        yield bytes;
      },
    };
  }
}

/** A whole session as the old recipe sends it: every command and message at once, nothing waited for. */
export function batchOf(load: Load, o: { hello: boolean }): Buffer {
  const parts = o.hello ? ['EHLO home.test\r\n'] : [];
  for (let index = 0; index < load.count; index++) {
    const text = messageOf(load, index).toString('latin1').replaceAll(/^\./gm, '..');
    parts.push(`MAIL FROM:<${load.sender}>\r\nRCPT TO:<${RECIPIENT}>\r\nDATA\r\n${text}.\r\n`);
  }
  return Buffer.from(`${parts.join('')}QUIT\r\n`, 'latin1');
}
