import { beforeEach, describe, expect, it, vi } from "vitest";
import { Api } from "./api";

interface Reply {
  status?: number;
  body?: unknown;
  headers?: Record<string, string>;
}

describe("the API client", () => {
  let replies: (Reply | "unreachable")[];
  let asked: { path: string; method: string; headers: Record<string, string>; body: string | undefined }[];
  let pauses: number[];
  let api: Api;

  beforeEach(() => {
    [replies, asked, pauses] = [[], [], []];
    const answer = async (path: unknown, init?: RequestInit) => {
      asked.push({ path: String(path), method: init?.method ?? "", headers: init?.headers as Record<string, string>, body: init?.body as string | undefined });
      const reply = replies.shift();
      if (reply === undefined || reply === "unreachable") throw new TypeError("no route");
      const text = reply.body === undefined ? "" : JSON.stringify(reply.body);
      return { ok: (reply.status ?? 200) < 400, status: reply.status ?? 200, headers: new Headers(reply.headers), text: async () => text } as Response;
    };
    api = new Api({ fetch: answer as typeof fetch, pause: async (ms) => void pauses.push(ms) });
  });

  it("reads_its_own_writes_by_the_highest_position_it_was_answered", async () => {
    replies.push({ headers: { "Marvin-Position": "40" } }, { headers: { "Marvin-Position": "12" } }, { body: {} });
    await api.command("POST", "/a");
    await api.command("POST", "/b");
    await api.get("/c");
    expect(asked[2]?.headers).toEqual({ "Marvin-Min-Position": "40" });
  });

  it("waits_for_no_position_before_it_wrote_anything", async () => {
    replies.push({ body: {}, headers: { "Marvin-Position": "9" } }, { body: {} });
    await api.get("/a");
    await api.get("/b");
    expect(asked.map((request) => request.headers)).toEqual([{}, {}]);
  });

  it("asks_a_lagging_view_again_after_the_time_it_names_and_then_gives_up", async () => {
    const busy = { status: 503, headers: { "Retry-After": "2" } };
    replies.push(busy, busy, { body: "late" });
    await expect(api.get("/a")).resolves.toMatchObject({ body: "late" });
    expect(pauses).toEqual([2000, 2000]);
    replies.push(busy, busy, busy);
    await expect(api.get("/a")).rejects.toMatchObject({ status: 503 });
  });

  it("never_repeats_a_command_by_itself", async () => {
    replies.push({ status: 503 });
    await expect(api.command("POST", "/a")).rejects.toMatchObject({ status: 503 });
    expect(asked).toHaveLength(1);
  });

  it("sends_the_token_the_key_and_the_sequence_that_was_seen", async () => {
    api.csrfToken = "t";
    replies.push({ body: {} });
    await api.command("PATCH", "/a", { name: "x" }, { idempotencyKey: "k", ifSequence: 3 });
    expect(asked[0]).toMatchObject({
      headers: { "X-CSRF-Token": "t", "Idempotency-Key": "k", "If-Match": '"3"', "Content-Type": "application/json" },
      body: '{"name":"x"}',
    });
  });

  it("renews_a_token_that_another_tab_replaced_and_tries_once_more", async () => {
    api.csrfToken = "old";
    api.renewCsrfToken = async () => "new";
    replies.push({ status: 403 }, { body: "done" });
    await expect(api.command("POST", "/a")).resolves.toMatchObject({ body: "done" });
    expect(asked[1]?.headers).toMatchObject({ "X-CSRF-Token": "new" });
  });

  it("takes_a_refusal_as_one_when_the_token_was_right", async () => {
    api.csrfToken = "t";
    api.renewCsrfToken = async () => "t";
    replies.push({ status: 403 });
    await expect(api.command("POST", "/a")).rejects.toMatchObject({ status: 403 });
    expect(asked).toHaveLength(1);
  });

  it("notices_that_nobody_is_signed_in_except_where_that_is_the_answer", async () => {
    api.onSignedOut = vi.fn();
    replies.push({ status: 401 }, { status: 401 });
    await expect(api.command("POST", "/api/v1/session")).rejects.toMatchObject({ status: 401 });
    expect(api.onSignedOut).not.toHaveBeenCalled();
    await expect(api.get("/api/v1/agents")).rejects.toMatchObject({ status: 401 });
    expect(api.onSignedOut).toHaveBeenCalledOnce();
  });

  it("says_in_words_that_nobody_answered", async () => {
    replies.push("unreachable");
    await expect(api.command("POST", "/a")).rejects.toMatchObject({ status: 0, title: "Marvin cannot be reached" });
  });
});
