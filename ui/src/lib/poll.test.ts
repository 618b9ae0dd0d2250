import { afterEach, beforeEach, expect, it, vi } from "vitest";
import { pollWhileSeen, type Seen } from "./poll";

class Page implements Seen {
  hidden = false;
  listeners: (() => void)[] = [];
  addEventListener(_name: string, listener: () => void) {
    this.listeners.push(listener);
  }
  removeEventListener(_name: string, listener: () => void) {
    this.listeners = this.listeners.filter((each) => each !== listener);
  }
  show(seen: boolean) {
    this.hidden = !seen;
    for (const listener of this.listeners) listener();
  }
}

beforeEach(() => void vi.useFakeTimers());
afterEach(() => void vi.useRealTimers());

it("asks_at_once_and_then_after_each_pause", async () => {
  let asked = 0;
  const stop = pollWhileSeen(async () => (asked += 1), 2000, new Page());
  expect(asked).toBe(1);
  await vi.advanceTimersByTimeAsync(1999);
  expect(asked).toBe(1);
  await vi.advanceTimersByTimeAsync(1);
  expect(asked).toBe(2);
  stop();
  await vi.advanceTimersByTimeAsync(10_000);
  expect(asked).toBe(2);
});

it("never_asks_twice_at_once_however_long_an_answer_takes", async () => {
  let asked = 0;
  let answer = () => {};
  const page = new Page();
  const ask = () => {
    asked += 1;
    return new Promise<void>((resolve) => (answer = resolve));
  };
  const stop = pollWhileSeen(ask, 2000, page);
  await vi.advanceTimersByTimeAsync(10_000);
  page.show(true);
  expect(asked).toBe(1);
  answer();
  await vi.advanceTimersByTimeAsync(2000);
  expect(asked).toBe(2);
  stop();
});

it("rests_while_nobody_looks_and_asks_as_soon_as_somebody_does", async () => {
  let asked = 0;
  const page = new Page();
  const stop = pollWhileSeen(async () => (asked += 1), 2000, page);
  page.show(false);
  await vi.advanceTimersByTimeAsync(60_000);
  expect(asked).toBe(1);
  page.show(true);
  expect(asked).toBe(2);
  await vi.advanceTimersByTimeAsync(2000);
  expect(asked).toBe(3);
  stop();
  expect(page.listeners).toEqual([]);
});

it("goes_on_after_an_answer_that_failed", async () => {
  let asked = 0;
  const ask = async () => {
    asked += 1;
    throw new Error("away");
  };
  const stop = pollWhileSeen(ask, 2000, new Page());
  await vi.advanceTimersByTimeAsync(2000);
  expect(asked).toBe(2);
  stop();
});
