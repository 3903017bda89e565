import { writeFileSync } from 'node:fs';
import { cpus, release } from 'node:os';

/** One measured figure: what, for whom, and how much of which unit. */
export interface Row {
  readonly what: string;
  readonly who: string;
  readonly value: number;
  readonly unit: string;
  /** Samples behind the median. */
  readonly samples?: number;
}

/** What an issue or a reader wants of two rows: `ours ≤ factor × rival`, or ≥ when `atLeast`. */
export interface Aim {
  readonly what: string;
  readonly ours: string;
  readonly rival: string;
  readonly factor: number;
  readonly atLeast?: boolean;
}

/** The median of some numbers. */
export function median(values: readonly number[]): number {
  const sorted = [...values].sort((a, b) => a - b);
  const middle = Math.floor(sorted.length / 2);
  const high = sorted[middle] ?? Number.NaN;
  return sorted.length % 2 === 1 ? high : ((sorted[middle - 1] ?? Number.NaN) + high) / 2;
}

/** Runs `task` `times` times after one warm-up and gives the median of the milliseconds each took. */
export async function timed(times: number, task: () => Promise<unknown>): Promise<number> {
  await task();
  const samples: number[] = [];
  for (let run = 0; run < times; run++) {
    const start = performance.now();
    await task();
    samples.push(performance.now() - start);
  }
  return median(samples);
}

/** Collects rows, prints them as they come, and closes with ratios against the aims. */
export class Report {
  readonly name: string;
  readonly rows: Row[] = [];

  constructor(name: string) {
    this.name = name;
  }

  add(row: Row): void {
    this.rows.push(row);
    console.log(`${row.what.padEnd(44)} ${row.who.padEnd(22)} ${format(row.value).padStart(10)} ${row.unit}`);
  }

  find(what: string, who: string): Row | undefined {
    return this.rows.find((row) => row.what === what && row.who === who);
  }

  /** Prints each aim as met or missed, and writes everything to the file after `--json`. */
  close(aims: readonly Aim[]): void {
    console.log(`\n${'aim'.padEnd(44)} ${'ours / rival'.padEnd(40)} ratio`);
    const verdicts = aims.map((aim) => {
      const ours = this.find(aim.what, aim.ours);
      const rival = this.find(aim.what, aim.rival);
      const ratio = ours && rival ? ours.value / rival.value : Number.NaN;
      const met = aim.atLeast ? ratio >= aim.factor : ratio <= aim.factor;
      const want = `${aim.atLeast ? '≥' : '≤'} ${aim.factor}`;
      console.log(
        `${aim.what.padEnd(44)} ${`${aim.ours} / ${aim.rival}`.padEnd(40)} ${format(ratio)} (${want}: ${met ? 'met' : 'MISSED'})`,
      );
      return { ...aim, ratio, met };
    });
    const at = process.argv.indexOf('--json');
    const file = at > 0 ? process.argv[at + 1] : undefined;
    if (file === undefined) return;
    const machine = { node: process.version, kernel: release(), cpus: cpus().length, model: cpus()[0]?.model };
    writeFileSync(file, `${JSON.stringify({ bench: this.name, machine, rows: this.rows, aims: verdicts }, null, 2)}\n`);
  }
}

function format(value: number): string {
  if (!Number.isFinite(value)) return '–';
  if (Math.abs(value) >= 100) return value.toFixed(0);
  return value.toPrecision(3);
}
