import { execFileSync, spawnSync } from 'node:child_process';
import { mkdirSync, mkdtempSync, rmSync, writeFileSync } from 'node:fs';
import { tmpdir } from 'node:os';
import { join } from 'node:path';
import { afterAll, describe, expect, test } from 'vitest';
import { launchdAgent, type ServiceFacts, systemdUnits } from './unit.ts';

const facts: ServiceFacts = {
  command: [process.execPath, '/opt/post ern/100%/bin/$postern.js'],
  config: '/home/me/my "config".toml',
  hosts: ['gate'],
  imap: [
    [
      { type: 'tcp', host: '127.0.0.1', port: 1143 },
      { type: 'unix', path: '/run/user/1000/postern/imap.sock' },
    ],
    [{ type: 'tcp', host: '::1', port: 1144 }],
  ],
  smtp: [{ type: 'tcp', host: '127.0.0.1', port: 1025 }],
  environment: { XDG_STATE_HOME: '/home/me/state 1' },
};

const directory = mkdtempSync(join(tmpdir(), 'postern-units-'));
afterAll(() => rmSync(directory, { recursive: true, force: true }));

const text = (name: string): string => systemdUnits(facts).find((file) => file.name === name)?.text ?? '';

describe('systemd units', () => {
  test('are a service and one socket unit per listening table', () => {
    expect(systemdUnits(facts).map((file) => file.name)).toEqual([
      'postern.service',
      'postern-imap.socket',
      'postern-imap-2.socket',
      'postern-smtp.socket',
    ]);
  });

  test('name sockets as the daemon looks for them, addresses in their order', () => {
    expect(text('postern-imap.socket')).toContain(
      'ListenStream=127.0.0.1:1143\nListenStream=/run/user/1000/postern/imap.sock\nFileDescriptorName=imap\n',
    );
    expect(text('postern-imap-2.socket')).toContain('ListenStream=[::1]:1144\nFileDescriptorName=imap-2\n');
    expect(text('postern.service')).toContain(
      'Sockets=postern-imap.socket postern-imap-2.socket postern-smtp.socket\n',
    );
  });

  test('quote the command as systemd reads it', () => {
    expect(text('postern.service')).toContain(
      `ExecStart=${process.execPath} "/opt/post ern/100%%/bin/$$postern.js" --config "/home/me/my \\"config\\".toml" up gate\n`,
    );
    expect(text('postern.service')).toContain('Environment="XDG_STATE_HOME=/home/me/state 1"\n');
  });

  test('without a listener there is no socket unit', () => {
    const units = systemdUnits({ ...facts, imap: [], smtp: [] });
    expect(units.map((file) => file.name)).toEqual(['postern.service']);
    expect(units[0]?.text).not.toContain('Sockets=');
  });

  test.skipIf(spawnSync('systemd-analyze', ['--version']).status !== 0)('satisfy systemd-analyze verify', () => {
    const plain = { ...facts, command: [process.execPath, '/opt/bin/postern.js'] };
    const paths = systemdUnits(plain).map((file) => {
      const path = join(directory, file.name);
      writeFileSync(path, file.text);
      return path;
    });
    const runtime = join(directory, 'run');
    mkdirSync(runtime, { recursive: true });
    const env = { ...process.env, XDG_RUNTIME_DIR: runtime, SYSTEMD_LOG_LEVEL: 'warning' };
    const verdict = spawnSync('systemd-analyze', ['--user', '--man=no', 'verify', ...paths], { env, encoding: 'utf8' });
    const ours = verdict.stderr.split('\n').filter((line) => line.includes('postern'));
    expect(ours).toEqual([]);
  });
});

describe('the launchd agent', () => {
  const agent = launchdAgent({ ...facts, hosts: ['a&b'] }, { logFile: '/home/me/<log>' });

  test('escapes what XML would read', () => {
    expect(agent.name).toBe('postern.plist');
    expect(agent.text).toContain('<string>a&amp;b</string>');
    expect(agent.text).toContain('<string>/home/me/&lt;log&gt;</string>');
    expect(agent.text).toContain('<key>XDG_STATE_HOME</key>\n    <string>/home/me/state 1</string>');
  });

  test.skipIf(spawnSync('python3', ['--version']).status !== 0)('is a property list with the command in it', () => {
    const path = join(directory, agent.name);
    writeFileSync(path, agent.text);
    const script = 'import json,plistlib,sys; print(json.dumps(plistlib.load(open(sys.argv[1],"rb"))))';
    const read = JSON.parse(execFileSync('python3', ['-c', script, path], { encoding: 'utf8' }));
    expect(read.ProgramArguments).toEqual([...facts.command, '--config', facts.config, 'up', 'a&b']);
    expect(read.KeepAlive).toEqual({ SuccessfulExit: false });
  });
});
