// Shows what /events sends, and asks for what the buttons do. Everything that comes from the server is set as text.

const STATES = {
  closed: { label: "closed", height: 30 },
  half_open: { label: "half-open", height: 60 },
  open: { label: "open", height: 100 },
  forced_open: { label: "forced open", height: 100 },
  disabled: { label: "disabled", height: 12 },
  metrics_only: { label: "metrics only", height: 30 },
};

const REASONS = {
  consecutive_failures: "failed in a row",
  failures: "too many failed",
  failure_rate: "failure rate",
  slow_call_rate: "slow calls",
  requested: "callee asked for a pause",
  probe_failed: "probes failed",
  probe_timeout: "probes took too long",
  by_hand: "by hand",
};

const FOR_NOW = "For now";
const UNTIL_HAND = "Until it is moved by hand";

// What each button says before it does it; `vain` are the states in which it would change nothing.
const ACTIONS = {
  open: {
    label: "Open", group: FOR_NOW, vain: [],
    does: "Rejects every call for its configured wait, counted from now. Then probes decide.",
  },
  half_open: {
    label: "Half-open", group: FOR_NOW, vain: ["closed", "half_open", "forced_open", "disabled", "metrics_only"],
    does: "Lets its probes through now instead of after the wait. They decide whether it closes or opens again.",
  },
  close: {
    label: "Close", group: FOR_NOW, vain: ["closed"],
    does: "Lets every call through again. Its windows begin empty.",
  },
  reset: {
    label: "Reset", group: FOR_NOW, vain: [],
    does: "Closes it and forgets what it has counted. Calls that are in flight count for nothing.",
  },
  force_open: {
    label: "Force open", group: UNTIL_HAND, vain: ["forced_open"],
    does: "Rejects every call. Neither time nor probes end this: somebody has to.",
  },
  disable: {
    label: "Disable", group: UNTIL_HAND, vain: ["disabled"],
    does: "Lets every call through and counts nothing. Nothing protects the dependency or its callers.",
  },
  metrics_only: {
    label: "Metrics only", group: UNTIL_HAND, vain: ["metrics_only"],
    does: "Lets every call through and counts it, and only reports when it would have opened.",
  },
};

const SILENT_MS = 4000;
const RETRY_MS = 1000;
const TOAST_MS = 6000;

const byId = (id) => document.getElementById(id);
const cards = new Map();

/* ---- words ---- */

function duration(ms) {
  const seconds = ms / 1000;
  if (seconds < 9.95) return `${seconds.toFixed(1)} s`;
  if (seconds < 59.5) return `${seconds.toFixed(0)} s`;
  const minutes = Math.floor(seconds / 60);
  if (minutes < 60) return `${minutes} min ${Math.floor(seconds % 60)} s`;
  const hours = Math.floor(minutes / 60);
  return hours < 48 ? `${hours} h ${minutes % 60} min` : `${Math.floor(hours / 24)} days`;
}

const ago = (ms) => `${ms < 60_000 ? Math.round(ms / 1000) + " s" : Math.floor(ms / 60_000) + " min"} ago`;
const count = (number) => number.toLocaleString("en");
const percent = (rate) => `${rate.toFixed(1)} %`;
const plural = (number, thing) => `${count(number)} ${thing}${number === 1 ? "" : "s"}`;
const label = (state) => STATES[state]?.label ?? state;

function windowInWords(counts) {
  if (counts.is_streak) return `${plural(counts.failed, "failure")} in a row`;
  const slow = counts.slow === null ? "" : `, ${count(counts.slow)} slow`;
  return `${counts.over}: ${count(counts.failed)} of ${plural(counts.total, "call")} failed${slow}`;
}

function whyInWords(breaker) {
  if (breaker.trip) return capital(breaker.trip);
  const said = {
    closed: "Calls go through",
    forced_open: "Rejects every call until it is moved by hand",
    disabled: "Lets every call through and counts nothing, until it is moved by hand",
    metrics_only: `Rejects nothing; would have opened ${times(breaker.totals.would_trip)}`,
  };
  return said[breaker.state] ?? "";
}

const capital = (text) => text.charAt(0).toUpperCase() + text.slice(1);
const times = (number) => (number === 1 ? "once" : `${count(number)} times`);

/* ---- elements ---- */

function element(name, text, attributes = {}) {
  const made = document.createElement(name);
  made.textContent = text;
  for (const [attribute, value] of Object.entries(attributes)) made.setAttribute(attribute, value);
  return made;
}

// Only what differs is written: a selection survives, and nothing is drawn again in vain.
function say(element, text) {
  if (element.textContent !== text) element.textContent = text;
}

function mark(element, attribute, value) {
  if (element.getAttribute(attribute) !== value) element.setAttribute(attribute, value);
}

function icon(state) {
  const svg = byId("card").content.querySelector(".icon").cloneNode(true);
  svg.firstElementChild.setAttribute("href", `#icon-${state}`);
  return svg;
}

// As many children as there are items, each shown by its item.
function fill(parent, items, make, show) {
  while (parent.childElementCount > items.length) parent.lastElementChild.remove();
  while (parent.childElementCount < items.length) parent.append(make());
  items.forEach((item, index) => show(parent.children[index], item));
}

/* ---- one breaker ---- */

function makeCard(name, view) {
  const card = byId("card").content.firstElementChild.cloneNode(true);
  card.dataset.name = name;
  say(card.querySelector("h2"), name);
  const minutes = view.timeline_ms / 60_000;
  const axis = card.querySelector(".axis");
  for (let minute = minutes; minute >= 0; minute -= 1) {
    const mark = element("span", minute === 0 ? "now" : minute === minutes ? `${minute} min ago` : `${minute} min`);
    if (minute > 0) mark.style.left = `${(1 - minute / minutes) * 100}%`;
    axis.append(mark);
  }
  return card;
}

function showCard(card, breaker, view) {
  const find = (selector) => card.querySelector(selector);
  const { state, windows, probes, totals } = breaker;
  mark(card, "data-state", state);
  mark(find(".badge use"), "href", `#icon-${state}`);
  say(find(".state"), label(state));
  say(find(".since"), breaker.since_ms === null ? "since this moment" : `for ${duration(breaker.since_ms)}`);
  say(find(".retry"), breaker.retry_after_ms === null ? "" : `probes in ${duration(breaker.retry_after_ms)}`);
  say(find(".why"), whyInWords(breaker));
  showTimeline(find(".timeline"), breaker, view.timeline_ms);

  const rates = windows.find((counts) => !counts.is_streak);
  showRate(find(".failure-rate"), rates?.failure_rate);
  showRate(find(".slow-call-rate"), rates?.slow_call_rate);
  say(find(".probes"), probes ? `${probes.succeeded + probes.failed} of ${probes.admitted}` : "–");
  find(".probes").classList.toggle("none", !probes);
  say(find(".probes-more"), probes ? `${probes.succeeded} ok, ${probes.failed} failed` : "");

  // None while forced open or disabled: the lines stay, empty.
  const list = find(".windows");
  const lines = windows.map((counts) => (breaker.trip ? "when it opened, " : "") + windowInWords(counts));
  while (lines.length < list.childElementCount) lines.push("");
  fill(list, lines, () => element("li", ""), say);
  for (const total of ["succeeded", "failed", "neutral", "rejected"]) say(find(`.${total}`), count(totals[total]));

  const rows = [...breaker.transitions];
  while (rows.length < view.listed) rows.push(null);
  fill(find(".transitions"), rows, makeTransition, showTransition);
  say(find("h3"), breaker.transitions.length > 0 ? "Last transitions" : "No transitions yet");
  showControls(card, breaker, view.writable);
}

function showRate(element, rate) {
  const isKnown = rate !== null && rate !== undefined;
  say(element, isKnown ? percent(rate) : "–");
  element.classList.toggle("none", !isKnown);
  element.nextElementSibling.firstElementChild.style.width = `${isKnown ? rate : 0}%`;
}

function showTimeline(svg, breaker, length) {
  const stretches = breaker.timeline.map(({ state, began_ms }, index, all) => {
    return { state, began: began_ms, lasted: began_ms - (all[index + 1]?.began_ms ?? 0) };
  });
  // The latest first, so that what was short is drawn above what followed it.
  fill(
    svg,
    stretches.toReversed(),
    () => document.createElementNS("http://www.w3.org/2000/svg", "rect"),
    (rect, { state, began, lasted }) => {
      const height = STATES[state]?.height ?? 50;
      rect.setAttribute("x", `${(100 * (length - began)) / length}%`);
      rect.style.width = `max(2px, ${(100 * lasted) / length}%)`;
      mark(rect, "y", `${100 - height}%`);
      mark(rect, "height", `${height}%`);
      const isHatched = state === "forced_open" || state === "metrics_only";
      mark(rect, "class", isHatched ? "" : `fill-${state}`);
      mark(rect, "fill", isHatched ? `url(#fill-${state})` : "");
    },
  );
  const seen = stretches.reduce((sum, { lasted }) => sum + lasted, 0) || 1;
  const shares = Object.keys(STATES).flatMap((state) => {
    const lasted = stretches.reduce((sum, stretch) => sum + (stretch.state === state ? stretch.lasted : 0), 0);
    return lasted > 0 ? [`${label(state)} ${Math.round((100 * lasted) / seen)} %`] : [];
  });
  mark(svg, "aria-label", `Of the last ${length / 60_000} minutes: ${shares.join(", ")}`);
}

function makeTransition() {
  const row = element("li", "");
  const what = element("span", "");
  what.append(element("b", ""), element("i", ""));
  row.append(element("time", ""), what);
  return row;
}

function showTransition(row, transition) {
  const [time, what] = row.children;
  const [to, why] = what.children;
  const reason = transition?.reason ? `: ${REASONS[transition.reason] ?? transition.reason}` : "";
  say(time, transition ? ago(transition.ago_ms) : "");
  say(to, transition ? label(transition.to) : "");
  say(why, transition ? ` from ${label(transition.from)}${reason}` : "");
  mark(to, "data-state", transition?.to ?? "");
  mark(row, "title", what.textContent);
}

/* ---- the hand ---- */

function showControls(card, breaker, isWritable) {
  let controls = card.querySelector(".controls");
  if (!isWritable) return controls?.remove();
  if (!controls) {
    controls = makeControls(card, breaker.name);
    card.append(controls);
  }
  for (const button of controls.querySelectorAll("button")) {
    mark(button, "aria-disabled", String(ACTIONS[button.dataset.action].vain.includes(breaker.state)));
  }
}

function makeControls(card, name) {
  const controls = element("div", "", { class: "controls" });
  for (const group of [FOR_NOW, UNTIL_HAND]) {
    const buttons = element("div", "", { role: "group", "aria-label": `${name}: ${group}` });
    buttons.append(element("p", group, { "aria-hidden": "true" }));
    for (const [action, { label: text }] of Object.entries(ACTIONS).filter(([, each]) => each.group === group)) {
      const button = element("button", text, { type: "button", "data-action": action });
      button.addEventListener("click", () => ask(name, action, card.dataset.state));
      buttons.append(button);
    }
    controls.append(buttons);
  }
  return controls;
}

let asked = null;

function ask(name, action, state) {
  const { label: text, does, vain } = ACTIONS[action];
  if (vain.includes(state)) {
    return toast(`${name} is ${label(state)}: “${text}” would change nothing`);
  }
  asked = { breaker: name, action };
  say(byId("confirm-title"), `${text}: ${name}`);
  say(byId("confirm-text"), does);
  say(byId("confirm-do"), text);
  showAsked();
  byId("confirm").showModal();
}

// It may change while it is asked about.
function showAsked() {
  const state = cards.get(asked?.breaker)?.dataset.state;
  say(byId("confirm-now"), state ? `Now it is ${label(state)}.` : "It is not there any more.");
}

async function act() {
  const { breaker, action } = asked;
  byId("confirm").close();
  try {
    const headers = { "content-type": "application/json" };
    const response = await fetch("/control", { method: "POST", headers, body: JSON.stringify({ breaker, action }) });
    const answer = await response.text();
    toast(response.ok ? `${breaker} is ${label(answer)} now` : `Not done: ${answer}`);
  } catch {
    toast("Not done: the server does not answer");
  }
}

let toasting;

function toast(text) {
  say(byId("toast"), text);
  clearTimeout(toasting);
  toasting = setTimeout(() => say(byId("toast"), ""), TOAST_MS);
}

byId("confirm-cancel").addEventListener("click", () => byId("confirm").close());
byId("confirm-do").addEventListener("click", act);

/* ---- all of them ---- */

function show(view) {
  const main = byId("cards");
  const changes = [];
  const names = new Set(view.breakers.map((breaker) => breaker.name));
  for (const [name, card] of cards) {
    if (names.has(name)) continue;
    card.remove();
    cards.delete(name);
  }
  main.querySelector(".empty")?.toggleAttribute("hidden", view.breakers.length > 0);
  // In the order of their names, after the line that says that there are none.
  view.breakers.forEach((breaker, index) => {
    let card = cards.get(breaker.name);
    const before = card?.dataset.state;
    if (!card) {
      card = makeCard(breaker.name, view);
      cards.set(breaker.name, card);
      main.insertBefore(card, main.children[index + 1] ?? null);
    }
    showCard(card, breaker, view);
    if (before && before !== breaker.state) {
      changes.push(`${breaker.name}: ${label(breaker.state)}${breaker.trip ? `, ${breaker.trip}` : ""}`);
    }
  });
  if (changes.length > 0) say(byId("announcer"), changes.join(". "));
  showSummary(view.breakers);
  showAsked();
  say(byId("left-out"), view.left_out > 0 ? `${plural(view.left_out, "more breaker")} not shown` : "");
  say(byId("mode"), view.writable ? "writable" : "read-only");
  mark(byId("mode"), "data-writable", String(view.writable));
}

function showSummary(breakers) {
  const summary = Object.keys(STATES).map((state) => {
    return { state, number: breakers.filter((breaker) => breaker.state === state).length };
  });
  fill(
    byId("summary"),
    summary,
    () => element("li", ""),
    (item, { state, number }) => {
      if (!item.dataset.state) {
        item.dataset.state = state;
        item.append(icon(state), element("b", ""), element("span", label(state)));
      }
      mark(item, "data-none", String(number === 0));
      say(item.querySelector("b"), count(number));
    },
  );
  const open = summary.filter(({ state }) => state.endsWith("open")).reduce((sum, { number }) => sum + number, 0);
  document.title = open > 0 ? `(${open} not closed) Circuit breakers` : "Circuit breakers";
}

/* ---- the connection ---- */

let source;
let watchdog;

function connect() {
  source = new EventSource("/events");
  source.addEventListener("message", (event) => {
    connection("live");
    show(JSON.parse(event.data));
    watch();
  });
  source.addEventListener("error", lose);
  watch();
}

// A server that is stopped, or a network that is gone, breaks no connection: it is only silent.
function watch() {
  clearTimeout(watchdog);
  watchdog = setTimeout(lose, SILENT_MS);
}

function lose() {
  source.close();
  clearTimeout(watchdog);
  connection("disconnected");
  setTimeout(connect, RETRY_MS);
}

function connection(is) {
  if (byId("connection").dataset.is === is) return;
  byId("connection").dataset.is = is;
  say(byId("connection-text"), is);
  document.body.classList.toggle("stale", is === "disconnected");
  if (is === "disconnected") say(byId("announcer"), "Disconnected: what is shown is old");
}

connect();
