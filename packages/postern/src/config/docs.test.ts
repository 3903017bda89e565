import { readFileSync } from 'node:fs';
import { resolve } from 'node:path';
import { expect, test } from 'vitest';
import { parseConfig } from './load.ts';

const text = readFileSync(resolve(import.meta.dirname, '../../../../docs/configuration.md'), 'utf8');
const blocks = [...text.matchAll(/^```toml\n(.*?)^```/gms)].map(([, block = '']) => block);

test.each(blocks.map((block) => [block]))('an example of the manual is taken: %j', (block) => {
  const surroundings = { env: {}, uid: 1000, home: '/home/ann', passwdHome: '/home/ann' };
  expect(parseConfig(block, { file: '/home/ann/config.toml', surroundings })).toBeDefined();
});
