/** What is asked of ssh stands on its command line, where no configuration file can change it. */
import { LinkError } from '@postern/core';
import type { ResolvedHost } from '../../host/resolved-host.ts';

/** The arguments of a ControlMaster that prompts for nothing and lends itself on `socket`. */
export function masterArgv(host: ResolvedHost, o: { socket: string; acceptNewHostKey: boolean }): string[] {
  const set = (keyword: string, ...values: string[]): string[] => ['-o', `${keyword}=${values.join(' ')}`];
  const files = (paths: readonly string[]): string[] => (paths.length === 0 ? ['/dev/null'] : paths.map(quoted));
  return [
    ...(host.sshConfig === undefined ? [] : ['-F', host.sshConfig]),
    '-v',
    '-N',
    '-T',
    '-M',
    ...set('ControlPath', quoted(o.socket)),
    ...set('ControlPersist', 'no'),
    ...set('BatchMode', 'yes'),
    ...set('StrictHostKeyChecking', o.acceptNewHostKey ? 'accept-new' : 'yes'),
    ...set('UpdateHostKeys', 'no'),
    ...set('ClearAllForwardings', 'yes'),
    ...set('ForwardAgent', 'no'),
    ...set('ForwardX11', 'no'),
    ...set('PermitLocalCommand', 'no'),
    ...set('ForkAfterAuthentication', 'no'),
    ...set('ConnectTimeout', String(Math.max(1, Math.ceil(host.connectTimeoutMs / 1000)))),
    ...set('Compression', host.compression ? 'yes' : 'no'),
    ...set('HostName', host.hostname),
    ...(host.hostKeyAlias === undefined ? [] : set('HostKeyAlias', host.hostKeyAlias)),
    ...set('UserKnownHostsFile', ...files(host.userKnownHostsFiles)),
    ...set('GlobalKnownHostsFile', ...files(host.globalKnownHostsFiles)),
    ...set('IdentitiesOnly', host.identitiesOnly ? 'yes' : 'no'),
    ...set('IdentityAgent', host.identityAgent === undefined ? 'none' : quoted(host.identityAgent)),
    ...host.identityFiles.flatMap((path) => set('IdentityFile', quoted(path))),
    ...host.certificateFiles.flatMap((path) => set('CertificateFile', quoted(path))),
    ...wayArgv(host),
    ...['-l', host.user, '-p', String(host.port), '--', host.original],
  ];
}

/** How to get there. ProxyJump and ProxyCommand exclude each other: the first given counts. */
function wayArgv(host: ResolvedHost): string[] {
  if (host.jump.length > 0) return ['-o', `ProxyJump=${host.jump.map((hop) => hop.host).join(',')}`];
  return host.proxyCommand === undefined ? ['-o', 'ProxyJump=none'] : [];
}

/** A file name as ssh_config takes it: in quotes, `%` doubled. */
function quoted(path: string): string {
  if (/["\n]/.test(path)) {
    throw new LinkError(`ssh cannot be given the file name ${JSON.stringify(path)}`, { code: 'config', layer: 'auth' });
  }
  return `"${path.replaceAll('%', '%%')}"`;
}
