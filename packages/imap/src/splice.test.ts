import { once } from 'node:events';
import { Duplex } from 'node:stream';
import { systemEnv } from '@postern/core';
import { channelPair } from '@postern/testkit';
import { expect, test } from 'vitest';
import { splice } from './splice.ts';

/** A client that takes what is written when told to: `take` ends the write under way. */
function slowClient(): { client: Duplex; taken: Buffer[]; take: () => void; isOpen: { value: boolean } } {
  const taken: Buffer[] = [];
  const isOpen = { value: true };
  let take = (): void => {};
  const client = new Duplex({
    writableHighWaterMark: 8,
    read() {},
    write(chunk: Buffer, _encoding, done) {
      const end = (): void => {
        taken.push(Buffer.from(chunk));
        done();
      };
      if (isOpen.value) end();
      else take = end;
    },
  });
  return { client, taken, take: () => take(), isOpen };
}

test('a chunk is given back when the client has taken it at once, not when it waits to be written', async () => {
  const { channel, far } = channelPair();
  const released: string[] = [];
  const { client, taken, take, isOpen } = slowClient();
  splice(client, { ...channel, release: (chunk) => released.push(chunk.toString()) }, { host: 'gate', env: systemEnv });
  const say = async (text: string): Promise<void> => {
    const heard = once(channel.stream, 'data');
    far.write(text);
    await heard;
  };
  await say('at once');
  isOpen.value = false;
  await say('waits');
  take();
  await say('waits too');
  isOpen.value = true;
  take();
  await say('at once again');
  expect(released).toEqual(['at once', 'at once again']);
  expect(Buffer.concat(taken).toString()).toBe('at oncewaitswaits tooat once again');
  channel.abort(new Error('enough'));
});

test('a client that takes nothing holds the far side back', async () => {
  const { channel, far } = channelPair({ highWaterMark: 16 });
  const { client, taken, take, isOpen } = slowClient();
  splice(client, channel, { host: 'gate', env: systemEnv });
  isOpen.value = false;
  const paused = once(channel.stream, 'pause');
  far.write('more than it takes');
  await paused;
  isOpen.value = true;
  take();
  far.write(' and the rest');
  while (Buffer.concat(taken).toString() !== 'more than it takes and the rest') {
    await new Promise((resolve) => setImmediate(resolve));
  }
  channel.abort(new Error('enough'));
});

test.each([
  ['behind a whole response', '* 1 EXISTS\r\n', true],
  ['in a line', '* 1 EXI', false],
  ['at a line end inside a literal', '* 1 FETCH (BODY[] {20}\r\nSubject: x\r\n', false],
  ['behind a literal, its response not closed', '* 1 FETCH (BODY[] {4}\r\nx\r\n\n', false],
  ['behind a status text that looks like a literal', '* OK see {20}\r\n', true],
] as const)('a lost link is a BYE only where it cannot be taken for message text: %s', async (_where, said, isBye) => {
  const { channel, far, lose } = channelPair();
  const { client, taken } = slowClient();
  const joined = splice(client, channel, { host: 'gate', env: systemEnv });
  const heard = once(channel.stream, 'data');
  far.write(said);
  await heard;
  lose();
  client.push(null);
  await once(client, 'finish');
  client.destroy();
  expect(await joined.done).toBe('lost');
  const text = Buffer.concat(taken).toString();
  expect(text.slice(said.length).startsWith('* BYE [UNAVAILABLE] ')).toBe(isBye);
  expect(text.startsWith(said)).toBe(true);
});
