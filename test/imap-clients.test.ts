import { once } from 'node:events';
import { existsSync } from 'node:fs';
import { mkdir, readdir, readFile, writeFile } from 'node:fs/promises';
import { createServer, type Server } from 'node:net';
import { join } from 'node:path';
import { createSecureContext, type SecureContext } from 'node:tls';
import { type Link, quoteAll, systemEnv } from '@postern/core';
import { type Gate, type SeedMessage, seedMaildir } from '@postern/gate';
import {
  createEndpoint,
  createImapd,
  type Endpoint,
  type EndpointTls,
  type Imapd,
  type ImapEvent,
} from '@postern/imap';
import { createLink, resolveHost } from '@postern/ssh';
import { fetchTool, makeCertificate, mbsyncTlsKeyword, startRig } from '@postern/testkit/rig';
import { afterAll, beforeAll, describe, expect, test } from 'vitest';
import { start } from './support/lend.ts';
import { run, runTool } from './support/postern.ts';

/** Every reader there is, through the endpoint, in plain and over TLS: real sshd and Dovecot behind it. */
type Mode = 'plain' | EndpointTls['mode'];
const MODES: readonly Mode[] = ['plain', 'starttls', 'implicit'];
const COUNT = 30;
const USER = 'reader';
const PASSWORD = 'any-at-all';

let gate: Gate;
let messages: SeedMessage[];
let link: Link;
let imapd: Imapd;
let cert: string;
const served = new Map<Mode, { server: Server; endpoint: Endpoint; port: number }>();
const events: ImapEvent[] = [];
let homes = 0;

beforeAll(async () => {
  gate = await startRig({ smtp: false });
  messages = await seedMaildir(gate.maildir, { count: COUNT, account: gate.account });
  const environment = { PATH: process.env.PATH };
  link = createLink(await resolveHost('gate', { sshConfig: gate.client.configFile, environment }), { env: systemEnv });
  const onEvent = (event: ImapEvent): void => void events.push(event);
  imapd = createImapd({ link, spare: 1, env: systemEnv, onEvent });
  const secureContext = await secureContextOf();
  for (const mode of MODES) {
    const server = createServer().listen(0, '127.0.0.1');
    await once(server, 'listening');
    const address = server.address();
    const endpoint = createEndpoint({
      server,
      imapd,
      admit: async () => ({ type: 'open', who: 'same-user' }),
      env: systemEnv,
      onEvent,
      ...(mode === 'plain' ? {} : { tls: { mode, secureContext } }),
    });
    const port = typeof address === 'object' && address !== null ? address.port : 0;
    served.set(mode, { server, endpoint, port });
  }
});

afterAll(async () => {
  for (const { server, endpoint } of served.values()) {
    server.close();
    await endpoint.close();
  }
  await imapd?.close();
  await link?.close();
  await gate?.stop();
});

async function secureContextOf(): Promise<SecureContext> {
  const made = await makeCertificate({ dir: gate.dir, names: ['DNS:localhost', 'IP:127.0.0.1'] });
  cert = made.certFile;
  return createSecureContext(made);
}

const port = (mode: Mode): number => served.get(mode)?.port ?? 0;

interface Run {
  readonly home: string;
  /** What the program was unpacked to; `/` when installed. */
  readonly root: string;
  /** A file in the client's home; its path. */
  file(name: string, text: string, mode?: number): Promise<string>;
  run(args: readonly string[]): Promise<{ code: number | null; stdout: string; stderr: string }>;
  /**
   * On a terminal: waits for each pattern, then types what follows it; without keys it hangs up. Resolves with the whole screen
   * output.
   */
  type(args: readonly string[], steps: readonly [RegExp, string?][]): Promise<string>;
}

/** A client with a home of its own. */
async function client(name: string): Promise<Run> {
  const tool = await fetchTool(name);
  const home = join(gate.dir, `reader-${++homes}`);
  await mkdir(home);
  const env = {
    ...process.env,
    ...tool.env,
    HOME: home,
    TERM: 'xterm',
    XDG_CONFIG_HOME: join(home, '.config'),
    SSL_CERT_FILE: cert,
  };
  const script = (args: readonly string[]): string[] => [
    '-qec',
    `stty cols 120 rows 40; exec ${quoteAll([tool.command, ...tool.args, ...args])}`,
    '/dev/null',
  ];
  return {
    home,
    root: join(tool.command, '../../..'),
    async file(path, text, mode = 0o600) {
      const full = join(home, path);
      await mkdir(join(full, '..'), { recursive: true });
      await writeFile(full, text, { mode });
      return full;
    },
    run: (args) => run(tool.command, [...tool.args, ...args], { env, cwd: home }),
    async type(args, steps) {
      const running = start('script', script(args), env);
      for (const [pattern, keys] of steps) {
        await running.shown(pattern);
        if (keys === undefined) running.child.kill();
        else running.child.stdin.write(keys);
      }
      await running.ended;
      return running.stdout();
    },
  };
}

const lf = (bytes: Buffer): string => bytes.toString('latin1').replaceAll('\r\n', '\n');

/** Every message in a Maildir, as pulled, without what `drop` matches. */
async function maildir(path: string, drop = /^$/): Promise<string[]> {
  const found: string[] = [];
  for (const dir of ['cur', 'new']) {
    for (const name of await readdir(join(path, dir))) {
      found.push((await readFile(join(path, dir, name))).toString('latin1').replace(drop, ''));
    }
  }
  return found.sort();
}

const all = (): string[] => messages.map((message) => lf(message.bytes)).sort();

describe.each(MODES)('%s', (mode) => {
  test('mbsync pulls everything, byte for byte', async () => {
    const it = await client('mbsync');
    await mkdir(join(it.home, 'mail'));
    const tls = `${await mbsyncTlsKeyword()} ${{ plain: 'None', starttls: 'STARTTLS', implicit: 'IMAPS' }[mode]}`;
    const rc = await it.file(
      'mbsyncrc',
      `IMAPAccount gate\nHost localhost\nPort ${port(mode)}\nUser ${USER}\nPass ${PASSWORD}\n${tls}\n` +
        `${mode === 'plain' ? '' : `CertificateFile ${cert}\n`}AuthMechs PLAIN\n\nIMAPStore far\nAccount gate\n\n` +
        `MaildirStore near\nPath ${it.home}/mail/\nInbox ${it.home}/mail/INBOX\n\n` +
        'Channel all\nFar :far:\nNear :near:\nPatterns INBOX\nCreate Near\nSyncState *\n',
    );
    const ran = await it.run(['-c', rc, 'all']);
    expect(ran.code, ran.stderr).toBe(0);
    expect(await maildir(join(it.home, 'mail/INBOX'), /^X-TUID: \S+\n/m)).toEqual(all());
  });

  test('offlineimap pulls everything', async () => {
    const it = await client('offlineimap');
    const tls = {
      plain: 'ssl = no\nstarttls = no',
      starttls: `ssl = no\nstarttls = yes\nsslcacertfile = ${cert}`,
      implicit: `ssl = yes\nsslcacertfile = ${cert}`,
    }[mode];
    const rc = await it.file(
      'offlineimaprc',
      '[general]\naccounts = gate\nui = basic\n[Account gate]\nlocalrepository = near\nremoterepository = far\n' +
        `[Repository near]\ntype = Maildir\nlocalfolders = ${it.home}/mail\n` +
        `[Repository far]\ntype = IMAP\nremotehost = localhost\nremoteport = ${port(mode)}\nremoteuser = ${USER}\n` +
        `remotepass = ${PASSWORD}\nauth_mechanisms = PLAIN\n${tls}\nfolderfilter = lambda name: name == 'INBOX'\n`,
    );
    const ran = await it.run(['-o', '-c', rc]);
    expect(ran.code, ran.stdout + ran.stderr).toBe(0);
    expect((await maildir(join(it.home, 'mail/INBOX'))).length).toBe(COUNT);
  });

  test('fetchmail fetches everything', async () => {
    const it = await client('fetchmail');
    const tls = {
      plain: "sslproto ''",
      starttls: `sslproto 'TLS1.2+' sslcertck sslcertfile ${cert}`,
      implicit: `ssl sslproto 'TLS1.2+' sslcertck sslcertfile ${cert}`,
    }[mode];
    const box = join(it.home, 'box');
    const rc = await it.file(
      'fetchmailrc',
      `poll localhost service ${port(mode)} protocol imap auth password user "${USER}" password "${PASSWORD}" ` +
        `${tls} keep fetchall no rewrite mda "cat >> ${box}; echo ---- >> ${box}"\n`,
    );
    const ran = await it.run(['-f', rc, '-v', '--pidfile', join(it.home, 'pid'), '--nosyslog']);
    expect(ran.code, ran.stdout + ran.stderr).toBe(0);
    expect((await readFile(box, 'latin1')).split('----\n').length - 1).toBe(COUNT);
  });

  test.skipIf(mode === 'starttls')('getmail fetches everything', async () => {
    const it = await client('getmail');
    const retriever = mode === 'plain' ? 'SimpleIMAPRetriever' : `SimpleIMAPSSLRetriever\nca_certs = ${cert}`;
    const box = join(it.home, 'box');
    const rc = await it.file(
      'getmailrc',
      `[retriever]\ntype = ${retriever}\nserver = localhost\nport = ${port(mode)}\nusername = ${USER}\n` +
        `password = ${PASSWORD}\n[destination]\ntype = MDA_external\npath = /usr/bin/tee\n` +
        `arguments = ("-a", "${box}")\nallow_root_commands = true\n` +
        '[options]\nread_all = true\ndelete = false\ndelivered_to = false\nreceived = false\n',
    );
    const ran = await it.run(['--getmaildir', it.home, '--rcfile', rc]);
    expect(ran.code, ran.stdout + ran.stderr).toBe(0);
    const ids = (await readFile(box, 'latin1')).match(/^Message-ID: .*/gim);
    expect(ids?.length, ran.stdout).toBe(COUNT);
  });

  test('curl fetches one message, byte for byte', async () => {
    const it = await client('curl');
    const scheme = mode === 'implicit' ? 'imaps' : 'imap';
    const tls = { plain: [], starttls: ['--ssl-reqd', '--cacert', cert], implicit: ['--cacert', cert] }[mode];
    const url = `${scheme}://localhost:${port(mode)}/INBOX;MAILINDEX=7`;
    const ran = await it.run(['-sS', url, '-u', `${USER}:${PASSWORD}`, ...tls]);
    expect(ran.stderr).toBe('');
    expect(ran.stdout).toBe(messages[6]?.bytes.toString('utf8'));
  });

  // Its Lua half lies at a path that is compiled in.
  test.runIf(existsSync('/usr/share/imapfilter/common.lua'))('imapfilter searches', async () => {
    const it = await client('imapfilter');
    const tls = { plain: '', starttls: '', implicit: ", ssl = 'auto'" }[mode];
    const rc = await it.file(
      'config.lua',
      `options.starttls = ${mode === 'starttls'}\n` +
        `account = IMAP { server = 'localhost', port = ${port(mode)}, username = '${USER}', password = '${PASSWORD}'${tls} }\n` +
        'all = account.INBOX:select_all()\nprint("found " .. #all)\n',
    );
    const ran = await it.run(['-t', cert, '-c', rc]);
    expect(ran.stdout, ran.stderr).toContain(`found ${COUNT}`);
  });

  test.each(['mutt', 'neomutt'])('%s lists the mailbox and reads a message', async (name) => {
    const it = await client(name);
    const scheme = mode === 'implicit' ? 'imaps' : 'imap';
    const tls =
      mode === 'plain' ? 'set ssl_starttls=no ssl_force_tls=no' : `set ssl_force_tls=yes certificate_file=${cert}`;
    const rc = await it.file(
      'rc',
      `${tls}\nset imap_pass="${PASSWORD}" folder="${scheme}://${USER}@localhost:${port(mode)}/" spoolfile="+INBOX"\n` +
        'set pipe_decode=no wait_key=no confirmappend=no sort=mailbox-order mail_check=600\n' +
        `push "<last-entry><pipe-message>cat > ${it.home}/read<enter><exit>"\n`,
    );
    const shown = await it.type(['-n', '-F', rc, '-R'], []);
    expect(shown).toContain(`Msgs:${COUNT}`);
    expect((await readFile(join(it.home, 'read'))).toString('latin1')).toBe(
      lf(messages.at(-1)?.bytes ?? Buffer.alloc(0)),
    );
  });

  test('alpine lists the mailbox', async () => {
    const it = await client('alpine');
    await mkdir(join(it.home, 'mail'));
    const opened = new RegExp(`opened with ${COUNT} messages`);
    const flags = { plain: '/notls', starttls: '/tls/novalidate-cert', implicit: '/ssl/novalidate-cert' }[mode];
    const inbox = `{localhost:${port(mode)}${flags}/user=${USER}}INBOX`;
    const shown = await it.type(
      [
        '-p',
        await it.file('pinerc', `inbox-path=${inbox}\nuser-domain=gate.test\nfeature-list=quit-without-confirm\n`),
      ],
      [
        [/Exit this greeting/, 'e'],
        [/View messages in current folder/, 'i'],
        [/PASSWORD/, `${PASSWORD}\r`],
        [/Preserve password/, 'n'],
        [opened],
      ],
    );
    expect(shown).toMatch(opened);
  });

  test('aerc lists the mailbox', async () => {
    const it = await client('aerc');
    const scheme = { plain: 'imap+insecure', starttls: 'imap', implicit: 'imaps' }[mode];
    const account = `${scheme}://${USER}:${PASSWORD}@localhost:${port(mode)}`;
    await it.file(
      '.config/aerc/accounts.conf',
      `[gate]\nsource = ${account}\nfrom = R <r@gate.test>\ndefault = INBOX\n`,
    );
    const share = join(it.root, 'usr/share/aerc');
    await it.file('.config/aerc/binds.conf', '');
    await it.file(
      '.config/aerc/aerc.conf',
      `[ui]\nstylesets-dirs=${share}/stylesets\n[templates]\ntemplate-dirs=${share}/templates\n`,
    );
    const shown = await it.type([], [[new RegExp(`\\(${COUNT - 1}\\)`), ':quit\r']]);
    expect(shown).toContain('INBOX');
  });

  test("Python's imaplib logs in and reads", async () => {
    const code = `
import imaplib, ssl, sys
context = ssl.create_default_context(cafile='${cert}')
c = ${mode === 'implicit' ? 'imaplib.IMAP4_SSL' : 'imaplib.IMAP4'}('localhost', ${port(mode)}${mode === 'implicit' ? ', ssl_context=context' : ''})
${mode === 'starttls' ? 'c.starttls(context)' : ''}
c.login('${USER}', '${PASSWORD}')
c.select('INBOX', readonly=True)
kind, data = c.fetch('7', '(BODY.PEEK[])')
sys.stdout.buffer.write(data[0][1])
c.logout()
`;
    const ran = await runTool('python3', ['-c', code]);
    expect(ran.stderr).toBe('');
    expect(ran.stdout).toBe(messages[6]?.bytes.toString('utf8'));
  });
});

test('no password was told to anybody', () => expect(JSON.stringify(events)).not.toContain(PASSWORD));
