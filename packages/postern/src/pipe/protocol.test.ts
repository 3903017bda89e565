import { splits } from '@postern/testkit';
import { describe, expect, it } from 'vitest';
import { encodeFrame, type Frame, FrameError, frameReader, MAX_FRAME_BYTES } from './protocol.ts';

const fault = {
  code: 'auth-failed',
  layer: 'auth',
  message: 'no key was taken – “none”',
  fix: 'ssh-add',
  hop: 'b',
} as const;

const FRAMES: readonly Frame[] = [
  { type: 'opened' },
  { type: 'data', stream: 'stdin', bytes: Buffer.from('a') },
  { type: 'data', stream: 'stdout', bytes: Buffer.from([0, 0x10, 0xff, 0x0a]) },
  { type: 'data', stream: 'stderr', bytes: Buffer.alloc(300, 7) },
  { type: 'data', stream: 'stdout', bytes: Buffer.alloc(0) },
  { type: 'grant', stream: 'stdin', bytes: 2 ** 32 - 1 },
  { type: 'grant', stream: 'stderr', bytes: 0 },
  { type: 'eof', stream: 'stdin' },
  { type: 'eof', stream: 'stdout' },
  { type: 'signal', name: 'USR1' },
  { type: 'signal', name: 'x@example.com' },
  { type: 'refused', fault },
  { type: 'exit', exit: { type: 'exit', code: 255 } },
  { type: 'exit', exit: { type: 'signal', name: 'TERM' } },
  { type: 'exit', exit: { type: 'closed' } },
  { type: 'exit', exit: { type: 'lost', fault } },
];

const wire = (frames: readonly Frame[]): Buffer => Buffer.concat(frames.flatMap(encodeFrame));
const plain = (frame: Frame): unknown => (frame.type === 'data' ? { ...frame, bytes: [...frame.bytes] } : frame);

describe('frames', () => {
  for (const [name, chunks] of splits(wire(FRAMES))) {
    it(`come out as they went in, fed ${name}`, () => {
      const reader = frameReader();
      const got = chunks.flatMap((chunk) => reader.push(chunk).map(plain));
      expect(got).toEqual(FRAMES.map(plain));
      expect(reader.idle).toBe(true);
    });
  }

  it('of the greatest length pass, one octet more is refused on both sides', () => {
    const bytes = Buffer.alloc(MAX_FRAME_BYTES, 1);
    expect(frameReader().push(wire([{ type: 'data', stream: 'stdout', bytes }]))).toHaveLength(1);
    const longer = Buffer.alloc(MAX_FRAME_BYTES + 1);
    expect(() => encodeFrame({ type: 'data', stream: 'stdout', bytes: longer })).toThrow(RangeError);
    const header = Buffer.from([0x11, 0, 1, 0, 1]);
    expect(() => frameReader().push(header)).toThrow(FrameError);
  });

  it('cut short leave the reader in the middle of one', () => {
    const reader = frameReader();
    expect(reader.push(wire([{ type: 'signal', name: 'TERM' }]).subarray(0, -1))).toEqual([]);
    expect(reader.idle).toBe(false);
  });

  it.each([
    ['an unknown type', [0x00, 0, 0, 0, 0]],
    ['a fourth stream', [0x13, 0, 0, 0, 0]],
    ['an end with a payload', [0x20, 0, 0, 0, 1, 0]],
    ['a grant of three octets', [0x30, 0, 0, 0, 3, 0, 0, 0]],
    ['a signal with a newline in its name', [0x40, 0, 0, 0, 2, 0x41, 0x0a]],
    ['an exit that is no JSON', [0x52, 0, 0, 0, 1, 0x7b]],
    ['an exit that says nothing', [0x52, 0, 0, 0, 2, 0x7b, 0x7d]],
    ['a refusal that is null', [0x51, 0, 0, 0, 4, 0x6e, 0x75, 0x6c, 0x6c]],
  ])('that are none are refused: %s', (_, octets) => {
    expect(() => frameReader().push(Buffer.from(octets))).toThrow(FrameError);
  });
});
