/** `postern demo`: signals in, lines out. */
import type { Context } from './context.ts';

/** `postern demo [--once]`. */
export async function demo(context: Context, o: { once: boolean }): Promise<number> {
  const { runDemo } = await import('../demo/demo.ts');
  const stop = new AbortController();
  const onSignal = (): void => stop.abort(new Error('interrupted'));
  process.on('SIGINT', onSignal).on('SIGTERM', onSignal);
  try {
    return await runDemo({ once: o.once, print: (line) => context.output.out(`${line}\n`), signal: stop.signal });
  } finally {
    process.off('SIGINT', onSignal).off('SIGTERM', onSignal);
  }
}
