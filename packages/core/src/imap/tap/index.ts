export { responseAnnounces, StreamFramer } from './framing.ts';
export { MAX_TRACKED_RESPONSE_LINE, MAX_WAITING } from './limits.ts';
export { Tap, withoutCompress, type TapActions, type TapOptions } from './tap.ts';
