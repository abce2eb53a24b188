// Starts Chromium with an empty profile, so that it asks nobody but the pages it is given.
import { createRequire } from "node:module";

// TOOLS holds node_modules.
export async function start(tools, profile, viewport) {
  const { chromium } = createRequire(`${tools}/`)("playwright-core");
  const browser = await chromium.launchPersistentContext(profile, {
    executablePath: process.env.CHROMIUM || "/usr/bin/chromium",
    headless: true,
    viewport,
    args: [
      "--headless", "--no-sandbox", "--disable-gpu", "--disable-quic", "--no-first-run",
      "--disable-background-networking", "--disable-component-update", "--disable-sync",
      "--host-resolver-rules=MAP relay.test 127.0.0.1",
      "--disable-dev-shm-usage", "--autoplay-policy=no-user-gesture-required",
    ],
  });
  // A busy host without a graphics card draws slowly.
  browser.setDefaultTimeout(100_000);
  return browser;
}
