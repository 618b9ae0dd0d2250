import { expect, it } from "vitest";
import type { Answer } from "./api";
import { Listing } from "./loader.svelte";
import { Problem } from "./problem";
import type { Page } from "./types";

it("a_cursor_that_leads_nowhere_any_more_begins_the_list_anew", async () => {
  const asked: (string | null)[] = [];
  const ask = (cursor: string | null): Promise<Answer<Page<number>>> => {
    asked.push(cursor);
    if (cursor !== null) {
      const errors = [{ pointer: "/cursor", detail: "not a cursor that this list gave out" }];
      return Promise.reject(new Problem({ status: 400, title: "Refused", errors }));
    }
    const items = asked.length === 1 ? [1] : [3, 2, 1];
    return Promise.resolve({ body: { items, next_cursor: asked.length === 1 ? "old" : null }, position: 7 } as Answer<Page<number>>);
  };
  const listing = new Listing<number>();
  await listing.load(ask);
  await listing.more(ask);
  expect(asked).toEqual([null, "old", null]);
  expect([listing.items, listing.problem, listing.nextCursor]).toEqual([[3, 2, 1], null, null]);
});
