// A real Chromium, and people who sign in with it: what the tests share.
import assert from "node:assert/strict";
import { chromium } from "playwright-core";

const { FLEET_URL: url, PASSWORD: password, PROFILE: profile } = process.env;
const flags = ["--headless", "--no-sandbox", "--disable-gpu", "--disable-quic", "--no-first-run", "--disable-background-networking",
	"--disable-component-update", "--disable-sync"];

export const complaints = []; // of pages
export const strangers = []; // whom pages asked, other than the server

let browser;
export const start = async () => {
	browser = await chromium.launch({ executablePath: "/usr/bin/chromium", args: [...flags, `--crash-dumps-dir=${profile}`] });
};
export const stop = async () => { await browser?.close(); };

// newPage opens a page in a browser of its own, and hears what it complains
// about and whom it asks.
export const newPage = async (options = {}) => {
	const context = await browser.newContext({ ignoreHTTPSErrors: true, ...options });
	const page = await context.newPage();
	page.setDefaultTimeout(15_000);
	page.on("console", (m) => { if (m.type() === "error" || m.type() === "warning") complaints.push(m.text()); });
	page.on("pageerror", (e) => complaints.push(e.message));
	page.on("request", (r) => { if (new URL(r.url()).hostname !== new URL(url).hostname) strangers.push(r.url()); });
	page.on("dialog", (d) => d.accept());
	return page;
};
export const signIn = async (page, name, path = "/") => {
	await page.goto(url + path);
	await page.fill("input[name=username]", name);
	await page.fill("input[name=password]", password);
	await page.click("button");
	await page.waitForURL(url + path);
};
export const signedIn = async (name, path, options) => {
	const page = await newPage(options);
	await signIn(page, name, path);
	return page;
};
export const live = async (page) => page.waitForSelector("#live[data-state=on]");
export const quiet = (what) => {
	assert.deepEqual(complaints.splice(0), [], what);
	assert.deepEqual(strangers.splice(0), [], what);
};
export const median = (numbers) => numbers.toSorted((a, b) => a - b)[Math.floor(numbers.length / 2)];
