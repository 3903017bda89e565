export * from './command.ts';
export * from './framer.ts';
export * from './gate.ts';
export * from './limits.ts';
export * from './response.ts';
export * from './secret.ts';
export * from './tap/index.ts';
