import { once } from 'node:events';
import { createServer } from 'node:net';
import { type Link, systemEnv } from '@postern/core';
import { type Gate, seedMaildir } from '@postern/gate';
import { createEndpoint, createImapd, type Imapd, type ImapEvent } from '@postern/imap';
import { createLink, resolveHost } from '@postern/ssh';
import { startRig } from '@postern/testkit/rig';
import { afterAll, afterEach, beforeAll, describe, expect, test } from 'vitest';
import { Wire } from './support/wire.ts';

/** Sessions that outlive their link, over a real link to a real Dovecot. */
const COUNT = 20;
let gate: Gate;
let link: Link;
let imapd: Imapd;
let port: number;
const events: ImapEvent[] = [];
const cleanups: (() => Promise<unknown>)[] = [];
const open = new Set<Wire>();

beforeAll(async () => {
  gate = await startRig({ smtp: false });
  await seedMaildir(gate.maildir, { count: COUNT, account: gate.account });
  const host = await resolveHost('gate', {
    sshConfig: gate.client.configFile,
    environment: { PATH: process.env.PATH },
    overrides: {},
  });
  link = createLink(host, { env: systemEnv });
  const onEvent = (event: ImapEvent): void => void events.push(event);
  imapd = createImapd({ link, spare: 0, env: systemEnv, onEvent, noted: true });
  const server = createServer().listen(0, '127.0.0.1');
  await once(server, 'listening');
  const admit = async () => ({ type: 'open', who: 'same-user' }) as const;
  const endpoint = createEndpoint({ server, imapd, admit, env: systemEnv, onEvent, continuity: {} });
  const address = server.address();
  port = typeof address === 'object' && address !== null ? address.port : 0;
  cleanups.push(
    () => new Promise((resolve) => server.close(resolve)),
    () => imapd.close(),
    () => endpoint.close(),
  );
});
afterEach(() => {
  for (const { socket } of open) socket.destroy();
  open.clear();
});
afterAll(async () => {
  for (const cleanup of cleanups.reverse()) await cleanup();
  await link?.close();
  await gate?.stop();
});

async function selected(mailbox = 'INBOX'): Promise<Wire> {
  const client = new Wire(port);
  open.add(client);
  await client.ask('a', 'LOGIN reader pw');
  await client.ask('b', `SELECT ${mailbox}`);
  return client;
}

async function cut(): Promise<void> {
  await gate.ssh.dropConnections();
}

const carried = (): number => imapd.carried;

describe('a client does not notice that the line died', () => {
  test('while it says nothing', async () => {
    const client = await selected();
    const before = carried();
    await cut();
    await expect.poll(carried).toBe(before + 1);
    expect(await client.ask('c', 'NOOP')).toMatch(/^c OK/m);
    expect(await client.ask('d', 'FETCH 3 (UID)')).toMatch(/^\* 3 FETCH \(UID \d+\)\r\nd OK/);
  });

  test('in IDLE, and hears of what has come and gone meanwhile', async () => {
    const client = await selected();
    const other = await selected();
    await client.ask('c', 'FETCH 1:* (FLAGS)');
    client.send('d IDLE\r\n');
    await client.upTo(/\+ idling\r\n/);
    const before = carried();
    await cut();
    await other.ask('c', 'STORE 2 +FLAGS (\\Flagged)');
    await other.ask('d', 'STORE 5 +FLAGS (\\Deleted)');
    await other.ask('e', 'EXPUNGE');
    await expect.poll(carried).toBeGreaterThanOrEqual(before + 2);
    await cut();
    await other.ask('f', 'NOOP');
    expect(await client.upTo(/\* 5 EXPUNGE\r\n/)).not.toContain('BYE');
    client.send('DONE\r\n');
    expect(await client.upTo(/^d OK.*\r\n/m)).toContain('d OK');
  });

  test('in the middle of a large FETCH, which comes whole and once', async () => {
    const client = await selected();
    const body = `Subject: large\r\n\r\n${'0123456789abcde\r\n'.repeat(400_000)}`;
    client.send(`c APPEND INBOX {${body.length}+}\r\n${body}\r\n`);
    await client.upTo(/^c OK.*\r\n/m);
    // The new message's UID is asked for behind its arrival: what has none here cannot be gone on with.
    await client.ask('n', 'NOOP');
    await client.ask('o', 'NOOP');
    client.send('d FETCH * (BODY.PEEK[])\r\n');
    const head = await client.upTo(/FETCH \(BODY\[\] \{\d+\}\r\n/);
    await cut();
    const text = await client.upTo(/^d OK.*\r\n/m);
    expect(head).toContain(`{${body.length}}`);
    expect(text.slice(0, body.length) === body).toBe(true);
    expect(text.slice(body.length)).toMatch(/^\)\r\n/);
    await client.ask('e', 'STORE * +FLAGS.SILENT (\\Deleted)');
    await client.ask('f', 'EXPUNGE');
  });

  test('at an APPEND, which is stored once', async () => {
    const client = await selected();
    await client.ask('c', 'CREATE Sent');
    for (let round = 0; round < 5; round++) {
      const body = `Subject: sent ${round}\r\nMessage-ID: <${round}@sent>\r\n\r\n${'x'.repeat(70_000)}\r\n`;
      client.send(`d${round} APPEND Sent {${body.length}+}\r\n${body}\r\n`);
      await new Promise((resolve) => setImmediate(resolve));
      await cut();
      expect(await client.upTo(new RegExp(`^d${round} .*\\r\\n`, 'm'))).toMatch(/OK/);
    }
    expect(await client.ask('e', 'STATUS Sent (MESSAGES)')).toContain('(MESSAGES 5)');
  });
});
