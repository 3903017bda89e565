/** xtext of RFC 3461 §4: how ENVID and ORCPT carry any printable ASCII in a parameter. */

/** Encodes text as xtext: everything but `!`–`~` without `+` and `=` becomes `+HH`, by its UTF-8 octets. */
export function encodeXtext(text: string): string {
  let out = '';
  for (const octet of Buffer.from(text, 'utf8')) {
    const plain = octet >= 33 && octet <= 126 && octet !== 43 && octet !== 61;
    out += plain ? String.fromCharCode(octet) : `+${octet.toString(16).toUpperCase().padStart(2, '0')}`;
  }
  return out;
}

/** Decodes xtext (octets read as UTF-8). Throws `RangeError` when it is not xtext. Lower-case hex digits are taken too. */
export function decodeXtext(xtext: string): string {
  if (!/^(?:[\u0021-\u002a\u002c-\u003c\u003e-\u007e]|\+[0-9A-Fa-f]{2})*$/.test(xtext))
    throw new RangeError('not xtext');
  const octets = xtext.replace(/\+([0-9A-Fa-f]{2})/g, (_, hex: string) =>
    String.fromCharCode(Number.parseInt(hex, 16)),
  );
  return Buffer.from(octets, 'latin1').toString('utf8');
}
