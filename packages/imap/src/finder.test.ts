import { mkdir, mkdtemp, rm, symlink, writeFile } from 'node:fs/promises';
import { tmpdir } from 'node:os';
import { join } from 'node:path';
import { systemEnv } from '@postern/core';
import { memoryLink } from '@postern/testkit';
import { afterAll, beforeAll, describe, expect, test } from 'vitest';
import { CANDIDATES, probeCommand } from './candidates.ts';
import type { ImapEvent } from './event.ts';
import { processes } from './far.test-util.ts';
import { sessionOpener } from './finder.ts';

const QUESTION = 'read tag rest; printf "* CAPABILITY IMAP4rev1\\r\\n%s OK done\\r\\n" "$tag"; exec cat >/dev/null';
const signal = new AbortController().signal;
let root: string;

beforeAll(async () => {
  root = await mkdtemp(join(tmpdir(), 'imapd-'));
});
afterAll(() => rm(root, { recursive: true, force: true }));

/** Opens a session on a far side whose PATH holds these commands (and what a shell needs). */
async function far(
  commands: Record<string, string>,
): Promise<{ open: ReturnType<typeof sessionOpener>; events: ImapEvent[] }> {
  const bin = await mkdtemp(join(root, 'bin-'));
  for (const tool of ['sh', 'cat', 'printf']) await symlink(`/bin/${tool}`, join(bin, tool)).catch(() => {});
  for (const [name, body] of Object.entries(commands)) {
    await mkdir(bin, { recursive: true });
    await writeFile(join(bin, name), `#!/bin/sh\n${body}\n`, { mode: 0o755 });
  }
  const events: ImapEvent[] = [];
  const link = memoryLink(processes({ env: { PATH: bin } }).serve);
  return { open: sessionOpener({ link, env: systemEnv, onEvent: (event) => events.push(event) }), events };
}

const preauth = (body = QUESTION): string => `printf "* PREAUTH ready\\r\\n"; ${body}`;

describe('looking for an imapd', () => {
  test('the probe is one line that csh and fish take as well', () => {
    const script = probeCommand(0);
    expect(script).not.toMatch(/[!\\\n]/);
    expect(script.split("'").length).toBe(3);
  });

  test('imapd in PATH is taken first, and told', async () => {
    const { open, events } = await far({ imapd: preauth() });
    const session = await open(signal);
    expect(session.greeting.toString()).toBe('* PREAUTH ready\r\n');
    expect(events).toEqual([{ type: 'imapd-found', host: 'gate', command: 'imapd' }]);
    session.channel.abort(new Error('done'));
  });

  test.runIf(CANDIDATES.includes('doveadm exec imap'))('one that wants a login is passed over, once', async () => {
    const log = join(root, `calls-${Math.random()}`);
    const { open, events } = await far({
      imapd: `echo x >>${log}; printf "* OK ready\\r\\n"; exec cat >/dev/null`,
      doveadm: preauth(),
    });
    // A machine with Dovecot has it at its own path, before doveadm.
    const session = await open(signal);
    const found = events.at(-1);
    expect(found?.type === 'imapd-found' && found.command).toMatch(/dovecot|doveadm/);
    session.channel.abort(new Error('done'));
    const before = events.length;
    (await open(signal)).channel.abort(new Error('done'));
    expect(events.length).toBe(before);
  });

  test('a shell that prints on its own is no obstacle', async () => {
    const { open, events } = await far({ imapd: `echo Welcome; ${preauth()}` });
    (await open(signal)).channel.abort(new Error('done'));
    expect(events).toContainEqual({ type: 'noise', host: 'gate', lines: ['Welcome'] });
  });
});
