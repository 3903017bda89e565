import { createHash } from 'node:crypto';
import { once } from 'node:events';
import { type Link, LinkError, systemEnv } from '@postern/core';
import { channelPair, seededRandom, virtualEnv } from '@postern/core/testing';
import { createImapd } from '@postern/imap';
import { createLink, type ResolveOptions, resolveHost } from '@postern/ssh';
import { startRig } from '@postern/testkit/rig';
import type { ImapFlow } from 'imapflow';
import { afterAll, afterEach, beforeAll, describe, expect, test } from 'vitest';
import { connectImap, linkFault } from './connect.ts';
import { SessionSocket } from './socket.ts';

/** ImapFlow over a real sshd and a real Dovecot. */
let rig: Awaited<ReturnType<typeof startRig>>;
let resolve: ResolveOptions;
const open: { close(): unknown }[] = [];

beforeAll(async () => {
  rig = await startRig({ smtp: false });
  resolve = { sshConfig: rig.client.configFile, environment: { PATH: process.env.PATH } };
});
afterEach(async () => {
  for (const it of open.splice(0).reverse()) await it.close();
});
afterAll(() => rig?.stop());

async function newLink(): Promise<Link> {
  const link = createLink(await resolveHost('gate', resolve), { env: systemEnv });
  open.push(link);
  return link;
}

function keep(client: ImapFlow): ImapFlow {
  open.push(client);
  return client;
}

describe('connectImap', () => {
  test('needs no more than a host name, and its link ends with the client', async () => {
    const before = (await rig.ssh.pids()).length;
    const client = keep(await connectImap({ host: 'gate', resolve }));
    expect(client.authenticated).toBe(true);
    expect(await client.status('INBOX', { messages: true })).toMatchObject({ messages: 0 });
    await client.logout();
    await expect.poll(async () => (await rig.ssh.pids()).length).toBe(before);
  });

  test('over a shared link leaves the link up', async () => {
    const link = await newLink();
    const clients = await Promise.all([connectImap({ link }), connectImap({ link }), connectImap({ link })]);
    for (const client of clients) {
      expect(await client.noop()).not.toBe(false);
      await client.logout();
    }
    expect(link.state.type).toBe('up');
  });

  test('takes a spare where there is one', async () => {
    const link = await newLink();
    const imapd = createImapd({ link, spare: 1, env: systemEnv });
    open.push(imapd);
    await expect.poll(() => imapd.status.spares).toBe(1);
    const client = keep(await connectImap({ imapd }));
    expect(client.usable).toBe(true);
    await client.logout();
  });

  test('says what is wrong with a host that does not answer in time', async () => {
    const nowhere = await resolveHost('gate', {
      ...resolve,
      overrides: { destination: '127.0.0.1:1' },
    } as ResolveOptions);
    const link = createLink(nowhere, { env: systemEnv });
    open.push(link);
    await expect(connectImap({ link, connectTimeoutMs: 300 })).rejects.toMatchObject({
      name: 'ConnectImapError',
      code: 'timeout',
      message: expect.stringContaining('127.0.0.1'),
    });
  });

  test('rejects when the far command is no imapd', async () => {
    const link = await newLink();
    await expect(connectImap({ link, command: 'echo hello' })).rejects.toMatchObject({
      name: 'ImapError',
      code: 'ended',
    });
  });

  test('gives up when its signal aborts, before and after', async () => {
    const link = await newLink();
    const early = AbortSignal.abort(new Error('changed my mind'));
    await expect(connectImap({ link, signal: early })).rejects.toMatchObject({ code: 'aborted' });
    const late = new AbortController();
    const client = keep(await connectImap({ link, signal: late.signal }));
    const closed = once(client, 'close');
    late.abort();
    await closed;
    expect(client.usable).toBe(false);
    expect(link.state.type).toBe('up');
  });
});

describe('a client over a link', () => {
  test('IDLE tells of a message that another client appends', async () => {
    const link = await newLink();
    const [reader, writer] = [keep(await connectImap({ link })), keep(await connectImap({ link }))];
    await reader.mailboxOpen('INBOX');
    const told = once(reader, 'exists');
    const idling = reader.idle();
    await writer.append('INBOX', 'Subject: pushed\r\n\r\nhello\r\n');
    const [event] = await told;
    expect(event).toMatchObject({ path: 'INBOX', count: 1 });
    await reader.messageDelete('1:*');
    await idling;
  });

  test('compresses where the far side can, and a large message comes whole through a slow reader', async () => {
    const link = await newLink();
    const client = keep(await connectImap({ link }));
    expect(client.capabilities.has('COMPRESS=DEFLATE')).toBe(true);
    const random = seededRandom(7);
    const lines = Array.from({ length: 200_000 }, () => random().toString(36).padEnd(70, 'x').slice(0, 70));
    const source = Buffer.from(`Subject: large\r\n\r\n${lines.join('\r\n')}\r\n`);
    const digest = (bytes: Buffer): string => createHash('sha256').update(bytes).digest('hex');
    await client.append('INBOX', source);
    await client.mailboxOpen('INBOX');
    const { content } = await client.download('*');
    const chunks: Buffer[] = [];
    for await (const chunk of content ?? []) {
      chunks.push(chunk);
      await new Promise((done) => setImmediate(done));
    }
    const got = Buffer.concat(chunks);
    expect(got.length).toBe(source.length);
    expect(digest(got)).toBe(digest(source));
    await client.messageDelete('1:*');
    await client.logout();
  });

  test('that loses its link tells why: its error event, its pending command, and linkFault', async () => {
    const link = await newLink();
    const client = keep(await connectImap({ link }));
    await client.mailboxOpen('INBOX');
    expect(linkFault(client)).toBeUndefined();
    const fault = once(client, 'error');
    const closed = new Promise<void>((done) => client.once('close', () => done()));
    const idling = client.idle().catch((error) => error);
    await rig.ssh.dropConnections();
    const [error] = await fault;
    await closed;
    expect(error).toBeInstanceOf(LinkError);
    expect(linkFault(client)).toBe(error);
    await idling;
    await expect(client.noop()).rejects.toMatchObject({ code: 'NoConnection' });
  });

  test('a virtual clock is all its watchdog needs', async () => {
    const env = virtualEnv();
    const { channel, far } = channelPair();
    const socket = new SessionSocket({ channel, greeting: Buffer.from('hi'), capabilities: [], skipped: [] }, env);
    let timeouts = 0;
    socket.on('timeout', () => timeouts++);
    socket.resume();
    socket.setTimeout(1000);
    await env.advance(900);
    far.write('still here');
    await env.advance(900);
    expect(timeouts).toBe(0);
    await env.advance(200);
    expect(timeouts).toBe(1);
    socket.destroy();
    await env.advance(10_000);
    expect([timeouts, env.pending]).toEqual([1, 0]);
  });
});
