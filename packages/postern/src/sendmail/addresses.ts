/** Recipients as people write them; what is not understood is an error that names it. */
import addressparser from 'nodemailer/lib/addressparser';
import { PosternError } from '../base/errors.ts';

/** A name that may stand alone for a local user, as in `To: root` (RFC 5321 §4.1.2 Dot-string). */
const LOCAL_NAME = /^[^\s()<>[\]:;@\\,."]+(?:\.[^\s()<>[\]:;@\\,."]+)*$/;

/**
 * The addresses of an address field's value (RFC 5322 §3.4): groups opened, comments and display names left out, a bare local name
 * as it is. Throws {@link PosternError} `data` for what holds no address.
 */
export function addressesIn(value: string): string[] {
  const found: string[] = [];
  let carried = '';
  for (const piece of splitAtCommas(value)) {
    // Each piece alone: the parser takes `root, Ann <ann@x>` for one display name with a comma, and root would get nothing.
    const text = `${carried}${piece}`;
    carried = '';
    for (const { address, name } of addressparser(text, { flatten: true })) {
      if (address !== '') found.push(address);
      else if (LOCAL_NAME.test(name) && carried === '') found.push(name);
      else carried = `${text}, `;
    }
  }
  if (carried !== '') {
    throw new PosternError('data', `no address in ${JSON.stringify(carried.slice(0, -2).trim())}`);
  }
  return found;
}

/** Cuts at the commas outside quoted strings, comments, angle brackets and domain literals. */
function splitAtCommas(value: string): string[] {
  const pieces: string[] = [];
  const open: string[] = [];
  let start = 0;
  for (let at = 0; at < value.length; at += 1) {
    const char = value.charAt(at);
    const inside = open.at(-1);
    if (char === '\\') at += 1;
    else if (inside !== undefined && char === inside) open.pop();
    else if (inside === '"') continue;
    else if (inside === ')') {
      if (char === '(') open.push(')');
    } else if (char === '"') open.push('"');
    else if (char === '(') open.push(')');
    else if (char === '<') open.push('>');
    else if (char === '[') open.push(']');
    else if (char === ',' && inside === undefined) {
      pieces.push(value.slice(start, at));
      start = at + 1;
    }
  }
  pieces.push(value.slice(start));
  return pieces.filter((piece) => piece.trim() !== '');
}
