// Who walks through the console, and how one step follows another.
import assert from "node:assert/strict";
import { join } from "node:path";
import { it } from "node:test";
import { PICTURES } from "./browser.mjs";

export const PERSON = { email: "ada@example.org", name: "Ada Lovelace", password: "notes on the engine" };
export const MEMBER = { email: "charles@example.org", name: "Charles Babbage", password: "difference engine" };

export async function signIn(page, { email, password }) {
  await page.getByLabel("Email").fill(email);
  await page.getByLabel("Password").fill(password);
  await page.getByRole("button", { name: "Sign in" }).click();
}

/** Each step stands on the one before it: after the first that fails, the others would only tell of that one again. */
export function steps(page) {
  let failed = null;
  return (name, walk) =>
    it(name, async () => {
      assert.equal(failed, null, `not walked, since this failed: ${failed}`);
      try {
        await walk();
      } catch (thrown) {
        failed = name;
        await page.screenshot({ path: join(PICTURES, "failed.png"), fullPage: true });
        throw thrown;
      }
    });
}
