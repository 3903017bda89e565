/** `npm run bench -- NAME [--json FILE] [--quick]` runs bench/NAME.ts. */
import { readdirSync } from 'node:fs';
import { join, resolve } from 'node:path';
import { pathToFileURL } from 'node:url';

const here = resolve(import.meta.dirname, '..');
const names = readdirSync(here)
  .filter((file) => file.endsWith('.ts'))
  .map((file) => file.slice(0, -3));
const name = process.argv[2] ?? '';
if (!names.includes(name)) {
  console.error(`usage: npm run bench -- NAME [--json FILE] [--quick]   NAME: ${names.join(', ')}`);
  process.exit(64);
}
await import(pathToFileURL(join(here, `${name}.ts`)).href);
