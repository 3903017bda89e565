/** Stored bytes are given out only while they are what was accepted: length and digest are compared. */
import { createHash } from 'node:crypto';
import { type FileHandle, open } from 'node:fs/promises';
import { SpoolError } from '@postern/core';
import { headerOf } from './recover.ts';

/** Messages up to this many octets are held whole while their digest is checked; larger ones are read twice. */
const WHOLE_BYTES = 1024 * 1024;
/** Octets read at once of a larger one. */
const CHUNK_BYTES = 64 * 1024;

/** The message in an entry's file, given out only after all of it matched its digest. Throws `SpoolError` `corrupt`. */
export async function* readBody(path: string): AsyncGenerator<Uint8Array> {
  const file = await open(path, 'r');
  try {
    const read = headerOf(file.fd, Buffer.alloc(4096));
    if (read.type !== 'header') throw corrupt(read.type === 'bad' ? read.reason : 'its header cannot be read');
    const { headerLength, size, sha256 } = read.header;
    const { size: length } = await file.stat();
    if (length !== headerLength + size) throw corrupt(`it has ${length} octets instead of ${headerLength + size}`);
    const hash = createHash('sha256');
    const whole: Uint8Array[] = [];
    // One buffer for what is only looked at: fresh ones would pile up until the collector runs.
    const scratch = size <= WHOLE_BYTES ? undefined : Buffer.allocUnsafe(CHUNK_BYTES);
    for await (const chunk of chunks(file, { start: headerLength, size, scratch })) {
      hash.update(chunk);
      if (scratch === undefined) whole.push(chunk);
    }
    if (hash.digest('hex') !== sha256) throw corrupt('its message does not match its digest');
    if (scratch === undefined) yield* whole;
    else yield* chunks(file, { start: headerLength, size });
  } finally {
    await file.close();
  }
}

/** Some octets of a file; all in `scratch`, one after the other, where that is given. */
async function* chunks(
  file: FileHandle,
  { start, size, scratch }: { start: number; size: number; scratch?: Buffer | undefined },
): AsyncGenerator<Uint8Array> {
  for (let done = 0; done < size; ) {
    const wanted = Math.min(CHUNK_BYTES, size - done);
    const buffer = scratch ?? Buffer.allocUnsafe(wanted);
    const { bytesRead } = await file.read(buffer, 0, wanted, start + done);
    if (bytesRead === 0) throw corrupt('it is cut short');
    done += bytesRead;
    yield buffer.subarray(0, bytesRead);
  }
}

function corrupt(reason: string): SpoolError {
  return new SpoolError(reason, { code: 'corrupt' });
}
