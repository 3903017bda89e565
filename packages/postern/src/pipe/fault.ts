import { type Exit, LinkError } from '@postern/core';
import type { Fault, PipeExit } from './frame.ts';

/** Longest sentence of a fault that travels, characters. */
const MAX_SENTENCE = 2000;

/** Any error as what travels in a frame. Not a `LinkError`: it is told as a fault of the channel. */
export function faultOf(error: unknown): Fault {
  const cut = (text: string): string => text.slice(0, MAX_SENTENCE);
  if (!(error instanceof LinkError)) {
    const message = error instanceof Error ? error.message : String(error);
    return { code: 'channel-refused', layer: 'channel', message: cut(message) };
  }
  return {
    code: error.code,
    layer: error.layer,
    message: cut(error.message),
    ...(error.hop === undefined ? {} : { hop: cut(error.hop) }),
    ...(error.fix === undefined ? {} : { fix: cut(error.fix) }),
  };
}

/** The error a fault was made from, without its cause. */
export function errorOf(fault: Fault): LinkError {
  return new LinkError(fault.message, fault);
}

/** An exit as it travels. */
export function toPipeExit(exit: Exit): PipeExit {
  return exit.type === 'lost' ? { type: 'lost', fault: faultOf(exit.error) } : exit;
}

/** An exit that travelled. */
export function fromPipeExit(exit: PipeExit): Exit {
  return exit.type === 'lost' ? { type: 'lost', error: errorOf(exit.fault) } : exit;
}
