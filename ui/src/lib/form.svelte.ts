// What every form needs: sending once at a time, errors at their fields, and the eye led to the first of them.
import { tick } from "svelte";
import { placeErrors, Problem, type FieldError } from "./problem";

export class Form {
  sending = $state(false);
  /** Messages by the pointer of their field. */
  errors: Record<string, string> = $state({});
  /** What no field stands for, and what went wrong as a whole. */
  problem: Problem | null = $state.raw(null);
  rest: FieldError[] = $state.raw([]);

  /**
   * Sends unless a check of ours already fails. `fields` are the pointers this form shows errors at.
   * Answers what `send` answers, or null when it did not come to that.
   */
  async submit<T>(found: Record<string, string>, fields: string[], send: () => Promise<T>): Promise<T | null> {
    if (this.sending) return null;
    this.problem = null;
    this.rest = [];
    this.errors = found;
    if (Object.keys(found).length > 0) {
      await showFirstError();
      return null;
    }
    this.sending = true;
    try {
      return await send();
    } catch (thrown) {
      this.#take(Problem.from(thrown), fields);
      this.sending = false;
      await showFirstError();
      return null;
    } finally {
      this.sending = false;
    }
  }

  /** A field that is being mended no longer shows its error. */
  clear(pointer: string): void {
    if (pointer in this.errors) delete this.errors[pointer];
  }

  #take(problem: Problem, fields: string[]): void {
    const placed = placeErrors(problem.errors, fields);
    this.errors = placed.at;
    this.rest = placed.rest;
    const allPlaced = problem.errors.length > 0 && placed.rest.length === 0;
    this.problem = allPlaced ? new Problem({ status: problem.status, title: "Some values were refused", detail: "See the marked fields." }) : problem;
  }
}

async function showFirstError(): Promise<void> {
  await tick();
  const first = document.querySelector<HTMLElement>("[aria-invalid='true'], [data-form-problem]");
  first?.focus();
  first?.scrollIntoView({ block: "center" });
}

/** The id under which the field of a pointer stands in the page. */
export function fieldId(pointer: string): string {
  return `field${pointer.replaceAll("/", "-")}`;
}
