import { expect, it } from "vitest";
import { coalesce } from "./coalesce";

it("calls_during_a_run_lead_to_one_more_run", async () => {
  let runs = 0;
  let finish = () => {};
  const refresh = coalesce(() => {
    runs += 1;
    return new Promise<void>((resolve) => (finish = resolve));
  });
  const first = refresh();
  void refresh();
  void refresh();
  expect(runs).toBe(1);
  finish();
  await Promise.resolve();
  await Promise.resolve();
  expect(runs).toBe(2);
  finish();
  await first;
  expect(runs).toBe(2);
});

it("a_run_that_fails_does_not_stop_later_ones", async () => {
  let runs = 0;
  const refresh = coalesce(async () => {
    runs += 1;
    if (runs === 1) throw new Error("away");
  });
  await expect(refresh()).rejects.toThrow("away");
  await refresh();
  expect(runs).toBe(2);
});
