export { rigPrograms } from './cache.ts';
export { type LoginServer, startDovecot } from './dovecot.ts';
export { type RigOptions, startRig } from './gate.ts';
export { startPostfix } from './postfix.ts';
export { fetchTool, type Tool } from './tools.ts';
