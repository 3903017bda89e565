/** One request per line, UTF-8 JSON, answered in order by one {@link ControlResponse} line. After `pipe` is answered the connection carries frames. */
export interface ControlRequest {
  readonly method: string;
  readonly params?: unknown;
}

/** The answer to one request. `error.code` is a `PosternErrorCode`. */
export type ControlResponse =
  | { readonly result: unknown }
  | { readonly error: { readonly code: string; readonly message: string; readonly fix?: string | undefined } };

/** Longest request line, octets. */
export const REQUEST_MAX_BYTES: number = 64 * 1024;
/** Longest response line, octets: a queue of a hundred thousand entries fits. */
export const RESPONSE_MAX_BYTES: number = 256 * 1024 * 1024;
/** Control connections at once; each lent channel is one. */
export const CONTROL_MAX_CONNECTIONS = 512;
