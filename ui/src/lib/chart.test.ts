import { describe, expect, it } from "vitest";
import { chartColumns, sparkline } from "./chart";

describe("the chart", () => {
  const columns = chartColumns([1, null, 3], {
    forecast: [{ value: 4, lower: 3, upper: 5 }],
    outliers: [{ index: 0, value: 1, expected: 2, score: 6 }],
  });

  it("puts_the_forecast_behind_the_history_on_one_axis", () => {
    expect(columns.places).toEqual([1, 2, 3, 4]);
    expect(columns.history).toEqual([1, null, 3, null]);
    expect(columns.forecast).toEqual([null, null, 3, 4]);
  });

  it("opens_the_range_at_the_last_known_value", () => {
    expect(columns.lower).toEqual([null, null, 3, 3]);
    expect(columns.upper).toEqual([null, null, 3, 5]);
  });

  it("marks_an_outlier_at_its_place", () => expect(columns.outliers).toEqual([1, null, null, null]));
});

describe("the sparkline", () => {
  it("spans_its_box_from_the_lowest_to_the_highest_value", () => {
    expect(sparkline([0, 10], 100, 50)).toEqual(["0.0,50.0 100.0,0.0"]);
  });

  it("draws_a_constant_in_the_middle", () => expect(sparkline([5, 5], 100, 50)).toEqual(["0.0,25.0 100.0,25.0"]));

  it("breaks_where_a_value_is_missing", () => expect(sparkline([1, null, 2], 100, 50)).toHaveLength(2));

  it("draws_at_most_one_point_a_pixel", () => {
    const line = sparkline(Array.from({ length: 100_000 }, (_, index) => index), 600, 50)[0] ?? "";
    expect(line.split(" ")).toHaveLength(600);
  });

  it("of_nothing_is_nothing", () => expect(sparkline([null, null], 100, 50)).toEqual([]));
});
