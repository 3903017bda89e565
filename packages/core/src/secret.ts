/** A password. Shows as `[secret]` wherever it is printed, logged, inspected or turned into JSON; only {@link Secret.reveal} tells. */
export class Secret {
  /** A `#` field: `util.inspect` and `console.log` do not see it. */
  readonly #value: string;
  constructor(value: string) {
    this.#value = value;
  }
  /** The value itself. */
  reveal(): string {
    return this.#value;
  }
  toString(): string {
    return '[secret]';
  }
  toJSON(): string {
    return '[secret]';
  }
}
