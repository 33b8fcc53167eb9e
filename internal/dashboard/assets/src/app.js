// The dashboard's own script. It runs after htmx and its extensions, and only
// adds to pages that work without it.
(() => {
	"use strict";
	const root = document;
	root.documentElement.classList.add("scripted");

	// Times say how long ago they are; the exact time is in the title.
	const steps = [[60, 1, "s"], [3600, 60, "min"], [86400, 3600, "h"], [Infinity, 86400, "d"]];
	const ago = (element) => {
		const at = new Date(element.dateTime);
		const seconds = Math.max(0, Math.round((Date.now() - at) / 1000));
		const [, unit, name] = steps.find(([limit]) => seconds < limit);
		const span = `${Math.floor(seconds / unit)} ${name}`;
		const text = { for: `for ${span}`, age: span }[element.dataset.as] ?? `${span} ago`;
		if (element.textContent !== text) {
			if (!element.title) element.title = element.textContent;
			element.textContent = text;
		}
	};
	const tellTimes = (within) => within.querySelectorAll("time[datetime]:not([data-exact])").forEach(ago);
	// What an event brings has exact times again: they are put right before
	// anything is painted.
	root.addEventListener("htmx:afterSwap", (e) => tellTimes(e.target.parentElement ?? root));
	root.addEventListener("htmx:load", (e) => tellTimes(e.target));
	setInterval(() => tellTimes(root), 1000);
	tellTimes(root);

	// What a person opened stays open, and what they typed stays.
	Idiomorph.defaults.callbacks.beforeAttributeUpdated = (name, node) =>
		!(name === "open" && node.tagName === "DETAILS") && !(name === "value" && node.tagName === "INPUT" && node.type !== "hidden");

	// Whether the page is live.
	const live = root.getElementById("live");
	const say = (state, text) => {
		if (!live || live.dataset.state === state) return;
		live.hidden = false;
		live.dataset.state = state;
		live.textContent = text;
	};
	let failures = 0;
	root.addEventListener("htmx:sseOpen", (e) => { if (e.target.id === "main") { failures = 0; say("on", "Live"); } });
	root.addEventListener("htmx:sseError", async (e) => {
		if (e.target.id !== "main") return;
		failures++;
		say("off", "Reconnecting…");
		if (failures < 2) return;
		// An event stream does not say why it was refused; a page does.
		try {
			const answer = await fetch("/auth/check", { headers: { "HX-Request": "true" } });
			if (answer.status !== 401) return;
		} catch { return; }
		if (!live) return;
		live.dataset.state = "out";
		const link = root.createElement("a");
		link.href = "/auth/signin?to=" + encodeURIComponent(location.pathname + location.search);
		link.textContent = "Signed out. Sign in again";
		live.replaceChildren(link);
	});

	// Output begins anew with each connection that does not go on where one
	// left, stays at its end, and stays of a size that browsers bear.
	const maxLines = 2000;
	root.addEventListener("htmx:sseBeforeMessage", (e) => {
		if (e.target.id === "log") e.target.atEnd = e.target.scrollHeight - e.target.scrollTop - e.target.clientHeight < 40;
	});
	root.addEventListener("htmx:sseMessage", (e) => {
		const log = root.getElementById("log");
		if (!log || e.target !== log) return;
		while (log.childElementCount > maxLines) log.firstElementChild.remove();
		if (log.atEnd !== false) log.scrollTop = log.scrollHeight;
	});
	root.addEventListener("htmx:sseOpen", (e) => {
		const log = root.getElementById("log");
		if (log && e.target.contains(log) && e.target.id !== "main" && log.dataset.used) log.replaceChildren();
		if (log && e.target.contains(log) && e.target.id !== "main") log.dataset.used = "1";
	});

	// On a narrow screen the navigation is wider than that. scrollIntoView would
	// have the Tab key begin there.
	const here = root.querySelector("nav a[aria-current]");
	if (here) here.parentElement.scrollLeft = here.offsetLeft - here.parentElement.offsetLeft - (here.parentElement.clientWidth - here.offsetWidth) / 2;

	// Selects that choose what a page shows need no button.
	root.addEventListener("change", (e) => {
		if (e.target.matches("select[data-submit]")) e.target.form.requestSubmit();
	});

	// An open menu closes as menus do.
	root.addEventListener("click", (e) => {
		root.querySelectorAll("details.menu[open]").forEach((d) => { if (!d.contains(e.target)) d.open = false; });
	});
	root.addEventListener("keydown", (e) => {
		if (e.key === "Escape") root.querySelectorAll("details.menu[open]").forEach((d) => { d.open = false; d.querySelector("summary").focus(); });
		const typing = e.target.closest("input, select, textarea, [contenteditable]");
		if (e.key === "/" && !typing && !e.ctrlKey && !e.metaKey && !e.altKey) {
			const first = root.querySelector("form.filter input");
			if (first) { e.preventDefault(); first.focus(); first.select(); }
		}
	});

	// The map tells which device is under the pointer, and leads to it.
	const map = () => root.querySelector("[data-map]");
	let names = null;
	let asked = 0;
	const fetchNames = async () => {
		if (Date.now() - asked < 5000) return;
		asked = Date.now();
		const by = new URLSearchParams(location.search).get("by") ?? "";
		const answer = await fetch("/map.json?by=" + encodeURIComponent(by));
		if (answer.ok) names = (await answer.json()).groups;
	};
	const cellAt = (e) => {
		const svg = e.target.closest?.("svg[data-group]");
		if (!svg || !names) return null;
		const box = svg.getBoundingClientRect();
		const size = box.width / Number(svg.dataset.columns);
		const column = Math.floor((e.clientX - box.left) / size);
		const row = Math.floor((e.clientY - box.top) / size);
		return names[Number(svg.dataset.group)]?.[row * Number(svg.dataset.columns) + column] ?? null;
	};
	root.addEventListener("pointermove", (e) => {
		const svg = e.target.closest?.("svg[data-group]");
		const pointed = root.getElementById("pointed");
		if (!pointed) return;
		if (!svg) { if (pointed.textContent) pointed.textContent = ""; return; }
		fetchNames();
		const cell = cellAt(e);
		pointed.textContent = cell ? `${cell[0]}: ${cell[1]}` : "";
		svg.classList.toggle("link", Boolean(cell));
	}, { passive: true });
	root.addEventListener("click", (e) => {
		const cell = cellAt(e);
		if (cell) location.href = "/devices/" + encodeURIComponent(cell[0]);
	});
	if (map()) root.addEventListener("pointerover", (e) => { if (e.target.closest?.("[data-map]")) fetchNames(); }, { once: true });
})();
