// Follows the event log over SSE: resumes behind the last event seen, backs off while the server is away, rests while hidden.
import { api } from "./api";
import { readSession, withQuery } from "./calls";
import type { LogEvent } from "./types";

/** First wait after a lost stream: a restarting server is usually back within a second. */
const RECONNECT_FIRST_MS = 1_000;
/** Longest wait between attempts: long enough to spare a server in trouble, short enough for someone who watches. */
const RECONNECT_MAX_MS = 15_000;

export const TASK_EVENTS = [
  "submitted",
  "started",
  "step_completed",
  "heartbeat_lost",
  "retry_scheduled",
  "completed",
  "failed",
  "cancelled",
  "dead_lettered",
].map((name) => `marvin.task.${name}.v1`).concat("marvin.task.retried.v2");
export const NOTIFICATION_EVENTS = ["raised", "read"].map((name) => `marvin.notification.${name}.v1`);

export type LiveState = "connecting" | "live" | "reconnecting" | "resting";

export interface Watch {
  /** Event types, as the stream names them. */
  types: string[];
  subject?: string;
  /** The position the page already shows; only later events arrive. */
  after: number;
  onEvent: (event: LogEvent, position: number) => void;
  onState?: (state: LiveState) => void;
}

/** What of the browser this needs; tests bring their own. */
export interface LiveSurroundings {
  open: (url: string) => EventSource;
  later: (run: () => void, ms: number) => unknown;
  never: (handle: unknown) => void;
  /** Asks whether the session still stands: an EventSource cannot tell a 401 from a broken line. */
  probe: () => void;
  /** Calls back on each change of "may the page be seen"; answers how to stop. */
  onVisibility: (run: (visible: boolean) => void) => () => void;
}

export class LiveStream {
  readonly #watch: Watch;
  readonly #around: LiveSurroundings;
  readonly #stopVisibility: () => void;
  #position: number;
  #source: EventSource | null = null;
  #timer: unknown = null;
  #waitMs = RECONNECT_FIRST_MS;
  #closed = false;

  constructor(watch: Watch, around: LiveSurroundings) {
    this.#watch = watch;
    this.#around = around;
    this.#position = watch.after;
    // Browsers allow six connections to a server, and every open stream holds one: hidden pages let go of theirs,
    // and lose nothing, since they resume behind the last position they saw.
    this.#stopVisibility = around.onVisibility((visible) => (visible ? this.#wake() : this.#rest()));
    this.#connect("connecting");
  }

  close(): void {
    this.#closed = true;
    this.#stopVisibility();
    this.#drop();
  }

  #connect(state: LiveState): void {
    this.#say(state);
    const query = { after: this.#position, types: this.#watch.types.join(","), subject: this.#watch.subject };
    const source = this.#around.open(withQuery("/api/v1/events/stream", query));
    this.#source = source;
    source.onopen = () => {
      this.#waitMs = RECONNECT_FIRST_MS;
      this.#say("live");
    };
    source.onerror = () => this.#lost();
    for (const type of this.#watch.types) {
      source.addEventListener(type, (message) => this.#receive(message as MessageEvent<string>));
    }
  }

  #receive(message: MessageEvent<string>): void {
    const position = Number(message.lastEventId);
    // The server repeats nothing, but a stream that was cut in the middle may be resumed one event early.
    if (!(position > this.#position)) return;
    this.#position = position;
    this.#watch.onEvent(JSON.parse(message.data) as LogEvent, position);
  }

  #lost(): void {
    this.#drop();
    this.#say("reconnecting");
    this.#around.probe();
    if (this.#closed) return;
    this.#timer = this.#around.later(() => this.#connect("reconnecting"), this.#waitMs);
    this.#waitMs = Math.min(this.#waitMs * 2, RECONNECT_MAX_MS);
  }

  #rest(): void {
    this.#drop();
    this.#say("resting");
  }

  #wake(): void {
    if (this.#closed || this.#source !== null) return;
    this.#drop();
    this.#connect("connecting");
  }

  #drop(): void {
    this.#source?.close();
    this.#source = null;
    if (this.#timer !== null) this.#around.never(this.#timer);
    this.#timer = null;
  }

  #say(state: LiveState): void {
    if (!this.#closed) this.#watch.onState?.(state);
  }
}

/** Follows the log from this page; answers how to stop, as Svelte's effects want it. */
export function follow(watch: Watch): () => void {
  const stream = new LiveStream(watch, {
    open: (url) => new EventSource(url),
    later: (run, ms) => setTimeout(run, ms),
    never: (handle) => clearTimeout(handle as ReturnType<typeof setTimeout>),
    probe: () => void askWhetherSignedIn(),
    onVisibility: (run) => {
      const listener = () => run(document.visibilityState === "visible");
      document.addEventListener("visibilitychange", listener);
      return () => document.removeEventListener("visibilitychange", listener);
    },
  });
  return () => stream.close();
}

async function askWhetherSignedIn(): Promise<void> {
  try {
    await readSession();
  } catch (thrown) {
    if (thrown instanceof Error && "status" in thrown && thrown.status === 401) api.onSignedOut();
  }
}
