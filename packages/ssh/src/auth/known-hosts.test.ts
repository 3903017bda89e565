import { execFileSync } from 'node:child_process';
import { mkdtempSync, readFileSync, rmSync, writeFileSync } from 'node:fs';
import { tmpdir } from 'node:os';
import { join } from 'node:path';
import { afterAll, beforeAll, describe, expect, test } from 'vitest';
import {
  coversName,
  formatKnownHost,
  hostNames,
  judgeHostKey,
  type KnownHost,
  keyType,
  knownKeyTypes,
  parseKnownHosts,
} from './known-hosts.ts';

/** A key blob of this type, its content given by `seed`. */
function key(type: string, seed: number): Buffer {
  const name = Buffer.from(type);
  const length = Buffer.alloc(4);
  length.writeUInt32BE(name.length);
  return Buffer.concat([length, name, Buffer.alloc(36, seed)]);
}

const ED = key('ssh-ed25519', 1);
const ED2 = key('ssh-ed25519', 2);
const RSA = key('ssh-rsa', 3);
const line = (names: string, blob: Buffer): string => `${names} ${keyType(blob)} ${blob.toString('base64')}`;
const file = (...lines: string[]): KnownHost[] => parseKnownHosts(lines.join('\n'), 'kh');
const GATE = { hostname: 'Gate.example', port: 22 };

describe('a known_hosts file', () => {
  test('is read with comments, empty and broken lines passed over', () => {
    const entries = file('# no', '', line('gate', ED), 'gate ssh-ed25519', `gate ssh-rsa ${ED.toString('base64')}`);
    expect(entries).toEqual([{ file: 'kh', line: 3, names: 'gate', type: 'ssh-ed25519', key: ED }]);
  });
  test('may have tabs, CRLF and comments after the key', () => {
    expect(file(`gate\tssh-ed25519 ${ED.toString('base64')} me@here\r`)).toHaveLength(1);
  });
  test('knows markers, and passes over markers it does not know', () => {
    const entries = file(`@revoked ${line('*', ED)}`, `@cert-authority ${line('*', ED)}`, `@new ${line('*', ED)}`);
    expect(entries.map((entry) => entry.marker)).toEqual(['revoked', 'cert-authority']);
  });
});

describe('names', () => {
  test.each([
    ['gate.example', 'gate.example', true],
    ['GATE.example', 'gate.example', true],
    ['gate', 'gate.example', false],
    ['*.example', 'gate.example', true],
    ['gate.*,!gate.example', 'gate.example', false],
    ['!other,*', 'gate.example', true],
    ['ga?e.example', 'gate.example', true],
    ['[gate.example]:22', 'gate.example', false],
    ['[*.example]:2222', '[gate.example]:2222', true],
    ['*a*a*a*a*a*a*a*a*b', 'a'.repeat(200), false],
    ['|1|bad', 'gate', false],
    ['|2|AAAA|AAAA', 'gate', false],
  ])('%s covers %s: %s', (names, name, want) => expect(coversName(names, name)).toBe(want));

  test('have the port unless it is 22, and no port with an alias', () => {
    expect(hostNames(GATE)).toEqual({ name: 'gate.example' });
    expect(hostNames({ ...GATE, port: 23 })).toEqual({ name: '[gate.example]:23', bare: 'gate.example' });
    expect(hostNames({ ...GATE, port: 23, hostKeyAlias: 'Door' })).toEqual({ name: 'door' });
  });
});

describe('an offered key', () => {
  const judge = (entries: KnownHost[], blob: Buffer, host = GATE): string =>
    judgeHostKey(entries, hostNames(host), blob).type;
  const other = { ...GATE, port: 2222 };
  test('is known when any line has it', () =>
    expect(judge(file(line('gate.example', ED2), line('gate.example', ED)), ED)).toBe('known'));
  test('is changed when only others of its type are there', () =>
    expect(judge(file(line('gate.example', ED2)), ED)).toBe('changed'));
  test('is unknown beside keys of other types, and those are named', () => {
    const verdict = judgeHostKey(file(line('gate.example', RSA)), hostNames(GATE), ED);
    expect(verdict).toMatchObject({ type: 'unknown', others: [{ type: 'ssh-rsa' }] });
  });
  test('is revoked whatever else is said of it', () =>
    expect(judge(file(line('gate.example', ED), `@revoked ${line('*', ED)}`), ED)).toBe('revoked'));
  test('is not revoked by a line for another key', () =>
    expect(judge(file(line('gate.example', ED), `@revoked ${line('*', ED2)}`), ED)).toBe('known'));
  test('is not known by a certificate authority having it', () => {
    const verdict = judgeHostKey(file(`@cert-authority ${line('*', ED)}`), hostNames(GATE), ED);
    expect(verdict).toMatchObject({ type: 'unknown', authority: { line: 1 } });
  });
  test('on another port is known by the bare name, but never changed by it', () => {
    expect(judge(file(line('gate.example', ED)), ED, other)).toBe('known');
    expect(judge(file(line('gate.example', ED2)), ED, other)).toBe('unknown');
  });
  test('on port 22 is not known by a line for another port', () =>
    expect(judge(file(line('[gate.example]:2222', ED)), ED)).toBe('unknown'));
  test('is asked for by the types known', () => {
    expect(knownKeyTypes(file(line('gate.example', RSA), line('other', ED)), hostNames(GATE))).toEqual(['ssh-rsa']);
    expect(knownKeyTypes(file(line('gate.example', RSA)), hostNames(other))).toEqual(['ssh-rsa']);
  });
});

describe('beside ssh-keygen', () => {
  let dir: string;
  beforeAll(() => {
    dir = mkdtempSync(join(tmpdir(), 'pkh-'));
  });
  afterAll(() => rmSync(dir, { recursive: true }));
  const hashed = (): string => {
    const path = join(dir, 'kh');
    writeFileSync(path, `${line('gate.example', ED)}\n${line('[gate.example]:2222', ED2)}\n`);
    execFileSync('ssh-keygen', ['-H', '-f', path], { stdio: 'ignore' });
    return readFileSync(path, 'utf8');
  };
  test('names it has hashed are found', () => {
    const text = hashed();
    expect(text).not.toContain('gate');
    const entries = parseKnownHosts(text, 'kh');
    expect(judgeHostKey(entries, hostNames(GATE), ED).type).toBe('known');
    expect(judgeHostKey(entries, hostNames({ ...GATE, port: 2222 }), ED2).type).toBe('known');
    expect(judgeHostKey(entries, { name: 'other' }, ED).type).toBe('unknown');
  });
  test.each([undefined, Buffer.alloc(20, 7)])('it finds the lines we write (salt %s)', (salt) => {
    const path = join(dir, `ours-${salt === undefined}`);
    writeFileSync(path, formatKnownHost('[gate.example]:2222', ED, salt));
    const found = execFileSync('ssh-keygen', ['-F', '[gate.example]:2222', '-f', path], { encoding: 'utf8' });
    expect(found).toContain(ED.toString('base64'));
  });
});
