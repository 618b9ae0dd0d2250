// What a page shows of one answer: loading, a problem in words, or the value. A late answer never replaces a newer one.
import type { Answer } from "./api";
import { Problem } from "./problem";
import type { Page } from "./types";

export class Loader<T> {
  value: T | null = $state.raw(null);
  problem: Problem | null = $state.raw(null);
  loading = $state(false);
  /** How far the view was that answered; live feeds go on from here. */
  position = $state(0);
  #asked = 0;

  /** Repeats keep showing the last value meanwhile; a problem is shown beside it. Answers whether the value is new. */
  async load(ask: () => Promise<Answer<T>>): Promise<boolean> {
    this.#asked += 1;
    const mine = this.#asked;
    this.loading = true;
    try {
      const answer = await ask();
      if (mine !== this.#asked) return false;
      this.value = answer.body;
      this.position = answer.position;
      this.problem = null;
      this.loading = false;
      return true;
    } catch (thrown) {
      if (mine !== this.#asked) return false;
      this.problem = Problem.from(thrown);
      this.loading = false;
      return false;
    }
  }
}

/** A list that grows by pages. */
export class Listing<T> {
  items: T[] | null = $state.raw(null);
  problem: Problem | null = $state.raw(null);
  loading = $state(false);
  position = $state(0);
  nextCursor: string | null = $state(null);
  #asked = 0;

  /** Reads the list anew, as far as it has been read before. */
  async load(ask: (cursor: string | null) => Promise<Answer<Page<T>>>): Promise<void> {
    const wanted = this.items?.length ?? 0;
    await this.#take(async () => {
      const first = await ask(null);
      const page = { ...first.body };
      while (page.items.length < wanted && page.next_cursor !== null) {
        const next = (await ask(page.next_cursor)).body;
        page.items = [...page.items, ...next.items];
        page.next_cursor = next.next_cursor;
      }
      return { body: page, position: first.position };
    });
  }

  async more(ask: (cursor: string | null) => Promise<Answer<Page<T>>>): Promise<void> {
    const before = this.items ?? [];
    await this.#take(async () => {
      const { body, position } = await ask(this.nextCursor);
      return { body: { ...body, items: [...before, ...body.items] }, position };
    });
    // The list was rebuilt in another form since: its cursors lead nowhere.
    if (this.problem?.status === 400 && this.problem.errors.some((error) => error.pointer === "/cursor")) {
      await this.load(ask);
    }
  }

  async #take(asked: () => Promise<Answer<Page<T>>>): Promise<void> {
    this.#asked += 1;
    const mine = this.#asked;
    this.loading = true;
    try {
      const { body, position } = await asked();
      if (mine !== this.#asked) return;
      this.items = body.items;
      this.nextCursor = body.next_cursor;
      this.position = position;
      this.problem = null;
    } catch (thrown) {
      if (mine !== this.#asked) return;
      this.problem = Problem.from(thrown);
    }
    this.loading = false;
  }
}
