/**
 * What `-o Keyword=value` means here, by keyword in lower case (ssh_config(5) of OpenSSH 9.2). The law: what an option would *add* (a
 * forwarding, a terminal, weaker checks) is never silently half done; what only asks for what holds anyway is taken.
 */
export type OptionMeaning =
  /** Shapes the connection: asks for a link of its own, whose settings come from `ssh -G` with this option. */
  | 'link'
  /** Means something to the parser itself. */
  | 'known'
  /** Taken and without effect: it holds already, or concerns what a lent channel has not. */
  | 'ignored'
  /** Refused unless its value is `no`, `none` or `0`. */
  | 'refused';

const LINK = `
  addkeystoagent addressfamily bindaddress bindinterface canonicaldomains canonicalizefallbacklocal canonicalizehostname
  canonicalizemaxdots canonicalizepermittedcnames casignaturealgorithms certificatefile globalknownhostsfile hostkeyalias hostname
  identitiesonly identityagent identityfile include knownhostscommand match pkcs11provider proxycommand proxyjump
  proxyusefdpass revokedhostkeys securitykeyprovider userknownhostsfile
`;

const KNOWN =
  'connecttimeout forkafterauthentication loglevel port remotecommand requesttty sessiontype stdinnull user';

// Compression, ciphers and the like are the host's own business (a lent link has its own), agent and X11 forwarding are not
// given: as if the server had refused them, which stops ssh no more than it stops us.
const IGNORED = `
  batchmode challengeresponseauthentication checkhostip ciphers clearallforwardings compression connectionattempts controlmaster controlpath
  controlpersist enableescapecommandline enablesshkeysign escapechar exitonforwardfailure fingerprinthash forwardagent forwardx11
  forwardx11timeout forwardx11trusted gatewayports gssapiauthentication gssapidelegatecredentials gssapikeyexchange
  gssapitrustdns hashknownhosts hostbasedacceptedalgorithms hostbasedauthentication hostbasedkeytypes hostkeyalgorithms ignoreunknown ipqos
  kbdinteractiveauthentication kbdinteractivedevices kexalgorithms localcommand logverbose macs nohostauthenticationforlocalhost
  numberofpasswordprompts obscurekeystroketiming passwordauthentication permitlocalcommand permitremoteopen preferredauthentications protocol
  pubkeyacceptedalgorithms pubkeyacceptedkeytypes pubkeyauthentication rekeylimit requiredrsasize sendenv serveralivecountmax
  serveraliveinterval setenv streamlocalbindmask streamlocalbindunlink stricthostkeychecking syslogfacility tag tcpkeepalive
  updatehostkeys useprivilegedport verifyhostkeydns visualhostkey xauthlocation
`;

const REFUSED = 'dynamicforward localforward remoteforward tunnel tunneldevice';

const words = (text: string): string[] => text.trim().split(/\s+/);

/** Every keyword of ssh_config, in lower case, with its {@link OptionMeaning}. */
export const OPTION_MEANINGS: ReadonlyMap<string, OptionMeaning> = new Map<string, OptionMeaning>([
  ...words(LINK).map((word): [string, OptionMeaning] => [word, 'link']),
  ...words(KNOWN).map((word): [string, OptionMeaning] => [word, 'known']),
  ...words(IGNORED).map((word): [string, OptionMeaning] => [word, 'ignored']),
  ...words(REFUSED).map((word): [string, OptionMeaning] => [word, 'refused']),
]);

/** The argument of `-o` as ssh reads it: `Keyword=value`, `Keyword value`, the value in double quotes or not. */
export function splitOption(text: string): { readonly keyword: string; readonly value: string } | undefined {
  const [, keyword, rest] = /^\s*([A-Za-z0-9]+)(?:\s*=\s*|\s+)(.*?)\s*$/s.exec(text) ?? [];
  if (keyword === undefined || rest === undefined || rest === '') return undefined;
  return { keyword: keyword.toLowerCase(), value: /^"[^"]*"$/.test(rest) ? rest.slice(1, -1) : rest };
}
