/** CRC-32 (ISO-HDLC, as in gzip, RFC 1952 §8) by table. `zlib.crc32` is missing on Node 20.11. */
const TABLE = Uint32Array.from({ length: 256 }, (_, byte) => {
  let value = byte;
  for (let bit = 0; bit < 8; bit++) value = value & 1 ? (value >>> 1) ^ 0xedb88320 : value >>> 1;
  return value;
});

/** The checksum of some bytes, in one part or more, as 8 hexadecimal digits. */
export function crc32(...parts: readonly Uint8Array[]): string {
  let crc = 0xffffffff;
  for (const part of parts) {
    for (let at = 0; at < part.length; at++) {
      crc = (crc >>> 8) ^ (TABLE[(crc ^ (part[at] as number)) & 255] as number);
    }
  }
  return ((crc ^ 0xffffffff) >>> 0).toString(16).padStart(8, '0');
}
