/** What the tokens of ssh_config stand for (ssh_config(5), TOKENS). */
export interface Tokens {
  /** `~` and `%d`. */
  readonly home: string;
  /** `%h`: the name or address connected to. */
  readonly hostname: string;
  /** `%n`: as given on the command line. */
  readonly original: string;
  /** `%p` */
  readonly port: number;
  /** `%r`: user on the far side. */
  readonly user: string;
  /** `%u`: user on this side. */
  readonly localUser: string;
  /** `%l`, and `%L` up to the first dot. */
  readonly localHost: string;
  /** `%i` */
  readonly uid: number;
  /** `%k` */
  readonly hostKeyAlias?: string | undefined;
}

/** Expands a leading `~/`, `%` tokens and `${NAME}` of the given environment. An unknown token stays as it is. */
export function expandPath(text: string, tokens: Tokens, environment: Readonly<NodeJS.ProcessEnv>): string {
  const tilded = text === '~' || text.startsWith('~/') ? tokens.home + text.slice(1) : text;
  const named = tilded.replace(/\$\{([^}]+)\}/g, (whole, name: string) => environment[name] ?? whole);
  return expandTokens(named, tokens);
}

/** Expands `%` tokens only, as in ProxyCommand. */
export function expandTokens(text: string, tokens: Tokens): string {
  const values: Record<string, string> = {
    '%': '%',
    d: tokens.home,
    h: tokens.hostname,
    i: String(tokens.uid),
    k: tokens.hostKeyAlias ?? tokens.original,
    L: tokens.localHost.split('.')[0] ?? '',
    l: tokens.localHost,
    n: tokens.original,
    p: String(tokens.port),
    r: tokens.user,
    u: tokens.localUser,
  };
  return text.replace(/%(.)/g, (whole, letter: string) => values[letter] ?? whole);
}
