/** A real Postfix on free loopback ports, with directories of its own. */
import { readFile } from 'node:fs/promises';
import { join } from 'node:path';
import {
  DEFAULT_SIZE_LIMIT,
  execLine,
  findPreload,
  findProgram,
  GATE_HOSTNAME,
  type Gate,
  GateError,
  makeOwned,
  type Program,
  type ProgramOptions,
  reachableFile,
  reachableProgram,
  type SmtpServer,
  type SmtpServerOptions,
  startServer,
  writeOwned,
  writeScript,
} from '@postern/gate';
import { rigPrograms } from './cache.ts';

/** Queue directories that Postfix's own `post-install` would make. */
const QUEUE_DIRS =
  'active bounce corrupt defer deferred flush hold incoming maildrop pid private public saved trace'.split(' ');

/**
 * Starts Postfix in the gate's account, delivering into its Maildir. Postfix insists on root and on accounts of its
 * own: it gets both from uid_wrapper and nss_wrapper, so it needs neither. The far service name `smtp` and `sendmail`
 * are its from then on.
 */
export async function startPostfix(
  gate: Gate,
  o: SmtpServerOptions & Partial<ProgramOptions> = {},
): Promise<SmtpServer> {
  const { context } = gate;
  const programs = { ...rigPrograms(), ...o };
  const spec = {
    names: ['master'],
    package: 'postfix',
    dirs: ['usr/lib/postfix/sbin', 'usr/libexec/postfix'],
    libraryDirs: ['usr/lib/postfix'],
  };
  const master = await reachableProgram(await findProgram(spec, programs), context.dir);
  const dir = join(context.dir, 'postfix');
  for (const path of ['', 'conf', 'data', 'queue', ...QUEUE_DIRS.map((name) => join('queue', name))]) {
    await makeOwned(context.account, join(dir, path));
  }
  const env = { ...context.baseEnv, ...(await pretence(gate, dir, programs)), ...master.env };
  const setup: PostfixSetup = { dir, master, env, options: o };
  const log = (): Promise<string> => readFile(join(dir, 'log'), 'utf8').catch(() => '');
  const server = await startServer(context, {
    name: 'postfix',
    port: o.port,
    log,
    async prepare(port) {
      const conf = join(dir, 'conf');
      await writeOwned(context.account, join(conf, 'main.cf'), mainCf(gate, setup));
      await writeOwned(context.account, join(conf, 'master.cf'), masterCf(port));
      await writeOwned(context.account, join(conf, 'recipients'), accessTable(o));
      return { command: master.command, args: ['-c', conf, '-d'], env, cwd: dir, ...context.account.as };
    },
  });
  await writeSendmail(gate, { master, env, dir });
  await gate.useSmtpPort(server.port);
  return { kind: 'postfix', hostname: GATE_HOSTNAME, spool: join(dir, 'queue'), log, ...server };
}

/** What makes Postfix believe that it is root and has its accounts. `postfix` must be the only name of its uid. */
async function pretence(gate: Gate, dir: string, o: ProgramOptions): Promise<Record<string, string>> {
  const { uid, gid } = gate.account;
  const found = await findPreload({ file: 'libuid_wrapper.so', package: 'libuid-wrapper' }, o);
  const nss = gate.account.env.LD_PRELOAD;
  if (found === undefined || nss === undefined) {
    throw new GateError('program_missing', 'Postfix needs nss_wrapper and uid_wrapper (Linux)');
  }
  const passwd = join(dir, 'passwd');
  const group = join(dir, 'group');
  const other = uid === 64999 ? 64998 : 64999;
  const root = 'root:x:0:0::/root:/bin/sh';
  await writeOwned(
    gate.account,
    passwd,
    `${root}\npostfix:x:${uid}:${gid}::${dir}:/bin/false\nnobody:x:${other}:${other}::/:/bin/false\n`,
  );
  await writeOwned(
    gate.account,
    group,
    `root:x:0:\npostfix:x:${gid}:\nnogroup:x:${other}:\npostdrop:x:${other - 10}:\n`,
  );
  return {
    LD_PRELOAD: `${nss}:${await reachableFile(found, gate.dir)}`,
    NSS_WRAPPER_PASSWD: passwd,
    NSS_WRAPPER_GROUP: group,
    UID_WRAPPER: '1',
    UID_WRAPPER_ROOT: '1',
    MAIL_CONFIG: join(dir, 'conf'),
  };
}

async function writeSendmail(
  gate: Gate,
  o: { master: Program; env: Record<string, string>; dir: string },
): Promise<void> {
  const command = join(o.master.root, 'usr/sbin/sendmail');
  await writeScript(gate.bin, 'sendmail', execLine({ command, env: o.env, clean: true }));
}

interface PostfixSetup {
  dir: string;
  master: Program;
  env: Record<string, string>;
  options: SmtpServerOptions;
}

function mainCf(gate: Gate, setup: PostfixSetup): string {
  const { dir, env, master, options } = setup;
  const { uid, gid, home } = gate.account;
  const domains = options.domains ?? [GATE_HOSTNAME];
  const hidden = [
    ...(options.chunking === false ? ['chunking'] : []),
    ...(options.pipelining === false ? ['pipelining'] : []),
  ];
  const base = master.root === '/' ? '' : master.root;
  const settings: Record<string, string | false> = {
    compatibility_level: '3.6',
    ...(base === ''
      ? {}
      : {
          command_directory: `${base}/usr/sbin`,
          daemon_directory: `${base}/usr/lib/postfix/sbin`,
          shlib_directory: `${base}/usr/lib/postfix`,
          meta_directory: join(dir, 'conf'),
          sendmail_path: `${base}/usr/sbin/sendmail`,
        }),
    queue_directory: join(dir, 'queue'),
    data_directory: join(dir, 'data'),
    mail_owner: 'postfix',
    setgid_group: 'postdrop',
    default_privs: 'nobody',
    import_environment: Object.keys(env).join(' '),
    export_environment: Object.keys(env).join(' '),
    maillog_file: join(dir, 'log'),
    maillog_file_prefixes: dir,
    myhostname: GATE_HOSTNAME,
    mydomain: GATE_HOSTNAME,
    myorigin: GATE_HOSTNAME,
    mydestination: '',
    mynetworks: '127.0.0.0/8',
    inet_interfaces: '127.0.0.1',
    inet_protocols: 'ipv4',
    alias_maps: '',
    alias_database: '',
    virtual_mailbox_domains: domains.includes('*') ? 'static:all' : domains.join(' '),
    virtual_mailbox_base: home,
    virtual_mailbox_maps: 'static:Maildir/',
    virtual_mailbox_limit: '0',
    virtual_minimum_uid: '1',
    virtual_uid_maps: `static:${uid}`,
    virtual_gid_maps: `static:${gid}`,
    default_transport: 'error:nothing leaves the gate',
    relay_transport: 'error:nothing leaves the gate',
    disable_dns_lookups: 'yes',
    smtpd_peername_lookup: 'no',
    smtpd_tls_security_level: 'none',
    smtpd_relay_restrictions: 'reject_unauth_destination',
    smtpd_recipient_restrictions: `check_recipient_access texthash:${dir}/conf/recipients`,
    smtpd_discard_ehlo_keywords: hidden.join(' '),
    message_size_limit: String(options.sizeLimit ?? DEFAULT_SIZE_LIMIT),
    ...options.settings,
  };
  return Object.entries(settings)
    .flatMap(([name, value]) => (value === false ? [] : [`${name} = ${value}\n`]))
    .join('');
}

/** Postfix's usual services, none of them chrooted. */
function masterCf(port: number): string {
  return `127.0.0.1:${port} inet n - n - - smtpd
pickup unix n - n 60 1 pickup
cleanup unix n - n - 0 cleanup
qmgr unix n - n 300 1 qmgr
rewrite unix - - n - - trivial-rewrite
bounce unix - - n - 0 bounce
defer unix - - n - 0 bounce
trace unix - - n - 0 bounce
verify unix - - n - 1 verify
tlsmgr unix - - n 1000? 1 tlsmgr
flush unix n - n 1000? 0 flush
proxymap unix - - n - - proxymap
proxywrite unix - - n - 1 proxymap
smtp unix - - n - - smtp
relay unix - - n - - smtp
showq unix n - n - - showq
error unix - - n - - error
retry unix - - n - - error
discard unix - - n - - discard
local unix - n n - - local
virtual unix - n n - - virtual
lmtp unix - - n - - lmtp
anvil unix - - n - 1 anvil
scache unix - - n - 1 scache
postlog unix-dgram n - n - 1 postlogd
`;
}

/** `user@` matches a local part in any domain (access(5)). */
function accessTable(o: SmtpServerOptions): string {
  const lines = (code: string, rules: Readonly<Record<string, string>> = {}): string[] =>
    Object.entries(rules).map(([who, text]) => `${who.includes('@') ? who : `${who}@`} ${code} ${text}\n`);
  return [...lines('550', o.refuse), ...lines('451', o.defer)].join('');
}
