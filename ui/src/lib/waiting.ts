// Why a task waits, in words: the server says a word for programs, a colon, and sentences for people.
import { moment } from "./format";
import type { Task } from "./types";

/** A time as the API writes it. */
const TIME = /\d{4}-\d\d-\d\dT\d\d:\d\d:\d\d(?:\.\d+)?Z/g;

/** The sentences of a reason, with times as the person reads them; a reason without a word is shown as it is. */
export function reasonWords(reason: string): string {
  const words = reason.replace(/^[a-z_]+: /, "");
  return words.replace(TIME, (time) => moment(time, true));
}

/** What is said instead of a result; null: nothing more comes by itself. */
export function waitingWords({ status, waiting_reason }: Pick<Task, "status" | "waiting_reason">): string | null {
  if (status === "running") return "At work…";
  if (status !== "queued" && status !== "retrying") return null;
  return waiting_reason === null ? "Waiting…" : reasonWords(waiting_reason);
}
