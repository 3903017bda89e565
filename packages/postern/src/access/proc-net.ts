/** Rows of `/proc/net/tcp` and `tcp6`: text in, values out. */
import { isIPv4 } from 'node:net';
import { endianness } from 'node:os';

/** One end of a TCP connection: a numeric address (v4, v6 or v4-mapped) and a port. */
export interface Endpoint {
  readonly address: string;
  readonly port: number;
}

/** One row of `/proc/net/tcp` or `/proc/net/tcp6`. */
export interface TcpRow {
  readonly uid: number;
  /** Socket inode; 0 when no process holds it. */
  readonly inode: number;
}

/** State `01` in proc_pid_net(5)'s tables: the only one in which the uid is surely the holder's. */
const ESTABLISHED = '01';

/**
 * Finds the ESTABLISHED row whose own end is `local` and whose far end is `remote`, in the text of either table. A v4 connection is looked
 * for in both shapes: a program with a v6 socket shows as v4-mapped in tcp6. The kernel prints a socket twice when the table changes while it
 * is read (seen on Linux 6.18): rows of one inode are one socket. Undefined when there is none, or more than one.
 */
export function findEstablished(table: string, local: Endpoint, remote: Endpoint): TcpRow | undefined {
  const rows = [...rowsOf(table, hexV4(local), hexV4(remote)), ...rowsOf(table, hexV6(local), hexV6(remote))];
  const [first] = rows;
  return rows.every(({ uid, inode }) => uid === first?.uid && inode === first.inode) ? first : undefined;
}

function rowsOf(table: string, local: string | undefined, remote: string | undefined): TcpRow[] {
  if (local === undefined || remote === undefined) return [];
  const rows: TcpRow[] = [];
  const wanted = ` ${local} ${remote} ${ESTABLISHED} `;
  for (let at = table.indexOf(wanted); at >= 0; at = table.indexOf(wanted, at + 1)) {
    const end = table.indexOf('\n', at);
    // local remote state tx:rx tr:when retrnsmt uid timeout inode
    const fields = table
      .slice(at, end < 0 ? undefined : end)
      .trim()
      .split(/\s+/);
    const uid = Number(fields[6]);
    const inode = Number(fields[8]);
    if (Number.isInteger(uid) && Number.isInteger(inode)) rows.push({ uid, inode });
  }
  return rows;
}

function hexPort(port: number): string {
  return port.toString(16).toUpperCase().padStart(4, '0');
}

/** The kernel prints each 32-bit word in host order. */
function hexWords(octets: Buffer): string {
  const words = Buffer.from(octets);
  if (endianness() === 'LE') words.swap32();
  return words.toString('hex').toUpperCase();
}

function hexV4(end: Endpoint): string | undefined {
  const plain = end.address.replace(/^::ffff:/i, '');
  if (!isIPv4(plain)) return undefined;
  return `${hexWords(Buffer.from(plain.split('.').map(Number)))}:${hexPort(end.port)}`;
}

function hexV6(end: Endpoint): string | undefined {
  const octets = octetsV6(end.address);
  return octets === undefined ? undefined : `${hexWords(octets)}:${hexPort(end.port)}`;
}

/** The 16 octets of an address; a v4 one becomes v4-mapped (RFC 4291 §2.5.5.2). */
function octetsV6(address: string): Buffer | undefined {
  const plain = address.replace(/%.*$/, '');
  const v4 = /(?:^|:)(\d+\.\d+\.\d+\.\d+)$/.exec(plain)?.[1];
  if (v4 !== undefined) {
    if (!isIPv4(v4) || !/^(::ffff:)?[\d.]+$/i.test(plain)) return undefined;
    return Buffer.from([...new Array<number>(10).fill(0), 255, 255, ...v4.split('.').map(Number)]);
  }
  const [head = '', tail] = plain.split('::');
  const left = head === '' ? [] : head.split(':');
  const right = tail === undefined || tail === '' ? [] : tail.split(':');
  const gap = 8 - left.length - right.length;
  if (tail === undefined ? gap !== 0 : gap < 1) return undefined;
  const groups = [...left, ...new Array<string>(gap).fill('0'), ...right].map((group) => Number.parseInt(group, 16));
  if (groups.some((group) => !(group >= 0 && group <= 0xffff))) return undefined;
  const octets = Buffer.alloc(16);
  for (const [index, group] of groups.entries()) octets.writeUInt16BE(group, index * 2);
  return octets;
}
