/** `postern check`. */
import { printableJson, systemEnv } from '@postern/core';
import { PosternError } from '../base/errors.ts';
import { checkHost } from '../check/check.ts';
import { formatLayer, type HostReport } from '../check/report.ts';
import { planUp } from '../config/plan.ts';
import { type Context, configOf } from './context.ts';

/** `postern check [HOST…]`: resolves with 0, or the exit status of the first host that fails. */
export async function check(
  context: Context,
  o: { hosts: readonly string[]; acceptNewHostKey: boolean },
): Promise<number> {
  const { output, options, surroundings } = context;
  const config = await configOf(context);
  const known = planUp(config, { hosts: o.hosts }).hosts;
  if (known.length === 0) {
    throw new PosternError('usage', 'there is no host to check: the configuration has smarthosts alone', {
      fix: 'postern check HOST   where HOST is what you would give to ssh',
    });
  }
  const reports: HostReport[] = [];
  for (const host of o.hosts.length > 0 ? o.hosts : known) {
    const print = (line: string): void => {
      if (!options.json) output.out(`${line}\n`);
    };
    print(host);
    const onLayer = (result: Parameters<typeof formatLayer>[0]): void => {
      for (const line of formatLayer(result)) print(line);
    };
    const { acceptNewHostKey } = o;
    reports.push(await checkHost(host, { config, surroundings, env: systemEnv, acceptNewHostKey, onLayer }));
  }
  if (options.json) output.out(`${printableJson(reports)}\n`);
  return reports.find((report) => !report.ok)?.status ?? 0;
}
