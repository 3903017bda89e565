/**
 * The project's own test tools: those of `@postern/core/testing`, and a bad network. Real servers are in
 * `@postern/testkit/rig`.
 */
export {
  type ChannelPair,
  channelPair,
  type MemoryLink,
  type MemorySpool,
  type MemorySpoolOptions,
  memoryLink,
  memorySpool,
  parseTranscript,
  playServer,
  seededRandom,
  settle,
  splits,
  type TranscriptOptions,
  type Turn,
  type VirtualEnv,
  virtualEnv,
} from '@postern/core/testing';
export { type LineOptions, type Simulator, startSimulator } from './simulator.ts';
