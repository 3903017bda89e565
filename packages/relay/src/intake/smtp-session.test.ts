import { once } from 'node:events';
import { createRequire } from 'node:module';
import { type AddressInfo, connect, createServer } from 'node:net';
import { Writable } from 'node:stream';
import { SMTPServer } from 'smtp-server';
import { SMTPConnection } from 'smtp-server/lib/smtp-connection.js';
import { expect, onTestFinished, test } from 'vitest';
import { Session, SessionServer } from './smtp-session.ts';

const require = createRequire(import.meta.url);

/** A session that was greeted and has said EHLO. */
async function greeted(): Promise<{ session: Session; server: SessionServer }> {
  const sessions: Session[] = [];
  const server = new SessionServer(
    { authOptional: true, disableReverseLookup: true, logger: false },
    { tls: undefined, onSession: (session) => void sessions.push(session) },
  );
  server.on('error', () => {});
  const listener = createServer((socket) => {
    socket.on('error', () => {});
    server.connect(socket);
  }).listen(0, '127.0.0.1');
  await once(listener, 'listening');
  const client = connect((listener.address() as AddressInfo).port, '127.0.0.1');
  onTestFinished(() => {
    client.destroy();
    listener.close();
  });
  let heard = '';
  client.on('data', (chunk: Buffer) => {
    heard += chunk.toString('latin1');
    if (heard.endsWith('\r\n') && !heard.includes('EHLO sent')) {
      heard += 'EHLO sent';
      client.write('EHLO client.example\r\n');
    }
  });
  while (!/^250 /m.test(heard)) await once(client, 'data');
  const [session] = sessions;
  if (session === undefined) throw new Error('no session came');
  return { session, server };
}

test('smtp-server is exactly the version whose insides are known', () => {
  expect(require('smtp-server/package.json').version).toBe('3.21.6');
  expect(require('../../package.json').dependencies['smtp-server']).toBe('3.21.6');
});

test('what a session overrides is there to be overridden', () => {
  const inherited = ['close', 'connectionReady', '_setListeners'];
  const own = Object.getOwnPropertyNames(Session.prototype).filter((name) => {
    const { value } = Object.getOwnPropertyDescriptor(Session.prototype, name) ?? {};
    return typeof value === 'function' && !['constructor', 'handler_ETRN'].includes(name);
  });
  expect(own).toEqual(expect.arrayContaining(['init', 'send', 'upgrade', '_onCommand', '_isSupported']));
  for (const name of [...own, ...inherited])
    expect(Reflect.get(SMTPConnection.prototype, name), name).toBeTypeOf('function');
  expect(Reflect.get(SMTPServer.prototype, 'connect')).toBeTypeOf('function');
  expect(Reflect.get(SMTPServer.prototype, '_onError')).toBeTypeOf('function');
});

test('a session has what is read of it', async () => {
  const { session, server } = await greeted();
  expect(session._parser).toBeInstanceOf(Writable);
  expect(session._socket.remoteAddress).toBe('127.0.0.1');
  expect(session._server).toBe(server);
  expect(session._nextHandler).toBe(false);
  expect([session.secure, session.hostNameAppearsAs, session.openingCommand]).toEqual([
    false,
    'client.example',
    'EHLO',
  ]);
  expect(session.session).toMatchObject({ id: expect.any(String), envelope: { mailFrom: false, rcptTo: [] } });
  expect(server.connections.has(session)).toBe(true);
  expect(server.secureContext).toBeInstanceOf(Map);
});

test('every command comes through the one place that judges it first', async () => {
  const { session } = await greeted();
  const heard: string[] = [];
  const judge = session._onCommand.bind(session);
  session._onCommand = (command, callback) => {
    heard.push(command.toString('latin1'));
    judge(command, callback);
  };
  (session._parser as Writable).write('NOOP\r\nMAIL FROM:<a@x.example>\r\n');
  while (heard.length < 2) await new Promise((resolve) => setImmediate(resolve));
  expect(heard).toEqual(['NOOP', 'MAIL FROM:<a@x.example>']);
});
