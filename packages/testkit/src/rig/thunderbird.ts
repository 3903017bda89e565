/** A real Thunderbird with a profile of its own, driven from outside. */
import { existsSync } from 'node:fs';
import { mkdir, writeFile } from 'node:fs/promises';
import { join } from 'node:path';
import { type Daemon, findProgram, type Gate, type Program, type ProgramOptions, startDaemon } from '@postern/gate';
import { rigPrograms } from './cache.ts';
import type { Display } from './display.ts';
import { connectMarionette, type Marionette } from './marionette.ts';

/** Values as Mozilla's `prefs.js` holds them, by their names. */
export type Preferences = Readonly<Record<string, string | number | boolean>>;

/** A running Thunderbird. It ends with its gate. */
export interface Thunderbird {
  readonly marionette: Marionette;
  /** Its profile's directory. */
  readonly profile: string;
  /** What it wrote to its terminal. */
  log(): string;
  /** Ends it as a user would. */
  quit(): Promise<void>;
}

/** What it would ask of a new user, and whom it would call. */
const QUIET: Preferences = {
  'app.donation.eoy.version.viewed': 999,
  'app.update.enabled': false,
  'datareporting.policy.dataSubmissionEnabled': false,
  'mail.provider.suppress_dialog_on_startup': true,
  'mail.rights.version': 1,
  'mail.shell.checkDefaultClient': false,
  'mailnews.start_page.enabled': false,
  'toolkit.telemetry.enabled': false,
  // It tells the port it chose.
  'marionette.port': 0,
};

/**
 * Starts Thunderbird, installed or from Debian's package, with a new profile and a home of its own, as this process's
 * user: what listens for the same user lets it in. Throws with its output when it ends before its remote control
 * listens.
 */
export async function startThunderbird(
  gate: Gate,
  o: Partial<ProgramOptions> & {
    readonly display: Display;
    /** Names the profile, once in a gate. */
    readonly name: string;
    readonly preferences: Preferences;
  },
): Promise<Thunderbird> {
  const spec = { names: ['thunderbird'], package: 'thunderbird', dirs: ['usr/lib/thunderbird', 'lib/thunderbird'] };
  const program = await findProgram(spec, { ...rigPrograms(), ...o });
  const home = join(gate.dir, `thunderbird-${o.name}`);
  const profile = join(home, 'profile');
  await mkdir(profile, { recursive: true });
  await writeFile(join(profile, 'user.js'), userJs({ ...QUIET, ...o.preferences }));
  const daemon = startDaemon({
    name: 'thunderbird',
    command: program.command,
    args: ['--no-remote', '--profile', profile, '--marionette', '--remote-allow-system-access'],
    env: { ...gate.context.baseEnv, ...(await environment(program, home)), HOME: home, DISPLAY: o.display.name },
    cwd: home,
    onLine: (line) => gate.context.onEvent({ type: 'log', server: 'thunderbird', line }),
  });
  gate.context.daemons.add(daemon);
  const listening = await daemon.log.waitFor(/Listening on port (\d+)/);
  if (listening === undefined) throw new Error(`Thunderbird did not start: ${daemon.log.tail()}`);
  const marionette = await connectMarionette(Number(listening[1]));
  return { marionette, profile, log: () => daemon.log.tail(1000), quit: () => quit(marionette, daemon) };
}

async function quit(marionette: Marionette, daemon: Daemon): Promise<void> {
  // It may be gone before its answer is.
  await marionette.send('Marionette:Quit', { flags: ['eForceQuit'] }).catch(() => undefined);
  await marionette[Symbol.asyncDispose]();
  await daemon.ended;
}

function userJs(preferences: Preferences): string {
  const line = ([name, value]: [string, unknown]): string =>
    `user_pref(${JSON.stringify(name)}, ${JSON.stringify(value)});\n`;
  return Object.entries(preferences).map(line).join('');
}

/** An unpacked GTK looks for what lies beside it in places that are compiled in. */
async function environment(program: Program, home: string): Promise<Record<string, string>> {
  const plain = { ...program.env, LANG: 'C.UTF-8', TZ: 'UTC', MOZ_CRASHREPORTER_DISABLE: '1', MOZ_NO_REMOTE: '1' };
  if (program.root === '/') return plain;
  const inTree = (path: string): string => join(program.root, path);
  const env: Record<string, string> = { ...plain, XDG_DATA_DIRS: `${inTree('usr/share')}:/usr/share` };
  if (!existsSync('/etc/fonts/fonts.conf')) {
    env.FONTCONFIG_FILE = join(home, 'fonts.conf');
    const dirs = `<dir>${inTree('usr/share/fonts')}</dir><cachedir>${join(home, 'fonts')}</cachedir>`;
    await writeFile(env.FONTCONFIG_FILE, `<?xml version="1.0"?><fontconfig>${dirs}</fontconfig>\n`);
  }
  return env;
}
