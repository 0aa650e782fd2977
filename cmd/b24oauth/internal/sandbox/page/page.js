"use strict";

const $ = (id) => document.getElementById(id);
const keptRows = 100;

// row makes a table row. What came over the network is never read as HTML.
function row(className, ...cells) {
	const tr = document.createElement("tr");
	tr.className = className;
	for (const text of cells) tr.insertCell().textContent = text;
	return tr;
}

const clock = (time) => new Date(time).toLocaleTimeString();

let grants = [];

function showGrants() {
	$("grants").replaceChildren(...grants.map((g) => {
		const left = Math.ceil((new Date(g.expiry) - Date.now()) / 1000);
		const state = g.state === "good" && left <= 0 ? "expired" : g.state;
		return row(state, g.user_id, left > 0 ? `${clock(g.expiry)}, in ${left} s` : clock(g.expiry), state);
	}));
}

function showState(state) {
	for (const name of ["portal", "endpoint", "token_url", "client_id", "client_secret"]) $(name).textContent = state[name];
	for (const [name, n] of Object.entries(state.counters)) $(name).textContent = n;
	grants = state.grants;
	showGrants();
}

let lastID = 0;

function showRequest(r) {
	if (r.id <= lastID) $("log").replaceChildren(); // the sandbox was started again
	lastID = r.id;
	const outcome = r.status === 0 ? "answer lost" : `${r.status} ${r.code}`;
	const className = r.status === 0 || r.status >= 500 ? "bad" : r.status >= 400 || r.code ? "warn" : "good";
	$("log").prepend(row(className, clock(r.at), `${r.method} ${r.path}`, r.params, r.auth_in, outcome));
	while ($("log").rows.length > keptRows) $("log").deleteRow(-1);
}

// submit does what a form stands for, and shows the answer.
async function submit(event) {
	event.preventDefault();
	const form = event.currentTarget;
	const button = form.querySelector("button");
	button.disabled = true;
	let text, failed;
	try {
		const resp = await fetch(form.dataset.action, {method: "POST", body: new URLSearchParams(new FormData(form))});
		const answer = await resp.json();
		failed = !resp.ok;
		text = failed ? answer.error_description : JSON.stringify(answer, null, 2);
	} catch (err) {
		failed = true;
		text = `The sandbox does not answer: ${err.message}. Is it running?`;
	}
	button.disabled = false;
	$("answer").hidden = false;
	$("answer").classList.toggle("failed", failed);
	$("answer").textContent = text;
}

for (const form of document.querySelectorAll("form[data-action]")) form.addEventListener("submit", submit);
setInterval(showGrants, 1000);

const events = new EventSource("events");
events.addEventListener("request", (e) => showRequest(JSON.parse(e.data)));
events.addEventListener("state", (e) => showState(JSON.parse(e.data)));
events.addEventListener("open", () => { $("link").textContent = "live"; $("link").className = "live"; });
events.addEventListener("error", () => { $("link").textContent = "not connected: is the sandbox running?"; $("link").className = "lost"; });
