/** Plain text for people. */

/** A plain table: columns padded, two blanks between. The last column is as long as it is. */
export function columns(rows: readonly (readonly string[])[]): string[] {
  const widths: number[] = [];
  for (const row of rows) {
    for (const [index, cell] of row.entries()) widths[index] = Math.max(widths[index] ?? 0, cell.length);
  }
  return rows.map((row) =>
    row
      .map((cell, index) => (index === row.length - 1 ? cell : cell.padEnd(widths[index] ?? 0)))
      .join('  ')
      .trimEnd(),
  );
}

/** A size that is rounded up: `5 KiB`. */
export function formatOctets(octets: number): string {
  return octets < 1024 * 1024 ? `${Math.ceil(octets / 1024)} KiB` : `${Math.ceil(octets / 1024 / 1024)} MiB`;
}
