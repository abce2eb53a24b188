// Opens the status page in Chromium, looks at it on a desk and on a phone, by light and by dark, uses it by
// keyboard, and prints what it saw as one line of JSON:
//
//   node status.mjs TOOLS PROFILE PAGE SHOTS TOKEN-PAGE TOKEN FOLLOW
//
// PAGE needs no token, TOKEN-PAGE asks for TOKEN. FOLLOW is a file: a line is appended to what this program has
// to say ("more" when the page shows the stream named `later`, "less" when it no longer does).
// Nothing is judged here.
import { appendFileSync } from "node:fs";
import { setTimeout as sleep } from "node:timers/promises";

import { start } from "./chromium.mjs";

const [tools, profile, url, shots, guarded, token, follow] = process.argv.slice(2);
const browser = await start(tools, profile, { width: 1200, height: 860 });

const seen = { version: browser.browser()?.version() ?? "", said: [], requests: [], overflow: {} };

// Runs in the page.
function look() {
  const text = (id) => document.getElementById(id).textContent;
  const rows = (id) => [...document.getElementById(id).rows].map((row) =>
    [...row.cells].map((cell) => cell.textContent));
  return {
    title: document.title, node: text("node"), state: text("state"), about: text("about"),
    streams: text("streams"), players: text("players"), in: text("in"), out: text("out"),
    rows: rows("stream-rows"), nodes: rows("node-rows"), between: rows("link-rows"), drops: rows("drop-rows"),
    links: [...document.querySelectorAll("#stream-rows a")].map((link) => link.getAttribute("href")),
    trouble: document.getElementById("trouble").hidden ? "" : text("trouble"),
    asks: !document.getElementById("ask").hidden,
  };
}

const overflows = () => document.documentElement.scrollWidth > document.documentElement.clientWidth;

async function open(address) {
  const page = await browser.newPage();
  page.on("console", (line) => {
    if (["error", "warning"].includes(line.type())) seen.said.push(`${line.type()}: ${line.text()}`);
  });
  page.on("pageerror", (error) => seen.said.push(`uncaught: ${error}`));
  page.on("request", (request) => seen.requests.push(request.url()));
  await page.goto(address);
  return page;
}

async function until(page, test, argument) {
  await page.waitForFunction(test, argument, { timeout: 60000, polling: 250 });
}

const page = await open(url);
const has = (name) => [...document.querySelectorAll("#stream-rows a")].some((a) => a.textContent.includes(name));
const hasNot = (name) => ![...document.querySelectorAll("#stream-rows a")].some((a) => a.textContent.includes(name));
await until(page, () => document.getElementById("out").textContent.includes("bit/s"));
await until(page, has, "talk");
await sleep(4500);
seen.first = await page.evaluate(look);
for (const colorScheme of ["light", "dark"]) {
  await page.emulateMedia({ colorScheme });
  await page.setViewportSize({ width: 1200, height: 860 });
  seen.overflow[`desk-${colorScheme}`] = await page.evaluate(overflows);
  await page.screenshot({ path: `${shots}/status-${colorScheme}.png`, fullPage: true });
  await page.setViewportSize({ width: 360, height: 740 });
  seen.overflow[`phone-${colorScheme}`] = await page.evaluate(overflows);
  await page.screenshot({ path: `${shots}/status-phone-${colorScheme}.png`, fullPage: true });
}
await page.setViewportSize({ width: 1200, height: 860 });

// By keyboard alone: filter, clear, sort, and go to a stream.
await page.keyboard.press("/");
await page.keyboard.type("zzz");
seen.filtered = (await page.evaluate(look)).rows.length;
await page.keyboard.press("Escape");
seen.unfiltered = (await page.evaluate(look)).rows.length;
await page.keyboard.press("Tab");
await page.keyboard.press("Enter");
seen.sorted = await page.evaluate(() => document.querySelector("th[aria-sort]")?.dataset.key);
for (let at = 0; at < 40 && !(await page.evaluate(() => document.activeElement.matches("#stream-rows a"))); at += 1) {
  await page.keyboard.press("Tab");
}
seen.focused = await page.evaluate(() => document.activeElement.getAttribute("href"));
await sleep(5000);
seen.still_focused = await page.evaluate(() => document.activeElement.getAttribute("href"));

// Live, without reload.
appendFileSync(follow, "more\n");
await until(page, has, "later");
appendFileSync(follow, "less\n");
await until(page, hasNot, "later");
seen.after = await page.evaluate(look);

// Through the link to a picture that moves.
await page.click('#stream-rows a[href="/watch/live/talk"]');
await until(page, () => document.querySelector("video")?.currentTime > 1);
seen.played = await page.evaluate(() => document.querySelector("video").currentTime);

// Where a token is wanted, it is asked for once.
const locked = await open(guarded);
await until(locked, () => !document.getElementById("ask").hidden);
await locked.screenshot({ path: `${shots}/status-token.png` });
await locked.keyboard.type("a-wrong-token-of-many-letters");
await locked.keyboard.press("Enter");
await until(locked, () => !document.getElementById("trouble").hidden);
seen.wrong = await locked.evaluate(look);
await locked.fill("#token", token);
await locked.keyboard.press("Enter");
await until(locked, () => document.getElementById("state").textContent === "running");
await locked.reload();
await until(locked, () => document.getElementById("state").textContent === "running");
seen.unlocked = await locked.evaluate(look);

console.log(JSON.stringify(seen));
await browser.close();
