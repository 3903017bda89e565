/** The same bytes cut in every way a stream may cut them: what a codec says of them must not depend on it. */
import { seededRandom } from '../env.ts';

/**
 * How a codec is fed the same bytes: whole, byte by byte, and cut at `seeds` seeded places. Pairs of name and chunks.
 */
export function splits(bytes: Uint8Array, seeds = 8): [string, Uint8Array[]][] {
  const random = (seed: number): Uint8Array[] => {
    const next = seededRandom(seed);
    const chunks: Uint8Array[] = [];
    for (let at = 0; at < bytes.length; ) {
      const length = 1 + Math.floor(next() * Math.min(64, bytes.length));
      chunks.push(bytes.subarray(at, at + length));
      at += length;
    }
    return chunks;
  };
  return [
    ['whole', [bytes]],
    ['byte by byte', Array.from(bytes, (_, at) => bytes.subarray(at, at + 1))],
    ...Array.from({ length: seeds }, (_, seed): [string, Uint8Array[]] => [`seed ${seed + 1}`, random(seed + 1)]),
  ];
}
