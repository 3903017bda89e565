/** From connecting to being logged in, ms: Thunderbird holds a connection open while it asks for the password. */
export const LOGIN_DEADLINE_MS: number = 10 * 60_000;
/** How long a login waits for a link that is down, ms. */
export const LINK_WAIT_MS: number = 20_000;
/** From an open channel to PREAUTH (and its capabilities), ms. */
export const GREETING_MS: number = 10_000;
/** How long an ended imapd's exit status and last words are waited for, ms. */
export const LAST_WORDS_MS: number = 1000;
/** Input kept while a login is decided, bytes; past it the client is no longer read. */
export const MAX_PIPELINED: number = 65_536;
/** Connections of one listener, logged in or not. */
export const MAX_SESSIONS: number = 2048;
/** Connections from one address. */
export const MAX_SESSIONS_PER_PEER: number = 512;
/** After FIN was sent: how long the peer may take to close its side, ms. */
export const LINGER_MS: number = 2000;
/** After the client's FIN: how long the far side may stay silent before the session is dropped, ms. */
export const HALF_CLOSED_SILENCE_MS: number = 5 * 60_000;
/** What a spare may say while it waits, bytes. */
export const MAX_SPARE_ASIDE: number = 16_384;
/** Age at which a spare is replaced, ms: RFC 3501 §5.4 lets an imapd hang up after 30 min of silence. */
export const SPARE_LIFE_MS: number = 25 * 60_000;
/** After a login: pause before the next spare is opened, ms, so that it does not compete with the client's first commands. */
export const REFILL_DELAY_MS: number = 250;
/** Most spares of one host, whatever clients do. */
export const MAX_SPARES: number = 6;
/** Logins within this time of each other count as one client's opening, ms. */
export const BURST_MS: number = 5000;
/** How long spares beyond the configured number are kept after such an opening, ms. */
export const BURST_MEMORY_MS: number = 15 * 60_000;
/** Longest pause between attempts to open a spare, ms. */
export const MAX_SPARE_RETRY_MS: number = 60_000;
/** How much later than a keepalive the far side's last octet may be before a spare is no longer trusted, ms. */
export const HEARD_MARGIN_MS: number = 2000;
/** How long a client waits for a link that is down in the middle of its session, ms, unless said otherwise. */
export const PATIENCE_MS: number = 15 * 60_000;
/** How long proving that a lost session is over may take, from the moment its link is back, ms. */
export const FENCE_MS: number = 20_000;
/** Longest pause between attempts to open a session anew, ms. */
export const MAX_REOPEN_PAUSE_MS: number = 15_000;
/** Deaths of one client's far sessions with nothing said in between, after which it is given up. */
export const MAX_DEATHS = 8;
/** Sessions that are carried over within this time are told of together, ms. */
export const CARRIED_TOGETHER_MS: number = 1000;
