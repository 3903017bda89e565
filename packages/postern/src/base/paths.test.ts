import { execFile } from 'node:child_process';
import { mkdtempSync, rmSync, statSync, symlinkSync } from 'node:fs';
import { tmpdir } from 'node:os';
import { join } from 'node:path';
import { afterAll, describe, expect, test } from 'vitest';
import { makeStateDirectory } from './paths.ts';

const dir = mkdtempSync(join(tmpdir(), 'pp-'));
const uid = process.getuid?.() ?? 0;
afterAll(() => rmSync(dir, { recursive: true }));

describe('the state directory', () => {
  test('is made with its parents, closed to others', () => {
    const path = join(dir, 'a b', 'c');
    makeStateDirectory(path, uid);
    makeStateDirectory(path, uid);
    expect([statSync(path).mode & 0o777, statSync(join(dir, 'a b')).mode & 0o777]).toEqual([0o700, 0o700]);
  });

  test('that cannot be is a fault of the configuration', () => {
    symlinkSync(join(dir, 'gone'), join(dir, 'dangling'));
    for (const path of ['/dev/null/state', join(dir, 'dangling')]) {
      expect(() => makeStateDirectory(path, uid)).toThrow(`${path} cannot be made`);
    }
  });

  // In a process of its own: what Node does there cannot be ended from within.
  test.runIf(process.platform === 'linux')('on a file system that makes none is refused at once', async () => {
    const script = "import { makeStateDirectory } from './paths.ts'; makeStateDirectory('/proc/postern/state', 0);";
    const argv = ['--conditions=@postern/source', '--import', 'tsx', '--input-type=module', '-e', script];
    const stderr = await new Promise((resolve) => {
      const child = execFile(process.execPath, argv, { cwd: import.meta.dirname }, (_error, _out, err) => resolve(err));
      process.once('exit', () => child.kill('SIGKILL'));
    });
    expect(stderr).toContain('the directory /proc/postern/state cannot be made (ENOENT)');
  });
});
