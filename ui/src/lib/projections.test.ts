import { expect, it } from "vitest";
import { haltedRebuild, mayCancel, placeWords, progressWords, servingWords } from "./projections";
import type { Projection, Rebuild } from "./types";

const rebuild: Rebuild = { position: 250, target: 1000, events_per_s: null, seconds_left: null, stopped: null };
const live: Projection = { name: "tasks", version: 2, serving_version: 2, position: 1000, lag: 0, state: "live", holder: null, stopped: null, rebuild: null };

it("progress_says_what_is_known", () => {
  expect(progressWords(rebuild)).toMatch(/^Position 250 of 1.?000$/);
  expect(progressWords({ ...rebuild, events_per_s: 99.6, seconds_left: 8 })).toContain(", 100 events a second, 8 s left");
  expect(progressWords({ ...rebuild, events_per_s: 1.2, seconds_left: 625 })).toContain(", 1 event a second, 10 min 25 s left");
  expect(progressWords({ ...rebuild, events_per_s: 0 })).toContain(", 0 events a second");
});

it("a_place_says_how_far_behind_it_is", () => {
  expect(placeWords(live)).toContain("up to date");
  expect(placeWords({ ...live, lag: 1 })).toContain("1 event behind");
  expect(placeWords({ ...live, lag: 12 })).toContain("12 events behind");
});

it("another_version_that_answers_is_named", () => {
  expect(servingWords(live)).toBeNull();
  expect(servingWords({ ...live, serving_version: 1 })).toBe("version 1 answers until then");
  expect(servingWords({ ...live, serving_version: null })).toBe("nothing can be read yet");
});

it("a_rebuild_may_be_called_off_where_something_else_answers", () => {
  expect(mayCancel(live)).toBe(false);
  expect(mayCancel({ ...live, rebuild })).toBe(true);
  expect(mayCancel({ ...live, rebuild, serving_version: 1 })).toBe(true);
  expect(mayCancel({ ...live, rebuild, serving_version: null })).toBe(false);
});

it("a_stop_of_the_rebuild_is_told_apart_from_that_of_what_serves", () => {
  const [earlier, later] = [{ position: 6, reason: "no" }, { position: 8, reason: "nor this" }];
  expect(haltedRebuild({ ...live, rebuild })).toBeNull();
  expect(haltedRebuild({ ...live, stopped: later, rebuild: { ...rebuild, stopped: earlier } })).toEqual(earlier);
  expect(haltedRebuild({ ...live, stopped: earlier, rebuild: { ...rebuild, stopped: { ...earlier } } })).toBeNull();
});
