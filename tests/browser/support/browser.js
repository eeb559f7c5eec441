// Chromium, and pages that fail their test if the page reported an error or broke its Content-Security-Policy.
//
// Invariant: every page is closed by `close`, which throws what the page reported, unless the test said it expects it.

import { mkdir, readFile, writeFile } from "node:fs/promises";
import { createRequire } from "node:module";
import { tmpdir } from "node:os";
import { join } from "node:path";
import assert from "node:assert/strict";
import { chromium } from "playwright-core";
import { smaller } from "./png.js";

const require = createRequire(import.meta.url);
// scripts/test-browser finds it on the PATH.
const EXECUTABLE = process.env.SMSBRIDGE_CHROMIUM ?? "/usr/bin/chromium";
const ARGUMENTS = [
  "--disable-gpu",
  "--disable-quic",
  "--no-first-run",
  "--disable-background-networking",
  "--disable-component-update",
  "--disable-sync",
];
// Chromium refuses its sandbox to root, as whom containers run.
const AS_ROOT = process.getuid?.() === 0 ? ["--no-sandbox"] : [];
const PICTURES = process.env.SMSBRIDGE_PICTURES ?? join(tmpdir(), "smsbridge-pictures");

export function launch(args = []) {
  return chromium.launch({ executablePath: EXECUTABLE, args: [...ARGUMENTS, ...AS_ROOT, ...args] });
}

/** Opens the page of a simulator at a route such as `#/phones`. */
export async function open(
  browser,
  simulator,
  { route = "#/phones", width = 1440, height = 900, scheme = "light", live = true, ...options } = {},
) {
  const context = await browser.newContext({
    viewport: { width, height },
    colorScheme: scheme,
    locale: "en-GB",
    timezoneId: "UTC",
    ...options,
  });
  await context.grantPermissions(["clipboard-read", "clipboard-write"], { origin: simulator.url });
  const page = await context.newPage();
  page.setDefaultTimeout(15_000);
  const reported = [];
  let expected = () => false;
  page.on("pageerror", (error) => reported.push(`error: ${error.message}`));
  page.on("console", (message) => {
    if (message.type() === "error") reported.push(`console: ${message.text()}`);
  });
  await page.goto(`${simulator.url}/_sim/${route}`);
  if (live) await page.locator('#connection[data-state="live"]').waitFor();
  return {
    page,
    context,
    /** Errors whose text contains this are no failure. */
    expect(text) {
      const before = expected;
      expected = (candidate) => before(candidate) || candidate.includes(text);
    },
    async close() {
      await context.close();
      assert.deepEqual(
        reported.filter((text) => !expected(text)),
        [],
        "the page reported errors",
      );
    },
  };
}

/** What axe-core finds on the page that is serious or critical. */
export async function violations(page) {
  await page.evaluate(await readFile(require.resolve("axe-core/axe.min.js"), "utf8"));
  const { violations: found } = await page.evaluate(() => globalThis.axe.run(document, { resultTypes: ["violations"] }));
  return found
    .filter(({ impact }) => impact === "serious" || impact === "critical")
    .map(
      ({ id, impact, nodes }) => `${id} (${impact}): ${nodes.map((node) => `${node.target} ${node.failureSummary}`).join(" | ")}`,
    );
}

/** Makes a picture for the documents; returns its path. */
export async function picture(page, name) {
  // What moves would make two pictures of the same thing differ.
  await page.evaluate(() => document.fonts.ready);
  const path = join(PICTURES, `${name}.png`);
  await mkdir(PICTURES, { recursive: true });
  await writeFile(path, smaller(await page.screenshot({ animations: "disabled", caret: "hide" })));
  return path;
}

export const row = (page, number) => page.getByRole("option").filter({ hasText: number });
export const bubble = (page, text) => page.locator(".message", { has: page.locator(".bubble", { hasText: text }) }).last();
