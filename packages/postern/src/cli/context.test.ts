/** One command reads its configuration once, however often it asks for it. */
import { mkdtempSync, rmSync, writeFileSync } from 'node:fs';
import { tmpdir } from 'node:os';
import { join } from 'node:path';
import { expect, test } from 'vitest';
import { askDaemon, configOf } from './context.ts';

test('what looked for the daemon has read the configuration for what does without one', async () => {
  const dir = mkdtempSync(join(tmpdir(), 'postern-cli-'));
  const config = join(dir, 'config.toml');
  writeFileSync(config, `state_dir = "${dir}/state"\n`);
  const surroundings = { env: {}, uid: process.getuid?.() ?? 0, home: dir, passwdHome: dir };
  const asker = { surroundings, options: { config, json: false } };
  try {
    await expect(askDaemon(asker, 'queue.list')).rejects.toMatchObject({ code: 'unavailable' });
    rmSync(config);
    expect((await configOf(asker)).stateDir).toBe(join(dir, 'state'));
  } finally {
    rmSync(dir, { recursive: true });
  }
});
