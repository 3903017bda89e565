/** Mail out through a link, or to a smarthost: every reply is matched to its command, or the session is closed. */
export { type CourierOptions, createCourier } from './courier.ts';
export { createDirect, type DirectOptions } from './direct.ts';
export { DeliveryError, type DeliveryErrorCode } from './error.ts';
export { type EtrnOptions, requestQueueRun } from './etrn.ts';
export type { CourierEvent, OnCourierEvent } from './event.ts';
export { greetSmtp } from './greet.ts';
export { findLeftReceipts, type LeftReceipts } from './left-receipts.ts';
export { findSmtp, type SmtpProbe, type SmtpTrial } from './probe.ts';
export { type MailProtocol, protocolOf } from './protocol.ts';
export { createSmarthostCourier, parseSmarthost, type Smarthost, type SmarthostOptions } from './smarthost.ts';
