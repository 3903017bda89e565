import { spawnSync } from 'node:child_process';
import { expect, test } from 'vitest';

/** A host that refuses once, and then for good. */
const SCRIPT = `
import { LinkError, systemEnv } from '@postern/core';
import { createLink } from '@postern/ssh';
let dials = 0;
const code = () => (dials++ === 0 ? 'refused' : 'auth-failed');
const dial = () => Promise.reject(new LinkError('not now', { code: code(), layer: 'tcp' }));
const link = createLink({ host: 'gate' }, { env: systemEnv, dial });
const told = await link.open({ type: 'exec', command: 'true' }, { signal: new AbortController().signal }).catch((error) => error);
console.log(dials, told.code);
process.exit();
`;

test('a script that waits for a link lives as long as the link tries, sockets or not', () => {
  const argv = ['--conditions=@postern/source', '--import', 'tsx', '--input-type=module', '-e', SCRIPT];
  const { stdout, status } = spawnSync(process.execPath, argv, { cwd: import.meta.dirname, encoding: 'utf8' });
  expect([stdout, status]).toEqual(['2 auth-failed\n', 0]);
});
