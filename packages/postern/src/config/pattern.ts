/** Throws `RangeError` unless `text` is a pattern of `match` or `from`: a domain, `*.domain`, an address, `/regex/` or `*`. */
export function checkRoutePattern(text: string): void {
  if (text.startsWith('/')) {
    const [, body, flags] = /^\/(.+)\/(i?)$/s.exec(text) ?? [];
    if (body === undefined) throw new RangeError(`${JSON.stringify(text)} is a regular expression without its end`);
    try {
      new RegExp(body, flags);
    } catch (error) {
      throw new RangeError(`${JSON.stringify(text)} is no regular expression (${(error as Error).message})`);
    }
    return;
  }
  if (!/^[^\s\p{Cc}<>]+$/u.test(text)) throw new RangeError(`${JSON.stringify(text)} is no pattern`);
}
