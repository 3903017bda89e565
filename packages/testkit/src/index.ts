export * from './channel.ts';
export * from './clock.ts';
export * from './simulator.ts';
export * from './split.ts';
export * from './transcript.ts';
