import { execFile, spawn } from 'node:child_process';
import { once } from 'node:events';
import { mkdtemp, rm } from 'node:fs/promises';
import { tmpdir } from 'node:os';
import { join } from 'node:path';
import { promisify } from 'node:util';
import { type Channel, type Link, systemEnv, type Target } from '@postern/core';
import { type RigOptions, startRig } from '@postern/testkit/rig';
import type { Subject } from './conformance.test-util.ts';
import type { LinkEvent } from './event.ts';
import { resolveHost } from './host/resolve.ts';
import type { HostOverrides, ResolvedHost } from './host/resolved-host.ts';
import type { LinkOptions } from './link/dialling.ts';
import { createLink, type HostLink } from './link/link.ts';

/** A real sshd, without mail. */
export type SshRig = Awaited<ReturnType<typeof startRig>>;

/** Starts an sshd of its own for a test file. */
export function startSshRig(o: RigOptions = {}): Promise<SshRig> {
  return startRig({ imapd: false, smtp: false, ...o });
}

/** The rig's host as its client configuration has it. */
export function resolveRig(rig: SshRig, overrides: HostOverrides = {}, name = 'gate'): Promise<ResolvedHost> {
  return resolveHost(name, { sshConfig: rig.client.configFile, environment: { PATH: process.env.PATH }, overrides });
}

/** A link and everything it told. */
export function recordedLink(
  host: ResolvedHost,
  o: Partial<LinkOptions> = {},
): { link: HostLink; events: LinkEvent[] } {
  const events: LinkEvent[] = [];
  const link = createLink(host, { env: systemEnv, onEvent: (event) => events.push(event), ...o });
  return { link, events };
}

/** A real sshd for the conformance suite. */
export async function rigSubject(o: Partial<LinkOptions> = {}): Promise<Subject> {
  const rig = await startSshRig();
  const { link } = recordedLink(await resolveRig(rig), o);
  return {
    link,
    dir: rig.home,
    hasSftp: true,
    cut: () => rig.ssh.dropConnections(),
    async silent() {
      const { link: other } = recordedLink(await resolveRig(rig), { ...o, openTimeoutMs: 300 });
      const first = await other.open({ type: 'exec', command: 'true' }, { signal: new AbortController().signal });
      await first.exit;
      await rig.ssh.pause();
      return {
        link: other,
        async end() {
          await rig.ssh.resume();
          await other.close();
        },
      };
    },
    async end() {
      await link.close();
      await rig.stop();
    },
  };
}

/** A directory that is gone after the test. */
export async function temporaryDir(): Promise<{ path: string } & AsyncDisposable> {
  const path = await mkdtemp(join(tmpdir(), 'pssh-'));
  return { path, [Symbol.asyncDispose]: () => rm(path, { recursive: true, force: true }) };
}

/** Resolves when the link reaches a state of this type, now or later. */
export function reached(link: Link, type: Link['state']['type']): Promise<Link['state']> {
  if (link.state.type === type) return Promise.resolve(link.state);
  return new Promise((resolve) => {
    const watch = link.watch((state) => {
      if (state.type !== type) return;
      watch[Symbol.dispose]();
      resolve(state);
    });
  });
}

/** Opens on a link whose clock stands still: a dial that fails would wait for ever, so it is an error. */
export function openAtOnce(link: Link, target: Target): Promise<Channel> {
  const failed = reached(link, 'down').then((state) => {
    throw (state as { error: Error }).error;
  });
  failed.catch(() => {});
  return Promise.race([link.open(target, { signal: new AbortController().signal }), failed]);
}

/** A real agent, empty. */
export async function startAgent(path: string): Promise<AsyncDisposable> {
  const agent = spawn('ssh-agent', ['-D', '-a', path], { stdio: ['ignore', 'pipe', 'ignore'] });
  await once(agent.stdout, 'data');
  return {
    async [Symbol.asyncDispose]() {
      agent.kill();
      await once(agent, 'exit');
    },
  };
}

/** Gives a key to an agent, with the certificate beside it. */
export const addKey = (socket: string, key: string): Promise<unknown> =>
  promisify(execFile)('ssh-add', ['-q', key], { env: { ...process.env, SSH_AUTH_SOCK: socket } });
