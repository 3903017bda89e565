export { responseAnnounces, StreamFramer } from './framing.ts';
export { MAX_TRACKED_RESPONSE_LINE, MAX_WAITING } from './limits.ts';
export { Tap, type TapActions, type TapOptions, withoutCompress } from './tap.ts';
