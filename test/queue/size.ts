/** A number from the environment: how large a test is made by command, e.g. `POSTERN_KILLS=10000`. */
export function setting(name: string, standard: number): number {
  return Number(process.env[name] ?? standard);
}
