import { describe, expect, test } from 'vitest';
import { splits } from '../testing/index.ts';
import { type BatchEvent, createBatchDecoder, createBatchEncoder } from './bsmtp.ts';
import { parseEhlo } from './extensions.ts';
import { parseForwardPath, parseReversePath } from './path.ts';

const everything = parseEhlo({ code: 250, lines: ['x', 'SIZE', '8BITMIME', 'SMTPUTF8', 'DSN'] });

function decode(chunks: readonly Uint8Array[]): BatchEvent[] {
  const decoder = createBatchDecoder();
  const events = [...chunks.flatMap((chunk) => decoder.push(chunk)), ...decoder.end()];
  // Bodies come in any pieces.
  const joined: BatchEvent[] = [];
  for (const event of events) {
    const last = joined.at(-1);
    if (event.type === 'body' && last?.type === 'body') {
      joined.splice(-1, 1, { type: 'body', bytes: Buffer.concat([last.bytes, event.bytes]) });
    } else joined.push(event);
  }
  return joined;
}
const whole = (text: string): BatchEvent[] => decode([Buffer.from(text)]);

describe('a batch', () => {
  const envelope = {
    from: parseReversePath('ann@x.org'),
    recipients: [
      { to: parseForwardPath('"a b>"@y.org'), notify: ['SUCCESS', 'DELAY'] as const, orcpt: 'rfc822;o+p@y.org' },
      { to: parseForwardPath('jürgen@bücher.example') },
    ],
    body: '8BITMIME' as const,
    smtputf8: true,
    ret: 'HDRS' as const,
    envid: 'id 1',
  };
  const encoder = createBatchEncoder({ helo: 'home.test', extensions: everything });
  const message = Buffer.from('Subject: x\r\n\r\n.\r\n..dots\r\nQUIT\r\n');
  const bytes = Buffer.concat([
    ...[encoder.hello(), encoder.envelope(envelope, { size: 3 }), encoder.body(message), encoder.endBody()],
    ...[encoder.envelope({ ...envelope, from: parseReversePath('') }, { size: 3 }), encoder.endBody(), encoder.end()],
  ]);
  for (const [name, chunks] of splits(bytes)) {
    test(`comes back as it went, fed ${name}`, () => {
      const events = decode(chunks).map((event) =>
        event.type === 'body' ? { ...event, bytes: Buffer.from(event.bytes).toString() } : event,
      );
      expect(events).toEqual([
        { type: 'hello', name: 'home.test' },
        { type: 'envelope', envelope },
        { type: 'body', bytes: message.toString() },
        { type: 'message' },
        { type: 'envelope', envelope: { ...envelope, from: '' } },
        { type: 'message' },
        { type: 'quit' },
      ]);
    });
  }
  test('that is cut off says so, wherever', () => {
    for (let length = 20; length < bytes.length - 6; length++) {
      const events = decode([bytes.subarray(0, length)]);
      const complete = events.filter((event) => event.type === 'message').length;
      const begun = events.filter((event) => event.type === 'envelope').length;
      if (begun > complete) expect(events.at(-1)?.type).toBe('malformed');
    }
  });
  for (const text of [
    'HELLO\r\n',
    'DATA\r\n',
    'MAIL FROM:<a@b>\r\nDATA\r\n',
    'MAIL FROM:<a b>\r\n',
    'RCPT TO:<>\r\n',
    'x'.repeat(5000),
  ]) {
    test(`is refused at ${JSON.stringify(text.slice(0, 40))}`, () => {
      expect(whole(text).at(-1)?.type).toBe('malformed');
    });
  }
  test('reads what follows no QUIT, and nothing after it', () => {
    expect(whole('NOOP\r\nRSET\r\n')).toEqual([]);
    expect(whole('QUIT\r\nnoise\r\n')).toEqual([{ type: 'quit' }]);
  });
});
