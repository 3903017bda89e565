/** What ends a command, closed: each has its exit status in {@link EXIT_STATUS}. */
export type PosternErrorCode =
  | 'usage' // the command line cannot be read
  | 'data' // input that cannot be used, e.g. an address
  | 'no-input' // a file or an entry that is not there
  | 'no-host' // no route takes a recipient
  | 'unavailable' // nothing answers: host, daemon, address taken, state directory owned by another
  | 'software' // a fault of Postern itself
  | 'os' // the system refused something basic
  | 'cannot-create' // a file or socket of ours cannot be made
  | 'io' // reading or writing failed
  | 'temporary' // try again
  | 'no-permission' // host key, authentication, not your file
  | 'config'; // the configuration cannot be used

/** Exit statuses of the command, from sysexits.h. */
export const EXIT_STATUS: Readonly<Record<PosternErrorCode, number>> = {
  usage: 64,
  data: 65,
  'no-input': 66,
  'no-host': 68,
  unavailable: 69,
  software: 70,
  os: 71,
  'cannot-create': 73,
  io: 74,
  temporary: 75,
  'no-permission': 77,
  config: 78,
};

/** What ends a command. `message` is one sentence (configuration: one line per fault); `fix` says what to do. */
export class PosternError extends Error {
  override readonly name = 'PosternError';
  readonly code: PosternErrorCode;
  readonly fix?: string;
  constructor(code: PosternErrorCode, message: string, o: { fix?: string | undefined; cause?: unknown } = {}) {
    super(message, o.cause === undefined ? undefined : { cause: o.cause });
    this.code = code;
    if (o.fix !== undefined) this.fix = o.fix;
  }
  /** The exit status of sysexits.h. */
  get status(): number {
    return EXIT_STATUS[this.code];
  }
}

/** The system's error code (`ENOENT`…) of a caught error, if it has one. */
export function errnoOf(error: unknown): string | undefined {
  const code = (error as NodeJS.ErrnoException | undefined)?.code;
  return typeof code === 'string' ? code : undefined;
}
