export { buildDsn, type Dsn, type DsnInput, type DsnKind, type DsnRecipient, RETURN_BYTES, wantsDsn } from './dsn.ts';
export { RelayError, type RelayErrorCode } from './errors.ts';
export type { IntakeEvent, OnRelayEvent, RelayEvent, RunnerEvent } from './event.ts';
export { createIntake, type Intake, type IntakeOptions, MAX_RECIPIENTS, MAX_SESSIONS, SIZE_LIMIT } from './intake.ts';

export type { Bounces } from './notices.ts';
export type { Waiting } from './placement.ts';
export {
  type CompiledRoutes,
  compileRoutes,
  type Route,
  type RouteVerdict,
  routeKey,
  type TakenRoute,
} from './routes.ts';
export { createRunner, type Runner, type RunnerOptions } from './runner.ts';
export { DEFAULT_SCHEDULE, type Schedule } from './schedule.ts';
export type { IntakeTls } from './session.ts';
export type { HostCourier } from './way.ts';
