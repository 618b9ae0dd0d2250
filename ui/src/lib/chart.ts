// The columns of the forecast chart: history, then the forecast with its range, and outliers as points of their own.
import type { InsightOutput } from "./types";
import type { Value } from "./series";

export type Column = (number | null)[];

export interface ChartColumns {
  /** 1-based places in the series; the forecast goes on behind the history. */
  places: number[];
  history: Column;
  forecast: Column;
  lower: Column;
  upper: Column;
  outliers: Column;
}

export function chartColumns(values: Value[], output: Pick<InsightOutput, "forecast" | "outliers">): ChartColumns {
  const { forecast, outliers } = output;
  const places = Array.from({ length: values.length + forecast.length }, (_, index) => index + 1);
  const ahead = (pick: (point: InsightOutput["forecast"][number]) => number): Column => [
    // The line and its range start at the last known value, so that no gap parts them from the history.
    ...values.map((value, index) => (index === values.length - 1 ? value : null)),
    ...forecast.map(pick),
  ];
  const marked: Column = places.map(() => null);
  for (const { index, value } of outliers) if (index < values.length) marked[index] = value;
  return {
    places,
    history: [...values, ...forecast.map(() => null)],
    forecast: ahead((point) => point.value),
    lower: ahead((point) => point.lower),
    upper: ahead((point) => point.upper),
    outliers: marked,
  };
}

/** The points of a small line drawing in a box of the given size, at most one a pixel; gaps part it into several lines. */
export function sparkline(values: Value[], width: number, height: number): string[] {
  const sampled = sample(values, width);
  const known = sampled.filter((value) => value !== null);
  if (known.length === 0) return [];
  const low = known.reduce((a, b) => Math.min(a, b));
  const span = known.reduce((a, b) => Math.max(a, b)) - low;
  const x = (index: number) => (sampled.length === 1 ? width / 2 : (index / (sampled.length - 1)) * width);
  const y = (value: number) => (span === 0 ? height / 2 : height - ((value - low) / span) * height);
  const lines: string[][] = [[]];
  for (const [index, value] of sampled.entries()) {
    if (value === null) lines.push([]);
    else lines.at(-1)?.push(`${x(index).toFixed(1)},${y(value).toFixed(1)}`);
  }
  return lines.filter((line) => line.length > 0).map((line) => line.join(" "));
}

function sample(values: Value[], most: number): Value[] {
  if (values.length <= most) return values;
  return Array.from({ length: most }, (_, index) => values[Math.floor((index * values.length) / most)] ?? null);
}
