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

/** What a reader wants of two rows: `ours ≤ factor × rival`, or ≥ when `atLeast`. Without a rival `factor` is the figure itself. */
export interface Aim {
  readonly what: string;
  readonly ours: string;
  readonly rival?: string;
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

/** One of several that are measured in turns. */
export interface Contender {
  readonly who: string;
  /** Gives a figure. */
  run(): Promise<number>;
}

/** Milliseconds that a task takes. */
export async function lasting(task: () => Promise<unknown>): Promise<number> {
  const start = performance.now();
  await task();
  return performance.now() - start;
}

/** Runs each in turn, `rounds` times, the order turned round every time, after a warm-up unless told `cold`; adds their medians. */
export async function alternately(
  report: Report,
  contenders: readonly Contender[],
  o: { what: string; unit: string; rounds: number; cold?: boolean },
): Promise<void> {
  const figures = new Map<string, number[]>(contenders.map(({ who }) => [who, []]));
  if (o.cold !== true) for (const { run } of contenders) await run();
  for (let round = 0; round < o.rounds; round++) {
    for (const { who, run } of round % 2 === 0 ? contenders : [...contenders].reverse()) {
      figures.get(who)?.push(await run());
    }
  }
  for (const [who, values] of figures) {
    report.add({ what: o.what, who, value: median(values), unit: o.unit, samples: values.length });
  }
}

/** Runs `task` `times` times after one warm-up and gives the median of the milliseconds each took. */
export async function timed(times: number, task: () => Promise<unknown>): Promise<number> {
  await task();
  const samples: number[] = [];
  for (let run = 0; run < times; run++) samples.push(await lasting(task));
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

  /** Prints each aim whose figures were measured as met or missed, and writes everything to the file after `--json`. */
  close(aims: readonly Aim[]): void {
    console.log(`\n${'aim'.padEnd(44)} ${'ours / rival'.padEnd(40)} ratio`);
    const verdicts = aims.flatMap((aim) => {
      const ours = this.find(aim.what, aim.ours);
      const rival = aim.rival === undefined ? 1 : this.find(aim.what, aim.rival)?.value;
      if (ours === undefined || rival === undefined) return [];
      const ratio = ours.value / rival;
      const met = aim.atLeast ? ratio >= aim.factor : ratio <= aim.factor;
      const want = `${aim.atLeast ? '≥' : '≤'} ${aim.factor}`;
      console.log(
        `${aim.what.padEnd(44)} ${[aim.ours, aim.rival ?? ours.unit].join(' / ').padEnd(40)} ${format(ratio)} (${want}: ${met ? 'met' : 'MISSED'})`,
      );
      return [{ ...aim, ratio, met }];
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
