// Opens pages in Chromium, watches the video of each for a while and prints what it saw, as one line of JSON:
//
//   node watch.mjs TOOLS PROFILE SECONDS URL SCREENSHOT [URL SCREENSHOT]...
//
// TOOLS holds node_modules; PROFILE is an empty folder for the browser. The pages are open side by side.
// Nothing is judged here.
import { setTimeout as sleep } from "node:timers/promises";

import { start } from "./chromium.mjs";

const [tools, profile, seconds, ...rest] = process.argv.slice(2);
const browser = await start(tools, profile, { width: 1000, height: 800 });

// Runs in the page before its own scripts.
function listen() {
  window.seen = { errors: [] };
  document.addEventListener("error", (event) => {
    const { error, tagName } = event.target;
    window.seen.errors.push(`${tagName} ${error ? `${error.code} ${error.message}` : ""}`);
  }, true);
  document.addEventListener("securitypolicyviolation", (event) => {
    window.seen.errors.push(`policy ${event.violatedDirective} ${event.blockedURI}`);
  });
}

// Runs in the page.
function look() {
  const video = document.querySelector("video");
  const text = (id) => {
    const found = document.getElementById(id);
    return found && !found.hidden ? found.textContent : "";
  };
  return {
    time: video.currentTime,
    width: video.videoWidth,
    height: video.videoHeight,
    frames: video.getVideoPlaybackQuality().totalVideoFrames,
    audio_bytes: video.webkitAudioDecodedByteCount || 0,
    paused: video.paused,
    buffered: video.buffered.length ? video.buffered.end(video.buffered.length - 1) : 0,
    errors: window.seen.errors,
    title: document.title,
    name: text("name"),
    status: text("status"),
    note: text("note"),
    curtain: text("curtain"),
    overflow: document.documentElement.scrollWidth > document.documentElement.clientWidth,
  };
}

async function watch(url, screenshot) {
  const page = await browser.newPage();
  const said = [];
  const requests = [];
  page.on("console", (line) => {
    if (["error", "warning"].includes(line.type())) said.push(`${line.type()}: ${line.text()}`);
  });
  page.on("pageerror", (error) => said.push(`uncaught: ${error}`));
  page.on("request", (request) => requests.push(request.url()));
  page.on("websocket", (socket) => requests.push(socket.url()));
  await page.addInitScript(listen);
  await page.goto(url);
  const samples = [];
  const until = Date.now() + Number(seconds) * 1000;
  while (Date.now() < until) {
    await sleep(500);
    samples.push(await page.evaluate(look));
  }
  await page.screenshot({ path: screenshot });
  // The same on a phone, in the dark.
  await page.setViewportSize({ width: 360, height: 640 });
  await page.emulateMedia({ colorScheme: "dark" });
  const phone = await page.evaluate(look);
  await page.screenshot({ path: screenshot.replace(/\.png$/, "-phone.png") });
  return { url, samples, said, requests, phone_overflow: phone.overflow };
}

const pairs = [];
for (let at = 0; at + 1 < rest.length; at += 2) pairs.push([rest[at], rest[at + 1]]);
const pages = await Promise.all(pairs.map(([url, screenshot]) => watch(url, screenshot)));
console.log(JSON.stringify({ version: browser.browser()?.version() ?? "", pages }));
await browser.close();
