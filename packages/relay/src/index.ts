/** The public face of the relay: an intake, routes, a queue runner, and the notifications it writes. */
export {
  buildDsn,
  type Dsn,
  type DsnInput,
  type DsnKind,
  type DsnRecipient,
  RETURN_BYTES,
  wantsDsn,
} from './dsn/dsn.ts';
export type { Bounces } from './dsn/notify.ts';
export { RelayError, type RelayErrorCode } from './errors.ts';
export type { IntakeEvent, OnRelayEvent, RelayEvent, RunnerEvent } from './event.ts';
export { createIntake, type Intake } from './intake/intake.ts';
export { type IntakeOptions, type LongLines, MAX_RECIPIENTS, MAX_SESSIONS, SIZE_LIMIT } from './intake/options.ts';
export type { IntakeTls } from './intake/smtp-session.ts';
export type { HostCourier, RunnerOptions } from './queue/context.ts';
export type { Waiting } from './queue/router.ts';
export { createRunner, type Runner } from './queue/runner.ts';
export { DEFAULT_SCHEDULE, type Schedule } from './queue/schedule.ts';
export {
  type CompiledRoutes,
  compileRoutes,
  type Route,
  type RouteVerdict,
  routeKey,
  type TakenRoute,
} from './route/routes.ts';
