import { once } from 'node:events';
import { watch } from 'node:fs';
import { readdir, readFile } from 'node:fs/promises';
import { connect, type Socket } from 'node:net';
import { join } from 'node:path';
import { systemEnv } from '@postern/core';
import { memoryLink } from '@postern/testkit';
import { startRig } from '@postern/testkit/rig';
import { afterAll, beforeAll, describe, expect, test } from 'vitest';
import { recordedLink, resolveRig, type SshRig } from '../rig.test-util.ts';
import { closedPort, exchange, type Heard, hear, listen } from './forward.test-util.ts';
import { startReverse } from './reverse.ts';

let rig: SshRig;
beforeAll(async () => {
  rig = await startRig({ imapd: false, smtp: { domains: ['home.example', 'other.example'] } });
  await rig.addSshd({ name: 'strict', config: ['AllowTcpForwarding no'] });
  await rig.addSshd({ name: 'picky', config: ['PermitListen 127.0.0.1:1'] });
});
afterAll(() => rig?.stop());

interface Set extends Heard, AsyncDisposable {
  port(): number;
}

async function set(
  to: { host: string; port: number },
  o: { name?: string; port?: number; domains?: string[] } = {},
): Promise<Set> {
  const { link } = recordedLink(await resolveRig(rig, {}, o.name));
  const heard = hear();
  const reverse = startReverse({
    link,
    listen: { host: '127.0.0.1', port: o.port ?? 0 },
    to,
    env: systemEnv,
    ...(o.domains === undefined ? {} : { domains: o.domains }),
    onEvent: heard.onEvent,
  });
  return {
    ...heard,
    port: () => reverse.port ?? 0,
    async [Symbol.asyncDispose]() {
      await reverse.close();
      await link.close();
    },
  };
}

/** An SMTP client that waits for each reply: lines out, replies in. */
async function dialogue(port: number, lines: readonly string[]): Promise<string[]> {
  const socket = connect({ port, host: '127.0.0.1' });
  const replies: string[] = [];
  let text = '';
  const left = [...lines];
  await new Promise<void>((resolve, reject) => {
    socket.on('error', reject);
    socket.on('close', () => resolve());
    socket.on('data', (chunk: Buffer) => {
      text += chunk.toString('latin1');
      for (
        let match = /^(?:\d{3}-.*\r\n)*\d{3} .*\r\n/.exec(text);
        match !== null;
        match = /^(?:\d{3}-.*\r\n)*\d{3} .*\r\n/.exec(text)
      ) {
        text = text.slice(match[0].length);
        replies.push(match[0].trim());
        const line = left.shift();
        if (line !== undefined) socket.write(`${line}\r\n`, 'latin1');
      }
    });
  });
  return replies;
}

const upper = (socket: Socket): void => {
  const chunks: Buffer[] = [];
  socket.on('data', (chunk) => chunks.push(chunk));
  socket.on('end', () => socket.end(Buffer.concat(chunks).toString().toUpperCase()));
};

describe('a reverse forward through a real sshd', () => {
  test('lets the far side reach this machine, half-close included', async () => {
    await using local = await listen(upper);
    await using it = await set({ host: '127.0.0.1', port: local.port });
    const heard = await it.next('reverse-listening');
    expect(heard).toMatchObject({ host: 'gate', listen: `127.0.0.1:${it.port()}` });
    const answers = await Promise.all(
      ['one', 'two', 'x'.repeat(300_000)].map((text) => exchange({ port: it.port() }, text)),
    );
    expect(answers).toEqual(['ONE', 'TWO', 'X'.repeat(300_000)]);
  });

  test('is asked for anew after the link was lost, and given back when closed', async () => {
    await using local = await listen(upper);
    let port = 0;
    {
      await using it = await set({ host: '127.0.0.1', port: local.port });
      await it.next('reverse-listening');
      it.events.length = 0;
      await rig.ssh.dropConnections();
      await it.next('reverse-lost');
      await it.next('reverse-listening');
      port = it.port();
      expect(await exchange({ port }, 'again')).toBe('AGAIN');
    }
    await expect(exchange({ port }, 'x')).rejects.toMatchObject({ code: 'ECONNREFUSED' });
  });

  test('is refused where the port is taken, says so, and comes once it is free', async () => {
    const squatter = await listen((socket) => socket.destroy());
    await using local = await listen(upper);
    await using it = await set({ host: '127.0.0.1', port: local.port }, { port: squatter.port });
    expect(await it.next('reverse-refused')).toMatchObject({
      listen: `127.0.0.1:${squatter.port}`,
      error: { code: 'channel-refused', message: `the far sshd does not listen on 127.0.0.1:${squatter.port}` },
      fix: expect.stringContaining('ClientAliveInterval'),
      retryInMs: 2000,
    });
    await squatter[Symbol.asyncDispose]();
    await it.next('reverse-listening');
    expect(await exchange({ port: squatter.port }, 'now')).toBe('NOW');
  });

  test.each(['strict', 'picky'])('is refused by an sshd that forbids it (%s)', async (name) => {
    await using it = await set({ host: '127.0.0.1', port: 9 }, { name });
    expect(await it.next('reverse-refused')).toMatchObject({ fix: expect.stringContaining('PermitListen') });
  });

  test('cuts the far peer off when nothing answers here', async () => {
    const port = await closedPort();
    await using it = await set({ host: '127.0.0.1', port });
    await it.next('reverse-listening');
    await exchange({ port: it.port() }, 'x').catch(() => '');
    expect(await it.next('reverse-unreachable')).toMatchObject({ to: `127.0.0.1:${port}` });
  });
});

describe('a reverse forward with domains', () => {
  const greet = ['EHLO far.example', 'MAIL FROM:<a@far.example>'];

  test('delivers to a real Exim what is for these domains, and refuses the rest with 550', async () => {
    await using it = await set({ host: '127.0.0.1', port: rig.smtp?.port ?? 0 }, { domains: ['home.example'] });
    await it.next('reverse-listening');
    const replies = await dialogue(it.port(), [
      ...greet,
      'RCPT TO:<x@other.example>',
      'RCPT TO:<me@home.example>',
      'DATA',
      'Subject: reverse\r\n\r\n..dot\r\n.',
      'RCPT TO:<x@other.example>',
      'STARTTLS',
      'QUIT',
    ]);
    expect(replies.map((reply) => reply.slice(0, 3))).toEqual([
      '220',
      '250',
      '250',
      '550',
      '250',
      '354',
      '250',
      '550',
      '502',
      '221',
    ]);
    expect(replies[3]).toMatch(/^550 5\.7\.1/);
    expect(
      it.events.filter((event) => event.type === 'reverse-recipient-refused').map((event) => event.address),
    ).toEqual(['x@other.example', 'x@other.example']);
    const [message] = await delivered();
    expect(message?.toString('latin1')).toMatch(/Subject: reverse\r?\n\r?\n\.dot\r?\n/);
  });

  test('a far MTA that pipelines gets the replies in order', async () => {
    await using it = await set({ host: '127.0.0.1', port: rig.smtp?.port ?? 0 }, { domains: ['home.example'] });
    await it.next('reverse-listening');
    const replies = await dialogue(it.port(), [
      'EHLO far.example',
      'MAIL FROM:<a@far.example>\r\nRCPT TO:<x@elsewhere.example>\r\nRCPT TO:<me@home.example>\r\nRCPT TO:<y@elsewhere.example>\r\nRSET\r\nQUIT',
    ]);
    expect(replies.slice(2).map((reply) => reply.slice(0, 3))).toEqual(['250', '550', '250', '550', '250', '221']);
  });

  test('smuggled text reaches no mailbox', async () => {
    const before = (await inbox()).length;
    await using it = await set({ host: '127.0.0.1', port: rig.smtp?.port ?? 0 }, { domains: ['home.example'] });
    await it.next('reverse-listening');
    const replies = await dialogue(it.port(), [
      ...greet,
      'RCPT TO:<me@home.example>',
      'DATA',
      'Subject: a\r\n\r\ntext\n.\nMAIL FROM:<>\nRCPT TO:<x@other.example>\nDATA\nSubject: smuggled\n\nx\r\n.',
    ]);
    expect(replies.at(-1)).toMatch(/^554 5\.6\.0/);
    await it.next('reverse-close');
    expect((await inbox()).length).toBe(before);
  });

  test('a far MTA is told to come again when nothing answers here', async () => {
    const port = await closedPort();
    await using it = await set({ host: '127.0.0.1', port }, { domains: ['home.example'] });
    await it.next('reverse-listening');
    expect(await dialogue(it.port(), [])).toEqual(['421 4.4.1 The mail server behind this port does not answer']);
  });

  test('a local server that hangs up has its last reply passed on', async () => {
    await using local = await listen((socket) => {
      socket.end('220 here\r\n421 4.3.2 going down\r\n');
      socket.resume();
    });
    await using it = await set({ host: '127.0.0.1', port: local.port }, { domains: ['home.example'] });
    await it.next('reverse-listening');
    expect(await dialogue(it.port(), [])).toEqual(['220 here', '421 4.3.2 going down']);
  });

  async function inbox(): Promise<Buffer[]> {
    const directory = join(rig.maildir, 'new');
    const names = await readdir(directory);
    return Promise.all(names.sort().map((name) => readFile(join(directory, name))));
  }

  async function delivered(): Promise<Buffer[]> {
    const watcher = watch(join(rig.maildir, 'new'));
    try {
      for (;;) {
        const change = once(watcher, 'change');
        const messages = await inbox();
        if (messages.length > 0) return messages;
        await change;
      }
    } finally {
      watcher.close();
    }
  }
});

test('a link whose backend cannot have the far side listen is refused at once', () => {
  const link = memoryLink(() => {});
  expect(() => startReverse({ link, listen: { host: '', port: 1 }, to: { path: '/x' }, env: systemEnv })).toThrow(
    'cannot have the far side listen',
  );
});
