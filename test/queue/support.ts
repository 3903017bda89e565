import { type Disk, nodeDisk } from '@postern/spool';

export {
  body,
  DAY,
  delivered,
  down,
  envelope,
  later,
  MINUTE,
  refused,
  stateLink,
  textOf,
} from '../../packages/relay/src/queue/queue.test-util.ts';

/** A disk whose syncs cost nothing, for tests of schedules. */
export const quickDisk: Disk = { ...nodeDisk, sync: async () => {}, syncData: async () => {} };
