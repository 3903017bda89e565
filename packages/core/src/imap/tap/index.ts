export { responseAnnounces, StreamFramer } from './framing.ts';
export { withoutCompress } from './hearing.ts';
export { MAX_TRACKED_RESPONSE_LINE, MAX_WAITING } from './limits.ts';
export { Tap, type TapActions, type TapOptions } from './tap.ts';
