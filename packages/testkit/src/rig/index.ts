export { rigPrograms } from './cache.ts';
export { type RigOptions, startRig } from './gate.ts';
