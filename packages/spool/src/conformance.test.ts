import { join } from 'node:path';
import { type ForwardPath, type Spool, SpoolError, systemEnv } from '@postern/core';
import { memorySpool } from '@postern/core/testing';
import { describe, expect, onTestFinished, test } from 'vitest';
import { bytes, envelopeTo, scratch, text } from './spool.test-util.ts';
import { openSpool } from './spool.ts';

/** A kind of spool: how a fresh one is opened, and how one is opened again that was left without a word. */
interface Kind {
  open(): Promise<{ spool: Spool; again(): Promise<Spool> }>;
}

const KINDS: Record<string, Kind> = {
  'on a disk': {
    async open() {
      const dir = join(await scratch(onTestFinished), 'spool');
      const open = (): Promise<Spool> => openSpool({ dir, env: systemEnv, keepFreeBytes: 0 });
      let spool = await open();
      onTestFinished(() => spool.close());
      return {
        spool,
        async again() {
          await spool.close();
          spool = await open();
          return spool;
        },
      };
    },
  },
  'in memory': {
    async open() {
      const spool = memorySpool({ env: systemEnv });
      return { spool, again: async () => memorySpool({ env: systemEnv, after: spool }) };
    },
  },
};

const to = 'a@x.example' as ForwardPath;
const codeOf = (work: Promise<unknown>): Promise<unknown> =>
  work.then(
    () => 'done',
    (error: unknown) => (error instanceof SpoolError ? error.code : error),
  );

describe.each(Object.entries(KINDS))('a spool %s', (_, kind) => {
  test('gives back what it accepted, byte for byte, oldest first, and tells of it', async () => {
    const { spool } = await kind.open();
    const heard: string[] = [];
    spool.onArrival(({ id }) => void heard.push(id));
    const first = await spool.accept(envelopeTo(to), bytes('Subject: a\r\n\r\n', 'caf\u00e9\r\n'));
    const second = await spool.accept(envelopeTo('b@y.example'), bytes('Subject: b\r\n\r\n'));
    expect(heard).toEqual([first, second]);
    expect(Array.from(spool.entries(), ({ id }) => id)).toEqual([first, second]);
    expect(Buffer.from(await text(spool.read(first)), 'latin1').toString()).toBe('Subject: a\r\n\r\ncaf\u00e9\r\n');
    expect(spool.get(first)).toMatchObject({ size: 21, attempts: 0, envelope: { body: '8BITMIME' } });
    expect(spool.get(second)).toMatchObject({ envelope: { body: '7BIT' }, recipients: [{ to: 'b@y.example' }] });
  });

  test('knows of lines that must be encoded once the message has ended, and still when it is opened again', async () => {
    const { spool, again } = await kind.open();
    let ended = false;
    async function* message(text: string): AsyncGenerator<Uint8Array> {
      yield Buffer.from(text);
      ended = true;
    }
    const longLines = (): boolean => ended;
    const plain = await spool.accept(envelopeTo(to), message('a: b\r\n\r\nx'), { longLines });
    const eight = await spool.accept(envelopeTo(to), message('a: b\r\n\r\n\u00e9'), { longLines });
    const short = await spool.accept(envelopeTo(to), message('a: b\r\n'), { longLines: () => false });
    const facts = (of: Spool): unknown[] =>
      [plain, eight, short].map((id) => [of.get(id)?.envelope.body, of.get(id)?.envelope.longLines]);
    const wanted = [
      ['7BIT', true],
      ['8BITMIME', true],
      ['7BIT', undefined],
    ];
    expect(facts(spool)).toEqual(wanted);
    expect(facts(await again())).toEqual(wanted);
  });

  test('keeps nothing of a message that breaks off, or is given up', async () => {
    const { spool } = await kind.open();
    const broken = new Error('the client left');
    async function* breaking(): AsyncGenerator<Uint8Array> {
      yield Buffer.from('Subject: ');
      throw broken;
    }
    expect(await codeOf(spool.accept(envelopeTo(to), breaking()))).toBe(broken);
    const given = new AbortController();
    async function* silent(): AsyncGenerator<Uint8Array> {
      yield Buffer.from('Subject: ');
      await new Promise<never>(() => {});
    }
    const accepting = codeOf(spool.accept(envelopeTo(to), silent(), { signal: given.signal }));
    given.abort(new Error('shutting down'));
    expect(await accepting).toBe('aborted');
    expect([...spool.entries()]).toEqual([]);
  });

  test('holds an attempt without an outcome for uncertain when it is opened again', async () => {
    const { spool, again } = await kind.open();
    const id = await spool.accept(envelopeTo(to), bytes('Subject: a\r\n\r\n'));
    await spool.record(id, { type: 'attempt', at: 1, n: 1, host: 'gate', to: [to], receipt: 'r' });
    expect(spool.get(id)).toMatchObject({ attempts: 0, unresolved: [] });
    const next = await again();
    expect([...next.entries()]).toMatchObject([
      {
        id,
        attempts: 1,
        recipients: [{ to, uncertain: 1, outcome: { type: 'uncertain' } }],
        unresolved: [{ receipt: 'r', recipients: [to] }],
      },
    ]);
    expect(await text(next.read(id))).toBe('Subject: a\r\n\r\n');
  });

  test('knows nothing of what was removed, and does so twice without complaint', async () => {
    const { spool } = await kind.open();
    const id = await spool.accept(envelopeTo(to), bytes('Subject: a\r\n\r\n'));
    await spool.remove(id);
    await spool.remove(id);
    expect(spool.get(id)).toBeUndefined();
    expect(await codeOf(spool.record(id, { type: 'hold', at: 1, reason: 'late' }))).toBe('gone');
    expect(await codeOf(text(spool.read(id)))).toBe('gone');
  });

  test('takes nothing more once it is closed', async () => {
    const { spool } = await kind.open();
    const id = await spool.accept(envelopeTo(to), bytes('Subject: a\r\n\r\n'));
    await spool.close();
    expect(await codeOf(spool.accept(envelopeTo(to), bytes('Subject: b\r\n\r\n')))).toBe('closed');
    expect(await codeOf(spool.record(id, { type: 'hold', at: 1, reason: 'late' }))).toBe('closed');
  });
});
