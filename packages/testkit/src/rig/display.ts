/** Programs with windows run on a display that nobody sees, and it ends with its gate. */
import { chmod, mkdir, readFile, writeFile } from 'node:fs/promises';
import { dirname, join } from 'node:path';
import { findProgram, type Gate, type Program, type ProgramOptions, run, startDaemon } from '@postern/gate';
import { rigPrograms } from './cache.ts';

/** An X display that nobody sees. It ends with its gate. */
export interface Display {
  /** For `DISPLAY`, such as `:0`. */
  readonly name: string;
  readonly width: number;
  readonly height: number;
  /** Writes what it shows at this moment as PNG. */
  screenshot(file: string): Promise<void>;
}

const WIDTH = 1280;
const HEIGHT = 800;

/** Starts Xvfb, installed or from Debian's package. Throws with its output when it does not start. */
export async function startDisplay(gate: Gate, o: Partial<ProgramOptions> = {}): Promise<Display> {
  const options = { ...rigPrograms(), ...o };
  const found = await findProgram({ names: ['Xvfb'], package: 'xvfb+x11-xkb-utils+xkb-data' }, options);
  const [toPnm, toPng] = [await netpbm('xwdtopnm', options), await netpbm('pnmtopng', options)];
  const dir = join(gate.dir, 'display');
  await mkdir(dir);
  const program = found.root === '/' ? { ...found, args: [], cwd: dir } : await unpackedXvfb(found, dir);
  const daemon = startDaemon({
    name: 'Xvfb',
    command: program.command,
    args: [
      ...['-displayfd', '1', '-screen', '0', `${WIDTH}x${HEIGHT}x24`, '-nolisten', 'tcp', '-fbdir', dir],
      ...program.args,
    ],
    env: { ...gate.context.baseEnv, ...program.env },
    cwd: program.cwd,
    onLine: (line) => gate.context.onEvent({ type: 'log', server: 'Xvfb', line }),
  });
  gate.context.daemons.add(daemon);
  const ready = await daemon.log.waitFor(/^\d+$/);
  if (ready === undefined) throw new Error(`Xvfb did not start: ${daemon.log.tail()}`);
  return {
    name: `:${ready[0]}`,
    width: WIDTH,
    height: HEIGHT,
    async screenshot(file) {
      const pnm = join(dir, 'screen.pnm');
      const script = '"$1" "$2" >"$3" && "$4" "$3" >"$5"';
      const words = [toPnm.command, join(dir, 'Xvfb_screen0'), pnm, toPng.command, file];
      await mkdir(dirname(file), { recursive: true });
      const made = await run('sh', ['-c', script, 'sh', ...words], { env: { ...process.env, ...toPnm.env } });
      if (made.code !== 0) throw new Error(`no screenshot: ${made.stderr}`);
    },
  };
}

function netpbm(command: string, o: ProgramOptions): Promise<Program> {
  return findProgram({ names: [command], package: 'netpbm' }, o);
}

/**
 * X servers run `xkbcomp` by a path that is compiled in (xorg-server 21.1, where it is the string `/usr/bin`): this
 * makes a copy that takes it from its working directory.
 */
async function unpackedXvfb(
  found: Program,
  dir: string,
): Promise<{ command: string; args: string[]; cwd: string; env: Record<string, string> }> {
  const command = join(dir, 'Xvfb');
  const bytes = await readFile(found.command);
  const compiledIn = Buffer.from('\0/usr/bin\0');
  const at = bytes.indexOf(compiledIn);
  if (at < 0 || bytes.indexOf(compiledIn, at + 1) >= 0) throw new Error(`${found.command}: no path to change`);
  bytes.fill(0, at, at + compiledIn.length).write('.', at + 1, 'latin1');
  await writeFile(command, bytes);
  await chmod(command, 0o755);
  const args = ['-xkbdir', join(found.root, 'usr/share/X11/xkb')];
  return { command, args, cwd: join(found.root, 'usr/bin'), env: found.env };
}
