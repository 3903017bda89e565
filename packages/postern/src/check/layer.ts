/** What all layers of a check share: how long one may take. */
import { PosternError } from '../base/errors.ts';
import type { CheckLayer } from './report.ts';

/** Longest wait for any one layer, milliseconds. */
export const LAYER_MS = 20_000;

/** Nothing came of a layer in {@link LAYER_MS}. */
export function timeout(layer: CheckLayer): PosternError {
  return new PosternError('unavailable', `no answer in time (${layer})`);
}
