// Puts a task's events into words for people.
import { isRecord } from "./problem";
import type { LogEvent } from "./types";

export type Tone = "neutral" | "good" | "bad" | "warn" | "active";

export interface Moment {
  words: string;
  more: string | null;
  tone: Tone;
}

interface Telling {
  words: string;
  tone: Tone;
  /** The facts worth a line, in order; the first that is present is shown. */
  facts?: string[];
}

const TELLINGS: Record<string, Telling> = {
  submitted: { words: "Submitted", tone: "neutral" },
  started: { words: "Started", tone: "active", facts: ["attempt"] },
  step_completed: { words: "Finished a step", tone: "neutral", facts: ["name", "kind", "step"] },
  heartbeat_lost: { words: "Lost its worker", tone: "warn", facts: ["attempt"] },
  retry_scheduled: { words: "Will be tried again", tone: "warn", facts: ["code", "message", "attempt"] },
  completed: { words: "Completed", tone: "good" },
  failed: { words: "Failed", tone: "bad", facts: ["code", "message"] },
  cancelled: { words: "Cancelled", tone: "warn", facts: ["reason"] },
  dead_lettered: { words: "Given up after the last attempt", tone: "bad", facts: ["code", "message"] },
};

export function tell(event: LogEvent): Moment {
  const name = eventName(event.type);
  const telling = TELLINGS[name];
  if (telling === undefined) return { words: sentence(name), more: null, tone: "neutral" };
  return { words: telling.words, more: firstFact(event, telling.facts ?? []), tone: telling.tone };
}

/** "marvin.task.step_completed.v1" -> "step_completed" */
export function eventName(type: string): string {
  return type.split(".")[2] ?? type;
}

function firstFact(event: LogEvent, names: string[]): string | null {
  const facts = { ...nested(event.data.facts), ...event.data.facts };
  for (const name of names) {
    const value = facts[name];
    if (name === "attempt" && typeof value === "number") return `attempt ${value}`;
    if (typeof value === "string" && value !== "") return value;
    if (typeof value === "number") return `step ${value}`;
  }
  return null;
}

/** A failure carries its code one level down, as {error: {code, message}}. */
function nested(facts: Record<string, unknown> | undefined): Record<string, unknown> {
  return isRecord(facts?.error) ? facts.error : {};
}

function sentence(name: string): string {
  const words = name.replaceAll("_", " ");
  return words.charAt(0).toUpperCase() + words.slice(1);
}
