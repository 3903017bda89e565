import { spawn } from 'node:child_process';
import { once } from 'node:events';
import { readdirSync, readFileSync, statSync, truncateSync, utimesSync, writeFileSync } from 'node:fs';
import { join } from 'node:path';
import { fileURLToPath } from 'node:url';
import {
  deferred,
  type EntryId,
  type ForwardPath,
  type JournalRecord,
  newEntryId,
  SpoolError,
  systemEnv,
} from '@postern/core';
import { virtualEnv } from '@postern/core/testing';
import { describe, expect, onTestFinished, test } from 'vitest';
import type { SpoolEvent } from './event.ts';
import { bytes, envelopeTo, scratch, text, watchedDisk } from './spool.test-util.ts';
import { openSpool, type SpoolOptions, spoolWriter } from './spool.ts';

const MESSAGE = 'Subject: hello\r\n\r\nLine one\r\n.\r\nthe end\r\n';

async function setup(o: Partial<SpoolOptions> = {}) {
  const dir = o.dir ?? join(await scratch(onTestFinished), 'state', 'spool');
  const events: SpoolEvent[] = [];
  const open = async () => {
    const spool = await openSpool({ env: systemEnv, keepFreeBytes: 0, onEvent: (e) => void events.push(e), ...o, dir });
    onTestFinished(() => spool.close().catch(() => {}));
    return spool;
  };
  return { dir, events, open, spool: await open() };
}

const to = 'a@x.example' as ForwardPath;
const attempt = (n: number, receipt?: string): JournalRecord => ({
  type: 'attempt',
  at: 1,
  n,
  host: 'gate',
  to: [to],
  ...(receipt === undefined ? {} : { receipt }),
});

describe('what is accepted', () => {
  test('comes back byte for byte, with its envelope, also after the spool is opened again', async () => {
    const { spool, open } = await setup();
    const envelope = { ...envelopeTo('a@x.example', 'b@y.example'), envid: 'ä ö', ret: 'HDRS' as const };
    const id = await spool.accept(envelope, bytes('Subject: ', 'hello\r\n\r\n', 'caf\u00e9\r\n'));
    await spool.close();
    const again = await open();
    expect([...again.entries()]).toMatchObject([
      { id, envelope: { ...envelope, body: '8BITMIME' }, size: 25, held: false, attempts: 0 },
    ]);
    expect(Buffer.from(await text(again.read(id)), 'latin1').toString()).toBe('Subject: hello\r\n\r\ncaf\u00e9\r\n');
  });

  test('is never written outside the queue, whatever it is to be named', async () => {
    const { spool, dir } = await setup();
    const accepting = spool.accept(envelopeTo('a@x.example'), bytes(MESSAGE), { id: '../../evil' as EntryId });
    await expect(accepting).rejects.toBeInstanceOf(RangeError);
    expect(readdirSync(join(dir, '..'))).toEqual(['spool']);
  });

  test('is durable before the promise resolves: write, sync, close, rename, sync of the directory, in this order', async () => {
    const calls: string[] = [];
    const { spool } = await setup({ disk: watchedDisk((call) => void calls.push(call)) });
    calls.length = 0;
    const id = await spool.accept(envelopeTo('a@x.example'), bytes(MESSAGE));
    const file = calls.find((call) => call.startsWith('create '))?.slice(7) ?? '';
    expect(file).toContain(`tmp/${id}`);
    expect(calls.filter((call) => !call.startsWith('freeBytes') && !call.startsWith('openDirectory'))).toEqual([
      `create ${file}`,
      `write ${file}`,
      `sync ${file}`,
      `close ${file}`,
      `rename ${file} queue/${id}`,
      'sync spool/queue',
    ]);
  });

  test('at the same time shares one sync of the directory', async () => {
    let syncs = 0;
    const gate = deferred<void>();
    const { spool, dir } = await setup({
      disk: watchedDisk(async (call) => {
        if (call !== 'sync spool/queue') return;
        syncs++;
        if (syncs === 1) await gate.promise;
      }),
    });
    const first = spool.accept(envelopeTo('a@x.example'), bytes(MESSAGE));
    while (syncs === 0) await new Promise(setImmediate);
    let renamed = 0;
    const rest = Array.from({ length: 20 }, () => spool.accept(envelopeTo('a@x.example'), bytes(MESSAGE)));
    while (renamed < 21) {
      await new Promise(setImmediate);
      renamed = readdirSync(join(dir, 'queue')).length;
    }
    gate.resolve();
    await Promise.all([first, ...rest]);
    expect(syncs).toBeLessThanOrEqual(3);
  });

  // Chunks that were read wait for the collector: 72 MB of them on Node 26 and 44 on Node 20, for 100 MB as for 400 (17 MB with
  // `--max-semi-space-size=1`). A message that is kept whole costs its size at least.
  test('costs a sixth of its size to take when it is large, and half of it to read', async () => {
    const { spool } = await setup();
    const SIZE = 3200 * 65536;
    const chunk = Buffer.alloc(64 * 1024, 'x');
    let peak = 0;
    const look = (): void => {
      peak = Math.max(peak, process.memoryUsage().rss);
    };
    async function* large() {
      for (let at = 0; at < 3200; at++) {
        look();
        yield chunk;
      }
    }
    const before = process.memoryUsage().rss;
    const id = await spool.accept(envelopeTo('a@x.example'), large());
    look();
    expect(peak - before).toBeLessThan(SIZE / 6);
    let size = 0;
    for await (const part of spool.read(id)) {
      size += part.length;
      look();
    }
    expect(size).toBe(SIZE);
    expect(peak - before).toBeLessThan(SIZE / 2);
  });
});

describe('what is not accepted leaves nothing behind', () => {
  test.each<[string, () => AsyncIterable<Uint8Array>, (error: unknown) => void]>([
    [
      'a source that fails',
      async function* () {
        yield Buffer.from('half');
        throw new RangeError('client went away');
      },
      (error) => expect(error).toBeInstanceOf(RangeError),
    ],
  ])('%s', async (_name, source, check) => {
    const { spool, dir } = await setup();
    await spool.accept(envelopeTo('a@x.example'), source()).then(
      () => expect.unreachable(),
      (error: unknown) => check(error),
    );
    expect(readdirSync(join(dir, 'tmp'))).toEqual([]);
    expect(readdirSync(join(dir, 'queue'))).toEqual([]);
    expect([...spool.entries()]).toEqual([]);
  });

  test('an aborted signal ends even a silent source', async () => {
    const { spool, dir } = await setup();
    const abort = new AbortController();
    async function* silent() {
      yield Buffer.from('half');
      await new Promise(() => {});
    }
    const accepting = spool.accept(envelopeTo('a@x.example'), silent(), { signal: abort.signal });
    abort.abort(new Error('shutting down'));
    await expect(accepting).rejects.toMatchObject({ name: 'SpoolError', code: 'aborted' });
    expect(readdirSync(join(dir, 'tmp'))).toEqual([]);
  });

  test('a disk with too little room refuses with no-space, and alerts once', async () => {
    const { spool, dir, events } = await setup({ keepFreeBytes: Number.MAX_SAFE_INTEGER });
    for (let at = 0; at < 2; at++) {
      await expect(spool.accept(envelopeTo('a@x.example'), bytes(MESSAGE))).rejects.toMatchObject({ code: 'no-space' });
    }
    expect(readdirSync(join(dir, 'tmp'))).toEqual([]);
    expect(events.filter((event) => event.type === 'low-space')).toHaveLength(1);
  });

  test.each(['write', 'sync', 'rename'])(
    'a full disk at %s refuses with no-space, and the spool goes on',
    async (step) => {
      let full = false;
      const disk = watchedDisk((call) => {
        if (full && call.startsWith(`${step} tmp/`)) throw Object.assign(new Error('ENOSPC'), { code: 'ENOSPC' });
      });
      const { spool, dir } = await setup({ disk });
      full = true;
      await expect(spool.accept(envelopeTo('a@x.example'), bytes(MESSAGE))).rejects.toMatchObject({ code: 'no-space' });
      full = false;
      expect(readdirSync(join(dir, 'tmp'))).toEqual([]);
      await spool.accept(envelopeTo('a@x.example'), bytes(MESSAGE));
    },
  );

  test.each(['sync tmp/', 'sync spool/queue'])(
    'a failed %s is never tried again: the spool takes nothing more',
    async (step) => {
      let failing = false;
      let tries = 0;
      const disk = watchedDisk((call) => {
        if (!failing || !call.startsWith(step)) return;
        tries++;
        throw Object.assign(new Error('EIO'), { code: 'EIO' });
      });
      const { spool, dir, events } = await setup({ disk });
      const id = await spool.accept(envelopeTo('a@x.example'), bytes(MESSAGE));
      failing = true;
      await expect(spool.accept(envelopeTo('a@x.example'), bytes(MESSAGE))).rejects.toMatchObject({ code: 'io' });
      failing = false;
      await expect(spool.accept(envelopeTo('a@x.example'), bytes(MESSAGE))).rejects.toMatchObject({ code: 'io' });
      await expect(spool.record(id, attempt(1))).rejects.toMatchObject({ code: 'io' });
      await expect(spool.remove(id)).rejects.toMatchObject({ code: 'io' });
      expect(tries).toBe(1);
      expect(events.filter((event) => event.type === 'fault')).toHaveLength(1);
      expect(readdirSync(join(dir, 'queue'))).toEqual([id]);
    },
  );
});

describe('the journal', () => {
  test('is durable before record() resolves, its name too', async () => {
    const calls: string[] = [];
    const { spool } = await setup({ disk: watchedDisk((call) => void calls.push(call)) });
    const id = await spool.accept(envelopeTo('a@x.example'), bytes(MESSAGE));
    calls.length = 0;
    await spool.record(id, attempt(1, 'r1'));
    await spool.record(id, { type: 'outcome', at: 2, n: 1, to, outcome: { type: 'deferred', reason: 'later' } });
    expect(calls).toEqual([
      `openForWrite queue/${id}.log`,
      `write queue/${id}.log`,
      `syncData queue/${id}.log`,
      `close queue/${id}.log`,
      'sync spool/queue',
      `openForWrite queue/${id}.log`,
      `write queue/${id}.log`,
      `syncData queue/${id}.log`,
      `close queue/${id}.log`,
    ]);
  });

  test('can be read with less', async () => {
    const { spool, dir } = await setup();
    const id = await spool.accept(envelopeTo('a@x.example'), bytes(MESSAGE));
    await spool.record(id, attempt(1, 'r1'), { type: 'hold', at: 2, reason: 'because' });
    expect(readFileSync(join(dir, 'queue', `${id}.log`), 'utf8')).toMatch(
      /^[0-9a-f]{8} \{"type":"attempt","at":1,"n":1,"host":"gate","to":\["a@x.example"\],"receipt":"r1"\}\n[0-9a-f]{8} \{"type":"hold",.*\}\n$/,
    );
    expect(readFileSync(join(dir, 'queue', id), 'latin1')).toMatch(
      /^Postern-Spool: 1 crc=[0-9a-f]{8} header=\d+ size=0+40 arrived=\d+ sha256=[0-9a-f]{64} body=7BIT____\n\{"from":"me@work.example".*\}\n\nSubject: hello\r\n/,
    );
  });

  test('cut at every octet loses at most the torn record, and goes on', async () => {
    const { spool, dir, open } = await setup();
    const id = await spool.accept(envelopeTo('a@x.example'), bytes(MESSAGE));
    await spool.record(id, attempt(1, 'r1'));
    const firstLine = statSync(join(dir, 'queue', `${id}.log`)).size;
    await spool.record(id, { type: 'next', at: 2, due: 99, reason: 'later', elapsed: 7 });
    await spool.close();
    const path = join(dir, 'queue', `${id}.log`);
    const whole = readFileSync(path);
    for (let length = 0; length <= whole.length; length++) {
      writeFileSync(path, whole.subarray(0, length));
      const again = await open();
      expect(again.get(id)).toMatchObject({
        attempts: length >= firstLine ? 1 : 0,
        elapsed: length === whole.length ? 7 : 0,
        unresolved: length >= firstLine ? [{ receipt: 'r1', recipients: [to] }] : [],
      });
      await again.record(id, { type: 'hold', at: 3, reason: 'looked at' });
      await again.close();
      const third = await open();
      expect(third.get(id)).toMatchObject({ held: true, reason: 'looked at', attempts: length >= firstLine ? 1 : 0 });
      await third.close();
    }
  });

  test('damaged in the middle holds the entry and says so, until it is released', async () => {
    const { spool, dir, events, open } = await setup();
    const id = await spool.accept(envelopeTo('a@x.example'), bytes(MESSAGE));
    await spool.record(id, attempt(1), attempt(2), attempt(3));
    await spool.close();
    const path = join(dir, 'queue', `${id}.log`);
    const damaged = readFileSync(path);
    damaged[damaged.indexOf(10) + 20] = 0x21;
    writeFileSync(path, damaged);
    const again = await open();
    expect(again.get(id)).toMatchObject({
      held: true,
      reason: expect.stringContaining('damaged at line 2'),
      attempts: 3,
    });
    expect(events).toContainEqual({ type: 'damaged-journal', id, line: 2 });
    await again.record(id, { type: 'release', at: 4 });
    await again.close();
    expect((await open()).get(id)).toMatchObject({ held: false });
  });

  test('on a full disk takes the room set aside', async () => {
    let full = false;
    const disk = watchedDisk((call) => {
      if (call.endsWith('/reserve') && call.startsWith('unlink')) full = false;
      if (full && call.startsWith('write queue/')) throw Object.assign(new Error('ENOSPC'), { code: 'ENOSPC' });
    });
    const { spool } = await setup({ disk });
    const id = await spool.accept(envelopeTo('a@x.example'), bytes(MESSAGE));
    full = true;
    await spool.record(id, { type: 'hold', at: 1, reason: 'kept' });
    expect(spool.get(id)).toMatchObject({ held: true });
  });

  test('counts an attempt without an outcome as uncertain once, however often the spool is opened', async () => {
    const { spool, open } = await setup();
    const id = await spool.accept(envelopeTo('a@x.example'), bytes(MESSAGE));
    await spool.record(id, attempt(1, 'r1'));
    await spool.close();
    const second = await open();
    expect(second.get(id)).toMatchObject({
      recipients: [{ uncertain: 1, outcome: { type: 'uncertain', receipt: 'r1' } }],
      unresolved: [{ receipt: 'r1' }],
    });
    await second.record(id, attempt(2, 'r2'));
    await second.close();
    const third = await open();
    expect(third.get(id)).toMatchObject({ recipients: [{ uncertain: 2 }], unresolved: [{ receipt: 'r2' }] });
    await third.record(id, { type: 'outcome', at: 5, n: 2, to, outcome: { type: 'deferred', reason: 'not taken' } });
    expect(third.get(id)).toMatchObject({
      recipients: [{ uncertain: 2, outcome: { type: 'deferred' } }],
      unresolved: [],
    });
  });

  test('takes back an uncertain attempt that is proven to have come to nothing, and its count', async () => {
    const { spool } = await setup();
    const id = await spool.accept(envelopeTo('a@x.example'), bytes(MESSAGE));
    for (let time = 0; time < 5; time++) {
      await spool.record(id, attempt(1, 'r1'), {
        ...{ type: 'outcome', at: 5, n: 1, to },
        outcome: { type: 'uncertain', receipt: 'r1' },
      });
      expect(spool.get(id)).toMatchObject({ attempts: 1, recipients: [{ uncertain: 1 }] });
      await spool.record(id, { type: 'outcome', at: 5, n: 0, to, outcome: { type: 'deferred', reason: 'not there' } });
      expect(spool.get(id)).toMatchObject({ attempts: 0, recipients: [{ uncertain: 0 }], unresolved: [] });
    }
    await spool.record(id, attempt(1), {
      type: 'outcome',
      at: 5,
      n: 0,
      to,
      outcome: { type: 'deferred', reason: 'cut' },
    });
    expect(spool.get(id)).toMatchObject({ attempts: 0, recipients: [{ uncertain: 0 }] });
  });

  test('keeps the receipt of a far session that has not ended when it was looked at', async () => {
    const { spool } = await setup();
    const id = await spool.accept(envelopeTo('a@x.example'), bytes(MESSAGE));
    const still = { type: 'outcome', at: 5, n: 1, to, outcome: { type: 'uncertain', receipt: 'r1' } } as const;
    await spool.record(id, attempt(1, 'r1'), still);
    await spool.record(id, attempt(2), still);
    expect(spool.get(id)).toMatchObject({ unresolved: [{ receipt: 'r1', recipients: [to] }] });
  });
});

describe('removal', () => {
  test('takes the message away durably before its journal', async () => {
    const calls: string[] = [];
    const { spool, dir } = await setup({ disk: watchedDisk((call) => void calls.push(call)) });
    const id = await spool.accept(envelopeTo('a@x.example'), bytes(MESSAGE));
    await spool.record(id, attempt(1));
    calls.length = 0;
    await spool.remove(id);
    expect(calls).toEqual([`unlink queue/${id}`, 'sync spool/queue', `unlink queue/${id}.log`]);
    expect(readdirSync(join(dir, 'queue'))).toEqual([]);
    expect(spool.get(id)).toBeUndefined();
    await expect(spool.record(id, attempt(2))).rejects.toMatchObject({ code: 'gone' });
    await expect(text(spool.read(id))).rejects.toMatchObject({ code: 'gone' });
  });

  test('cut between its two steps is finished at the next opening', async () => {
    const { spool, dir, open } = await setup();
    await spool.close();
    writeFileSync(join(dir, 'queue', `${newEntryId(systemEnv)}.log`), '');
    await open();
    expect(readdirSync(join(dir, 'queue'))).toEqual([]);
  });
});

describe('damage', () => {
  test.each<[string, (path: string) => void]>([
    ['a cut file', (path) => truncateSync(path, statSync(path).size - 1)],
    ['an empty file', (path) => truncateSync(path, 0)],
    ['a changed envelope', (path) => writeFileSync(path, readFileSync(path, 'latin1').replace('me@', 'ne@'), 'latin1')],
  ])('%s is found at the opening and set aside with an alert', async (_name, damage) => {
    const { spool, dir, events, open } = await setup();
    const id = await spool.accept(envelopeTo('a@x.example'), bytes(MESSAGE));
    await spool.record(id, attempt(1));
    await spool.close();
    damage(join(dir, 'queue', id));
    const again = await open();
    expect([...again.entries()]).toEqual([]);
    expect(readdirSync(join(dir, 'corrupt')).sort()).toEqual([id, `${id}.log`]);
    expect(events).toContainEqual(expect.objectContaining({ type: 'corrupt', id, path: join(dir, 'corrupt', id) }));
  });

  test.each([0, 3 * 1024 * 1024])(
    'a changed octet of the message is found before the first is given out (%d more)',
    async (more) => {
      const { spool, dir, events } = await setup();
      const id = await spool.accept(envelopeTo('a@x.example'), bytes(MESSAGE, Buffer.alloc(more, 'y')));
      const path = join(dir, 'queue', id);
      const changed = readFileSync(path);
      changed[changed.length - 3] = 0x41;
      writeFileSync(path, changed);
      let given = 0;
      const reading = (async () => {
        for await (const part of spool.read(id)) given += part.length;
      })();
      await expect(reading).rejects.toMatchObject({ code: 'corrupt' });
      expect(given).toBe(0);
      expect(spool.get(id)).toBeUndefined();
      expect(events).toContainEqual(expect.objectContaining({ type: 'corrupt', id }));
    },
  );

  test.each([300, 0])(
    'an entry of a later format is left where it is, and told of once (%i octets follow)',
    async (more) => {
      const env = virtualEnv();
      const { spool, dir, events, open } = await setup({ env });
      await spool.close();
      const id = newEntryId(systemEnv);
      writeFileSync(join(dir, 'queue', id), `Postern-Spool: 2 ${'x'.repeat(more)}`);
      const again = await open();
      await env.advance(3 * 60_000);
      await again.close();
      expect([...again.entries()]).toEqual([]);
      expect(readdirSync(join(dir, 'queue'))).toEqual([id]);
      expect(events.filter(({ type }) => type === 'newer')).toEqual([{ type: 'newer', id, version: 2 }]);
    },
  );
});

describe('owners and writers', () => {
  test('a second owner is refused while the first lives, and welcome after', async () => {
    const { spool, open } = await setup();
    await expect(open()).rejects.toMatchObject({ name: 'SpoolError', code: 'busy' });
    await spool.close();
    await open();
  });

  test('of many who try at once exactly one wins', async () => {
    const { spool, open } = await setup();
    await spool.close();
    const tries = await Promise.allSettled(Array.from({ length: 12 }, open));
    expect(tries.filter((result) => result.status === 'fulfilled')).toHaveLength(1);
  });

  test('a directory that cannot be used is a SpoolError, for owner and writer', async () => {
    const dir = join(await scratch(onTestFinished), 'spool');
    writeFileSync(dir, 'no directory');
    for (const open of [openSpool, spoolWriter]) {
      const error = await open({ dir, env: systemEnv }).then(undefined, (cause: unknown) => cause);
      expect(error).toBeInstanceOf(SpoolError);
      expect(error).toMatchObject({ code: 'io', message: expect.stringContaining(dir) });
    }
  });

  test('an owner killed with -9 is replaced, its half-written file swept, its mail kept', async () => {
    const { spool, dir, events, open } = await setup();
    await spool.close();
    const script = `
      import { openSpool } from ${JSON.stringify(fileURLToPath(new URL('./index.ts', import.meta.url)))};
      import { systemEnv } from '@postern/core';
      const spool = await openSpool({ dir: ${JSON.stringify(dir)}, env: systemEnv, keepFreeBytes: 0 });
      async function* message(end) { yield Buffer.from('Subject: x\\r\\n\\r\\n' + 'y'.repeat(200000)); if (!end) await new Promise(() => setInterval(() => {}, 1e9)); }
      const envelope = { from: '', recipients: [{ to: 'a@x.example' }], body: '7BIT', smtputf8: false };
      process.stdout.write(await spool.accept(envelope, message(true)) + '\\n');
      void spool.accept(envelope, (async function* () { yield* message(true); process.stdout.write('half\\n'); await new Promise(() => setInterval(() => {}, 1e9)); })());
    `;
    const child = spawn(
      process.execPath,
      ['--conditions=@postern/source', '--import', 'tsx', '--input-type=module', '-e', script],
      {
        cwd: fileURLToPath(new URL('../../..', import.meta.url)),
        stdio: ['ignore', 'pipe', 'inherit'],
      },
    );
    let output = '';
    child.stdout.on('data', (chunk: Buffer) => {
      output += chunk.toString();
      if (output.includes('half')) child.kill('SIGKILL');
    });
    await expect(once(child, 'exit')).resolves.toEqual([null, 'SIGKILL']);
    expect(readdirSync(join(dir, 'tmp'))).toHaveLength(1);
    events.length = 0;
    const again = await open();
    expect([...again.entries()].map((state) => state.id)).toEqual([output.split('\n')[0]]);
    expect(readdirSync(join(dir, 'tmp'))).toEqual([]);
    expect(events.map((event) => event.type)).toEqual(['taken-over', 'swept', 'opened']);
  });

  test('a lock file a power cut left empty belongs to nobody', async () => {
    const { spool, dir, open } = await setup();
    await spool.close();
    for (const name of readdirSync(dir)) if (name.startsWith('owner.')) truncateSync(join(dir, name), 0);
    await open();
  });

  test('what another writer puts in arrives at the owner, and is found by the next one', async () => {
    const { spool, dir, open } = await setup();
    const arrived = deferred<EntryId>();
    spool.onArrival((state) => arrived.resolve(state.id));
    const writer = await spoolWriter({ dir, env: systemEnv, keepFreeBytes: 0 });
    onTestFinished(() => writer.close());
    const id = await writer.accept(envelopeTo('a@x.example'), bytes(MESSAGE));
    expect(await arrived.promise).toBe(id);
    await spool.close();
    const later = await writer.accept(envelopeTo('b@x.example'), bytes(MESSAGE));
    expect([...(await open()).entries()].map((state) => state.id).sort()).toEqual([id, later].sort());
  });

  test('its own mail is told once', async () => {
    const { spool } = await setup();
    const arrived: EntryId[] = [];
    spool.onArrival((state) => void arrived.push(state.id));
    const ids = await Promise.all(
      Array.from({ length: 30 }, () => spool.accept(envelopeTo('a@x.example'), bytes(MESSAGE))),
    );
    expect(arrived.sort()).toEqual(ids.sort());
  });

  test('an old draft of an unknown writer is swept, a young one is not', async () => {
    const { spool, dir, open } = await setup();
    await spool.close();
    writeFileSync(join(dir, 'tmp', 'young.1.1.1'), '');
    writeFileSync(join(dir, 'tmp', 'old.1.1.1'), '');
    utimesSync(join(dir, 'tmp', 'old.1.1.1'), 1, 1);
    await open();
    expect(readdirSync(join(dir, 'tmp'))).toEqual(['young.1.1.1']);
  });

  test('after close() nothing is taken', async () => {
    const { spool } = await setup();
    await spool.close();
    await expect(spool.accept(envelopeTo('a@x.example'), bytes(MESSAGE))).rejects.toBeInstanceOf(SpoolError);
  });
});
