// Recognises what an agent of a known kind answered; anything else is shown as JSON.
import { isRecord } from "./problem";
import type { Value } from "./series";
import type { InsightOutput, RulesOutput } from "./types";

export function isInsightOutput(output: unknown): output is InsightOutput {
  return isRecord(output) && Array.isArray(output.forecast) && Array.isArray(output.outliers) && typeof output.summary === "string";
}

export function isRulesOutput(output: unknown): output is RulesOutput {
  return isRecord(output) && Array.isArray(output.matched) && Array.isArray(output.outputs);
}

/** The series that was given; null when it is not there to be drawn, as after its person was erased. */
export function insightValues(input: unknown): Value[] | null {
  return isRecord(input) && Array.isArray(input.values) ? (input.values as Value[]) : null;
}
