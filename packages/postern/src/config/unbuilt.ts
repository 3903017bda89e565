import type { ConfigFault, FileValues } from './schema.ts';

/**
 * The one list of configuration whose feature is not built yet: it is read and checked like the rest, and refused when used. Take the
 * line out when the feature is in.
 */
export function checkBuilt(values: FileValues): ConfigFault[] {
  const faults: ConfigFault[] = [];
  const refuse = (path: ConfigFault['path'], what: string, accepted?: string): void => {
    faults.push({ path, problem: `${what} is not built yet`, ...(accepted === undefined ? {} : { accepted }) });
  };
  for (const [name, host] of Object.entries(values.host ?? {})) {
    if (host.backend === 'openssh') refuse(['host', name, 'backend'], 'the "openssh" backend', '"auto", "ssh2"');
  }
  for (const [index, route] of (values.route ?? []).entries()) {
    if (route.smarthost !== undefined) refuse(['route', index, 'smarthost'], 'a smarthost', 'host');
    if (route.dialogue === 'bsmtp') {
      refuse(['route', index, 'dialogue'], 'the "bsmtp" dialogue', '"auto", "stream", "pipelined", "lockstep"');
    }
  }
  return faults;
}
