/** What a server offers, as its EHLO reply says. */
import type { Reply } from '../outcome.ts';

/** What a server's EHLO (or LHLO) reply offers (RFC 5321 §4.1.1.1). */
export interface Extensions {
  /** False after HELO: nothing may be used. */
  readonly esmtp: boolean;
  /** Every keyword in upper case and its parameters as written. */
  readonly keywords: ReadonlyMap<string, string>;
  /** RFC 2920 */
  readonly pipelining: boolean;
  /** RFC 3030 */
  readonly chunking: boolean;
  /** RFC 6152 */
  readonly eightBitMime: boolean;
  /** RFC 6531 */
  readonly smtputf8: boolean;
  /** RFC 3461 */
  readonly dsn: boolean;
  /** RFC 3207 */
  readonly startTls: boolean;
  /** RFC 1870: SIZE is listed. */
  readonly size: boolean;
  /** The largest message taken, octets; absent when not told (RFC 1870 §4: 0 or no number). */
  readonly maxSize?: number;
  /** RFC 9422: what the server takes at most; only what it told. */
  readonly limits: Limits;
  /** SASL mechanisms in upper case (RFC 4954), in the server's order. */
  readonly auth: readonly string[];
}

/** RFC 9422 §4, counts from 1. */
export interface Limits {
  /** Transactions a session. */
  readonly mailMax?: number;
  /** Recipients a transaction. */
  readonly rcptMax?: number;
  /** Domains of a transaction's recipients. */
  readonly rcptDomainMax?: number;
}

const LIMITS: Readonly<Record<string, keyof Limits>> = {
  MAILMAX: 'mailMax',
  RCPTMAX: 'rcptMax',
  RCPTDOMAINMAX: 'rcptDomainMax',
};

/** What there is after HELO. */
export const NO_EXTENSIONS: Extensions = extensionsOf(new Map(), false);

/** Reads the 250 reply to EHLO or LHLO; its first line is the server's name. Malformed lines are skipped. */
export function parseEhlo(reply: Reply): Extensions {
  const keywords = new Map<string, string>();
  for (const line of reply.lines.slice(1)) {
    // `AUTH=PLAIN LOGIN` is the form of old servers, before RFC 4954.
    const [, keyword, parameters] = /^([A-Za-z0-9][A-Za-z0-9-]*)(?:[ =](.*))?$/.exec(line.trim()) ?? [];
    if (keyword === undefined) continue;
    const name = keyword.toUpperCase();
    const joined = [keywords.get(name), parameters?.trim()].filter((part) => part !== undefined && part !== '');
    keywords.set(name, joined.join(' '));
  }
  return extensionsOf(keywords, true);
}

function extensionsOf(keywords: ReadonlyMap<string, string>, esmtp: boolean): Extensions {
  const size = keywords.get('SIZE');
  const maxSize = size !== undefined && /^[0-9]{1,15}$/.test(size) ? Number(size) : 0;
  return {
    esmtp,
    keywords,
    pipelining: keywords.has('PIPELINING'),
    chunking: keywords.has('CHUNKING'),
    eightBitMime: keywords.has('8BITMIME'),
    smtputf8: keywords.has('SMTPUTF8'),
    dsn: keywords.has('DSN'),
    startTls: keywords.has('STARTTLS'),
    size: size !== undefined,
    ...(maxSize > 0 ? { maxSize } : {}),
    limits: limitsOf(keywords.get('LIMITS') ?? ''),
    auth: [...new Set((keywords.get('AUTH') ?? '').toUpperCase().split(/\s+/).filter(Boolean))],
  };
}

/** `MAILMAX=10 RCPTMAX=100`; what is unknown or no count is skipped (RFC 9422 §3). */
function limitsOf(text: string): Limits {
  const limits: { -readonly [K in keyof Limits]: Limits[K] } = {};
  for (const word of text.split(/\s+/)) {
    const [, name = '', count] = /^([A-Z0-9-]+)=([1-9][0-9]{0,5})$/i.exec(word) ?? [];
    const key = LIMITS[name.toUpperCase()];
    if (key !== undefined) limits[key] = Number(count);
  }
  return limits;
}
