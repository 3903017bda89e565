/** `postern password`. */
import { ensurePassword, rotatePassword } from '../access/password.ts';
import { makeStateDirectory } from '../base/paths.ts';
import { type Context, configOf, show } from './context.ts';

/** `postern password [--rotate]`: prints the local password, made when there is none. */
export async function password(context: Context, o: { rotate: boolean }): Promise<void> {
  const config = await configOf(context);
  makeStateDirectory(config.stateDir, context.surroundings.uid);
  const secret = o.rotate ? rotatePassword(config.stateDir) : ensurePassword(config.stateDir);
  show(context, { password: secret }, () => [secret]);
}
