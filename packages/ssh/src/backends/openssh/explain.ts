/** What ssh said on stderr becomes a `LinkError` with code, layer and fix. */
import { type Layer, LinkError, type LinkErrorCode, quoteAll } from '@postern/core';
import { formatAddress } from '../../host/destination.ts';
import type { ResolvedHost } from '../../host/resolved-host.ts';

/** How OpenSSH (7.4 to 9.9) words its failures. The first that fits counts. */
const SAYINGS: readonly { readonly says: RegExp; readonly code: LinkErrorCode; readonly layer: Layer }[] = [
  { says: /REMOTE HOST IDENTIFICATION HAS CHANGED/, code: 'hostkey-changed', layer: 'hostkey' },
  { says: /REVOKED HOST KEY|is revoked|marked as revoked/i, code: 'hostkey-revoked', layer: 'hostkey' },
  { says: /host key is known for|Host key verification failed/, code: 'hostkey-unknown', layer: 'hostkey' },
  { says: /Could not resolve hostname/, code: 'not-found', layer: 'dns' },
  { says: /Permission denied|Too many authentication failures/, code: 'auth-failed', layer: 'auth' },
  { says: /ssh: .*not found$/m, code: 'config', layer: 'dns' },
  { says: /Bad configuration option|Unsupported option|terminating, \d+ bad/, code: 'config', layer: 'dns' },
  { says: /Connection refused/, code: 'refused', layer: 'tcp' },
  { says: /no matching [\w ]+ found/, code: 'handshake', layer: 'kex' },
  { says: /timed out|No route to host|Network is unreachable/, code: 'unreachable', layer: 'tcp' },
  {
    says: /Unable to negotiate|kex_exchange_identification|Connection (closed|reset)/,
    code: 'handshake',
    layer: 'tcp',
  },
];

/** What ssh meant, from all it wrote with `-v` before it ended. `link` is the name a person gives to `postern check`. */
export function explainSsh(host: ResolvedHost, o: { stderr: string; link: string }): LinkError {
  const lines = o.stderr.split('\n').map((line) => line.trim());
  const said = lines.filter((line) => line !== '' && !/^(debug\d:|OpenSSH_|Authenticated to|@)/.test(line)).join(' ');
  const { code, layer } = SAYINGS.find(({ says }) => says.test(o.stderr)) ?? { code: 'handshake', layer: 'tcp' };
  const where = formatAddress(host.hostname, host.port);
  if (layer === 'kex') return noneInCommon(o.stderr, where);
  if (layer === 'hostkey') return hostKeyFault(host, { ...o, code, said, where });
  const fix = code === 'auth-failed' ? `try it by hand: ${quoteAll(['ssh', o.link])}` : undefined;
  return new LinkError(`ssh to ${where}: ${said || 'ended without a word'}`, { code, layer, fix });
}

/** What only a new OpenSSH knows: post-quantum methods and keys. */
const NEW = /^(?:mlkem|sntrup|ssh-mldsa)/;
/** The keyword that allows an old algorithm, by what ssh calls its kind. */
const KEYWORDS: Readonly<Record<string, string>> = {
  'key exchange method': 'KexAlgorithms',
  'host key type': 'HostKeyAlgorithms',
  cipher: 'Ciphers',
  MAC: 'MACs',
};

/** Which of the two is too old is seen by what the server offers. */
function noneInCommon(stderr: string, where: string): LinkError {
  const [, kind = '', offered = ''] = /no matching ([\w ]+?) found\. Their offer: (\S*)/.exec(stderr) ?? [];
  const [ssh = 'ssh'] = /^OpenSSH_[\w.]+/m.exec(stderr) ?? [];
  const offers = offered.split(',').filter((name) => !/^(?:kex|ext)-/.test(name));
  const what = `${kind} ${offers.join(', ')}`;
  const make = (message: string, fix: string): LinkError =>
    new LinkError(message, { code: 'handshake', layer: 'kex', fix });
  if (offers.some((name) => NEW.test(name))) {
    return make(
      `the ssh of this machine (${ssh}) is too old for ${where}, which takes only the ${what}`,
      'install a newer OpenSSH here, or have the server offer another one',
    );
  }
  const keyword = KEYWORDS[kind];
  return make(
    `${where} is too old for the ssh of this machine (${ssh}): it has only the ${what}`,
    `update the server${keyword === undefined ? '' : `, or allow it in ssh_config for this host: ${keyword} +${offers[0] ?? ''}`}`,
  );
}

function hostKeyFault(
  host: ResolvedHost,
  o: { stderr: string; link: string; code: LinkErrorCode; said: string; where: string },
): LinkError {
  // With a jump host, the last one spoken to is the one at fault.
  const [, offered] = [...o.stderr.matchAll(/Server host key: (\S+ \S+)/g)].at(-1) ?? [];
  const [, place] = /Offending \S+ key in (\S+:\d+)/.exec(o.stderr) ?? [];
  const accept = quoteAll(['postern', 'check', '--accept-new-host-key', o.link]);
  const key = offered === undefined ? '' : `: it offers ${offered}`;
  if (o.code === 'hostkey-changed') {
    const [file] = place?.split(':') ?? [];
    const name = host.hostKeyAlias ?? o.where;
    const remove = quoteAll(['ssh-keygen', '-R', name, ...(file === undefined ? [] : ['-f', file])]);
    return new LinkError(`the host key of ${o.where} is not the one in ${place ?? 'known_hosts'}${key}`, {
      code: o.code,
      layer: 'hostkey',
      fix: `once you are sure of the new key: ${remove} && ${accept}`,
    });
  }
  const isUnknown = o.code === 'hostkey-unknown';
  const what = isUnknown ? `is not known${key}` : `is marked as revoked${key}`;
  return new LinkError(`the host key of ${o.where} ${what} (ssh says: ${o.said})`, {
    code: o.code,
    layer: 'hostkey',
    fix: isUnknown ? `if that is its fingerprint: ${accept}` : undefined,
  });
}
