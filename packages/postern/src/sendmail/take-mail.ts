/** Takes mail into the spool, from standard input or by SMTP on it; whether a daemon runs makes no difference. */
import { type ForwardPath, printable, type ReversePath, systemEnv } from '@postern/core';
import type { CompiledRoutes } from '@postern/relay';
import { spoolWriter } from '@postern/spool';
import { makeStateDirectory, spoolDirectory } from '../base/paths.ts';
import type { Config } from '../config/load.ts';
import { toRoutes } from '../config/routes.ts';
import type { SendmailRequest } from './args.ts';
import { identityOf } from './identity.ts';
import type { SendmailOptions } from './options.ts';
import { serveStdio } from './stdio.ts';
import { submit } from './submit.ts';

type MailRequest = Extract<SendmailRequest, { type: 'smtp' | 'submit' }>;

/** Does what was asked; resolves when all that was taken is durable. Throws `PosternError`, or what the spool throws. */
export async function takeMail(
  request: MailRequest,
  config: Config,
  o: SendmailOptions & { readonly message: AsyncIterable<Uint8Array> },
  json: boolean,
): Promise<void> {
  makeStateDirectory(config.stateDir, o.surroundings.uid);
  const spool = await spoolWriter({ dir: spoolDirectory(config.stateDir), env: systemEnv });
  const routes = routesOf(config);
  const identity = identityOf(o.surroundings);
  try {
    if (request.type === 'smtp') {
      return await serveStdio({
        ...{ input: o.stdin, output: o.stdout, spool, hostname: identity.domain, env: systemEnv },
        routes: routes ?? toRoutes([{ match: ['*'], host: 'first' }]),
        sizeLimit: config.smtp?.max_size,
        longLines: config.smtp?.long_lines,
      });
    }
    const refusal = (from: string, to: string): string | undefined =>
      routes === undefined || routes.take(to as ForwardPath, from as ReversePath) ? undefined : 'no route takes it';
    const { id, refused } = await submit({ request, input: o.message, spool, identity, env: systemEnv, refusal });
    for (const { text, why } of refused) {
      o.output.err(`${o.name}: ${printable(JSON.stringify(text))} was left out: ${why}\n`);
    }
    if (json) o.output.out(`${JSON.stringify({ id })}\n`);
  } finally {
    await spool.close();
  }
}

/** The configuration's routes. None there: `up` sends everything through its first HOST, which is not known here. */
function routesOf(config: Config): CompiledRoutes | undefined {
  return config.routes.length === 0 ? undefined : toRoutes(config.routes);
}
