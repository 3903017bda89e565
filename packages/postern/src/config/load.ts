/** A configuration is taken whole or refused with file, line and key. */
import { readFileSync } from 'node:fs';
import { dirname, resolve } from 'node:path';
import { errnoOf, PosternError } from '../base/errors.ts';
import { lookupUser } from '../base/machine.ts';
import { defaultConfigFile, defaultStateDir, runtimeDir, type Surroundings } from '../base/paths.ts';
import { formatKey, readToml, type TomlFile } from './position.ts';
import { checkRules } from './rules.ts';
import {
  type AllowRule,
  type ConfigFault,
  checkValues,
  type FileValues,
  type HostValues,
  type ImapValues,
  type RouteValues,
} from './schema.ts';
import { expandPath } from './units.ts';

/** Everything the file says, checked, with defaults for what stands alone. What `up` makes of it is `planUp`'s. */
export interface Config {
  /** The file it was read from; absent when there is none. */
  readonly file?: string;
  readonly stateDir: string;
  /** Where sockets lie. */
  readonly runtimeDir: string;
  /** As `ssh -F`; absent: ssh's own files. */
  readonly sshConfig?: string;
  readonly hosts: ReadonlyMap<string, HostValues>;
  readonly imap: readonly ImapValues[];
  readonly smtp?: FileValues['smtp'];
  readonly allow: readonly AllowRule[];
  readonly routes: readonly RouteValues[];
  readonly forwards: NonNullable<FileValues['forward']>;
  readonly reverses: NonNullable<FileValues['reverse']>;
}

/** Who may come in when the file does not say. */
const DEFAULT_ALLOW: readonly AllowRule[] = [{ type: 'same-user' }, { type: 'password' }];
/** Faults shown at once; a person mends a few at a time. */
const FAULTS_SHOWN = 20;

/**
 * Reads the configuration: `file`, else `$POSTERN_CONFIG`, else the default file if there is one. Throws {@link PosternError} `config` with
 * file, line, key and accepted values of every fault.
 */
export function loadConfig(s: Surroundings, o: { file?: string | undefined } = {}): Config {
  const named = o.file ?? (s.env.POSTERN_CONFIG || undefined);
  const file = resolve(named ?? defaultConfigFile(s));
  const text = readConfigFile(file, named !== undefined);
  return text === undefined ? toConfig({}, s, undefined) : parseConfig(text, { file, surroundings: s });
}

function readConfigFile(file: string, mustExist: boolean): string | undefined {
  try {
    return readFileSync(file, 'utf8');
  } catch (error) {
    const errno = errnoOf(error);
    if (errno === 'ENOENT' && !mustExist) return undefined;
    const why = errno === 'ENOENT' ? 'is not there' : `cannot be read (${errno})`;
    throw new PosternError('config', `the configuration file ${file} ${why}`, { cause: error });
  }
}

/** Reads a configuration from its text; `file` is its name in messages and the place of relative paths. Throws as {@link loadConfig}. */
export function parseConfig(text: string, o: { file: string; surroundings: Surroundings }): Config {
  const toml = readToml(text);
  if (toml.type === 'fault') {
    throw new PosternError('config', `${o.file}:${toml.fault.line}: not valid TOML: ${toml.fault.message}`);
  }
  const s = o.surroundings;
  const base = dirname(o.file);
  const stateDir = statedDirectory(toml.file.value.state_dir, { base, home: s.home }) ?? defaultStateDir(s);
  const checked = checkValues(toml.file.value, { home: s.home, base, runtimeDir: runtimeDir(s, stateDir), lookupUser });
  if (checked.type === 'faults') throw refusal(checked.faults, o.file, toml.file);
  const faults = checkRules(checked.values);
  if (faults.length > 0) throw refusal(faults, o.file, toml.file);
  return toConfig(checked.values, s, o.file);
}

/** The state directory is needed to read the rest; a faulty one is reported with the rest. */
function statedDirectory(value: unknown, o: { base: string; home: string }): string | undefined {
  try {
    return typeof value === 'string' ? expandPath(value, o) : undefined;
  } catch {
    return undefined;
  }
}

function refusal(faults: readonly ConfigFault[], file: string, toml: TomlFile): PosternError {
  const lines = faults
    .map(({ path, problem, accepted }) => ({
      line: toml.lineOf(path),
      text: `${formatKey(path)}: ${problem}${accepted === undefined ? '' : `; accepted: ${accepted}`}`,
    }))
    .sort((a, b) => a.line - b.line)
    .map(({ line, text }) => `${file}:${line}: ${text}`);
  const shown = lines.slice(0, FAULTS_SHOWN);
  if (lines.length > shown.length) shown.push(`and ${lines.length - shown.length} more`);
  return new PosternError('config', shown.join('\n'));
}

function toConfig(values: FileValues, s: Surroundings, file: string | undefined): Config {
  const stateDir = values.state_dir ?? defaultStateDir(s);
  return {
    ...(file === undefined ? {} : { file }),
    stateDir,
    runtimeDir: runtimeDir(s, stateDir),
    ...(values.ssh_config === undefined ? {} : { sshConfig: values.ssh_config }),
    hosts: new Map(Object.entries(values.host ?? {})),
    imap: values.imap ?? [],
    ...(values.smtp === undefined ? {} : { smtp: values.smtp }),
    allow: values.access?.allow ?? DEFAULT_ALLOW,
    routes: values.route ?? [],
    forwards: values.forward ?? [],
    reverses: values.reverse ?? [],
  };
}
