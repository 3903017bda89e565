/** Longest line of a client that is tracked, octets: a set of many UIDs. */
export const MAX_TRACKED_COMMAND_LINE: number = 1024 * 1024;
/** Longest line of a far side that is tracked, octets: a SEARCH of a million messages. */
export const MAX_TRACKED_RESPONSE_LINE: number = 8 * 1024 * 1024;
/** Octets of one command that are kept until it is answered, so that it can be given again. */
export const MAX_KEPT_COMMAND: number = 32 * 1024 * 1024;
/** Octets of commands that wait for a far side; past it the client is no longer read. */
export const MAX_WAITING: number = 1024 * 1024;
/** Octets of an answer that is kept until its tagged reply. */
export const MAX_HELD_ANSWER: number = 8 * 1024 * 1024;
/** Octets of the answers to one question of our own. */
export const MAX_OWN_ANSWER: number = 128 * 1024 * 1024;
/** Messages that are looked at to find out what became of one APPEND or COPY. */
export const MAX_CANDIDATES = 1000;
