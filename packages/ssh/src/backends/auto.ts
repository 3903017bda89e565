/** ssh2 dials, unless the host's settings or a marked fault ask for the system's ssh. */
import { LinkError } from '@postern/core';
import type { Dial } from '../connection.ts';
import { wantsOpenssh } from '../needs-openssh.ts';
import { dialOpenssh } from './openssh/openssh.ts';
import { dialSsh2 } from './ssh2/ssh2.ts';

/**
 * Dials with the backend a host names. `auto` is ssh2, but the system's ssh where ssh_config asks for what only that can do, or
 * where ssh2 fails for want of it.
 */
export const dialHost: Dial = async (host, o) => {
  if (host.backend === 'openssh') return dialOpenssh(host, o);
  const taken = (why: string): void => o.onProgress?.({ type: 'notice', text: `the system's ssh is taken: ${why}` });
  const asked = [...host.jump, host].flatMap((hop) => hop.needsOpenssh);
  if (host.backend === 'auto' && asked.length > 0) {
    taken(`ssh_config sets ${[...new Set(asked)].join(', ')}, which only that obeys`);
    return dialOpenssh(host, o);
  }
  try {
    return await dialSsh2(host, o);
  } catch (error) {
    if (host.backend !== 'auto' || !wantsOpenssh(error)) throw error;
    taken((error as LinkError).message);
    return dialOpenssh(host, o).catch((second: unknown) => {
      // No better word than the first, unless ssh got further.
      throw second instanceof LinkError && second.code !== 'config' ? second : error;
    });
  }
};
