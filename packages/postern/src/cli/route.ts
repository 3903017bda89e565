/** `postern route`: which route each recipient takes, and why. */
import { parseForwardPath, parseReversePath, printable } from '@postern/core';
import type { RouteVerdict } from '@postern/relay';
import { PosternError } from '../base/errors.ts';
import { toRoutes } from '../config/routes.ts';
import { type Context, configOf, planAsRunning, show } from './context.ts';

/** What `postern route` says of one address. */
interface Answer {
  readonly address: string;
  /** The pattern that takes it; null when no route does. */
  readonly route: string | null;
  readonly host: string | null;
  /** Each route up to the one that takes it, from 1. */
  readonly tried: readonly { readonly route: number; readonly match: readonly string[]; readonly why: string }[];
}

/** `postern route [--from A] ADDRESS…`: with 68 when one of them has no route. */
export async function route(context: Context, o: { addresses: readonly string[]; from: string }): Promise<number> {
  const routes = toRoutes((await planAsRunning(context, await configOf(context), [])).routes);
  const from = parse(() => parseReversePath(o.from), o.from);
  const answers = o.addresses.map((address): Answer => {
    const verdicts = routes.explain(
      parse(() => parseForwardPath(address), address),
      from,
    );
    const last = verdicts.at(-1);
    const taken = last?.verdict === 'taken' ? last : undefined;
    return {
      address,
      route: taken?.pattern ?? null,
      host: taken?.route.host ?? taken?.route.smarthost ?? null,
      tried: verdicts.map(explainVerdict),
    };
  });
  show(context, answers, () => answers.flatMap(formatAnswer));
  return answers.every((answer) => answer.route !== null) ? 0 : 68;
}

function explainVerdict({
  index,
  route: { match, from: fromList },
  verdict,
  pattern,
  from,
}: RouteVerdict): Answer['tried'][number] {
  const because = pattern === undefined ? '' : ` (${pattern})`;
  const sender = from === undefined ? '' : `, from ${from}`;
  const why = {
    taken: `takes it${because}${sender}`,
    'recipient does not match': 'does not match',
    'sender does not match': `matches${because}, but not the sender: from ${fromList?.join(', ')}`,
  }[verdict];
  return { route: index + 1, match, why };
}

function formatAnswer(answer: Answer): string[] {
  const to = answer.host === null ? 'no route takes it' : `via ${answer.host}`;
  return [
    `${printable(answer.address)}: ${to}`,
    ...answer.tried.map(({ route: number, match, why }) => `  route ${number} [${match.join(', ')}] ${why}`),
  ];
}

function parse<T>(read: () => T, text: string): T {
  try {
    return read();
  } catch (error) {
    throw new PosternError('data', `${printable(JSON.stringify(text))} is no address: ${(error as Error).message}`);
  }
}
