import { chmodSync, existsSync, mkdirSync, mkdtempSync, readFileSync, rmSync, writeFileSync } from 'node:fs';
import { tmpdir } from 'node:os';
import { join } from 'node:path';
import { afterEach, beforeEach, describe, expect, test } from 'vitest';
import { installService, removeService, type ServicePlace } from './install.ts';
import { type ServiceFacts, systemdUnits } from './unit.ts';

const facts: ServiceFacts = {
  command: ['/usr/bin/postern'],
  hosts: ['gate'],
  imap: [[{ type: 'tcp', host: '127.0.0.1', port: 1143 }]],
  smtp: [{ type: 'tcp', host: '127.0.0.1', port: 1025 }],
  environment: {},
};

let root: string;
let place: ServicePlace;
/** A manager that writes down what it is told. */
beforeEach(() => {
  root = mkdtempSync(join(tmpdir(), 'postern-service-'));
  const program = join(root, 'systemctl');
  writeFileSync(program, `#!/bin/sh\necho "$*" >> '${root}/calls'\n`);
  chmodSync(program, 0o755);
  place = { directory: join(root, 'systemd', 'user'), manager: { type: 'systemd', program } };
});
afterEach(() => rmSync(root, { recursive: true, force: true }));

const calls = (): string[] => readFileSync(join(root, 'calls'), 'utf8').trim().split('\n');

describe('installing a service', () => {
  test('writes the units and starts them, sockets before the service', async () => {
    const report = await installService(systemdUnits(facts), place);
    expect(report).toHaveLength(4);
    expect(readFileSync(join(place.directory, 'postern.service'), 'utf8')).toContain('up gate');
    expect(calls()).toEqual([
      '--user show-environment',
      '--user daemon-reload',
      '--user enable postern.service postern-imap.socket postern-smtp.socket',
      '--user stop postern.service',
      '--user restart postern-imap.socket postern-smtp.socket',
      '--user start postern.service',
    ]);
  });

  test('again takes away units that are no longer wanted', async () => {
    await installService(systemdUnits(facts), place);
    await installService(systemdUnits({ ...facts, imap: [] }), place);
    expect(existsSync(join(place.directory, 'postern-imap.socket'))).toBe(false);
    expect(calls()).toContain('--user disable --now postern-imap.socket');
  });

  test('leaves a file alone that somebody else wrote', async () => {
    mkdirSync(place.directory, { recursive: true });
    const path = join(place.directory, 'postern.service');
    writeFileSync(path, 'mine');
    await expect(installService(systemdUnits(facts), place)).rejects.toThrow('was not written by postern');
    expect(readFileSync(path, 'utf8')).toBe('mine');
    expect(await removeService(place)).toEqual(['no service is installed']);
  });

  test('without a manager says so, with 69, and writes nothing', async () => {
    const none: ServicePlace = { ...place, manager: { type: 'systemd', program: join(root, 'absent') } };
    await expect(installService(systemdUnits(facts), none)).rejects.toMatchObject({ code: 'unavailable', status: 69 });
    expect(existsSync(place.directory)).toBe(false);
    const program = join(root, 'failing');
    writeFileSync(program, '#!/bin/sh\necho "Failed to connect to bus: No medium found" >&2\nexit 1\n');
    chmodSync(program, 0o755);
    await expect(
      installService(systemdUnits(facts), { ...place, manager: { type: 'systemd', program } }),
    ).rejects.toThrow('does not answer here: Failed to connect to bus');
  });

  test('is undone by removing it', async () => {
    await installService(systemdUnits(facts), place);
    const report = await removeService(place);
    expect(report).toHaveLength(3);
    expect(existsSync(join(place.directory, 'postern.service'))).toBe(false);
    expect(calls().slice(-2)).toEqual([
      '--user disable --now postern-imap.socket postern-smtp.socket postern.service',
      '--user daemon-reload',
    ]);
  });
});
