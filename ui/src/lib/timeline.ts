// Puts a task's events into words for people.
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
  step_completed: { words: "Finished a step", tone: "neutral", facts: ["name", "kind"] },
  heartbeat_lost: { words: "Lost its worker", tone: "warn", facts: ["attempt"] },
  retry_scheduled: { words: "Will be tried again", tone: "warn", facts: ["message", "code"] },
  completed: { words: "Completed", tone: "good" },
  failed: { words: "Failed", tone: "bad", facts: ["message", "code"] },
  cancelled: { words: "Cancelled", tone: "warn", facts: ["reason"] },
  dead_lettered: { words: "Given up after the last attempt", tone: "bad", facts: ["message", "code"] },
  retried: { words: "Given another chance", tone: "active" },
};

/** `user/<id>`, `agent/<id>` or `system`, as someone with this id would say it. */
export function actorWords(actor: string | undefined, userId: string): string {
  if (actor === `user/${userId}`) return "by you";
  if (actor?.startsWith("user/")) return "by someone else";
  return actor?.startsWith("agent/") ? "by an agent" : "";
}

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
  const known = { ...event.data.facts, ...event.data.personal };
  for (const name of names) {
    const value = known[name];
    if (name === "attempt" && typeof value === "number") return `attempt ${value}`;
    if (typeof value === "string" && value !== "") return value.replaceAll("_", " ");
  }
  return null;
}

function sentence(name: string): string {
  const words = name.replaceAll("_", " ");
  return words.charAt(0).toUpperCase() + words.slice(1);
}
