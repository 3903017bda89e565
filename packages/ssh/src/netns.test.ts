import { execFile } from 'node:child_process';
import { promisify } from 'node:util';
import { expect, test } from 'vitest';

const run = promisify(execFile);
const SCRIPT = ['--conditions=@postern/source', '--import', 'tsx', `${import.meta.dirname}/netns-script.test-util.ts`];

/** Whether namespaces and veth pairs can be made here: as root on most Linux machines. */
async function hasNamespaces(): Promise<boolean> {
  const probe = 'ip link add p0 type veth peer name p1';
  return run('unshare', ['-n', 'sh', '-c', probe]).then(
    () => true,
    () => false,
  );
}

test('in a network namespace: a new address asks, a lost address replaces the connection', async ({ skip }) => {
  if (!(await hasNamespaces())) skip();
  const { stdout } = await run('unshare', ['-n', process.execPath, ...SCRIPT], { cwd: import.meta.dirname });
  expect(JSON.parse(stdout)).toMatchObject({
    echo: 'kept',
    error: expect.stringContaining('network changed'),
    again: 'again\n',
    replacedMs: expect.any(Number),
  });
});
