/** Input a client may send before it has logged in, octets: commands, literals and what is buffered of an unfinished one. */
export const MAX_INPUT_BEFORE_LOGIN = 8192;
/** Longest line of a client before login, octets. A SASL response of a long password fits. */
export const MAX_CLIENT_LINE = 4096;
/** Largest literal before login, octets: user names and passwords only. */
export const MAX_CLIENT_LITERAL = 1024;
/** Logins a connection may get wrong before it is closed. */
export const MAX_FAILED_LOGINS = 10;
/** What may stand before the far greeting (a `.bashrc` that prints, `* OK [ALERT]` lines), octets. */
export const MAX_NOISE = 65536;
/** Longest line of the far side before the splice, octets; no greeting is longer. */
export const MAX_FAR_LINE = 16384;
/** Untagged responses kept while the far side answers CAPABILITY, octets. */
export const MAX_FAR_ASIDE = 65536;
