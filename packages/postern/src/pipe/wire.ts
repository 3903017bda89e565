import type { Duplex } from 'node:stream';
import { encodeFrame, type Frame, frameReader } from './frame.ts';

/** Frames over a socket. */
export interface Wire {
  /** Writes a frame; nothing once the socket is gone. What is unsent is bounded by the windows. */
  send(frame: Frame): void;
  /** No more frames from here: FIN after what was sent. What still arrives is read and dropped. */
  end(): void;
  /** Closes at once. */
  destroy(): void;
}

/** What a wire reports. `closed` comes once, last; its error is the socket's, or a `FrameError`. */
export interface WireEvents {
  frame(frame: Frame): void;
  closed(error?: Error): void;
}

/** Puts frames on a socket. `leftover` is what was read past the request. A frame the listener throws at closes it. */
export function wireOver(socket: Duplex, o: WireEvents & { leftover?: Uint8Array }): Wire {
  const reader = frameReader();
  let fault: Error | undefined;
  let over = false;
  const fail = (error: Error): void => {
    fault ??= error;
    socket.destroy();
  };
  const read = (chunk: Uint8Array): void => {
    if (over || fault !== undefined) return;
    try {
      for (const frame of reader.push(chunk)) if (!over) o.frame(frame);
    } catch (error) {
      fail(error instanceof Error ? error : new Error(String(error)));
    }
  };
  // A write to a peer that has gone fails before its last frames were read: they may hold the exit, so reading goes on.
  socket.on('error', (error) => {
    fault ??= error;
  });
  socket.on('close', () => o.closed(fault));
  if (o.leftover !== undefined && o.leftover.length > 0) socket.unshift(o.leftover);
  socket.on('data', read);
  socket.resume();
  socket.on('end', () => socket.end());
  return {
    send(frame) {
      if (over || !socket.writable) return;
      socket.cork();
      for (const part of encodeFrame(frame)) socket.write(part);
      socket.uncork();
    },
    end() {
      over = true;
      socket.end();
    },
    destroy() {
      over = true;
      socket.destroy();
    },
  };
}
