/** A type that only its checker can make: a string that is a ForwardPath has been through the parser. */
declare const brand: unique symbol;
/** A value that only a checking function makes: `Brand<string, 'ForwardPath'>` is a string that was parsed. */
export type Brand<T, Name extends string> = T & { readonly [brand]: Name };
