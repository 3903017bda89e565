/** A pattern decides by the address alone; what it means is settled when it is compiled, or refused then. */
import { domainToUnicode } from 'node:url';
import { domainOf, type ForwardPath, localPartOf, parseDomain, type ReversePath } from '@postern/core';
import { RE2JS } from 're2js';
import { RelayError } from '../errors.ts';

/** An address as patterns see it: lower case, the domain as A-labels and as people write it. */
export interface Subject {
  readonly path: string;
  readonly local: string;
  readonly domain: string;
  readonly unicodeDomain: string;
}

/** Whether an address fits. */
export type Matcher = (subject: Subject) => boolean;

/** Prepares an address for {@link Matcher}s. */
export function subjectOf(path: ForwardPath | ReversePath): Subject {
  const domain = domainOf(path);
  return { path, local: localPartOf(path).toLowerCase(), domain, unicodeDomain: toUnicode(domain) };
}

function toUnicode(domain: string): string {
  return domain.includes('xn--') ? domainToUnicode(domain) || domain : domain;
}

/**
 * Compiles a pattern: `*`, `example.org`, `*.example.org` (what is below it, not itself), `user@example.org`,
 * `*@example.org`, `user@*`, `<>` (the null reverse-path) or `/regex/` in RE2's syntax, which matches in linear time:
 * against the domain, or against the whole address when it holds an `@`. Case never counts; what begins with `^` is a
 * regex without its slashes, as in Exim's lists; a domain may be written in its own script or as A-labels. Throws
 * `RelayError` `pattern`.
 */
export function compilePattern(pattern: string): Matcher {
  if (pattern === '*') return () => true;
  if (pattern === '<>') return (subject) => subject.path === '';
  if (pattern.startsWith('/')) return compileRegex(pattern);
  if (pattern.startsWith('^')) return compileRegex(`/${pattern}/`);
  const at = pattern.lastIndexOf('@');
  const domain = compileDomain(pattern.slice(at + 1), pattern);
  if (at === -1) return domain;
  const local = pattern.slice(0, at).toLowerCase();
  if (local === '' || (local !== '*' && /[*\s<>]/.test(local))) {
    throw bad(pattern, 'before the @ stands a whole local part, or * for any');
  }
  return (subject) => subject.path !== '' && (local === '*' || subject.local === local) && domain(subject);
}

function compileDomain(text: string, pattern: string): Matcher {
  if (text === '*') return () => true;
  const below = text.startsWith('*.');
  let domain: string;
  try {
    domain = parseDomain(below ? text.slice(2) : text).toLowerCase();
  } catch (error) {
    throw bad(pattern, (error as RangeError).message, error);
  }
  const suffix = `.${domain}`;
  return below ? (subject) => subject.domain.endsWith(suffix) : (subject) => subject.domain === domain;
}

function compileRegex(pattern: string): Matcher {
  const end = pattern.lastIndexOf('/');
  const flags = pattern.slice(end + 1);
  if (end === 0) throw bad(pattern, 'a regular expression stands between two slashes');
  if (!['', 'i'].includes(flags)) throw bad(pattern, `unknown flag ${flags}; case never counts, no flag is needed`);
  const source = pattern.slice(1, end);
  let regex: RE2JS;
  try {
    regex = RE2JS.compile(source, RE2JS.CASE_INSENSITIVE);
  } catch (error) {
    const why = error instanceof Error ? error.message : String(error);
    throw bad(pattern, `${why} (look-around and back-references are not linear in time and not supported)`, error);
  }
  if (source.includes('@')) {
    return ({ path, local, domain, unicodeDomain }) =>
      path !== '' &&
      (regex.test(`${local}@${domain}`) || (unicodeDomain !== domain && regex.test(`${local}@${unicodeDomain}`)));
  }
  return ({ domain, unicodeDomain }) => regex.test(domain) || (unicodeDomain !== domain && regex.test(unicodeDomain));
}

function bad(pattern: string, why: string, cause?: unknown): RelayError {
  return new RelayError(`${JSON.stringify(pattern)} is not a pattern: ${why}`, { code: 'pattern', cause });
}
