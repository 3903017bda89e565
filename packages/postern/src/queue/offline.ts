/** The spool without a daemon: opened for one act, and left as it was. */
import { existsSync } from 'node:fs';
import { type Spool, SpoolError, systemEnv } from '@postern/core';
import { openSpool } from '@postern/spool';
import { PosternError } from '../base/errors.ts';
import { spoolDirectory } from '../base/paths.ts';
import type { Config } from '../config/load.ts';

/**
 * Works on the spool while no daemon does: owns it for as long as `work` takes. With no spool yet `work` is not called and the answer
 * is `none`. Throws {@link PosternError} `unavailable` when a daemon owns it after all.
 */
export async function withSpool<T>(config: Config, none: T, work: (spool: Spool) => T | Promise<T>): Promise<T> {
  const dir = spoolDirectory(config.stateDir);
  if (!existsSync(dir)) return none;
  const spool = await openSpool({ dir, env: systemEnv }).catch((error: unknown) => {
    throw spoolFailure(error);
  });
  try {
    return await work(spool);
  } finally {
    await spool.close();
  }
}

/** A spool that cannot be opened, as what ends a command. */
export function spoolFailure(error: unknown): unknown {
  if (!(error instanceof SpoolError)) return error;
  if (error.code === 'busy') {
    return new PosternError('unavailable', error.message, {
      fix: 'postern status   asks that one; another state_dir makes room for a second',
      cause: error,
    });
  }
  return new PosternError('unavailable', error.message, { cause: error });
}
