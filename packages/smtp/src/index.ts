export { type CourierOptions, createCourier } from './courier.ts';
export { DeliveryError, type DeliveryErrorCode } from './error.ts';
export type { CourierEvent, OnCourierEvent } from './event.ts';
export { greetSmtp } from './greet.ts';
export { createSmarthostCourier, parseSmarthost, type Smarthost, type SmarthostOptions } from './smarthost.ts';
