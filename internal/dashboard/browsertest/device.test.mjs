// What people see of a real device, in a real Chromium, from the day it asks
// to join. The device, and what happens to it, is internal/e2e's TestDashboard.
import assert from "node:assert/strict";
import { after, before, test } from "node:test";
import { complaints, live, quiet, signedIn, start, stop } from "./people.mjs";

const { FLEET_URL: url, CONTROL_URL: control } = process.env;
const step = async (name, value = "") => {
	const answer = await fetch(`${control}/${name}`, { method: "POST", body: new URLSearchParams({ value }) });
	assert.equal(answer.status, 200, name);
	return answer.json();
};
// since is how long ago the device entered the state that it reports.
const since = async () => Date.now() - Date.parse((await step("device")).state.deployments[0].since);
const within = (what, took, limit) => {
	console.log(`${what}: ${took} ms`);
	assert.ok(took <= limit, `${what}: ${took} ms, at most ${limit} ms`);
};

before(start);
after(stop);

let ada, otto;

test("a device that asks is turned away", async () => {
	ada = await signedIn("ada", "/joins");
	await live(ada);
	await step("ask");
	await ada.waitForSelector(".joins h2:has-text('pi-a')");
	await ada.click("button:has-text('Deny')");
	await ada.waitForSelector("#outcome .good");
	await ada.waitForSelector("text=No device waits");
	const asked = await step("asked");
	assert.equal(asked.exit, "4", asked.text);
	assert.match(asked.text, /denied/);
	quiet("denied");
});

test("a device that asks is approved by the code that it shows, and is connected", async () => {
	const { code } = await step("ask");
	await ada.fill(".joins input[name=code]", "BCDF-GHJK");
	await ada.click("button:has-text('Approve')");
	await ada.waitForSelector("#outcome .bad");
	complaints.length = 0; // a refusal is one
	await ada.fill(".joins input[name=code]", code);
	await ada.click("button:has-text('Approve')");
	await ada.waitForSelector("#outcome .good");
	const asked = await step("asked");
	assert.equal(asked.exit, "0", asked.text);
	await ada.goto(url + "/devices");
	await ada.waitForSelector("#row-pi-a .badge.ready", { timeout: 30_000 });
	await ada.click("#device-pi-a");
	await ada.waitForSelector("#device-top dd:has-text('connected')");
	await ada.waitForSelector("#device-top .labels >> text=site=lyon");
	quiet("approved");
	await step("complete");
});

test("what is deployed runs on the page within a second of the device's report", async () => {
	await live(ada);
	otto = await signedIn("otto", "/");
	await live(otto);
	await step("deploy");
	// The page is not loaded again: it shows pulling, then running.
	await ada.waitForSelector("#works .badge.running", { timeout: 60_000 });
	within("a deployment that runs, from the device's report to its page", await since(), 1000);
	await otto.waitForSelector(".counts .running b:has-text('1')");
	within("and to the start page", await since(), 1500);
	quiet("deployed");
});

test("output is on the page as it comes", async () => {
	await otto.goto(url + "/devices/pi-a?logs=hello/hello");
	await otto.waitForSelector("#log >> text=listens on");
	for (const line of ["first line", "<b>second</b> line"]) {
		const began = Date.now();
		await step("print", line);
		await otto.waitForSelector(`#log .line:text-is("${line}")`);
		within("a line of output", Date.now() - began, 1000);
	}
	quiet("output");
});

test("a container that somebody kills runs again, and the page says since when", async () => {
	// That it was gone is on the page only if it took longer than a report does.
	const started = () => ada.getAttribute("#works .started time", "datetime");
	const before = await started();
	const began = Date.now();
	await step("kill");
	await ada.waitForFunction(
		(before) => {
			const time = document.querySelector("#works .started time")?.dateTime;
			return time && time !== before && document.querySelector("#works .badge")?.textContent === "Running";
		},
		before,
		{ timeout: 30_000 },
	);
	console.log(`killed: healed on the page after ${Date.now() - began} ms`);
	assert.equal(await step("running"), true);
	quiet("killed");
});

test("an operator stops, starts and restarts it", async () => {
	await otto.goto(url + "/devices/pi-a");
	await live(otto);
	await otto.click("#works button:has-text('Stop')");
	await otto.waitForSelector("#outcome :text('hello was stopped on pi-a')");
	assert.equal(await step("running"), false);
	await otto.waitForSelector("#works .badge.stopped");
	await otto.waitForSelector("#works button:has-text('Start hello')");
	assert.equal(await otto.locator("#works button:has-text('Stop')").count(), 0);
	await otto.click("#works button:has-text('Start')");
	await otto.waitForSelector("#outcome :text('hello was started on pi-a')");
	assert.equal(await step("running"), true);
	await otto.waitForSelector("#works .badge.running");
	await otto.click("#works button:has-text('Restart')");
	await otto.waitForSelector("#outcome :text('hello was restarted on pi-a')");
	quiet("stopped and started");
});

test("a viewer has no such button, and a request of theirs is refused", async () => {
	const vera = await signedIn("vera", "/devices/pi-a");
	await vera.waitForSelector("#works .badge.running");
	assert.equal(await vera.locator("main button").count(), 0);
	const statuses = await vera.evaluate(async () => {
		const header = JSON.parse(document.body.getAttribute("hx-headers"));
		const ask = async (verb) => (await fetch(`/devices/pi-a/${verb}`, { method: "POST", headers: header, body: new URLSearchParams({ deployment: "hello" }) })).status;
		return [await ask("stop"), await ask("start"), await ask("restart")];
	});
	assert.deepEqual(statuses, [403, 403, 403]);
	assert.equal(await step("running"), true);
	complaints.length = 0; // refusals
	await vera.context().close();
});

test("all of it is on record", async () => {
	await ada.goto(url + "/audit");
	const rows = await ada.locator("tbody tr").allTextContents();
	const says = (...words) => assert.ok(rows.some((row) => words.every((word) => row.includes(word))), `${words} in ${rows.join("\n")}`);
	says("ada", "deny join", "pi-a");
	says("ada", "approve join", "pi-a", "ok");
	for (const verb of ["stop", "start", "restart"]) says("otto", `${verb} hello`, "pi-a", "ok");
	quiet("the record");
});

test("an unplugged device is seen not to answer, and to be back", async () => {
	await otto.goto(url + "/devices/pi-a");
	await live(otto);
	await otto.waitForSelector("#device-top .badge.ready");
	await otto.waitForTimeout(2000); // its page has asked it for signs of life
	let began = Date.now();
	await step("unplug");
	await otto.waitForSelector("#device-top .badge.offline");
	within("unplugged, until it is on the page", Date.now() - began, 5000);
	began = Date.now();
	await step("plug");
	await otto.waitForSelector("#device-top .badge.ready", { timeout: 60_000 });
	console.log(`plugged in, until it is on the page: ${Date.now() - began} ms`);
	quiet("unplugged");
});
