// A person's browser: notes everything it complains about, takes pictures, and asks axe about every page.
import { mkdir } from "node:fs/promises";
import { createRequire } from "node:module";
import { join } from "node:path";
import { fileURLToPath } from "node:url";
import assert from "node:assert/strict";

// The packages are the console's own; this directory has none.
const require = createRequire(new URL("../../ui/package.json", import.meta.url));
const { chromium } = require("playwright-core");
const { AxeBuilder } = require("@axe-core/playwright");

const ROOT = fileURLToPath(new URL("../..", import.meta.url));
export const PICTURES = process.env.SCREENSHOTS ?? join(ROOT, "target/screenshots");
const CHROMIUM = process.env.CHROMIUM ?? "/usr/bin/chromium";
/** What the web vitals call good; here it is the sum since the page was last looked at. */
const LAYOUT_SHIFT_MAX = 0.1;
/** A debug build on a busy machine answers well within this. */
const WAIT_MS_MAX = 20_000;

export const DESKTOP = { width: 1280, height: 860 };
export const PHONE = { width: 390, height: 844 };

export async function openBrowser() {
  await mkdir(PICTURES, { recursive: true });
  return chromium.launch({
    executablePath: CHROMIUM,
    args: [
      "--no-sandbox",
      "--disable-gpu",
      "--disable-quic",
      "--no-first-run",
      "--disable-background-networking",
      "--disable-component-update",
      "--disable-sync",
    ],
  });
}

/** A page that keeps what the console, the network and the content security policy complained about. */
export async function openPage(browser, options = {}) {
  const context = await browser.newContext({ viewport: DESKTOP, locale: "en-GB", timezoneId: "Europe/Berlin", ...options });
  context.setDefaultTimeout(WAIT_MS_MAX);
  await context.addInitScript(() => {
    document.addEventListener("securitypolicyviolation", (violation) => {
      console.error(`content security policy: ${violation.violatedDirective} refused ${violation.blockedURI}`);
    });
    window.marvinShift = 0;
    new PerformanceObserver((list) => {
      for (const shift of list.getEntries()) if (!shift.hadRecentInput) window.marvinShift += shift.value;
    }).observe({ type: "layout-shift", buffered: true });
  });
  const page = await context.newPage();
  const complaints = [];
  page.on("console", (message) => {
    if (message.type() === "error" || message.type() === "warning") complaints.push(`${message.text()} (${message.location().url})`);
  });
  page.on("pageerror", (error) => complaints.push(`uncaught: ${error.message}`));
  return { page, context, complaints };
}

/** Chromium itself notes every request that fails; those a step provokes on purpose are taken out of the list here. */
export function forgive(complaints, words) {
  const rest = complaints.filter((complaint) => !complaint.includes(words));
  assert.ok(rest.length < complaints.length, `nothing was noted with the words "${words}"`);
  complaints.splice(0, complaints.length, ...rest);
}

export function assertNoComplaints(complaints) {
  assert.deepEqual(complaints, []);
}

/** Takes a picture, asks axe, and makes sure that nothing jumped about or stands out of the page sideways. */
export async function inspect(page, name) {
  await page.screenshot({ path: join(PICTURES, `${name}.png`), fullPage: true });
  const { violations } = await new AxeBuilder({ page }).analyze();
  const words = violations.map((violation) => `${violation.id}: ${violation.help}\n  ${violation.nodes.map((node) => node.html).join("\n  ")}`);
  assert.deepEqual(words, [], `axe on ${name}`);
  const shift = await page.evaluate(() => {
    const since = window.marvinShift;
    window.marvinShift = 0;
    return since;
  });
  assert.ok(shift <= LAYOUT_SHIFT_MAX, `${name} jumped by ${shift}`);
  const [content, width] = await page.evaluate(() => [document.documentElement.scrollWidth, document.documentElement.clientWidth]);
  assert.ok(content <= width, `${name} is ${content} px wide in a window of ${width} px`);
}
