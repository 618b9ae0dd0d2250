// A refusal in words: reads RFC 9457 problem documents and places their field errors at the fields of a form.

export interface FieldError {
  /** RFC 6901 JSON Pointer into the request body; empty for the whole of it. */
  pointer: string;
  detail: string;
}

interface ProblemFacts {
  status: number;
  title: string;
  detail?: string;
  traceId?: string;
  retryAfterS?: number;
  errors?: FieldError[];
}

/** Status 0 stands for "no answer at all". */
export class Problem extends Error {
  readonly status: number;
  readonly title: string;
  readonly detail: string | undefined;
  readonly traceId: string | undefined;
  readonly retryAfterS: number | undefined;
  readonly errors: FieldError[];

  constructor(facts: ProblemFacts) {
    super(facts.detail ?? facts.title);
    this.status = facts.status;
    this.title = facts.title;
    this.detail = facts.detail;
    this.traceId = facts.traceId;
    this.retryAfterS = facts.retryAfterS;
    this.errors = facts.errors ?? [];
  }

  static unreachable(): Problem {
    return new Problem({
      status: 0,
      title: "Marvin cannot be reached",
      detail: "Check your connection; nothing was lost. Try again in a moment.",
    });
  }

  /** Anything thrown becomes a problem that can be shown. */
  static from(thrown: unknown): Problem {
    if (thrown instanceof Problem) return thrown;
    return new Problem({ status: -1, title: "Something went wrong in this page", detail: String(thrown) });
  }
}

/** What the console says where a problem document is missing or says nothing. */
const WORDS: Record<number, string> = {
  400: "The request was malformed",
  401: "Please sign in",
  403: "You may not do this",
  404: "This does not exist, or is not yours to see",
  409: "Someone else changed this at the same moment",
  412: "Someone else has changed this meanwhile",
  413: "This is too large",
  422: "Some values were refused",
  429: "Too many attempts",
  503: "Marvin is busy or starting; try again in a moment",
};

export function problemFromAnswer(status: number, body: unknown, retryAfter: string | null): Problem {
  const document = isRecord(body) ? body : {};
  const seconds = Number(retryAfter);
  return new Problem({
    status,
    title: text(document.title) ?? WORDS[status] ?? `The server answered ${status}`,
    detail: text(document.detail),
    traceId: text(document.trace_id),
    retryAfterS: retryAfter !== null && Number.isFinite(seconds) ? seconds : undefined,
    errors: Array.isArray(document.errors) ? document.errors.filter(isFieldError) : [],
  });
}

/** The words of one problem as one sentence or two, for a status line. */
export function inWords(problem: Problem): string {
  const detail = problem.detail && problem.detail !== problem.title ? `${stop(problem.title)} ${problem.detail}` : problem.title;
  return problem.status === 429 && problem.retryAfterS ? `${stop(detail)} Try again in ${problem.retryAfterS} seconds.` : stop(detail);
}

export interface Placed {
  /** Messages by the pointer of the field that shows them. */
  at: Record<string, string>;
  /** What no field of the form stands for. */
  rest: FieldError[];
}

/**
 * Gives each error to the field with its pointer, or else to the nearest field above it (naming what lies below),
 * so that an error inside a value that one text box edits is still shown at that box.
 */
export function placeErrors(errors: FieldError[], fields: string[]): Placed {
  const placed: Placed = { at: {}, rest: [] };
  for (const error of errors) {
    const field = nearestField(error.pointer, fields);
    if (field === undefined) {
      placed.rest.push(error);
      continue;
    }
    const below = readablePointer(error.pointer.slice(field.length));
    const words = below === "" ? error.detail : `${below}: ${error.detail}`;
    const before = placed.at[field];
    placed.at[field] = before === undefined ? words : `${before}\n${words}`;
  }
  return placed;
}

function nearestField(pointer: string, fields: string[]): string | undefined {
  const above = fields.filter((field) => field !== "" && (pointer === field || pointer.startsWith(`${field}/`)));
  return above.sort((a, b) => b.length - a.length)[0];
}

/** `/rules/0/when` reads "rules › 1 › when": people count from one. */
export function readablePointer(pointer: string): string {
  if (pointer === "") return "";
  return pointer
    .slice(1)
    .split("/")
    .map((part) => part.replaceAll("~1", "/").replaceAll("~0", "~"))
    .map((part) => (/^\d+$/.test(part) ? String(Number(part) + 1) : part))
    .join(" › ");
}

function stop(sentence: string): string {
  return /[.!?…]$/.test(sentence) ? sentence : `${sentence}.`;
}

function text(value: unknown): string | undefined {
  return typeof value === "string" && value !== "" ? value : undefined;
}

export function isRecord(value: unknown): value is Record<string, unknown> {
  return typeof value === "object" && value !== null && !Array.isArray(value);
}

function isFieldError(value: unknown): value is FieldError {
  return isRecord(value) && typeof value.pointer === "string" && typeof value.detail === "string";
}
