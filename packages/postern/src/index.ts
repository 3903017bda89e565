/** What scripts read of the command: the shapes of its `--json`, and its exit statuses. */
export { EXIT_STATUS, PosternError, type PosternErrorCode } from './base/errors.ts';
export type { CheckLayer, HostReport, LayerResult } from './check/report.ts';
export type { DaemonStatus, HostStatus } from './control/status.ts';
export type { QueueRecipient, QueueRow } from './queue/row.ts';
