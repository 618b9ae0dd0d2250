// One server, one browser and one page, shared by all steps of the walk.
import { fileURLToPath } from "node:url";
import { inspect, openBrowser, openPage } from "./browser.mjs";
import { steps } from "./people.mjs";
import { startServer } from "./server.mjs";

export const AIR_PASSENGERS = fileURLToPath(new URL("../../examples/data/air-passengers.csv", import.meta.url));
/** Where the agents and tasks stand that earlier steps made. */
export const paths = {};

export const server = await startServer();
export const browser = await openBrowser().catch(async (error) => {
  await server.stop();
  throw error;
});
export const { page, context, complaints } = await openPage(browser);
export const step = steps(page);

export async function close() {
  await browser.close();
  await server.stop();
}

export const heading = (name) => page.getByRole("heading", { level: 1, name }).waitFor();
export const path = () => new URL(page.url()).pathname;

/** Looks at several pages in the same light. */
export async function inspectEach(prefix, targets) {
  for (const [name, target] of Object.entries(targets)) {
    await page.goto(server.origin + target);
    await page.locator("main .panel").first().waitFor();
    await page.locator(".busy").waitFor({ state: "detached" });
    await inspect(page, `${prefix}-${name}`);
  }
}
