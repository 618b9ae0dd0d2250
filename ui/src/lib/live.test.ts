import { beforeEach, describe, expect, it, vi } from "vitest";
import { LiveStream, type LiveState, type LiveSurroundings } from "./live";
import type { LogEvent } from "./types";

const TYPE = "marvin.task.completed.v1";

/** An EventSource whose server is the test. */
class Source {
  onopen: (() => void) | null = null;
  onerror: (() => void) | null = null;
  closed = false;
  readonly #listeners = new Map<string, (message: { lastEventId: string; data: string }) => void>();

  constructor(readonly url: string) {}

  addEventListener(type: string, listener: (message: { lastEventId: string; data: string }) => void): void {
    this.#listeners.set(type, listener);
  }

  close(): void {
    this.closed = true;
  }

  send(position: number, type = TYPE): void {
    this.#listeners.get(type)?.({ lastEventId: String(position), data: JSON.stringify({ type }) });
  }
}

describe("a live stream", () => {
  let sources: Source[];
  let timers: { run: () => void; ms: number }[];
  let states: LiveState[];
  let seen: number[];
  let setVisible: (visible: boolean) => void;
  const probe = vi.fn();
  const stopped = vi.fn();

  beforeEach(() => {
    [sources, timers, states, seen] = [[], [], [], []];
    probe.mockReset();
    stopped.mockReset();
  });

  function open(): LiveStream {
    const around: LiveSurroundings = {
      open: (url) => {
        const source = new Source(url);
        sources.push(source);
        return source as unknown as EventSource;
      },
      later: (run, ms) => timers.push({ run, ms }),
      never: () => timers.pop(),
      probe,
      onVisibility: (run) => {
        setVisible = run;
        return stopped;
      },
    };
    const onEvent = (_event: LogEvent, position: number) => seen.push(position);
    return new LiveStream({ types: [TYPE], subject: "task/1", after: 7, onEvent, onState: (state) => states.push(state) }, around);
  }

  const source = () => sources.at(-1)!;

  it("asks_for_what_lies_behind_the_position_already_shown", () => {
    open();
    expect(source().url).toBe("/api/v1/events/stream?after=7&types=marvin.task.completed.v1&subject=task%2F1");
  });

  it("hands_on_each_event_once_and_in_order", () => {
    open();
    source().onopen?.();
    for (const position of [8, 9, 9, 8, 12]) source().send(position);
    expect(seen).toEqual([8, 9, 12]);
  });

  it("resumes_behind_the_last_event_seen_when_it_was_lost", () => {
    open();
    source().send(11);
    source().onerror?.();
    expect(source().closed).toBe(true);
    timers.pop()?.run();
    expect(sources).toHaveLength(2);
    expect(source().url).toContain("after=11");
  });

  it("waits_longer_each_time_up_to_a_bound_and_starts_afresh_once_connected", () => {
    open();
    const waits = Array.from({ length: 6 }, () => {
      source().onerror?.();
      const timer = timers.pop();
      timer?.run();
      return timer?.ms;
    });
    expect(waits).toEqual([1000, 2000, 4000, 8000, 15_000, 15_000]);
    source().onopen?.();
    source().onerror?.();
    expect(timers.pop()?.ms).toBe(1000);
  });

  it("says_how_it_stands", () => {
    open();
    source().onopen?.();
    source().onerror?.();
    timers.pop()?.run();
    source().onopen?.();
    expect(states).toEqual(["connecting", "live", "reconnecting", "reconnecting", "live"]);
  });

  it("asks_whether_the_session_still_stands_when_it_was_lost", () => {
    open();
    source().onerror?.();
    expect(probe).toHaveBeenCalledOnce();
  });

  it("rests_while_hidden_and_goes_on_where_it_was", () => {
    open();
    source().onopen?.();
    source().send(20);
    setVisible(false);
    expect(source().closed).toBe(true);
    expect(states.at(-1)).toBe("resting");
    setVisible(true);
    expect(source().url).toContain("after=20");
    setVisible(true);
    expect(sources).toHaveLength(2);
  });

  it("that_was_closed_stays_closed", () => {
    const stream = open();
    source().onerror?.();
    stream.close();
    expect(timers).toHaveLength(0);
    setVisible(true);
    expect(sources).toHaveLength(1);
    expect(stopped).toHaveBeenCalledOnce();
  });
});
