import { Writable } from 'node:stream';
import { type ClientStep, createDotDecoder } from '@postern/core';
import { splits } from '@postern/testkit';
import fc from 'fast-check';
import { describe, expect, test } from 'vitest';
import { makeEntry } from './courier.test-util.ts';
import { Outbox } from './outbox.ts';
import { writeMessage } from './write-message.ts';

/** What pours out for a message that is read in `chunks`, and how much of it before the gate opened. */
async function poured(
  framing: 'dot' | 'chunk',
  chunks: readonly Uint8Array[],
): Promise<{ bytes: Buffer; before: number }> {
  const written: Buffer[] = [];
  const stream = new Writable({
    write(chunk: Buffer, _encoding, done) {
      written.push(Buffer.from(chunk));
      done();
    },
  });
  using outbox = new Outbox(stream, {
    onProgress() {},
    onError(error) {
      throw error;
    },
  });
  const size = chunks.reduce((sum, chunk) => sum + chunk.length, 0);
  const head = framing === 'dot' ? Buffer.alloc(0) : Buffer.from(`BDAT ${size} LAST\r\n`);
  const step: ClientStep & { type: 'message' } = { type: 'message', key: 0, framing, head };
  let before = -1;
  const entry = {
    ...makeEntry(),
    size,
    async *open() {
      yield* chunks;
    },
  };
  const gate = (): void =>
    outbox.barrier(Promise.resolve(), () => {
      before = Buffer.concat(written).length;
    });
  await writeMessage(entry, { step, outbox, gate, stop: () => false });
  await outbox.empty();
  return { bytes: Buffer.concat(written), before };
}

describe('a message', () => {
  const text = fc
    .array(fc.constantFrom('\r\n', '\r\n', '.', '..', 'a', 'BDAT 3 LAST', 'QUIT'), { maxLength: 30 })
    .map((parts) => Buffer.from(parts.join('')));
  test('says the same by BDAT as by DATA, however it is read', async () => {
    await fc.assert(
      fc.asyncProperty(text, async (message) => {
        const ended = message.length === 0 || message.subarray(-2).equals(Buffer.from('\r\n'));
        for (const [, chunks] of splits(message, 2)) {
          const dotted = await poured('dot', chunks);
          const plain = await poured('chunk', chunks);
          const head = `BDAT ${message.length} LAST\r\n`;
          expect(plain.bytes.toString()).toBe(head + message.toString());
          const decoded = createDotDecoder().push(dotted.bytes);
          expect(Buffer.from(decoded.body).toString()).toBe(message.toString() + (ended ? '' : '\r\n'));
          expect(decoded.rest).toHaveLength(0);
        }
      }),
      { numRuns: 150 },
    );
  });
  test('is not complete before its gate has opened', async () => {
    await fc.assert(
      fc.asyncProperty(text, async (message) => {
        for (const [, chunks] of splits(message, 2)) {
          for (const framing of ['dot', 'chunk'] as const) {
            const { bytes, before } = await poured(framing, chunks);
            expect(before).toBeGreaterThanOrEqual(0);
            expect(before).toBeLessThan(bytes.length);
          }
        }
      }),
      { numRuns: 100 },
    );
  });
  test('of another length than announced is never completed', async () => {
    const stream = new Writable({ write: (_chunk, _encoding, done) => done() });
    using outbox = new Outbox(stream, { onProgress() {}, onError() {} });
    for (const size of [3, 30]) {
      const step: ClientStep & { type: 'message' } = {
        type: 'message',
        key: 0,
        framing: 'chunk',
        head: Buffer.alloc(0),
      };
      const gate = (): void => expect.unreachable();
      const entry = { ...makeEntry({ message: '0123456789' }), size };
      await expect(writeMessage(entry, { step, outbox, gate, stop: () => false })).rejects.toThrow(/octets, not/);
    }
  });
});
