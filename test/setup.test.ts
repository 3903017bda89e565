import { execFile } from 'node:child_process';
import { existsSync } from 'node:fs';
import { appendFile, mkdir, readdir, readFile, symlink, writeFile } from 'node:fs/promises';
import { dirname, join, resolve } from 'node:path';
import { quoteAll } from '@postern/core';
import { ensurePackages, type Gate, giveTo, readMaildir, seedMaildir } from '@postern/gate';
import { fetchTool, rigPrograms, startRig } from '@postern/testkit/rig';
import { afterAll, beforeAll, describe, expect, test } from 'vitest';
import { makePlace, PLAIN, type Place, postern, type Ran, run, type Up, up } from './support/postern.ts';

/** Real clients, configured by what `postern setup CLIENT` prints and nothing else. */
const COUNT = 12;
let gate: Gate;
let daemon: Up;
let place: Place;

beforeAll(async () => {
  gate = await startRig();
  await seedMaildir(gate.maildir, { count: COUNT, account: gate.account });
  place = await makePlace(gate, `${PLAIN}[access]\nallow = ["same-user", "anyone"]\n`);
  daemon = await up(place);
});

afterAll(async () => {
  await daemon?.stop();
  await gate?.stop();
});

interface Part {
  readonly type: 'file' | 'shell' | 'dialog';
  readonly where: string;
  readonly lines: readonly string[];
}

/** Lays a client's lines into a home of its own, as a person would. */
async function prepare(client: string): Promise<{ home: string; parts: readonly Part[] }> {
  const home = join(gate.dir, `home-${client}`);
  await mkdir(home, { recursive: true });
  // The command runs from sources here, whatever directory a client starts it in.
  await symlink(resolve(import.meta.dirname, '../node_modules'), join(home, 'node_modules')).catch(() => {});
  const ran = await postern(place, ['setup', client, '--json']);
  expect(ran).toMatchObject({ code: 0, stderr: '' });
  const { parts } = JSON.parse(ran.stdout) as { parts: Part[] };
  for (const part of parts) {
    const [path = ''] = part.where.split(' ');
    if (part.type !== 'file' || !/^~\/|\.mjs$/.test(path)) continue;
    const file = join(home, path.replace(/^~\//, ''));
    await mkdir(dirname(file), { recursive: true });
    await appendFile(file, `${part.lines.join('\n')}\n`);
  }
  return { home, parts };
}

function environment(home: string, more: NodeJS.ProcessEnv = {}): NodeJS.ProcessEnv {
  const { XDG_CONFIG_HOME: _config, ...env } = place.env;
  return { ...env, TERM: 'xterm', ...more, HOME: home };
}

/** Runs a client of the rig in its home. */
async function start(name: string, home: string, args: readonly string[], input: string | Buffer = ''): Promise<Ran> {
  const tool = await fetchTool(name);
  return run(tool.command, [...tool.args, ...args], { env: environment(home, tool.env), cwd: home, input });
}

/** Runs what the lines say to run, with the client's name standing for the rig's copy of it. */
async function obey(name: string, home: string, parts: readonly Part[]): Promise<Ran> {
  const tool = await fetchTool(name);
  const script = parts.filter((part) => part.type === 'shell').flatMap((part) => part.lines);
  const call = `${name}() { ${quoteAll([tool.command, ...tool.args])} "$@"; }`;
  return run('sh', ['-e', '-c', [call, ...script].join('\n')], { env: environment(home, tool.env), cwd: home });
}

async function arrived(mark: string): Promise<string> {
  for (;;) {
    const found = (await readMaildir(gate.maildir))
      .map((bytes) => bytes.toString('latin1'))
      .find((text) => text.includes(mark));
    if (found !== undefined) return found;
    await postern(place, ['queue', 'flush']);
  }
}

async function messagesIn(...maildirs: string[]): Promise<number> {
  const lists = await Promise.all(
    maildirs.flatMap((path) => ['new', 'cur'].map((dir) => readdir(join(path, dir)).catch(() => []))),
  );
  return lists.flat().length;
}

const message = (mark: string): string => `From: ada@brook.test\nTo: gate@gate.test\nSubject: ${mark}\n\n${mark}\n`;

describe('clients that read', () => {
  test('mbsync', async () => {
    const { home, parts } = await prepare('mbsync');
    expect(await obey('mbsync', home, parts)).toMatchObject({ code: 0 });
    expect(await messagesIn(join(home, 'Mail/gate/INBOX'))).toBe(COUNT);
  });

  test('offlineimap', async () => {
    const { home, parts } = await prepare('offlineimap');
    expect(await obey('offlineimap', home, parts)).toMatchObject({ code: 0 });
    expect(await messagesIn(join(home, 'Mail/INBOX'))).toBe(COUNT);
  });

  test('fetchmail', async () => {
    const { home, parts } = await prepare('fetchmail');
    const ran = await obey('fetchmail', home, parts);
    // 0: there is mail, as `fetchmail --check` says it.
    expect(`${ran.code} ${ran.stdout}${ran.stderr}`).toMatch(new RegExp(`^0 (?:.|\\n)*${COUNT} messages`));
  });

  test('getmail', async () => {
    const { home, parts } = await prepare('getmail');
    const box = join(home, 'box');
    if (process.getuid?.() === 0) {
      // As root getmail 6 delivers to no Maildir, and may wait for ever for the child that said so.
      const rc = join(home, '.config/getmail/getmailrc');
      const external = `type = MDA_external\npath = /usr/bin/tee\narguments = ("-a", "${box}")\nallow_root_commands = true`;
      await writeFile(rc, (await readFile(rc, 'utf8')).replace('type = Maildir\npath = ~/Mail/INBOX/', external));
    }
    const ran = await obey('getmail', home, parts);
    expect(`${ran.stdout}${ran.stderr}`).toMatch(new RegExp(`${COUNT} messages \\(\\d+ bytes\\) retrieved`));
    if (process.getuid?.() === 0) expect((await readFile(box, 'latin1')).match(/^Message-ID: /gim)).toHaveLength(COUNT);
    else expect(await messagesIn(join(home, 'Mail/INBOX'))).toBe(COUNT);
  });

  // Its Lua half lies at a path that is compiled in.
  test.runIf(existsSync('/usr/share/imapfilter/common.lua'))('imapfilter', async () => {
    const { home } = await prepare('imapfilter');
    expect(`${JSON.stringify(await start('imapfilter', home, []))}`).toMatch(new RegExp(`${COUNT} messages`));
  });

  test('curl, both ways', async () => {
    const { home, parts } = await prepare('curl');
    await writeFile(join(home, 'message.eml'), message('mark-curl').replaceAll('\n', '\r\n'));
    const sending = parts.map((part) => ({
      ...part,
      lines: part.lines.map((line) => line.replace('friend@example.org', 'gate@gate.test')),
    }));
    const ran = await obey('curl', home, sending);
    expect(ran).toMatchObject({ code: 0 });
    expect(ran.stdout).toContain(`* STATUS INBOX (MESSAGES ${COUNT}`);
    expect(ran.stdout).toMatch(/^Subject: /m);
    expect(await arrived('mark-curl')).toContain('Subject: mark-curl');
  });

  test('ImapFlow', async () => {
    const { home } = await prepare('imapflow');
    const ran = await run(process.execPath, ['read.mjs'], { cwd: home });
    expect(ran).toMatchObject({ code: 0, stderr: '' });
    expect(ran.stdout).toMatch(/messages: \d+/);
  });

  test.each(['mutt', 'neomutt'])('%s, sending as well', async (name) => {
    const { home } = await prepare(name);
    const ran = await start(name, home, ['-s', `mark-${name}`, '--', 'gate@gate.test'], 'hello\n');
    expect(ran).toMatchObject({ code: 0 });
    expect(await arrived(`mark-${name}`)).toContain('hello');
    // A terminal program: script(1) gives it one, stty its size (ncurses 6.6 refuses one of 0 by 0), and it is told to leave.
    const tool = await fetchTool(name);
    const line = quoteAll([tool.command, ...tool.args, '-e', 'push q']);
    const shown = await run('script', ['-qec', `stty cols 120 rows 40; exec ${line}`, '/dev/null'], {
      env: environment(home, tool.env),
      cwd: home,
    });
    expect(shown.stdout).toMatch(/Msgs:\d+|INBOX/);
  });
});

describe('programs that send', () => {
  test('msmtp', async () => {
    const { home } = await prepare('msmtp');
    await run('chmod', ['600', join(home, '.msmtprc')]);
    expect(await start('msmtp', home, ['gate@gate.test'], message('mark-msmtp'))).toMatchObject({ code: 0 });
    expect(await arrived('mark-msmtp')).toContain('Subject: mark-msmtp');
  });

  test('Nodemailer', async () => {
    const { home } = await prepare('nodemailer');
    const script = await readFile(join(home, 'send.mjs'), 'utf8');
    await writeFile(
      join(home, 'send.mjs'),
      script.replace('friend@example.org', 'gate@gate.test').replace("'Hello'", "'mark-nodemailer'"),
    );
    expect(await run(process.execPath, ['send.mjs'], { cwd: home })).toMatchObject({ code: 0, stderr: '' });
    expect(await arrived('mark-nodemailer')).toContain('Hello.');
  });

  test('git send-email, over SMTP and by postern sendmail', async () => {
    const { home, parts } = await prepare('git');
    const roots = (await ensurePackages(['git-email', 'libmailtools-perl'], rigPrograms())).map(({ root }) => root);
    const script = join(roots[0] ?? '', 'usr/lib/git-core/git-send-email');
    const env = environment(home, {
      PERL5LIB: roots.map((root) => join(root, 'usr/share/perl5')).join(':'),
      GIT_AUTHOR_NAME: 'Ada',
      GIT_AUTHOR_EMAIL: 'ada@brook.test',
      GIT_COMMITTER_NAME: 'Ada',
      GIT_COMMITTER_EMAIL: 'ada@brook.test',
    });
    const shellLines = parts.filter((part) => part.type === 'shell').flatMap((part) => part.lines);
    expect(await run('sh', ['-e', '-c', shellLines.join('\n')], { env, cwd: home })).toMatchObject({ code: 0 });
    const send = async (mark: string, more: string[]): Promise<Ran> => {
      const patch = join(home, `${mark}.patch`);
      await writeFile(
        patch,
        `From 0123456789012345678901234567890123456789 Mon Sep 17 00:00:00 2001\nFrom: Ada <ada@brook.test>\nDate: Fri, 2 Jan 2026 03:04:05 +0000\nSubject: [PATCH] ${mark}\n\n---\n file | 1 +\n`,
      );
      const args = [
        '--quiet',
        '--confirm=never',
        '--suppress-cc=all',
        '--from=Ada <ada@brook.test>',
        '--to=gate@gate.test',
        ...more,
        patch,
      ];
      return run('perl', [script, ...args], { env, cwd: home });
    };
    expect(await send('mark-git-smtp', [])).toMatchObject({ code: 0, stderr: '' });
    expect(await arrived('mark-git-smtp')).toContain('[PATCH] mark-git-smtp');
    const command = quoteAll([
      process.execPath,
      '--conditions=@postern/source',
      '--import',
      'tsx',
      resolve(import.meta.dirname, '../packages/postern/src/main.ts'),
      '--config',
      place.config,
    ]);
    expect(await send('mark-git-sendmail', [`--sendmail-cmd=${command} sendmail -i`])).toMatchObject({ code: 0 });
    expect(await arrived('mark-git-sendmail')).toContain('[PATCH] mark-git-sendmail');
  });

  test('mutt by postern sendmail, as the lines for sendmail have it', async () => {
    const { home } = await prepare('sendmail');
    const ran = await start(
      'mutt',
      home,
      ['-e', 'set write_bcc=yes', '-b', 'hidden@gate.test', '-s', 'mark-sendmail', '--', 'gate@gate.test'],
      'by sendmail\n.\nafter the dot\n',
    );
    expect(ran).toMatchObject({ code: 0 });
    const text = await arrived('mark-sendmail');
    expect(text).toMatch(/by sendmail\r?\n\.\r?\nafter the dot/);
    expect(text).not.toMatch(/^Bcc:/im);
  });

  test('Exim 4, with the router and the transport in a configuration of its own', async () => {
    const { home, parts } = await prepare('exim');
    const [router, transport] = parts.filter((part) => part.type === 'file').map((part) => part.lines.join('\n'));
    const { uid, gid } = { uid: gate.account.uid, gid: gate.account.gid };
    const config = join(home, 'exim.conf');
    await writeFile(
      config,
      `spool_directory = ${home}/spool\nlog_file_path = ${home}/%slog\nprimary_hostname = laptop.test\ndomainlist local_domains = laptop.test\nexim_user = ${uid}\nexim_group = ${gid}\nkeep_environment =\ndeliver_drop_privilege = true\nbegin routers\n${router}\nbegin transports\n${transport}\nbegin retry\n* * F,1h,1m\n`,
    );
    for (const path of [home, config]) await giveTo(gate.account, path);
    // The gate's own Exim, as another user than Postern's, which [access] lets in.
    const ran = await new Promise<{ code: number | null; stderr: string }>((done) => {
      const args = ['-C', config, '-odf', '-i', '-f', 'ada@brook.test', 'gate@gate.test'];
      const child = execFile(
        join(gate.dir, 'exim', 'exim'),
        args,
        { cwd: home, ...gate.account.as },
        (_error, _stdout, stderr) => done({ code: child.exitCode, stderr }),
      );
      child.stdin?.end(message('mark-exim'));
    });
    const log = await readFile(join(home, 'mainlog'), 'utf8').catch(() => '');
    expect(`${ran.code} ${ran.stderr}${log}`).toMatch(
      /^0 (?:.|\n)*=> gate@gate\.test R=postern T=postern_smtp .* C="250 /,
    );
    expect(await arrived('mark-exim')).toContain('Subject: mark-exim');
  });
});
