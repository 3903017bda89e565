/** Installs and removes the service; what a person changed is left alone. */
import { execFile } from 'node:child_process';
import { mkdirSync, readdirSync, readFileSync, rmSync, writeFileSync } from 'node:fs';
import { join } from 'node:path';
import { errnoOf, PosternError } from '../base/errors.ts';
import { LAUNCHD_LABEL, MARK, type ServiceFile } from './unit.ts';

/** Where a service goes and who runs it. */
export interface ServicePlace {
  /** `~/.config/systemd/user` or `~/Library/LaunchAgents`. */
  readonly directory: string;
  readonly manager:
    | { readonly type: 'systemd' /** The program, `systemctl`. */; readonly program: string }
    | { readonly type: 'launchd' /** The program, `launchctl`. */; readonly program: string; readonly uid: number };
}

/** What was done, one line each, for people. */
export type ServiceReport = readonly string[];

/** Ours in that directory, whatever the configuration says by now. */
function installed(place: ServicePlace): string[] {
  const names = /^postern(?:-(?:imap|smtp)(?:-\d+)?\.socket|\.service|\.plist)$/;
  try {
    return readdirSync(place.directory).filter((name) => names.test(name) && isOurs(join(place.directory, name)));
  } catch (error) {
    if (errnoOf(error) === 'ENOENT') return [];
    throw error;
  }
}

function isOurs(path: string): boolean {
  try {
    return readFileSync(path, 'utf8').includes(MARK);
  } catch (error) {
    if (errnoOf(error) === 'ENOENT') return false;
    throw error;
  }
}

/**
 * Writes the files, has the manager read them, and starts the service now and at every login. Files of an earlier installation that are no
 * longer wanted go. Throws {@link PosternError}: `cannot-create` when a file is there that Postern did not write, `unavailable` when the
 * manager does not run.
 */
export async function installService(files: readonly ServiceFile[], place: ServicePlace): Promise<ServiceReport> {
  await probe(place);
  for (const { name } of files) refuseForeign(join(place.directory, name));
  const stale = installed(place).filter((name) => !files.some((file) => file.name === name));
  if (stale.length > 0) await removeFiles(stale, place);
  mkdirSync(place.directory, { recursive: true });
  for (const { name, text } of files) writeFileSync(join(place.directory, name), text, { mode: 0o644 });
  const names = files.map((file) => file.name);
  if (place.manager.type === 'systemd') {
    await manage(place, ['--user', 'daemon-reload']);
    await manage(place, ['--user', 'enable', ...names]);
    // Sockets first: a service that already listens by itself would keep their addresses.
    await manage(place, ['--user', 'stop', 'postern.service']);
    const sockets = names.filter((name) => name.endsWith('.socket'));
    if (sockets.length > 0) await manage(place, ['--user', 'restart', ...sockets]);
    await manage(place, ['--user', 'start', 'postern.service']);
  } else {
    const domain = `gui/${place.manager.uid}`;
    await manage(place, ['bootout', `${domain}/${LAUNCHD_LABEL}`]).catch(() => {});
    await manage(place, ['bootstrap', domain, join(place.directory, `${LAUNCHD_LABEL}.plist`)]);
  }
  return [
    ...stale.map((name) => `removed ${join(place.directory, name)}`),
    ...names.map((name) => `wrote ${join(place.directory, name)}`),
    'started, now and at every login',
  ];
}

/** Stops the service and takes its files away. Nothing there is no fault. Throws {@link PosternError} `unavailable` as {@link installService}. */
export async function removeService(place: ServicePlace): Promise<ServiceReport> {
  const names = installed(place);
  if (names.length === 0) return ['no service is installed'];
  await probe(place);
  await removeFiles(names, place);
  return names.map((name) => `removed ${join(place.directory, name)}`);
}

async function removeFiles(names: readonly string[], place: ServicePlace): Promise<void> {
  if (place.manager.type === 'systemd') await manage(place, ['--user', 'disable', '--now', ...names]);
  else await manage(place, ['bootout', `gui/${place.manager.uid}/${LAUNCHD_LABEL}`]).catch(() => {});
  for (const name of names) rmSync(join(place.directory, name), { force: true });
  if (place.manager.type === 'systemd') await manage(place, ['--user', 'daemon-reload']);
}

function refuseForeign(path: string): void {
  try {
    readFileSync(path);
  } catch (error) {
    if (errnoOf(error) === 'ENOENT') return;
  }
  if (isOurs(path)) return;
  throw new PosternError('cannot-create', `${path} was not written by postern, and stays as it is`, {
    fix: 'move it away first, or take what you need from: postern service print',
  });
}

/** Throws unless the manager answers, before anything is written. */
async function probe(place: ServicePlace): Promise<void> {
  const answer = await run(
    place.manager.program,
    place.manager.type === 'systemd' ? ['--user', 'show-environment'] : ['version'],
  );
  if (answer.status === 0) return;
  const what = place.manager.type === 'systemd' ? "systemd's user manager" : 'launchd';
  const why =
    answer.status === undefined ? `there is no ${place.manager.program}` : answer.stderr.trim().split('\n')[0];
  throw new PosternError('unavailable', `${what} does not answer here: ${why}`, {
    fix: 'print the files with `postern service print`, or start `postern up` by other means, such as a crontab line `@reboot postern up`',
  });
}

async function manage(place: ServicePlace, argv: readonly string[]): Promise<void> {
  const { status, stderr } = await run(place.manager.program, argv);
  if (status === 0) return;
  throw new PosternError(
    'unavailable',
    `${place.manager.program} ${argv.join(' ')}: ${stderr.trim() || `exit status ${status}`}`,
  );
}

function run(program: string, argv: readonly string[]): Promise<{ status: number | undefined; stderr: string }> {
  return new Promise((resolve) => {
    execFile(program, argv, { encoding: 'utf8' }, (error, _stdout, stderr) => {
      const code = error === null ? 0 : error.code;
      resolve({ status: typeof code === 'number' ? code : undefined, stderr });
    });
  });
}
