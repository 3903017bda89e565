/** `postern sendmail`: what it is given is spooled, or it says why not and exits by sysexits.h. */
import type { Readable, Writable } from 'node:stream';
import { type ForwardPath, printable, printableJson, type ReversePath, SpoolError, systemEnv } from '@postern/core';
import type { CompiledRoutes } from '@postern/relay';
import { spoolWriter } from '@postern/spool';
import { PosternError } from '../base/errors.ts';
import { makeStateDirectory, type Surroundings, spoolDirectory } from '../base/paths.ts';
import { askDaemon, type Context } from '../cli/context.ts';
import { queueRows } from '../cli/queue.ts';
import { type Config, loadConfig } from '../config/load.ts';
import { toRoutes } from '../config/routes.ts';
import { parseSendmailArgs, type SendmailProgram, type SendmailRequest } from './args.ts';
import { identityOf } from './identity.ts';
import { formatMailq } from './mailq.ts';
import { serveStdio } from './stdio.ts';
import { submit } from './submit.ts';

const HELP = `Usage: postern sendmail [-t] [-i] [-f ADDRESS] [-F NAME] [-N WHEN] [--] [ADDRESS...]
       postern sendmail -bs | -bp | -q[IID] | -bi

Takes a message on standard input into the spool, as other sendmails do. Under the name sendmail, mailq or newaliases (a
symlink to postern) it is that program. See docs/sendmail.md.
`;

/** What a run is given. */
export interface SendmailOptions {
  readonly name: SendmailProgram;
  readonly words: readonly string[];
  readonly surroundings: Surroundings;
  readonly output: Context['output'];
  readonly stdin: Readable;
  readonly stdout: Writable;
  readonly version: string;
}

/** Runs a sendmail call to its end and resolves with its exit status, from sysexits.h. Never rejects. */
export async function runSendmail(o: SendmailOptions): Promise<number> {
  let json = o.words.includes('--json');
  try {
    const args = parseSendmailArgs(o.words, o.name);
    json = args.json;
    await perform(args.request, args.config, json, o);
    return 0;
  } catch (error) {
    const { code, message, fix, status } = asPosternError(error);
    if (json) o.output.err(`${printableJson({ event: 'error', code, message, fix, status })}\n`);
    else o.output.err(`${o.name}: ${printable(message)}\n${fix === undefined ? '' : `  fix: ${fix}\n`}`);
    return status;
  }
}

/** No room may be there in a minute, a disk that fails will not mend itself. */
function asPosternError(error: unknown): PosternError {
  if (error instanceof PosternError) return error;
  if (error instanceof SpoolError) {
    return new PosternError(error.code === 'io' ? 'io' : 'temporary', `not accepted: ${error.message}`, {
      cause: error,
    });
  }
  const message = error instanceof Error ? error.message : String(error);
  return new PosternError('software', `a fault of Postern itself: ${message}`, { cause: error });
}

async function perform(
  request: SendmailRequest,
  configFile: string | undefined,
  json: boolean,
  o: SendmailOptions,
): Promise<void> {
  if (request.type === 'help') return o.output.out(HELP);
  if (request.type === 'version') return o.output.out(`${o.version}\n`);
  if (request.type === 'newaliases') return;
  const config = loadConfig(o.surroundings, { file: configFile });
  switch (request.type) {
    case 'mailq': {
      const rows = await queueRows(config);
      return o.output.out(json ? `${printableJson(rows)}\n` : formatMailq(rows));
    }
    case 'flush':
      await askDaemon(config, 'queue.flush', request.id === undefined ? {} : { what: request.id });
      return;
    case 'smtp':
      return withWriter(config, o, (spool) => {
        const { domain } = identityOf(o.surroundings);
        const routes = routesOf(config) ?? toRoutes([{ match: ['*'], host: 'first' }]);
        const sizeLimit = config.smtp?.max_size;
        return serveStdio({
          ...{ input: o.stdin, output: o.stdout, spool, routes, hostname: domain, sizeLimit, env: systemEnv },
        });
      });
    case 'submit':
      return withWriter(config, o, async (spool) => {
        const routes = routesOf(config);
        const refusal = (from: string, to: string): string | undefined =>
          routes === undefined || routes.take(to as ForwardPath, from as ReversePath) ? undefined : 'no route takes it';
        const input = o.stdin;
        const { id, refused } = await submit({
          request,
          input,
          spool,
          identity: identityOf(o.surroundings),
          env: systemEnv,
          refusal,
        });
        for (const { text, why } of refused) {
          o.output.err(`${o.name}: ${printable(JSON.stringify(text))} was left out: ${why}\n`);
        }
        if (json) o.output.out(`${JSON.stringify({ id })}\n`);
      });
  }
}

/** The configuration's routes. None there: `up` sends everything through its first HOST, which is not known here. */
function routesOf(config: Config): CompiledRoutes | undefined {
  return config.routes.length === 0 ? undefined : toRoutes(config.routes);
}

async function withWriter<T>(
  config: Config,
  o: SendmailOptions,
  work: (spool: Awaited<ReturnType<typeof spoolWriter>>) => Promise<T>,
): Promise<T> {
  makeStateDirectory(config.stateDir, o.surroundings.uid);
  const spool = await spoolWriter({ dir: spoolDirectory(config.stateDir), env: systemEnv });
  try {
    return await work(spool);
  } finally {
    await spool.close();
  }
}
