import { spawn } from 'node:child_process';
import { once } from 'node:events';
import {
  chmodSync,
  closeSync,
  fstatSync,
  mkdirSync,
  mkdtempSync,
  openSync,
  rmSync,
  statSync,
  writeFileSync,
} from 'node:fs';
import { connect, createServer } from 'node:net';
import { tmpdir } from 'node:os';
import { join } from 'node:path';
import { afterEach, beforeEach, describe, expect, test } from 'vitest';
import type { ListenAddress } from '../config/units.ts';
import { bindListener } from '../net/listen.ts';
import { ListenerTable, type Wanted } from './listeners.ts';
import { createLogger, type LogFormat, leadsToJournal } from './log.ts';
import { notifyServiceManager } from './notify.ts';

let dir = '';
beforeEach(() => {
  dir = mkdtempSync(join(tmpdir(), 'postern-parts-'));
});
afterEach(() => rmSync(dir, { recursive: true, force: true }));
const uid = process.getuid?.() ?? 0;

describe('a bound listener', () => {
  test('keeps who connects until it is released, with what they said', async () => {
    const listener = await bindListener({ type: 'tcp', host: '127.0.0.1', port: 0 }, { uid, runtimeDir: dir });
    expect(listener.address).toMatch(/^127\.0\.0\.1:[1-9]\d*$/);
    const client = connect(Number(listener.address.split(':')[1]), '127.0.0.1');
    client.write('early');
    await once(listener.server, 'connection');
    listener.server.on('connection', (socket) => socket.pipe(socket));
    listener.release();
    const [echo] = await once(client, 'data');
    expect(String(echo)).toBe('early');
    client.destroy();
    listener.server.close();
  });

  test('says that an address is taken', async () => {
    const other = createServer().listen(0, '127.0.0.1');
    await once(other, 'listening');
    const { port } = other.address() as { port: number };
    const bound = bindListener({ type: 'tcp', host: '127.0.0.1', port }, { uid, runtimeDir: dir });
    await expect(bound).rejects.toMatchObject({
      code: 'unavailable',
      message: `127.0.0.1:${port} is taken by another program`,
    });
    other.close();
  });

  test('is a socket of ours alone in a directory of ours alone', async () => {
    const path = join(dir, 'run', 'imap.sock');
    const listener = await bindListener({ type: 'unix', path }, { uid, runtimeDir: join(dir, 'run') });
    expect(statSync(path).mode & 0o777).toBe(0o600);
    expect(statSync(join(dir, 'run')).mode & 0o777).toBe(0o700);
    listener.server.close();
  });

  test('refuses a directory that others can enter', async () => {
    mkdirSync(join(dir, 'open'));
    chmodSync(join(dir, 'open'), 0o755);
    const bound = bindListener({ type: 'unix', path: join(dir, 'open', 's') }, { uid, runtimeDir: dir });
    await expect(bound).rejects.toMatchObject({ code: 'config', fix: `chmod 700 ${join(dir, 'open')}` });
  });
});

describe('a table of listeners', () => {
  const tcp = (port: number): ListenAddress => ({ type: 'tcp', host: '127.0.0.1', port });
  const table = (): ListenerTable<string> =>
    new ListenerTable<string>(({ address }) => bindListener(address, { uid, runtimeDir: dir }));
  /** Serves nobody, and tells what happens to it. */
  const wanted = (address: ListenAddress, spec: string, told: string[] = []): Wanted<string> => ({
    ...{ address, spec },
    serve() {
      told.push(`serve ${spec}`);
      return {
        sessions: 1,
        stop: () => void told.push(`stop ${spec}`),
        close: async () => void told.push(`close ${spec}`),
      };
    },
  });

  test('keeps nothing of a change that cannot be', async () => {
    const taken = await bindListener(tcp(0), { uid, runtimeDir: dir });
    const free = await bindListener(tcp(0), { uid, runtimeDir: dir });
    free.server.close();
    await once(free.server, 'close');
    const change = table().prepare([wanted(free.bound, 'a'), wanted(taken.bound, 'b')]);
    await expect(change).rejects.toMatchObject({ code: 'unavailable' });
    const again = await bindListener(free.bound, { uid, runtimeDir: dir });
    again.server.close();
    taken.server.close();
  });

  test('leaves alone what stays the same, and closes in the end what it retired', async () => {
    const told: string[] = [];
    const open = table();
    const change = async (...specs: string[]): Promise<void> =>
      (await open.prepare(specs.map((spec) => wanted(tcp(0), spec, told)))).commit();
    await change('a', 'b');
    const [first] = open.addresses;
    await change('a');
    expect(told.splice(0)).toEqual(['serve a', 'serve b', 'stop b']);
    await change('c');
    expect(open.addresses).toEqual([first]);
    expect(told.splice(0)).toEqual(['stop a', 'serve c']);
    expect(open.sessions).toBe(3);
    await open.close();
    expect(told.sort()).toEqual(['close a', 'close b', 'close c', 'stop c']);
  });
});

describe('the service manager', () => {
  /** A datagram socket of the outside world: Node has none for Unix addresses. */
  const RECEIVE = `use Socket; socket(my $s, AF_UNIX, SOCK_DGRAM, 0) or die; bind($s, pack_sockaddr_un($ARGV[0])) or die;
    $| = 1; print "bound\\n"; while (1) { recv($s, my $m, 4096, 0); print "$m\\n"; }`;

  test('is told READY=1 where NOTIFY_SOCKET is set', async () => {
    const path = join(dir, 'notify');
    const manager = spawn('perl', ['-e', RECEIVE, path], { stdio: ['ignore', 'pipe', 'inherit'] });
    let said = '';
    manager.stdout.on('data', (chunk) => {
      said += chunk;
    });
    await once(manager.stdout, 'data');
    expect(await notifyServiceManager({ ...process.env, NOTIFY_SOCKET: path }, ['READY=1'])).toBe(true);
    while (!said.includes('READY=1')) await once(manager.stdout, 'data');
    manager.kill();
  });

  test('is not looked for elsewhere', async () => expect(await notifyServiceManager({}, ['READY=1'])).toBe(false));
});

describe('the log', () => {
  const lines = async (format: LogFormat): Promise<string> => {
    let text = '';
    const write = (chunk: string): void => {
      text += chunk;
    };
    const log = await createLogger({ format, tty: false, debug: false, write });
    log.info({ host: 'gate', password: 'hunter2', auth: { pass: 'hunter2' } }, 'gate: link up');
    log.debug('unseen');
    return text;
  };
  test('is one plain line, without secrets', async () => {
    expect(await lines('text')).toMatch(/^\[?[\d-]+ [\d:.]+\]? INFO: gate: link up\n$/);
  });
  test('has a priority and no time for the journal', async () => {
    expect(await lines('journal')).toBe('<6>gate: link up\n');
  });
  test('knows the journal by device and inode', () => {
    const file = join(dir, 'journal');
    writeFileSync(file, '');
    const fd = openSync(file, 'r');
    const { dev, ino } = fstatSync(fd);
    expect(leadsToJournal(`${dev}:${ino}`, fd)).toBe(true);
    expect(leadsToJournal(`${dev}:${ino + 1}`, fd)).toBe(false);
    expect(leadsToJournal(undefined, fd)).toBe(false);
    closeSync(fd);
  });
  test('holds nothing that a terminal obeys, as JSON either', async () => {
    let text = '';
    const write = (chunk: string): void => {
      text += chunk;
    };
    const log = await createLogger({ format: 'json', tty: false, debug: false, write });
    log.info({ to: 'a\u009b2J\u202e' }, 'x');
    expect(text).toMatch(/^[ -~]+\n$/);
    expect(JSON.parse(text)).toMatchObject({ to: 'a\u009b2J\u202e' });
  });
  test('is JSON when asked, without secrets', async () => {
    const record = JSON.parse(await lines('json')) as Record<string, unknown>;
    expect(record).toMatchObject({
      level: 'info',
      time: expect.any(String),
      host: 'gate',
      msg: 'gate: link up',
      password: '[secret]',
      auth: { pass: '[secret]' },
    });
  });
});
