import { readdir, readFile } from 'node:fs/promises';
import { join } from 'node:path';
import { findProgram, type Program, type ProgramOptions, type ProgramSpec, run } from '@postern/gate';
import { rigPrograms } from './cache.ts';

/** Real clients and MTAs by the name of their command, with Debian's package where that differs. */
const TOOLS: Record<string, ProgramSpec> = {
  mutt: tool('mutt'),
  neomutt: tool('neomutt'),
  // Its PLAIN is a plug-in of Cyrus SASL, which an installed one may lack; 1.5 then offers no login at all.
  mbsync: { ...tool('mbsync', 'isync+libsasl2-modules'), fits: hasSaslPlain },
  offlineimap: tool('offlineimap', 'offlineimap3'),
  fetchmail: tool('fetchmail'),
  getmail: tool('getmail', 'getmail6'),
  aerc: tool('aerc'),
  alpine: tool('alpine'),
  imapfilter: tool('imapfilter'),
  curl: tool('curl'),
  openssl: tool('openssl'),
  python3: tool('python3'),
  swaks: tool('swaks'),
  msmtp: tool('msmtp'),
  'bsd-mailx': tool('bsd-mailx'),
  rsync: tool('rsync'),
  cvs: tool('cvs'),
  socat: tool('socat'),
  dma: tool('dma'),
  postconf: postfixTool('postconf'),
  postsuper: postfixTool('postsuper'),
  'smtp-source': postfixTool('smtp-source'),
  'smtp-sink': postfixTool('smtp-sink'),
};

function tool(command: string, name = command): ProgramSpec {
  return { names: [command], package: name };
}

function postfixTool(command: string): ProgramSpec {
  return { names: [command], package: 'postfix', libraryDirs: ['usr/lib/postfix'] };
}

async function hasSaslPlain(): Promise<boolean> {
  const libraries = await readdir('/usr/lib');
  const modules = await Promise.all(
    libraries.map((name) => readdir(join('/usr/lib', name, 'sasl2')).catch((): string[] => [])),
  );
  return modules.flat().some((name) => name.startsWith('libplain.'));
}

/** What the mbsync that tests get calls its TLS setting: isync 1.4 knows SSLType alone, 1.5 prints a notice for that. */
export async function mbsyncTlsKeyword(): Promise<'SSLType' | 'TLSType'> {
  const { command, args, env } = await fetchTool('mbsync');
  const { stdout } = await run(command, [...args, '--version'], { env: { ...process.env, ...env } });
  const [, minor = '4'] = /\b1\.(\d+)/.exec(stdout) ?? [];
  return Number(minor) < 5 ? 'SSLType' : 'TLSType';
}

/** A real program for a test. */
export interface Tool {
  command: string;
  /** To go before the test's own arguments. */
  args: readonly string[];
  /** To be added to the environment; empty for an installed program. */
  env: Record<string, string>;
}

/** Finds a real client in PATH or fetches it into the shared cache. Throws `RangeError` for a name it does not know. */
export async function fetchTool(name: string, o: Partial<ProgramOptions> = {}): Promise<Tool> {
  const spec = Object.hasOwn(TOOLS, name) ? TOOLS[name] : undefined;
  if (spec === undefined) throw new RangeError(`no tool named ${name}; known are ${Object.keys(TOOLS).join(', ')}`);
  const program = await findProgram(spec, { ...rigPrograms(), ...o });
  if (program.root === '/') return { command: program.command, args: [], env: {} };
  return { ...(await interpreter(program)), env: { ...program.env, ...(await modulePaths(program.root)) } };
}

/** A script is run by the interpreter of its own tree where there is one. */
async function interpreter(program: Program): Promise<{ command: string; args: readonly string[] }> {
  const start = (await readFile(program.command)).subarray(0, 256).toString('latin1');
  const wanted = /^#! ?\/usr\/bin\/(?:env )?(\S+)/.exec(start)?.[1];
  const inTree = wanted === undefined ? [] : await readdir(join(program.root, 'usr/bin'));
  if (wanted === undefined || !inTree.includes(wanted)) return { command: program.command, args: [] };
  return { command: join(program.root, 'usr/bin', wanted), args: [program.command] };
}

/** Where Perl, Python and Cyrus SASL find what was unpacked beside the program. */
async function modulePaths(root: string): Promise<Record<string, string>> {
  const entries = await readdir(join(root, 'usr'), { recursive: true }).catch(() => []);
  const pick = (pattern: RegExp): string => {
    const found = entries.filter((path) => pattern.test(path)).map((path) => join(root, 'usr', path));
    return found.join(':');
  };
  const perl = pick(/^(share\/perl5|share\/perl\/[\d.]+|lib\/[^/]+-linux-gnu\/perl5?\/[\d.]+)$/);
  const python = pick(/^lib\/python3[\d.]*(\/dist-packages|\/lib-dynload)?$/);
  const sasl = pick(/^lib\/[^/]+-linux-gnu\/sasl2$/);
  return {
    ...(perl === '' ? {} : { PERL5LIB: perl }),
    ...(python === '' ? {} : { PYTHONPATH: python }),
    ...(sasl === '' ? {} : { SASL_PATH: sasl }),
  };
}
