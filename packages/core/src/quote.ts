/** Characters a POSIX shell takes literally outside quotes. */
const PLAIN = /^[A-Za-z0-9_@%+=:,./-]+$/;

/**
 * Quotes one argument for a POSIX shell (also csh and fish, but for `!` in csh history and newlines there).
 * Throws `RangeError` on NUL, which no argument can hold.
 */
export function quote(argument: string): string {
  if (argument.includes('\0')) throw new RangeError('an argument cannot hold a NUL');
  return PLAIN.test(argument) ? argument : `'${argument.replaceAll("'", `'\\''`)}'`;
}

/** One command line of quoted arguments. */
export function quoteAll(argv: readonly string[]): string {
  return argv.map(quote).join(' ');
}

const UNSAFE = /[\u0000-\u0008\u000a-\u001f\u007f-\u009f\u200e\u200f\u202a-\u202e\u2028\u2029\u2066-\u2069]/g;

/**
 * Text from afar made safe for a terminal, a log line or a page: control characters (ESC, C1, bidi overrides, newlines) become
 * `\xNN` or `\u{NNNN}`. Cut at `limit` characters with `…`.
 */
export function printable(text: string, limit = 500): string {
  const cut = text.length > limit ? `${text.slice(0, limit)}…` : text;
  return cut.replace(UNSAFE, (char) => {
    const code = char.charCodeAt(0);
    return code < 256 ? `\\x${code.toString(16).padStart(2, '0')}` : `\\u{${code.toString(16)}}`;
  });
}

const UNSAFE_IN_JSON = /[\u007f-\u009f\u200e\u200f\u202a-\u202e\u2028\u2029\u2066-\u2069]/g;

/** A value as JSON that is safe for a terminal: what JSON leaves as it is (DEL, C1, bidi overrides) is written `\uNNNN`, which means the same. */
export function printableJson(value: unknown): string {
  return escapeJson(JSON.stringify(value));
}

/** JSON text made as safe as {@link printableJson} makes it. */
export function escapeJson(json: string): string {
  return json.replace(UNSAFE_IN_JSON, (char) => `\\u${char.charCodeAt(0).toString(16).padStart(4, '0')}`);
}
