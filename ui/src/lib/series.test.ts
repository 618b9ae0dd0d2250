import { readFileSync } from "node:fs";
import { describe, expect, it } from "vitest";
import { checkSeason, parseCsv, parseSeries, VALUES_MAX } from "./series";

const EIGHT = [1, 2, 3, 4, 5, 6, 7, 8];

describe("pasted series", () => {
  it.each([
    ["commas", "1,2,3,4,5,6,7,8"],
    ["commas and spaces", "1, 2, 3, 4, 5, 6, 7, 8"],
    ["semicolons", "1;2;3;4;5;6;7;8"],
    ["lines", "1\n2\n3\n4\n5\n6\n7\n8\n"],
    ["lines of Windows", "1\r\n2\r\n3\r\n4\r\n5\r\n6\r\n7\r\n8\r\n"],
    ["a trailing comma", "1,2,3,4,5,6,7,8,"],
    ["commas at line ends", "1,2,3,4,\n5,6,7,8"],
    ["a JSON array", "[1, 2, 3, 4,\n 5, 6, 7, 8]"],
    ["tabs", "1\t2\t3\t4\t5\t6\t7\t8"],
  ])("may_be_parted_by_%s", (_name, text) => {
    expect(parseSeries(text)).toEqual({ ok: true, values: EIGHT });
  });

  it("hold_missing_values_where_nothing_or_null_stands", () => {
    expect(parseSeries("1,,3,null,NA,6,7,8")).toEqual({ ok: true, values: [1, null, 3, null, null, 6, 7, 8] });
    expect(parseSeries("1\nnull\n3 4 5 6 7 8")).toEqual({ ok: true, values: [1, null, 3, 4, 5, 6, 7, 8] });
  });

  it("may_be_negative_fractional_and_in_exponents", () => {
    expect(parseSeries("-1 +2 .5 3. 1e3 -2.5E-2 0 7")).toEqual({ ok: true, values: [-1, 2, 0.5, 3, 1000, -0.025, 0, 7] });
  });

  it.each(["0x10", "1e999", "Infinity", "many", "1.2.3", "--1"])("refuse_%s_and_say_where", (word) => {
    expect(parseSeries(`1 ${word} 3 4 5 6 7 8`)).toMatchObject({ ok: false, words: expect.stringContaining("Value 2 is not a number") });
  });

  it("have_8_to_100000_values_one_of_them_known", () => {
    expect(parseSeries("1 2 3 4 5 6 7")).toMatchObject({ ok: false, words: expect.stringContaining("there are 7") });
    expect(parseSeries("1")).toMatchObject({ ok: false, words: expect.stringContaining("there is 1") });
    expect(parseSeries("1 ".repeat(VALUES_MAX))).toMatchObject({ ok: true });
    expect(parseSeries("1 ".repeat(VALUES_MAX + 1))).toMatchObject({ ok: false });
    expect(parseSeries("null ".repeat(8))).toEqual({ ok: false, words: "Every value is missing." });
    expect(parseSeries("")).toMatchObject({ ok: false });
  });

  it("refuse_values_beyond_the_servers_magnitude", () => {
    expect(parseSeries("1 2 3 4 5 6 7 2e15")).toMatchObject({ ok: false, words: expect.stringContaining("Value 8") });
  });
});

describe("CSV files", () => {
  const rows = EIGHT.map((value) => `2024-0${value},${value}`).join("\n");

  it("give_their_last_column_of_numbers_under_its_heading", () => {
    expect(parseCsv(`month,sales\n${rows}\n`)).toEqual({ ok: true, values: EIGHT, column: "sales" });
  });

  it("need_no_heading", () => {
    expect(parseCsv(rows)).toEqual({ ok: true, values: EIGHT, column: "column 2" });
  });

  it("may_hold_words_behind_the_numbers_and_quoted_separators", () => {
    const quoted = EIGHT.map((value) => `"a, b","${value}",note`).join("\r\n");
    expect(parseCsv(`name,"amount",comment\r\n${quoted}`)).toEqual({ ok: true, values: EIGHT, column: "amount" });
  });

  it("may_be_parted_by_semicolons_or_tabs_and_begin_with_a_byte_order_mark", () => {
    expect(parseCsv(`\uFEFFm;v\n${rows.replaceAll(",", ";")}`)).toMatchObject({ ok: true, column: "v" });
    expect(parseCsv(`m\tv\n${rows.replaceAll(",", "\t")}`)).toMatchObject({ ok: true, column: "v" });
  });

  it("hold_missing_values_where_a_field_is_empty", () => {
    expect(parseCsv(`m,v\n${rows.replace(",3", ",")}`)).toMatchObject({ values: [1, 2, null, 4, 5, 6, 7, 8] });
  });

  it("without_numbers_are_refused", () => {
    expect(parseCsv("a,b\nc,d")).toEqual({ ok: false, words: "No column of this file holds only numbers." });
    expect(parseCsv("")).toMatchObject({ ok: false });
  });

  it("that_are_shipped_as_examples_are_read", () => {
    const text = readFileSync(new URL("../../../examples/data/air-passengers.csv", import.meta.url), "utf8");
    const reading = parseCsv(text);
    expect(reading).toMatchObject({ ok: true, column: "value" });
    expect(reading.ok && reading.values.length).toBe(144);
  });
});

it("a_season_fits_twice_into_its_series", () => {
  expect(checkSeason("", 24)).toBeNull();
  expect(checkSeason("12", 24)).toBeNull();
  expect(checkSeason("13", 24)).toContain("half the series");
  expect(checkSeason("1", 24)).not.toBeNull();
  expect(checkSeason("2.5", 24)).not.toBeNull();
});
