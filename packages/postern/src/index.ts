export type { CheckLayer, HostReport, LayerResult } from './check/report.ts';
export type { DaemonStatus, HostStatus } from './daemon/control.ts';
export { EXIT_STATUS, PosternError, type PosternErrorCode } from './errors.ts';
export type { QueueRecipient, QueueRow } from './queue/row.ts';
