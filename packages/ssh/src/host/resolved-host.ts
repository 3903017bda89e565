/** Which ssh speaks: the built-in one, the system's, or the one the host's settings need. */
export type BackendName = 'auto' | 'ssh2' | 'openssh';

/** A host with all its settings, as ssh would use them: plain values, paths expanded, nothing left to look up. */
export interface ResolvedHost {
  /** The name it goes by: the link's, and what messages tell a person to type. */
  readonly host: string;
  /** What was looked up in ssh_config: `host`, or the host part of its `destination`. */
  readonly original: string;
  /** Name or address to connect to. */
  readonly hostname: string;
  readonly port: number;
  readonly user: string;
  /** Private key files in the order ssh tries them; those absent are passed over. */
  readonly identityFiles: readonly string[];
  /** Certificates for keys of `identityFiles`; only the system's ssh uses them. */
  readonly certificateFiles: readonly string[];
  readonly identitiesOnly: boolean;
  /** The agent's socket; absent when there is none. */
  readonly identityAgent?: string;
  /** argv of a command that prints the passphrase of the key file appended as its last argument. */
  readonly passphraseCommand?: readonly string[];
  /** New keys go to the first. */
  readonly userKnownHostsFiles: readonly string[];
  readonly globalKnownHostsFiles: readonly string[];
  readonly hashKnownHosts: boolean;
  /** Name to look up in known_hosts instead of `hostname`, without a port. */
  readonly hostKeyAlias?: string;
  readonly revokedHostKeys?: string;
  /** The hosts on the way, the first to dial first. */
  readonly jump: readonly ResolvedHost[];
  /** Shell command whose stdin and stdout carry the connection; tokens expanded. */
  readonly proxyCommand?: string;
  /** Address family, when ssh_config limits it. */
  readonly family?: 4 | 6;
  readonly bindAddress?: string;
  readonly compression: boolean;
  /** Silence after which the far side is asked whether it lives, ms. */
  readonly keepaliveMs: number;
  /** Longest wait for a connection to be made, ms. */
  readonly connectTimeoutMs: number;
  readonly backend: BackendName;
  /** Settings only the system's ssh can do, by their ssh_config keyword; empty for most hosts. */
  readonly needsOpenssh: readonly string[];
  /** The file given to ssh as `-F`. */
  readonly sshConfig?: string;
}

/** What configuration says of a host; wins over ssh_config. */
export interface HostOverrides {
  /** `[user@]host[:port]` instead of the host's own name. */
  readonly destination?: string;
  /** Instead of ProxyJump; each entry a `[user@]host[:port]`, resolved in its turn. `[]` means none. */
  readonly jump?: readonly string[];
  readonly backend?: BackendName;
  /** Key files instead of IdentityFile. */
  readonly identity?: readonly string[];
  /** Files instead of UserKnownHostsFile. */
  readonly knownHosts?: readonly string[];
  readonly compression?: boolean;
  readonly keepaliveMs?: number;
  /** See {@link ResolvedHost.passphraseCommand}. */
  readonly passphraseCommand?: readonly string[];
}
