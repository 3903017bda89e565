/** What can be told of a private key file without its passphrase. */
export type KeyFile =
  /** `publicKey` is the blob of RFC 4253 §6.6, `undefined` where the format hides it (encrypted PEM). */
  | { readonly type: 'private'; readonly encrypted: boolean; readonly publicKey?: Buffer }
  /** A public key alone: its private half is in the agent. */
  | { readonly type: 'public'; readonly publicKey: Buffer }
  /** A format (RFC 5958) that ssh2 1.17.0 cannot read and OpenSSH can. */
  | { readonly type: 'pkcs8' }
  | { readonly type: 'unusable'; readonly reason: string };

const MAGIC = Buffer.from('openssh-key-v1\0', 'latin1');

/** Reads what a private or public key file says openly (PROTOCOL.key of OpenSSH; RFC 1421 headers of older PEM files). */
export function inspectKeyFile(text: string): KeyFile {
  const [, label, body] = /-----BEGIN ([A-Z0-9 ]+)-----\r?\n([\s\S]*?)-----END /.exec(text) ?? [];
  if (label === undefined || body === undefined) {
    const blob = Buffer.from(text.trim().split(/[ \t]+/)[1] ?? '', 'base64');
    return readString(blob, 0) === undefined
      ? { type: 'unusable', reason: 'is not a key file' }
      : { type: 'public', publicKey: blob };
  }
  if (label === 'OPENSSH PRIVATE KEY') return inspectOpenssh(Buffer.from(body, 'base64'));
  if (label === 'ENCRYPTED PRIVATE KEY' || label === 'PRIVATE KEY') {
    return { type: 'pkcs8' };
  }
  if (!label.endsWith('PRIVATE KEY')) return { type: 'unusable', reason: `holds a ${label.toLowerCase()}` };
  return { type: 'private', encrypted: /^Proc-Type:.*ENCRYPTED/m.test(body) };
}

function inspectOpenssh(bytes: Buffer): KeyFile {
  const damaged: KeyFile = { type: 'unusable', reason: 'is damaged' };
  if (!bytes.subarray(0, MAGIC.length).equals(MAGIC)) return damaged;
  const cipher = readString(bytes, MAGIC.length);
  const kdf = cipher && readString(bytes, cipher.end);
  const options = kdf && readString(bytes, kdf.end);
  const publicKey = options && readString(bytes, options.end + 4);
  if (cipher === undefined || publicKey === undefined) return damaged;
  return { type: 'private', encrypted: cipher.value.toString('latin1') !== 'none', publicKey: publicKey.value };
}

/** A string of RFC 4251 §5 and where it ends. */
function readString(bytes: Buffer, at: number): { value: Buffer; end: number } | undefined {
  if (bytes.length < at + 4) return undefined;
  const end = at + 4 + bytes.readUInt32BE(at);
  return end > bytes.length ? undefined : { value: bytes.subarray(at + 4, end), end };
}
