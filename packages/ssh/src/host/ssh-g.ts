/** Output of `ssh -G`: keyword (lower case) to its values, one per line, in order. */
export type SshSettings = ReadonlyMap<string, readonly string[]>;

/** Reads the output of `ssh -G` (one `keyword value` per line; a value runs to the end of its line). */
export function parseSshSettings(text: string): SshSettings {
  const settings = new Map<string, string[]>();
  for (const line of text.split('\n')) {
    const [, keyword, value] = /^(\S+) (.*)$/.exec(line.trimEnd()) ?? [];
    if (keyword === undefined || value === undefined) continue;
    const values = settings.get(keyword.toLowerCase());
    if (values === undefined) settings.set(keyword.toLowerCase(), [value]);
    else values.push(value);
  }
  return settings;
}

/** The only or first value of a keyword; `undefined` when absent or `none`. */
export function setting(settings: SshSettings, keyword: string): string | undefined {
  const value = settings.get(keyword)?.[0];
  return value === undefined || value.toLowerCase() === 'none' ? undefined : value;
}

/**
 * A list of file names on one line; `none` is the empty list. ssh 9.2 prints names with spaces unquoted: what is no beginning of a path
 * goes on with the absolute one before it.
 */
export function fileList(settings: SshSettings, keyword: string): string[] {
  const names: string[] = [];
  for (const word of (setting(settings, keyword) ?? '').split(' ')) {
    const before = names.at(-1);
    if (before !== undefined && STARTS_PATH.test(before) && !STARTS_PATH.test(word))
      names.push(`${names.pop()} ${word}`);
    else if (word !== '') names.push(word);
  }
  return names.filter((name) => name.toLowerCase() !== 'none');
}

/** Absolute, or made so by a tilde, a token or a variable. */
const STARTS_PATH = /^[/~%$]/;
