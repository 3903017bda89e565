/** What the lines of a client are made from, and the shapes they are given in. */

/** What the lines for a client are made from: one host's listeners and how one comes in. */
export interface SetupFacts {
  /** The host's name. */
  readonly host: string;
  /** The IMAP endpoint; absent when there is none on TCP. */
  readonly imap?: Listener;
  /** The relay; absent when there is none on TCP. */
  readonly smtp?: Listener;
  /** The relay's Unix socket, absolute, where there is one. */
  readonly smtpSocket?: string;
  /** The login name: the host's where it picks the host, else any. */
  readonly login: string;
  /** `any`: the kernel tells who the peer is, and a client that insists may give any password. `local`: it must be the local one. */
  readonly password: 'any' | 'local';
  /** The file with the local password. */
  readonly passwordFile: string;
  /** The `postern` command, absolute, with its options: one word each. */
  readonly command: readonly string[];
  /** The mbsync of this machine; absent when none is installed. */
  readonly isync?: InstalledIsync;
}

/** What mbsync says of itself. */
export interface InstalledIsync {
  /** `1.4.4`. */
  readonly version: string;
  /** Whether Cyrus SASL's PLAIN module lies where it looks for it; without it no login is offered. */
  readonly plain: boolean;
}

/** A TCP listener and its TLS. */
export interface Listener {
  readonly host: string;
  readonly port: number;
  readonly tls: 'off' | 'starttls' | 'implicit';
  /** PEM file of the certificate to trust, absolute; with TLS. */
  readonly certificate?: string;
  /** SHA-256 of the certificate, upper-case hex with colons; with TLS. */
  readonly fingerprint?: string;
}

/** Lines for one file, or to type into a dialogue or a shell. */
export interface SetupPart {
  /** `file`: lines of that file. `shell`: commands to run. `dialog`: what to choose, one `name: value` a line. */
  readonly type: 'file' | 'shell' | 'dialog';
  /** The file, the shell's user (`you`, `root`), or the dialogue. */
  readonly where: string;
  readonly lines: readonly string[];
}

/** What to paste for one client. */
export interface Setup {
  readonly client: string;
  readonly title: string;
  readonly parts: readonly SetupPart[];
  /** What else to know, a sentence each. */
  readonly notes: readonly string[];
}

/** What a client is called and how its lines are made. Throws {@link NotOffered} when the configuration lacks what it needs. */
export interface Recipe {
  readonly client: string;
  readonly title: string;
  /** What it does with Postern. */
  readonly does: 'reads' | 'sends' | 'both';
  make(facts: SetupFacts): { readonly parts: readonly SetupPart[]; readonly notes?: readonly string[] };
}

/** The configuration has no listener that this client could use. `message` says which. */
export class NotOffered extends Error {
  override readonly name = 'NotOffered';
}

/** What goes where a client insists on a password and any will do. */
export const ANY_PASSWORD = 'same-user';

/** The IMAP endpoint. Throws {@link NotOffered}. */
export function needImap(facts: SetupFacts): Listener {
  if (facts.imap === undefined) throw new NotOffered('no [[imap]] table listens on a TCP port');
  return facts.imap;
}

/** The relay. Throws {@link NotOffered}. */
export function needSmtp(facts: SetupFacts): Listener {
  if (facts.smtp === undefined) throw new NotOffered('no [smtp] table listens on a TCP port');
  return facts.smtp;
}

/** `host:port`, an IPv6 address in brackets. */
export function address({ host, port }: Listener): string {
  return `${bracketed(host)}:${port}`;
}

/** A host as URLs write it. */
export function bracketed(host: string): string {
  return host.includes(':') ? `[${host}]` : host;
}

/** Lines of a file. */
export function file(where: string, lines: readonly string[]): SetupPart {
  return { type: 'file', where, lines };
}

/** Commands, as `you` or `root`. */
export function shell(where: 'you' | 'root', lines: readonly string[]): SetupPart {
  return { type: 'shell', where, lines };
}

/** One value or the other, by whether there is TLS. */
export function byTls<T>(listener: Listener, o: Record<Listener['tls'], T>): T {
  return o[listener.tls];
}

/** What an MTA's user needs to be let in: it is not the user that Postern runs as. */
export function admitUser(user: string): string {
  return `this program connects as the user ${user}: Postern lets it in with  [access] allow = ["same-user", "password", "user:${user}"]`;
}
