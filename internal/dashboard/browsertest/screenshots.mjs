// Takes the pictures of docs/screenshots from a played fleet. Usage, from here:
// go test .. -run TestPreview -timeout 0 -preview 127.0.0.1:7443 & node screenshots.mjs https://127.0.0.1:7443 DIR
import { chromium } from "playwright-core";

const [url, dir] = process.argv.slice(2);
const pages = {
	fleet: "/", sites: "/?by=site", devices: "/devices?selector=site+in+(lyon,paris),tier!%3Dlab",
	device: "/devices/pi-00007?logs=sensor-gateway/sensor-gateway", deployments: "/deployments?sort=health", deployment: "/deployments/default/camera-relay?from=2&to=3",
	joins: "/joins", audit: "/audit",
};
const browser = await chromium.launch({ executablePath: "/usr/bin/chromium",
	args: ["--headless", "--no-sandbox", "--disable-gpu", "--disable-quic", "--no-first-run", "--disable-background-networking", "--disable-component-update", "--disable-sync"] });
for (const colorScheme of ["light", "dark"]) {
	for (const [size, viewport] of [["desktop", { width: 1440, height: 900 }], ["phone", { width: 390, height: 844 }]]) {
		const context = await browser.newContext({ ignoreHTTPSErrors: true, colorScheme, viewport });
		const page = await context.newPage();
		await page.goto(url + "/");
		if (size === "desktop") await page.screenshot({ path: `${dir}/signin-${size}-${colorScheme}.png` });
		await page.fill("input[name=username]", "ada");
		await page.fill("input[name=password]", "correct horse battery staple");
		await page.click("button");
		await page.waitForURL(url + "/");
		for (const [name, path] of Object.entries(pages)) {
			await page.goto(url + path.replace(/#.*/, ""));
			await page.waitForSelector(name === "audit" ? "table" : "#live[data-state=on]");
			await page.waitForTimeout(name === "device" ? 1500 : 300);
			const fullPage = size === "desktop" && ["fleet", "device", "deployment"].includes(name);
			await page.screenshot({ path: `${dir}/${name}-${size}-${colorScheme}.png`, fullPage });
		}
		await context.close();
	}
}
await browser.close();
