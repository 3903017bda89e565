/**
 * What tests of mail programs need, ours and yours: a clock, channels, a link and a spool in memory, dialogues. Not
 * loaded by anything else.
 */

export { seededRandom } from '../env.ts';
export { type ChannelPair, channelPair, type MemoryLink, memoryLink } from './channel.ts';
export { settle, type VirtualEnv, virtualEnv } from './clock.ts';
export { type MemorySpool, type MemorySpoolOptions, memorySpool } from './memory-spool.ts';
export { splits } from './split.ts';
export { parseTranscript, playServer, type TranscriptOptions, type Turn } from './transcript.ts';
