// Schedules as their form edits them, and the words for them.
import type { Schedule, ScheduleDraft } from "./types";
import { checkName, checkOptionalNumber, failures, parseJson, type Range } from "./validate";

/** The server's bound: an hour. */
export const JITTER_S: Range = { min: 0, max: 3600, whole: true };

export const OVERLAPS = [
  { value: "skip", words: "Pass over the new firing" },
  { value: "queue", words: "Let it wait for its turn" },
  { value: "allow", words: "Start it beside" },
] as const;

export const MISSED = [
  { value: "skip", words: "Pass over all of them" },
  { value: "one", words: "Make up for them once" },
  { value: "all", words: "Make up for each, up to 100" },
] as const;

export interface ScheduleForm {
  name: string;
  agentId: string;
  repeats: boolean;
  cron: string;
  /** As the browser's field has it: the reader's own time, without a zone. */
  at: string;
  timezone: string;
  jitter: string;
  overlap: string;
  missed: string;
  input: string;
}

/** Where the reader is. */
export function ownZone(): string {
  return Intl.DateTimeFormat().resolvedOptions().timeZone || "UTC";
}

/** Every zone that this browser knows, and those that must be among them. */
export function zones(...wanted: string[]): string[] {
  const known = typeof Intl.supportedValuesOf === "function" ? Intl.supportedValuesOf("timeZone") : [];
  return [...new Set(["UTC", ownZone(), ...wanted, ...known])].sort();
}

export function formOf(schedule: Schedule | null, agentId = ""): ScheduleForm {
  return {
    name: schedule?.name ?? "",
    agentId: schedule?.agent_id ?? agentId,
    repeats: schedule === null || schedule.cron !== null,
    cron: schedule?.cron ?? "0 9 * * MON-FRI",
    at: schedule?.at ? localOf(schedule.at) : "",
    timezone: schedule?.timezone ?? ownZone(),
    jitter: schedule === null || schedule.jitter_s === 0 ? "" : String(schedule.jitter_s),
    overlap: schedule?.overlap ?? "skip",
    missed: schedule?.missed ?? "one",
    input: schedule === null ? "{\n  \n}" : JSON.stringify(schedule.input, null, 2),
  };
}

/** What the browser's field for a moment shows of a time: to the minute, in the reader's zone. */
export function localOf(iso: string): string {
  const date = new Date(iso);
  const two = (number: number) => String(number).padStart(2, "0");
  return `${date.getFullYear()}-${two(date.getMonth() + 1)}-${two(date.getDate())}T${two(date.getHours())}:${two(date.getMinutes())}`;
}

function checkWhen(form: ScheduleForm): string | null {
  if (form.repeats) {
    const fields = form.cron.trim().split(/\s+/).filter((field) => field !== "").length;
    return fields === 5 ? null : `Five fields: minute, hour, day of the month, month, day of the week. This has ${fields}.`;
  }
  return Number.isNaN(new Date(form.at).getTime()) || form.at === "" ? "Choose a day and a time." : null;
}

export interface BuiltSchedule {
  draft: ScheduleDraft;
  errors: Record<string, string>;
  fields: string[];
}

/** The request of this form. Who is not the owner leaves the words out. */
export function buildSchedule(form: ScheduleForm, withWords: boolean): BuiltSchedule {
  const parsed = parseJson(form.input);
  const when = form.repeats ? "/cron" : "/at";
  const errors = failures({
    "/name": withWords ? checkName(form.name) : null,
    "/agent_id": form.agentId === "" ? "Choose an agent." : null,
    [when]: checkWhen(form),
    "/jitter_s": checkOptionalNumber(form.jitter, JITTER_S),
    "/input": !withWords || parsed.ok ? null : parsed.words,
  });
  const draft: ScheduleDraft = {
    agent_id: form.agentId,
    timezone: form.timezone,
    jitter_s: Number(form.jitter || 0),
    overlap: form.overlap,
    missed: form.missed,
  };
  if (form.repeats) draft.cron = form.cron.trim();
  else if (errors["/at"] === undefined) draft.at = new Date(form.at).toISOString();
  if (withWords) Object.assign(draft, { name: form.name.trim(), input: parsed.ok ? parsed.value : null });
  return { draft, errors, fields: ["/name", "/agent_id", "/cron", "/at", "/timezone", "/jitter_s", "/overlap", "/missed", "/input"] };
}

/** A moment on the wall clock of a zone, with the zone's name. */
export function inZone(iso: string, zone: string): string {
  try {
    return new Intl.DateTimeFormat(undefined, { dateStyle: "medium", timeStyle: "short", timeZone: zone }).format(new Date(iso));
  } catch {
    return iso;
  }
}

export const OUTCOMES: Record<string, string> = {
  submitted: "given to the agent",
  queued: "waits for the task before",
  missed: "passed over: it was missed",
  overlap: "passed over: the task before was open",
  queue_full: "passed over: too many were waiting",
  too_many_open: "passed over: too many tasks were open",
  agent_absent: "failed: there is no such agent",
  agent_retired: "failed: the agent is retired",
  input_refused: "failed: the agent refused the input",
};
