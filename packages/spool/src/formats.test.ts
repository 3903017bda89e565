import { cpSync, mkdirSync, readdirSync, readFileSync, utimesSync } from 'node:fs';
import { join } from 'node:path';
import { fileURLToPath } from 'node:url';
import { type EntryId, type EntryState, type JournalRecord, systemEnv } from '@postern/core';
import { describe, expect, onTestFinished, test } from 'vitest';
import type { SpoolEvent } from './event.ts';
import { bytes, scratch, text } from './spool.test-util.ts';
import { openSpool } from './spool.ts';

/**
 * Spools as versions in the field wrote them, frozen: every later version opens them, and finds in them what is written
 * down in `expected.jsonl`. These files are never made again; a new format gets a folder beside them (see the README of
 * `fixtures`).
 */
const FIXTURES = fileURLToPath(new URL('../fixtures', import.meta.url));

/** One entry of a frozen spool. `message` is latin1; null where the stored one is damaged. */
interface Expected {
  readonly name: string;
  readonly state: EntryState;
  readonly message: string | null;
}

/** What states tell beside what was written down then: as it is where nothing of the kind was recorded. */
const KNOWN_SINCE = { notifying: [] } satisfies Partial<EntryState>;

/** A copy of a frozen spool, as git may have left it: no empty directories, modes as they come. */
async function thawed(format: string) {
  const dir = join(await scratch(onTestFinished), 'spool');
  const frozen = join(FIXTURES, format);
  mkdirSync(dir);
  cpSync(join(frozen, 'spool'), dir, { recursive: true });
  for (const name of readdirSync(join(dir, 'tmp'))) utimesSync(join(dir, 'tmp', name), 1, 1);
  const expected = readFileSync(join(frozen, 'expected.jsonl'), 'utf8')
    .trimEnd()
    .split('\n')
    .map((line) => JSON.parse(line) as Expected)
    .map(({ state, ...rest }): Expected => ({ ...rest, state: { ...state, ...KNOWN_SINCE } }));
  const events: SpoolEvent[] = [];
  const open = async () => {
    const spool = await openSpool({ dir, env: systemEnv, keepFreeBytes: 0, onEvent: (e) => void events.push(e) });
    onTestFinished(() => spool.close().catch(() => {}));
    return spool;
  };
  return { dir, expected, events, open };
}

const content = (path: string): string => readFileSync(path, 'latin1');

describe.each(readdirSync(FIXTURES).filter((name) => name.startsWith('format-')))('a spool of %s', (format) => {
  test('opens with every entry in its state', async () => {
    const { expected, open } = await thawed(format);
    const spool = await open();
    const found = [...spool.entries()];
    for (const [at, { name, state }] of expected.entries()) {
      expect({ name, state: found[at] }).toEqual({ name, state });
      expect(spool.get(state.id)).toEqual(state);
    }
    expect(found).toHaveLength(expected.length);
  });

  test('gives every message byte for byte, and a damaged one not at all', async () => {
    const { dir, expected, open } = await thawed(format);
    const spool = await open();
    for (const { name, state, message } of expected) {
      const given = await text(spool.read(state.id)).catch((error: { code: string }) =>
        error.code === 'corrupt' ? null : error,
      );
      expect({ name, message: given }).toEqual({ name, message });
      expect(readdirSync(join(dir, 'corrupt')).includes(state.id)).toBe(message === null);
    }
  });

  test('takes records into every entry, new messages, and removals', async () => {
    const { expected, open } = await thawed(format);
    const spool = await open();
    const sound = expected.filter(({ message }) => message !== null);
    const record = ({ attempts, recipients }: EntryState): JournalRecord => ({
      ...{
        type: 'attempt',
        at: 1,
        n: attempts + 1,
        host: 'gate',
        to: recipients.map(({ to }) => to),
        receipt: 'r-new',
      },
    });
    for (const { state } of sound) await spool.record(state.id, record(state));
    const envelope = sound[0]?.state.envelope ?? expect.fail('the fixture is empty');
    const added = await spool.accept(envelope, bytes('Subject: new\r\n\r\n'));
    const removed = sound.at(-1)?.state.id as EntryId;
    await spool.remove(removed);
    await spool.close();
    const again = await open();
    for (const { name, state, message } of sound) {
      if (state.id === removed) continue;
      const to = state.recipients.map((each) => each.to);
      expect({ name, ...again.get(state.id) }).toMatchObject({
        ...{ name, envelope: state.envelope, held: state.held, attempts: state.attempts + 1 },
        unresolved: [{ receipt: 'r-new', recipients: to }],
      });
      expect(await text(again.read(state.id))).toBe(message);
    }
    expect(again.get(removed)).toBeUndefined();
    expect(again.get(added)).toMatchObject({ envelope });
  });
});

test('a spool of format 1 tells of what it cannot take in, keeps it all, and sweeps what is of no use', async () => {
  const { dir, events, open } = await thawed('format-1');
  const frozen = join(FIXTURES, 'format-1', 'spool', 'queue');
  const spool = await open();
  expect(events).toEqual([
    { type: 'swept', name: '1k81i342fgbrlsq.4194303.1.1' },
    { type: 'damaged-journal', id: '1k81o2sgopomr5t', line: 2 },
    { type: 'newer', id: '1k81ohp4ga57f42', version: 2 },
    { type: 'newer', id: '1k81olg9eju1viq', version: 12 },
    expect.objectContaining({ type: 'corrupt', id: '1k81or30r81n0o7' }),
    expect.objectContaining({ type: 'corrupt', id: '1k81ouq5p1pil4c' }),
    expect.objectContaining({ type: 'opened' }),
  ]);
  for (const name of ['1k81ohp4ga57f42', '1k81ohp4ga57f42.log', '1k81olg9eju1viq']) {
    expect({ name, bytes: content(join(dir, 'queue', name)) }).toEqual({ name, bytes: content(join(frozen, name)) });
  }
  for (const name of ['1k81or30r81n0o7', '1k81or30r81n0o7.log', '1k81ouq5p1pil4c']) {
    expect({ name, bytes: content(join(dir, 'corrupt', name)) }).toEqual({ name, bytes: content(join(frozen, name)) });
  }
  expect(readdirSync(join(dir, 'queue'))).not.toContain('1k81p9vkjv9494g.log');
  expect(readdirSync(dir).filter((name) => name.startsWith('owner.'))).toEqual(['owner.8']);
  await spool.close();
});
